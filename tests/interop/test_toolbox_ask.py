"""`gfastcgi call` beside cgi-fcgi, and `gfastcgi ping`, with php-fpm, php-cgi and a program of libfcgi."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from peers.programs import compile_c, find_peer, spawn_fcgi, start_php_fpm
from peers.waiting import wait_until

from gfastcgi.cli.command import run

if TYPE_CHECKING:
    from pathlib import Path

    from peers.processes import Processes

Capture = pytest.CaptureFixture[bytes]

PHP = """<?php
header('X-Seen: ' . $_SERVER['REQUEST_METHOD'] . ' ' . $_SERVER['QUERY_STRING'] . ' ' . $_SERVER['HTTP_X_A']);
error_log('to the log');
http_response_code(strlen($_GET['status'] ?? '') ? (int) $_GET['status'] : 200);
echo strlen($body = file_get_contents('php://input')), ' ', md5($body);
"""
C_PROGRAM = r"""
#include <fcgi_stdio.h>
#include <stdlib.h>
int main(void) {
    while (FCGI_Accept() >= 0) {
        int byte;
        printf("Content-Type: text/plain\r\nX-Seen: %s\r\n\r\n", getenv("REQUEST_METHOD"));
        while ((byte = getchar()) != EOF) putchar(byte);
        fprintf(stderr, "to the log");
        FCGI_SetExitStatus(atoi(getenv("QUERY_STRING")));
    }
    return 0;
}
"""


@pytest.fixture
def php_fpm(tmp_path: Path, processes: Processes) -> str:
    (tmp_path / "seen.php").write_text(PHP)
    return str(start_php_fpm(processes, tmp_path / "fpm", ping="/ping", ini={"log_errors": "On"}, workers=1))


@pytest.fixture
def php_cgi(tmp_path: Path, processes: Processes) -> str:
    (tmp_path / "seen.php").write_text(PHP)
    return spawn_fcgi(processes, tmp_path, find_peer("php-cgi"), env={"PHP_FCGI_CHILDREN": "3"})


def cgi_fcgi(path: str, body: bytes, **params: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [find_peer("cgi-fcgi"), "-bind", "-connect", path], input=body, capture_output=True, timeout=30, check=False,
        env={**params, "CONTENT_LENGTH": str(len(body)), "REDIRECT_STATUS": "200", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def without_status(out: bytes) -> bytes:
    """`call` tells the status always, cgi-fcgi where the program does; line ends apart, the rest is the same."""
    head, _, body = out.replace(b"\r\n", b"\n").partition(b"\n\n")
    return re.sub(rb"^Status: .+\n", b"", head) + b"\n\n" + body


@pytest.mark.parametrize("peer", ["php_fpm", "php_cgi"])
@pytest.mark.parametrize(
    ("query", "method", "size", "status"),
    [("", "GET", 0, b"200 OK"), ("a=%20b", "POST", 3, b"200 OK"), ("a", "PUT", 500_000, b"200 OK"),
     ("status=503", "GET", 0, b"503 Service Unavailable")],
)  # fmt: skip
def test_call_prints_what_cgi_fcgi_prints(
    peer: str, query: str, method: str, size: int, status: bytes, tmp_path: Path,
    request: pytest.FixtureRequest, capfdbinary: Capture,
) -> None:  # fmt: skip
    path, body, script = request.getfixturevalue(peer), os.urandom(size), f"{tmp_path}/seen.php"
    (tmp_path / "body").write_bytes(body)
    words = ["-i", "-X", method, "-H", "X-A: 1", "--body", str(tmp_path / "body"), "--root", str(tmp_path)]
    assert run(["call", f"unix:{path}", f"/seen.php?{query}", *words]) == 0
    ours = capfdbinary.readouterr()
    assert ours.out.startswith(b"Status: " + status + b"\n")
    theirs = cgi_fcgi(path, body, SCRIPT_FILENAME=script, QUERY_STRING=query, REQUEST_METHOD=method, HTTP_X_A="1")
    assert (theirs[0], without_status(theirs[1])) == (0, without_status(ours.out))
    assert theirs[2].rstrip() == ours.err.rstrip()
    assert theirs[2].endswith((b"to the log", b"to the log\n"))


def test_call_tells_of_exit_statuses_and_of_nobody(tmp_path: Path, processes: Processes, capfdbinary: Capture) -> None:
    path = spawn_fcgi(processes, tmp_path, str(compile_c(C_PROGRAM, tmp_path / "app", "fcgi")), env={})
    for status, ours in ((0, 0), (7, 1)):
        assert run(["call", "-i", f"unix:{path}", f"/?{status}", "-d", "hello"]) == ours
        told = capfdbinary.readouterr()
        theirs = cgi_fcgi(path, b"hello", QUERY_STRING=str(status), REQUEST_METHOD="POST")
        assert (theirs[0], without_status(theirs[1]), theirs[2]) == (status, without_status(told.out), b"to the log")
        assert told.err == b"to the log\n"
    assert run(["call", f"unix:{tmp_path}/none", "/"]) == 3
    assert cgi_fcgi(f"{tmp_path}/none", b"")[0] != 0


Ping = "Callable[..., tuple[int, bytes, bytes]]"


@pytest.fixture
def ping(capfdbinary: Capture) -> Ping:
    """Asks; how it exits, and what it prints."""

    def ping(path: str, *arguments: str) -> tuple[int, bytes, bytes]:
        status = run(["ping", f"unix:{path}", *arguments])
        return status, *capfdbinary.readouterr()

    return ping


def test_ping_php_fpm(php_fpm: str, tmp_path: Path, processes: Processes, ping: Ping) -> None:
    status, out, err = ping(php_fpm)
    assert (status, err) == (0, b"")
    assert out.startswith(f"unix:{php_fpm} is well, after ".encode())
    assert out.endswith(b" ms: FCGI_MPXS_CONNS=0\n")
    assert ping(php_fpm, "-q", "--path", "/ping", "--expect", "pong") == (0, b"", b"")
    assert ping(php_fpm, "--path", "/ping", "--expect", "gong")[0] == 1
    root = ("--root", str(tmp_path))
    assert ping(php_fpm, "--path", "/seen.php", *root)[1].endswith(b"/seen.php answered 200 OK\n")
    status, out, err = ping(php_fpm, "--path", "/seen.php?status=500", *root)
    assert (status, out, err) == (
        1,
        b"",
        b"gfastcgi: /seen.php?status=500 answered 500 Internal Server Error (app_status)\n",
    )
    assert ping(php_fpm, "--path", "/none.php", *root)[0] == 1
    with socket.socket(socket.AF_UNIX) as busy:
        # Its one worker waits for a request.
        busy.connect(php_fpm)
        busy.send(b"\x01")
        status, _, err = ping(php_fpm, "--timeout", "0.3")
        assert (status, b"_timeout)" in err) == (1, True), err
        assert ping(php_fpm, "--timeout", "0.3", "--path", "/ping")[0] == 1
    processes.stop()
    assert ping(php_fpm)[0] == ping(php_fpm, "--path", "/ping")[0] == 2


def test_ping_php_cgi(php_cgi: str, tmp_path: Path, processes: Processes, ping: Ping) -> None:
    assert b"FCGI_MAX_CONNS=3" in ping(php_cgi)[1]
    root = ("--root", str(tmp_path))
    assert ping(php_cgi, "--path", "/seen.php", "--expect", "0 d41d8", *root)[0] == 0
    assert ping(php_cgi, "--path", "/none.php", *root)[0] == 1
    processes.stop()
    # Children of php-cgi may answer for a moment more than the parent that was stopped.
    wait_until(lambda: ping(php_cgi)[0] == 2, "nobody to be there")


def test_ping_over_tcp(tmp_path: Path, processes: Processes, capfdbinary: Capture) -> None:
    where: Any = start_php_fpm(processes, tmp_path / "fpm", tcp=True, ping="/ping")
    for host in ("127.0.0.1", "localhost"):
        assert run(["ping", f"tcp://{host}:{where[1]}", "--path", "/ping", "--expect", "pong"]) == 0
    processes.stop()
    assert run(["ping", f"tcp://127.0.0.1:{where[1]}"]) == 2
