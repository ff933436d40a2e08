"""`gfastcgi tap` between real peers: every byte goes on, whatever it is and whoever is slow; `gfastcgi replay`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers.backend import Reply, answer
from peers.processes import can_connect, free_port
from peers.programs import start_php_fpm
from peers.waiting import wait_until

from gfastcgi.cli.command import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.processes import Processes

ROOT = Path(__file__).parents[2]


class Tap:
    """A running `gfastcgi tap`. Its output goes to a file, or with `is_deaf` into a pipe that nobody reads."""

    def __init__(self, folder: Path, to: str, *arguments: str, listen: str = "", is_deaf: bool = False) -> None:
        self.socket = str(folder / "tap.sock")
        self.told = folder / "told"
        self._errors = folder / "errors"
        with self.told.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gfastcgi", "tap", "--listen", listen or f"unix:{self.socket}", "--to", to,
                 *arguments],
                cwd=folder, stdout=subprocess.PIPE if is_deaf else out, stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        wait_until(lambda: "listening on" in self.errors or self.process.poll() is not None, "the tap to listen")
        assert self.process.poll() is None, self.errors

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    @property
    def lines(self) -> list[str]:
        """What was told, without times."""
        return [line[14:] for line in self.told.read_text().splitlines()]

    def wait_for_line(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, "\n".join(self.lines), re.MULTILINE), pattern)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self.socket)
        return sock

    def stop(self, *signals: signal.Signals) -> int:
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[Callable[..., Tap]]:
    started: list[Tap] = []

    def start(to: str, *arguments: str, **options: Any) -> Tap:
        started.append(Tap(tmp_path, to, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop(signal.SIGTERM, signal.SIGTERM)


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """A program of bare sockets: `talk(sock)` on a thread for each connection."""
    stops: list[Callable[[], None]] = []

    def make(talk: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        threads: list[threading.Thread] = []

        def serve(sock: socket.socket) -> None:
            with sock, contextlib.suppress(ConnectionError):
                sock.settimeout(20)
                talk(sock)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=serve, args=(listener.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()

        def stop() -> None:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(20)
            listener.close()
            for thread in threads:
                thread.join(20)

        stops.append(stop)
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

    yield make
    for stop in stops:
        stop()


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def noise(seed: int, size: int) -> bytes:
    """Bytes that look like a record at first, so that a decoder has something to choke on."""
    return b"\x01\x05\x00\x01\xff\xff\x07\x00" + random.Random(seed).randbytes(size)


def test_every_byte_goes_on_both_ways_at_once(tap: Callable[..., Tap], peer: Callable[..., str]) -> None:
    def talk(sock: socket.socket) -> None:
        """Sends while it reads, and says at the end what it read."""
        sending = threading.Thread(target=sock.sendall, args=(noise(1, 4_000_000),))
        sending.start()
        digest = hashlib.sha256(read_all(sock)).digest()
        sending.join(20)
        sock.sendall(digest)

    running = tap(peer(talk))
    with running.connect() as sock:
        data = noise(2, 3_000_000)

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        assert read_all(sock) == noise(1, 4_000_000) + hashlib.sha256(data).digest()
        sending.join(20)
    running.wait_for_line("^close$")
    told = "\n".join(running.lines)
    assert len(re.findall("! from here on not decoded, but forwarded", told)) == 2
    assert running.stop() == 0
    assert not Path(running.socket).exists()


def test_who_reads_slowly_stalls_nobody_else(tap: Callable[..., Tap], peer: Callable[..., str]) -> None:
    running = tap(peer(lambda sock: sock.sendall(sock.recv(1) * 6_000_000)))
    with running.connect() as slow:
        slow.sendall(b"s")
        slow.recv(1)
        for _ in range(3):
            with running.connect() as quick:
                quick.sendall(b"q")
                assert len(read_all(quick)) == 6_000_000
        assert len(read_all(slow)) == 5_999_999
    assert running.stop() == 0


def test_output_that_nobody_reads_stalls_nothing(tap: Callable[..., Tap], peer: Callable[..., str]) -> None:
    def talk(sock: socket.socket) -> None:
        asked = read_all(sock)
        sock.sendall(hashlib.sha256(asked).digest())

    running = tap(peer(talk), "--show-secrets", is_deaf=True)
    records = (b"\x01\x05\x00\x01\x03\xe8\x00\x00" + b"x" * 1000) * 3000
    for _ in range(3):
        with running.connect() as sock:
            sock.sendall(records)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == hashlib.sha256(records).digest()
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not can_connect(running.socket), "the end of listening")
    assert running.process.poll() is None, "it waits for who might read what is not told yet"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) == 1
    assert not Path(running.socket).exists()


def test_a_program_that_is_not_there(tap: Callable[..., Tap], peer: Callable[..., str]) -> None:
    running = tap(f"tcp://127.0.0.1:{free_port()}")
    with running.connect() as sock:
        assert sock.recv(1) == b""
    running.wait_for_line(r"^close: .*Connection refused$")
    assert running.stop() == 0


def test_a_reset_is_passed_on_as_an_end(tap: Callable[..., Tap], peer: Callable[..., str]) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(3)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    running = tap(peer(talk))
    with running.connect() as sock:
        sock.sendall(b"abc")
        assert sock.recv(1) == b""
    running.wait_for_line(r"^close: Connection reset by peer$")


def test_a_second_signal_ends_it_at_once(tap: Callable[..., Tap], peer: Callable[..., str]) -> None:
    running = tap(peer(read_all))
    with running.connect() as sock:
        sock.sendall(b"x")
        running.wait_for_line("^open, from")
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: not can_connect(running.socket), "the end of listening")
        assert running.process.poll() is None, "it waits for connections"
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0
        assert sock.recv(1) == b""


def test_what_cannot_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--listen", f"unix:{tmp_path}/a.sock", "--to", "unix:/x"]
    assert run(["tap", *where, "--save", f"{tmp_path}/none/a.tap"]) == 255
    assert "--save: " in capsys.readouterr().err
    assert not (tmp_path / "a.sock").exists()
    assert run(["tap", "--listen", f"unix:{tmp_path}/none/a.sock", "--to", "unix:/x"]) == 255
    assert "cannot listen on" in capsys.readouterr().err
    assert run(["tap", "--listen", "nowhere", "--to", "unix:/x"]) == 255
    with pytest.raises(SystemExit, match="2"):
        run(["tap", *where, "--socket-mode", "0999"])


COUNTER = """<?php
session_start();
$_SESSION["visits"] = ($_SESSION["visits"] ?? 0) + 1;
error_log("visited");
$body = file_get_contents("php://input");
echo $_SERVER["REQUEST_METHOD"], " ", $_SESSION["visits"], " ", strlen($body), " ", md5($body), "\\n";
"""


def test_php_behind_a_gateway_told_saved_and_replayed(
    tap: Callable[..., Tap], gateway: Callable[..., Any], processes: Processes, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "count.php").write_text(COUNTER)
    fpm = start_php_fpm(processes, tmp_path / "fpm", ini={"opcache.enable": "0"})
    saved = str(tmp_path / "a.tap")
    running = tap(f"unix:{fpm}", "--save", saved)
    site = gateway(f'fastcgi.server = ( ".php" => (( "socket" => "{running.socket}", "max-connections" => 2 )) )\n')
    cookie = "PHPSESSID=abcdefabcdefabcdefabcdef"
    assert site.get("/count.php?x=1", Cookie=cookie).body.startswith(b"GET 1 0")
    body = os.urandom(300_000)
    assert site.request("POST", "/count.php", body, Cookie=cookie).body.startswith(b"POST 2 300000")
    running.wait_for_line(r"(?s)END_REQUEST.*END_REQUEST")
    site.stop()
    assert running.stop() == 0
    told = "\n".join(running.lines)
    assert "> BEGIN_REQUEST id 1, RESPONDER, keep_conn" in told
    assert re.search(r">     HTTP_COOKIE +  ?= \(34 bytes\)", told)
    assert "<     | PHP message: visited" in told
    assert "abcdef" not in told
    assert Path(saved).stat().st_mode & 0o777 == 0o600

    for session in (tmp_path / "fpm").glob("sess_*"):
        session.unlink()
    capsys.readouterr()
    assert run(["replay", saved, "--to", f"unix:{fpm}"]) == 0
    assert capsys.readouterr().out == (
        "same     1 GET /count.php?x=1\nsame     1 POST /count.php\n2 answers: 2 as they were, 0 not\n"
    )
    (tmp_path / "count.php").write_text(COUNTER.replace('error_log("visited")', 'header("X-New: 1")'))
    assert run(["replay", "-q", saved, "--to", f"unix:{fpm}", "--ignore", "x-powered-by"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"differs  1 GET /count.php\?x=1: x-new: 1 instead of none; another body of \d+ bytes; \w+ b'' instead of .+",
        lines[0],
    )
    assert lines[-1] == "2 answers: 0 as they were, 2 not"


def recording_of(tap: Callable[..., Tap], backend: Callable[..., Any], tmp_path: Path, *targets: str) -> str:
    peer = backend(lambda seen: answer(b"Content-Type: text/plain\r\n\r\n" + (seen.params["REQUEST_URI"])))
    saved = str(tmp_path / "b.tap")
    running = tap(peer.url, "-q", "--save", saved)
    for target in targets:
        assert run(["call", f"unix:{running.socket}", target]) == 0
    assert running.stop() == 0
    return saved


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        (lambda seen: answer(b"Content-Type: text/plain\r\n\r\n" + seen.params["REQUEST_URI"]), 0, "same     1 GET /a"),
        (lambda seen: Reply(b"", "hang"), 1, "no answer within 0.3 s"),
        (lambda seen: b"HTTP/1.0 400 Bad\r\n\r\n", 1, "a record starts with its version"),
    ],
)  # fmt: skip
def test_replays(
    script: Any, status: int, words: str, tap: Callable[..., Tap], backend: Callable[..., Any], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    saved = recording_of(tap, backend, tmp_path, "/a")
    assert run(["replay", saved, "--to", backend(script).url, "--timeout", "0.3" if status else "20"]) == status
    assert words in capfd.readouterr().out


def test_a_replay_shows_no_secrets(
    tap: Callable[..., Tap], backend: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = recording_of(tap, backend, tmp_path, "/a?token=geheim")
    capfd.readouterr()
    changed = backend(lambda seen: answer(b"Set-Cookie: SID=heimlich\r\n\r\nb")).url
    assert run(["replay", saved, "--to", changed]) == 1
    told = capfd.readouterr().out
    assert "differs  1 GET /a?token=(6 bytes): " in told
    assert "set-cookie" in told
    assert "heim" not in told


def test_replays_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.tap"
    good.write_text('{"gfastcgi-tap": 1}\n{"at": 0, "connection": 1, "event": "open"}\n')
    bad = tmp_path / "bad.tap"
    bad.write_text("hello\n")
    nobody = ["--to", f"unix:{tmp_path}/none.sock"]
    assert run(["replay", str(good), *nobody]) == 3
    assert run(["replay", str(bad), *nobody]) == 2
    assert "bad.tap: line 1" in capsys.readouterr().err
    assert run(["replay", str(tmp_path / "none"), *nobody]) == 2
    assert run(["replay", str(good), "--to", "nowhere"]) == 2
