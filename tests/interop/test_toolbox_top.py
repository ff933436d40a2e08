"""`gfastcgi top` of a real gateway: once, as JSON, and on a real terminal with keys, signals and an outage."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers.backend import answer
from peers.waiting import wait_until

from gfastcgi.control import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": ""}
PROGRAM = f"{sys.executable} -m gfastcgi wsgi wsgiref.simple_server:demo_app"
COLUMNS, LINES = 60, 16

# Becomes the program that it is told, on a terminal that sends it signals.
BECOME = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gfastcgi", "top", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENV, check=False, timeout=30,
    )  # fmt: skip


class Terminal:
    """`gfastcgi top` on a pseudo-terminal."""

    def __init__(self, *arguments: str, lines: int = LINES, columns: int = COLUMNS) -> None:
        self.fd, self._inside = os.openpty()
        fcntl.ioctl(self._inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._before = termios.tcgetattr(self._inside)
        self.shown = ""
        """All that was written."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", BECOME, sys.executable, "-m", "gfastcgi", "top", *arguments],
            stdin=self._inside, stdout=self._inside, stderr=self._inside, start_new_session=True, env=ENV,
        )  # fmt: skip

    def wait_for(self, pattern: str, timeout: float = 15.0) -> str:
        """What is written up to and with the pattern, from now on."""
        start = len(self.shown)

        def found() -> re.Match[str] | None:
            if select.select([self.fd], [], [], 0.05)[0]:
                self.shown += os.read(self.fd, 65536).decode()
            return re.compile(pattern, re.DOTALL).search(self.shown, start)

        try:
            match = wait_until(found, f"{pattern!r} on the terminal", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.shown[start:]!r}") from None
        assert match is not None
        return match.string[start : match.end()]

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def leave(self) -> int:
        """Waits for the end; the terminal has to be as it was."""
        self.wait_for(r"\x1b\[\?7h\x1b\[\?25h\x1b\[\?1049l")
        status = self.process.wait(10)
        assert termios.tcgetattr(self._inside) == self._before
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for fd in (self.fd, self._inside):
            os.close(fd)


class Stream:
    """`gfastcgi top` that writes into files."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._out, self._errors = folder / "out", folder / "errors"
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            command = [sys.executable, "-m", "gfastcgi", "top", *arguments]
            self._process = subprocess.Popen(command, stdout=out, stderr=errors, env=ENV)

    @property
    def told(self) -> list[dict[str, Any]]:
        """The whole lines so far."""
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(10)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*arguments: str, **size: int) -> Terminal:
        made.append(Terminal(*arguments, **size))
        return made[-1]

    yield make
    for each in made:
        each.close()


def cells(text: str, first: str) -> list[str]:
    """The words of the line that begins with `first`."""
    [line] = [line.split() for line in text.splitlines() if line.split()[:1] == [first]]
    return line


def test_under_load(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    may_answer = threading.Event()

    def slow(_: object) -> bytes:
        assert may_answer.wait(30)
        return answer("Status: 200 OK\r\n\r\n")

    peer, gate = backend(slow), backend(lambda _: answer("Status: 200 OK\r\n\r\n"))
    control = str(tmp_path / "control.sock")
    site = gateway(
        f"""server.control-socket = "{control}"
fastcgi.server = (
    "/slow" => ( "slow" => ( {peer.option}, "check-local" => "disable", "max-connections" => 2 ) ),
    "/app" => ( "app" => ( "socket" => "{tmp_path}/app", "bin-path" => "{PROGRAM}",
                           "check-local" => "disable", "min-procs" => 2, "max-procs" => 3 ) ),
    "/private" => (( {gate.option}, "mode" => "authorizer", "docroot" => "{tmp_path}" )),
)
"""
    )
    assert [site.get(target).status for target in ("/app", "/app", "/private/none")] == [200, 200, 404]
    clients = [threading.Thread(target=site.get, args=("/slow",)) for _ in range(3)]
    for client in clients:
        client.start()
    wait_until(lambda: command(control, "overview")["waiting"] == 1, "one to wait")

    seen = top("-f", str(tmp_path / "site-0.conf"), "--once", "--interval", "0.1")
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "\x1b" not in seen.stdout
    assert "from 3 connected clients" in seen.stdout
    assert "backends: 2 at work, 1 waiting, 5 so far" in seen.stdout
    assert "decisions 1 (0.0/s): allowed 1, denied 0, failed 0; 0 without asking" in seen.stdout
    assert cells(seen.stdout, "/slow") == ["/slow", "1", "0.0", "2"]
    assert cells(seen.stdout, "slow")[:8] == ["slow", "running", "2", "2", "0", "0.0", "0", "2"]
    procs = command(control, "overview")["pools"][1]["hosts"][0]["procs"]
    for proc in procs[:2]:
        line = cells(seen.stdout, f"app.{proc['id']}")
        assert (line[1], line[-2:]) == ("running", [str(proc["pid"]), proc["address"]])
    assert cells(seen.stdout, "app.2")[1] == "unset"
    assert sum(proc["requests"] for proc in procs) == 2

    may_answer.set()
    for client in clients:
        client.join()
    told = json.loads(top("--socket", control, "--once", "--json", "--interval", "0.1").stdout)
    assert (told["requests"], told["waiting"], told["active"], told["per_second"]) == (6, 0, 0, 0.0)
    assert told["pools"][0]["hosts"][0]["procs"][0]["requests"] == 3
    # `statistics-url` and the old command stay as they are.
    assert command(control, "statistics")["fastcgi.requests"] == 6


def test_an_outage(gateway: Callable[..., Gateway], terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """As JSON and on the whole screen."""
    control = str(tmp_path / "control.sock")
    config = f"""server.control-socket = "{control}"
fastcgi.server = ( "/" => (( "host" => "127.0.0.1", "port" => 1, "check-local" => "disable" )) )
"""
    first = gateway(config)
    stream = Stream(tmp_path, "--socket", control, "--json", "--interval", "0.1")
    one, other, *_ = wait_until(lambda: stream.told if len(stream.told) > 1 else [], "two looks")
    assert one["seconds"] < other["seconds"]
    screen = terminal("--socket", control, "--interval", "0.1")
    seen = screen.wait_for(rf"pid {first.pid}.*127\.0\.0\.1:1.*\x1b\[J")
    assert seen.startswith("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H")
    for line in re.split(r"\x1b\[K\r\n", seen):
        assert len(re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", line)) <= COLUMNS
    assert "\x1b[36mBACKEND" in seen
    assert "as configured" in seen
    screen.type(b"s")
    screen.wait_for("sorted by load")
    assert first.get("/").status == 503
    screen.wait_for(r"failed 1: connect_refused 1.*disabled")

    # Not `stop`: that ends every process that it finds.
    first.terminate()
    first.process.wait()
    screen.wait_for("the gateway is gone, waiting for it: ")
    second = gateway(config)
    seen = screen.wait_for(rf"\x1b\[H\x1b\[1mgfastcgi [^\r]*pid {second.pid}")
    assert "is gone" not in seen.rpartition("\x1b[H")[2]
    later = wait_until(lambda: [told for told in stream.told if told["pid"] == second.pid], "the second one's")
    assert later[0]["per_second"] is None
    gone, back = stream.errors.splitlines()
    assert gone.startswith("gfastcgi: the gateway is gone, waiting for it: ")
    assert back == "gfastcgi: the gateway is back"

    screen.type(b"xq")
    assert screen.leave() == 0
    assert stream.stop() == 0


@pytest.fixture(scope="module")
def control(module_gateway: Callable[..., Gateway], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("control") / "control.sock"
    module_gateway(f'server.control-socket = "{path}"\n')
    return str(path)


def test_signals(control: str, terminal: Callable[..., Terminal]) -> None:
    sizes = ({}, {"lines": 4}, {"lines": 0, "columns": 0})
    screens = [terminal("--socket", control, "--interval", "60", **size) for size in sizes]
    for screen, last in zip(screens, ("BACKEND", r"\.\.\. 4 more lines", "BACKEND"), strict=True):
        screen.wait_for(rf"requests 0.*{last}[^\n]*\x1b\[J")
    screens[0].type(b"\x1a\x03")
    screens[1].process.send_signal(signal.SIGTERM)
    assert [screen.leave() for screen in screens[:2]] == [0, 0]
    # The third one's terminal goes away.
    os.close(screens[2].fd)
    screens[2].fd = os.dup(screens[2]._inside)
    assert screens[2].process.wait(10) == 0


def test_nobody_reads(control: str) -> None:
    told, ours = os.pipe()
    os.close(told)
    command = [sys.executable, "-m", "gfastcgi", "top", "--socket", control, "--json", "--interval", "0.05"]
    try:
        done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, env=ENV, check=False, timeout=30)
    finally:
        os.close(ours)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_ctrl_c_while_nobody_answers(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        screen = terminal("--socket", path)
        with listener.accept()[0] as client:
            assert client.recv(100) == b'{"command": "overview"}\n'
            screen.type(b"\x03")
            assert screen.process.wait(10) == 0
    os.set_blocking(screen.fd, False)
    assert os.read(screen.fd, 65536) == b"^C"


def test_no_gateway(tmp_path: Path) -> None:
    seen = top("--socket", str(tmp_path / "none"))
    assert (seen.returncode, seen.stdout) == (1, "")
    assert re.fullmatch(r"gfastcgi: no gateway is running at /.*/none\n", seen.stderr)
