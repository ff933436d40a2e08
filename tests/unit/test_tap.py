"""What a tap tells, keeps and compares: records as lines, secrets as lengths, recordings, answers."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.fcgi.records import encode_record, encode_stream
from gfastcgi.secrecy import is_secret, without_secrets
from gfastcgi.tap.answers import Answers, differences
from gfastcgi.tap.events import Event
from gfastcgi.tap.journal import Journal
from gfastcgi.tap.narrator import Narrator
from gfastcgi.tap.recording import BadRecording, Recorder, read_recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEGIN = encode_record(c.BEGIN_REQUEST, 1, b"\x00\x01\x01" + bytes(5))


def params(id: int = 1, **pairs: str) -> bytes:
    data = encode_pairs([(name.encode(), value.encode()) for name, value in pairs.items()])
    return encode_stream(c.PARAMS, id, data) + encode_record(c.PARAMS, id, b"")


def end(id: int = 1, app: int = 0, protocol: int = 0) -> bytes:
    return encode_record(c.END_REQUEST, id, app.to_bytes(4, "big") + bytes([protocol, 0, 0, 0]))


def stdout(data: bytes, id: int = 1) -> bytes:
    return encode_stream(c.STDOUT, id, data) + encode_record(c.STDOUT, id, b"")


ASKED = BEGIN + params(
    REQUEST_METHOD="POST", REQUEST_URI="/a?token=hush&x=1", HTTP_COOKIE="SID=hush", HTTP_AUTHORIZATION="Basic hush",
    PHP_AUTH_PW="hush", PHP_AUTH_USER="hush", DB_PASSWORD="hush", HTTP_X_API_KEY="hush", REMOTE_USER="ada",
    QUERY_STRING="token=hush&x=1",
) + encode_stream(c.STDIN, 1, b"a=hush") + encode_record(c.STDIN, 1, b"")  # fmt: skip
ANSWERED = (
    encode_record(c.STDERR, 1, b"PHP message: oops\n\x1b[31m")
    + stdout(b"Status: 200 OK\r\nSet-Cookie: SID=hush\r\nVariable-API_KEY: hush\r\nX-A: b\r\n\r\nhush hush")
    + end()
)

TOLD = """\
> BEGIN_REQUEST id 1, RESPONDER, keep_conn
> PARAMS id 1, 218 bytes
>     REQUEST_METHOD     = POST
>     REQUEST_URI        = /a?token=(4 bytes)&x=1
>     HTTP_COOKIE        = (8 bytes)
>     HTTP_AUTHORIZATION = (10 bytes)
>     PHP_AUTH_PW        = (4 bytes)
>     PHP_AUTH_USER      = (4 bytes)
>     DB_PASSWORD        = (4 bytes)
>     HTTP_X_API_KEY     = (4 bytes)
>     REMOTE_USER        = ada
>     QUERY_STRING       = token=(4 bytes)&x=1
> STDIN id 1, 6 bytes
> STDIN id 1, end
< STDERR id 1, 23 bytes
<     | PHP message: oops
<     | \\x1B[31m
< STDOUT id 1, 81 bytes
<     Status: 200 OK
<     Set-Cookie: (8 bytes)
<     Variable-API_KEY: (4 bytes)
<     X-A: b
<     and 9 bytes of body
< STDOUT id 1, end
< END_REQUEST id 1, app_status 0, REQUEST_COMPLETE"""


def test_what_is_told() -> None:
    narrator = Narrator()
    lines = narrator.tell("front", ASKED) + narrator.tell("backend", ANSWERED)
    assert "\n".join(lines) == TOLD
    assert narrator.end("front") == ["> end"]


def test_secrets_on_demand() -> None:
    narrator = Narrator(shows_secrets=True)
    text = "\n".join(narrator.tell("front", ASKED) + narrator.tell("backend", ANSWERED))
    assert "HTTP_COOKIE        = SID=hush" in text
    assert ">     | a=hush" in text
    assert "<     Set-Cookie: SID=hush" in text
    assert "<     | hush hush" in text


@given(st.lists(st.integers(0, len(ASKED)), max_size=6))
def test_any_split_tells_the_same_params(cuts: list[int]) -> None:
    narrator = Narrator()
    edges = [0, *sorted(cuts), len(ASKED)]
    lines = [line for a, b in pairwise(edges) for line in narrator.tell("front", ASKED[a:b])]
    assert lines == TOLD.splitlines()[:14]


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_no_bytes_raise_and_no_line_steers_a_terminal(front: bytes, backend: bytes) -> None:
    narrator = Narrator(shows_secrets=True)
    begun = BEGIN + encode_stream(c.PARAMS, 1, front) + encode_record(c.PARAMS, 1, b"")
    lines = narrator.tell("front", begun) + narrator.tell("backend", encode_stream(c.STDOUT, 1, backend))
    lines += narrator.tell("front", front) + narrator.tell("backend", backend) + narrator.end("backend")
    assert all(line.isprintable() for line in lines), lines


def test_what_is_no_fastcgi_is_said_once() -> None:
    narrator = Narrator()
    (line,) = narrator.tell("front", b"GET / HTTP/1.1\r\n\r\n")
    assert line.startswith("> ! from here on not decoded, but forwarded: a record starts with its version, 1")
    assert narrator.tell("front", BEGIN) == []
    assert narrator.tell("backend", end()) == ["< END_REQUEST id 1, app_status 0, REQUEST_COMPLETE"]


@pytest.mark.parametrize(
    ("side", "data", "lines"),
    [
        ("front", encode_record(c.GET_VALUES, 0, encode_pairs([(c.MAX_CONNS, b"")])),
         ["> GET_VALUES id 0", ">     FCGI_MAX_CONNS ="]),
        ("backend", encode_record(c.UNKNOWN_TYPE, 0, bytes(8)), ["< UNKNOWN_TYPE id 0, 8 bytes"]),
        ("front", encode_record(c.ABORT_REQUEST, 3, b""), ["> ABORT_REQUEST id 3"]),
        ("front", encode_record(77, 3, b"x"), ["> type 77 id 3, 1 byte"]),
        ("front", encode_record(c.BEGIN_REQUEST, 1, b"x"), ["> BEGIN_REQUEST id 1, 1 bytes, which is too short"]),
        ("backend", encode_record(c.END_REQUEST, 1, b"x"), ["< END_REQUEST id 1, 1 bytes, which is too short"]),
        ("backend", end(9, 7, 9), ["< END_REQUEST id 9, app_status 7, protocol_status 9"]),
        ("front", BEGIN + encode_record(c.PARAMS, 1, b"\xff") + encode_record(c.PARAMS, 1, b""),
         ["> BEGIN_REQUEST id 1, RESPONDER, keep_conn", "> PARAMS id 1, 1 byte",
          ">     ! a pair ends inside its lengths: b'\\xff'"]),
        ("front", encode_record(c.PARAMS, 5, b"late"), ["> PARAMS id 5, 4 bytes"]),
    ],
)  # fmt: skip
def test_other_records(side: str, data: bytes, lines: list[str]) -> None:
    assert Narrator().tell(side, data) == lines  # type: ignore[arg-type]


def test_an_end_inside_a_record() -> None:
    narrator = Narrator()
    narrator.tell("backend", end()[:5])
    assert narrator.end("backend") == ["< end, inside a record"]


def test_endless_params_and_heads_take_bounded_room() -> None:
    narrator = Narrator()
    narrator.tell("front", BEGIN)
    for _ in range(40):
        narrator.tell("front", encode_record(c.PARAMS, 1, bytes(65535)))
        narrator.tell("backend", encode_record(c.STDOUT, 1, b"x" * 65535))
    assert narrator.tell("front", encode_record(c.PARAMS, 1, b"")) == ["> PARAMS id 1, over 1048576 bytes"]


@pytest.mark.parametrize(
    "name",
    [
        "HTTP_COOKIE", "Set-Cookie", "PHP_AUTH_DIGEST", "X-Api-Key", "csrf_token", "Password", "PHPSESSID", "DB_PWD",
        "code", "X-JWT", "sig",
    ],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert is_secret(name)
    assert without_secrets(name, "12345") == "(5 bytes)"


@pytest.mark.parametrize("name", ["QUERY_STRING", "AUTH_TYPE", "HTTP_ACCEPT_ENCODING", "SIDE", "KEYBOARD", "PATH"])
def test_names_without_a_secret(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("Location", "https://a/cb#access_token=xyz&code=12", "https://a/cb#access_token=(3 bytes)&code=(2 bytes)"),
        ("REQUEST_URI", "/x?a=1&access_token=xyz#f", "/x?a=1&access_token=(3 bytes)#f"),
        ("QUERY_STRING", "password=p&a=1;session=q", "password=(1 bytes)&a=1;session=(1 bytes)"),
        ("HTTP_REFERER", "http://h/?TOKEN=abc def", "http://h/?TOKEN=(3 bytes) def"),
        ("SCRIPT_NAME", "/token=abc", "/token=abc"),
        ("", "redis://:p@ss@10.0.0.5:6379/0?password=xyz", "redis://:(4 bytes)@10.0.0.5:6379/0?password=(3 bytes)"),
        ("", "redis://ann:secret@h", "redis://ann:(6 bytes)@h"),
        ("", "https://a.example:80/@x", "https://a.example:80/@x"),
        ("QUERY_STRING", "", ""),
    ],
)
def test_secrets_in_queries(name: str, value: str, told: str) -> None:
    assert without_secrets(name, value) == told


EVENTS = [
    Event(0.5, 1, "open", text="127.0.0.1:9"), Event(0.6, 1, "front", bytes(range(256))),
    Event(0.7, 1, "backend", b"x"), Event(0.8, 1, "front-end"), Event(0.9, 1, "backend-end"),
    Event(1.0, 1, "lost", text="why"), Event(1.0, 1, "close"),
]  # fmt: skip


def test_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.tap"
    path.write_text("older " * 1000)
    path.chmod(0o644)
    recorder = Recorder(str(path), {"to": "unix:/x"})
    for event in EVENTS:
        recorder.write(event)
    recorder.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert json.loads(lines[0]) == {"gfastcgi-tap": 1, "to": "unix:/x"}
    assert json.loads(lines[3]) == {"at": 0.7, "connection": 1, "event": "backend", "data": "eA=="}
    with path.open() as file:
        assert list(read_recording(file)) == EVENTS
    cut = path.read_text()[:-5]
    assert list(read_recording(io.StringIO(cut))) == EVENTS[:-1]


def test_a_recording_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Recorder(str(tmp_path / "link"), {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("hello\n", "line 1"),
        ('{"gfastcgi-tap": 2}\n', "line 1: expected"),
        ("[]\n", "expected an object"),
        (
            '{"gfastcgi-tap": 1}\n{"at": 1, "connection": 1, "event": "dance"}\n',
            "line 2: ValueError: there is no",
        ),
        ('{"gfastcgi-tap": 1}\n{"at": 1, "event": "open"}\n', "line 2: KeyError: 'connection'"),
        ('{"gfastcgi-tap": 1}\n{"at": 1, "connection": 1, "event": "front", "data": "?"}\n', "line 2: "),
    ],
)
def test_what_is_no_recording(text: str, words: str) -> None:
    with pytest.raises(BadRecording, match=words):
        list(read_recording(io.StringIO(text)))


def answers(asked: bytes, said: bytes) -> Answers:
    found = Answers()
    found.ask(asked)
    found.answer(said)
    return found


BASE = BEGIN + params(REQUEST_METHOD="GET", REQUEST_URI="/x")
HEAD = b"Status: 200 OK\r\nX-A: 1\r\nDate: now\r\nSet-Cookie: SID=1\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (stdout(HEAD + b"body") + end(), []),
        (encode_stream(c.STDOUT, 1, HEAD[:9]) + encode_stream(c.STDOUT, 1, HEAD[9:] + b"body") + end(), []),
        (stdout(HEAD.replace(b"now", b"then") + b"body") + end(), []),
        (stdout(HEAD.replace(b"200 OK", b"500 No") + b"body") + end(), ["status: 500 No instead of 200 OK"]),
        (stdout(HEAD.replace(b"X-A: 1\r\n", b"") + b"body") + end(), ["x-a: none instead of 1"]),
        (stdout(HEAD.replace(b"SID=1", b"SID=2") + b"body") + end(), ["set-cookie: another value"]),
        (stdout(HEAD + b"bode") + end(), ["another body of 4 bytes"]),
        (stdout(HEAD + b"longer") + end(), ["a body of 6 bytes instead of 4"]),
        (stdout(HEAD + b"body") + end(app=2), ["app_status 2 and protocol_status 0 instead of app_status 0 and "
                                               "protocol_status 0"]),
        (encode_record(c.STDERR, 1, b"oops") + stdout(HEAD + b"body") + end(), ["STDERR b'oops' instead of b''"]),
    ],
)  # fmt: skip
def test_answers_are_compared(said: bytes, told: list[str]) -> None:
    (before,) = answers(BASE, stdout(HEAD + b"body") + end()).ended
    (now,) = answers(BASE, said).ended
    assert before.name == now.name == "GET /x"
    assert list(differences(before, now, {"date"})) == told


def test_an_answer_without_an_end_is_left() -> None:
    found = answers(BASE, encode_stream(c.STDOUT, 1, HEAD + b"bo"))
    assert found.ended == []
    (left,) = found.left()
    assert (left.name, left.size, left.end) == ("GET /x", 2, None)


def test_multiplexed_answers_are_told_apart() -> None:
    second = encode_record(c.BEGIN_REQUEST, 2, bytes(8)) + params(2, REQUEST_METHOD="GET", SCRIPT_NAME="/y")
    found = answers(BASE + second, stdout(HEAD, 2) + end(2) + stdout(HEAD) + end())
    assert [answer.name for answer in found.ended] == ["GET /y", "GET /x"]


def test_answers_that_are_no_fastcgi() -> None:
    found = answers(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n")
    assert "a record starts with its version" in found.fault
    assert found.ended == []


@pytest.fixture
def journal_of() -> Callable[..., tuple[Journal, list[str]]]:
    def make(**options: object) -> tuple[Journal, list[str]]:
        faults: list[str] = []
        return Journal(tell_fault=faults.append, **{"out": None, "recorder": None, **options}), faults  # type: ignore[arg-type]

    return make


def test_a_journal_tells_and_keeps(tmp_path: Path, journal_of: Callable[..., tuple[Journal, list[str]]]) -> None:
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    journal, faults = journal_of(out=out, recorder=Recorder(str(tmp_path / "a.tap"), {}))
    told = [Event(1.5, 7, "open", text="here"), Event(1.5, 7, "front", BEGIN), Event(2.0, 7, "close", text="lost it")]
    for event in told:
        journal.put(event)
    assert journal.close(10)
    os.close(out)
    assert (tmp_path / "out").read_text().splitlines() == [
        "    1.500   7 open, from here", "    1.500   7 > BEGIN_REQUEST id 1, RESPONDER, keep_conn",
        "    2.000   7 close: lost it",
    ]  # fmt: skip
    with (tmp_path / "a.tap").open() as file:
        assert list(read_recording(file)) == told
    assert (journal.is_whole, faults) == (True, [])


def test_a_reader_who_does_not_read_costs_no_byte(
    tmp_path: Path, journal_of: Callable[..., tuple[Journal, list[str]]]
) -> None:
    """Nothing waits for a full pipe; of what is too much, it is said where it ends."""
    reading, writing = os.pipe()
    journal, _ = journal_of(out=writing, most_waiting=200_000, shows_secrets=True)
    journal.put(Event(0, 1, "open", text="here"))
    journal.put(Event(0, 1, "front", BEGIN))
    for _ in range(2000):
        journal.put(Event(0, 1, "front", encode_record(c.STDIN, 1, b"x" * 1000)))
    assert not journal.close(0.05)
    assert not journal.is_whole
    text = b""
    while b"in time\n" not in text:
        text += os.read(reading, 65536)
    assert text.endswith(b"! from here on not told, but forwarded: it brings more than can be told in time\n")
    assert journal.close(10)
    os.close(reading)
    os.close(writing)


def test_a_full_disk_and_a_reader_who_left_are_said(
    tmp_path: Path, journal_of: Callable[..., tuple[Journal, list[str]]]
) -> None:
    class FullDisk(Recorder):
        def write(self, event: Event) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    reading, writing = os.pipe()
    os.close(reading)
    recorder = FullDisk(str(tmp_path / "a.tap"), {})
    journal, faults = journal_of(out=writing, recorder=recorder)
    for event in EVENTS:
        journal.put(event)
    assert journal.close(10)
    os.close(writing)
    recorder.close()
    assert faults == ["nothing is saved any more: No space left on device", "nothing is told any more: Broken pipe"]
    assert not journal.is_whole
