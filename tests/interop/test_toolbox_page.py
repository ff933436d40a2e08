"""docs/toolbox.md: what it shows of call, ping, spawn, tap and replay, typed in with real PHP."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers.processes import can_connect
from peers.programs import find_peer, start_php_fpm
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.processes import Processes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/toolbox.md").read_text()
LINES = re.findall(r"^    gfastcgi ((?:call|ping|spawn|tap|replay) .+)$", PAGE, re.MULTILINE)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def type_in(tmp_path: Path, processes: Processes) -> Callable[..., subprocess.Popen[str]]:
    """Starts the one line of the page that begins so, with what it names in a folder of the test's own."""
    (tmp_path / "info.php").write_text(
        "<?php setcookie('SID', 'secret'); error_log('told'); "
        "echo 'PHP ', PHP_SAPI, ' ', $_COOKIE['SID'] ?? '', ' ', file_get_contents('php://input');"
    )
    fpm = start_php_fpm(processes, tmp_path / "fpm", ini={"log_errors": "On", "opcache.enable": "0"})
    address: Any = start_php_fpm(processes, tmp_path / "tcp", tcp=True, ping="/ping")
    here = {
        "/run/php/php-fpm.sock": str(fpm), "127.0.0.1:9000": f"127.0.0.1:{address[1]}", "/srv/www": str(tmp_path),
        "/run/": f"{tmp_path}/", "/usr/bin/php-cgi": find_peer("php-cgi"),
    }  # fmt: skip
    named = re.compile("|".join(map(re.escape, here)))

    def start(begin: str) -> subprocess.Popen[str]:
        [line] = (line for line in LINES if line.startswith(begin))
        words = shlex.split(named.sub(lambda found: here[found[0]], line))
        with (tmp_path / f"{words[0]}.err").open("w") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "gfastcgi", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors,
                text=True, env=ENVIRONMENT,
            )  # fmt: skip

    return start


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=30)
    return process.returncode, out


def test_asking_and_health(tmp_path: Path, type_in: Callable[..., Any]) -> None:
    status, out = end_of(type_in("call"))
    assert status == 0
    assert out.startswith("Status: 200 OK\n")
    assert out.endswith("\n\nPHP fpm-fcgi  ")
    assert "told" in (tmp_path / "call.err").read_text()
    status, out = end_of(type_in("ping"))
    assert (status, out.split(": ")[-1]) == (0, "/ping answered 200 OK\n")


def test_starting(tmp_path: Path, type_in: Callable[..., Any], processes: Processes) -> None:
    status, out = end_of(type_in("spawn"))
    assert status == 0, (tmp_path / "spawn.err").read_text()
    pid = int((tmp_path / "php.pid").read_text())
    processes.adopt(pid)
    assert out.endswith(f"PID: {pid}\n")
    assert stat.S_ISSOCK((tmp_path / "php.sock").stat().st_mode)
    # PHP's children, of whom -C tells, take connections; their parent does not.
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: len(children.read_text().split()) == 4, "four children")
    command = [sys.executable, "-m", "gfastcgi", "ping", f"unix:{tmp_path}/php.sock"]
    assert b"FCGI_MAX_CONNS=4" in subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT).stdout


def test_listening_in(tmp_path: Path, type_in: Callable[..., Any]) -> None:
    tap = type_in("tap")
    wait_until(lambda: can_connect(str(tmp_path / "tap.sock")), "the tap")
    command = [sys.executable, "-m", "gfastcgi", "call", f"unix:{tmp_path}/tap.sock", "/info.php"]
    secrets = shlex.split("-H 'Authorization: Basic c2VjcmV0' -H 'Cookie: SID=secret' -d secret")
    done = subprocess.run(
        [*command, *secrets, "--root", str(tmp_path)], check=True, capture_output=True, env=ENVIRONMENT
    )
    assert done.stdout == b"PHP fpm-fcgi secret secret"
    tap.send_signal(signal.SIGINT)
    status, out = end_of(tap)
    assert status == 0
    assert "REQUEST_URI" in out
    assert "END_REQUEST" in out
    assert "secret" not in out
    assert "c2VjcmV0" not in out
    saved = tmp_path / "day.tap"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    # The first connection was ours, which asked whether it listens.
    assert end_of(type_in("replay")) == (0, "same     2 POST /info.php\n1 answers: 1 as they were, 0 not\n")
    (tmp_path / "info.php").write_text("<?php echo 'another';")
    status, out = end_of(type_in("replay"))
    assert status == 1
    assert "differs  2 POST /info.php" in out
