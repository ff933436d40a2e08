"""Every row of the shipped table, in front of gfastcgi, at three doors; and the command that runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gfastcgi.cli.conformance import markdown
from gfastcgi.conformance import wire
from gfastcgi.conformance.bench import DOORS, Bench, Result, fault_of_answer
from gfastcgi.conformance.rows import ROWS, SECRET, Reply, Row, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "authorizers.md"
HELLO = f"""
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{SECRET}" if "open" in sys.argv else b"")
    do_POST = do_GET
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""A gateway that asks nobody: with the word `open` it serves everybody, else nobody."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.fixture(scope="module")
def results(bench: Bench) -> dict[tuple[str, str], Result]:
    return {(result.row.name, result.door): result for result in bench.run()}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row(results: dict[tuple[str, str], Result], row: Row, door: str) -> None:
    result = results[row.name, door]
    assert (result.fault, result.is_open) == ("", False), result.got


def test_what_goes_wrong_is_logged(results: object, bench: Bench) -> None:
    log = bench.log
    for words in ("does not play role 2", "said 200 with app_status 1", "connect_refused"):
        assert words in log
    assert "Traceback (most recent call last)" not in log


def test_the_page_shows_what_the_command_says(results: dict[tuple[str, str], Result]) -> None:
    assert markdown(list(results.values())) in PAGE.read_text(), (
        "docs/authorizers.md: paste what `gfastcgi conformance authorizer --markdown` prints"
    )


def test_names_are_words_of_their_own() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("az-[a-z0-9-]+", name) for name in names)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gfastcgi", "conformance", "authorizer", *words],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip


def test_a_gateway_that_is_open(tmp_path: Path) -> None:
    """Whatever the authorizer says: each row that is to deny is named, and so is the sum."""
    (tmp_path / "hello.py").write_text(HELLO)
    done = command("--gateway", f"{sys.executable} {tmp_path}/hello.py {{port}} open", "--door", "file")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    denying = [row for row in ROWS if any(step.status != 200 for step in row.steps)]
    assert [line.split()[0] for line in lines if "OPEN" in line] == [row.name for row in denying]
    assert lines[-1].endswith(f"{len(denying)} of these let somebody through")
    assert "\x1b" not in done.stdout


def test_a_gateway_that_is_shut(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO)
    done = command("--gateway", f"{sys.executable} {tmp_path}/hello.py {{port}}", "--door", "file", "--markdown")
    assert (done.returncode, done.stderr) == (1, "")
    assert "| Status 200 | **denied: 200** |" in done.stdout


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ("/no/such/program {config}", "cannot be started: No such file"),
        ("false {config}", "the gateway ended with 1"),
        ("x {conf}", "'conf'"),
    ],
)
def test_no_gateway(gateway: str, words: str) -> None:
    done = command("--gateway", gateway)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


STEP = Step(replies=(Reply(b""),), status=403, fields=(("A", "1"), ("A", "2")), body="no", absent=("x-secret",))
HEAD = "HTTP/1.1 403 Forbidden\r\nA: 1\r\nA: 2\r\n"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (HEAD + "\r\nno", ""),
        (HEAD + "Transfer-Encoding: chunked\r\n\r\n1\r\nn\r\n1\r\no\r\n0\r\n\r\n", ""),
        (HEAD + f"\r\n{SECRET}", "LET THROUGH"),
        (f"HTTP/1.1 500 Oops\r\nX: {SECRET}\r\n\r\n", "LET THROUGH"),
        ("HTTP/1.1 500 Oops\r\n\r\n", "the status was to be 403"),
        ("", "the status was to be 403"),
        (HEAD + "\r\nnope", "the body was to be 'no'"),
        (HEAD + "X-Secret: 1\r\n\r\nno", "'x-secret' stands in the answer"),
        (HEAD.replace("A: 2\r\n", "") + "\r\nno", "A: 2 is missing"),
    ],
)
def test_the_judge(answer: str, fault: str) -> None:
    assert fault_of_answer(STEP, answer.encode(), is_called=False) == fault
    assert fault_of_answer(STEP, answer.encode(), is_called=True) == "LET THROUGH"


def test_the_codec_by_hand() -> None:
    long = "x" * 200
    data = bytes((4, 3)) + b"NAMEabc" + bytes((1,)) + (200 | 1 << 31).to_bytes(4, "big") + b"L" + long.encode()
    assert list(wire.pairs(data)) == [("NAME", b"abc"), ("L", long.encode())]
    assert re.fullmatch(rb"\x01\x06\0\x01\0\x02\0\0hi\x01\x03\0\x01\0\x08\0\0\0{8}", wire.answer("hi"))
