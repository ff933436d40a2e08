"""`gfastcgi wsgi` as a user runs it: one process or several, reloaded, replaced, ended."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fcgirig import Client
from gevent import socket
from peers.fronts import Site
from peers.processes import can_connect, children, kill_all
from peers.programs import spawn_fcgi
from peers.waiting import wait_until

from gfastcgi.fcgi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.processes import Processes

ROOT = Path(__file__).parents[2]

APP = """
import os
from gfastcgi import authorizer
VERSION = {version!r}

def application(environ, start_response):
    if environ["QUERY_STRING"] == "die":
        os._exit(3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{VERSION}} {{os.getpid()}} {{environ['wsgi.multiprocess']}}".encode()]

@authorizer
def guard(request):
    return "ada"

def trim(environ, start_response):
    start_response("200 OK", [])
    return [environ["fastcgi.data"].read().strip()]
"""


class Command:
    """A running `gfastcgi wsgi`."""

    def __init__(self, folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL) -> None:
        self.path = str(folder / "app.sock")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gfastcgi", "wsgi", "app", *arguments], cwd=folder, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.decode())

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def wait_for_log(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.log), f"{pattern!r} in the log", 20)

    @contextlib.contextmanager
    def client(self, address: Any = None) -> Iterator[Client]:
        with socket.socket(socket.AF_INET if address else socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(address or self.path)
            yield Client(sock)

    def ask(self, query: bytes = b"") -> list[str]:
        """What one request on a connection of its own is answered: version, pid, multiprocess."""
        with self.client() as client:
            return client.request(pairs=b"\x0c" + bytes([len(query)]) + b"QUERY_STRING" + query).body.decode().split()

    def is_of(self, version: str) -> bool:
        """Whether `version` answers; a worker that ends just now may close a connection that it took."""
        try:
            return self.ask()[0] == version
        except OSError:
            return False

    def pids(self, count: int) -> set[int]:
        """The workers, once there are so many."""
        return wait_until(lambda: len(found := children(self.process.pid)) == count and found, f"{count} workers", 20)

    def is_up(self) -> Command:
        wait_until(lambda: self.process.poll() is not None or can_connect(self.path), "the socket", 20)
        self.ask()
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(20)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "one")
    return tmp_path


@pytest.fixture
def wsgi(folder: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str, bind: str = f"unix:{folder}/app.sock", **options: Any) -> Command:
        started.append(Command(folder, *(["--bind", bind] if bind else []), *arguments, **options))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            kill_all(children(command.process.pid))
            command.process.kill()
            command.wait()


def write(folder: Path, version: str, text: str = APP) -> None:
    """A version of the application; the file's time always differs from the last."""
    file = folder / "app.py"
    time = file.stat().st_mtime if file.exists() else 1_700_000_000
    file.write_text(text.format(version=version))
    os.utime(file, (time + 10, time + 10))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_one_process(wsgi: Callable[..., Command], folder: Path, number: int) -> None:
    command = wsgi().is_up()
    assert command.ask() == ["one", str(command.process.pid), "False"]
    assert command.stop(number) == 0
    assert not (folder / "app.sock").exists()
    assert "Traceback" not in command.log


def test_all_roles_on_a_port(wsgi: Callable[..., Command]) -> None:
    command = wsgi("--authorizer", "app:guard", "--filter", "app:trim", "--threads", "2", bind="127.0.0.1:0")
    command.wait_for_log(r"listening on tcp://127.0.0.1:\d+")
    port = int(re.findall(r"listening on tcp://127.0.0.1:(\d+)", command.log)[0])
    with command.client(("127.0.0.1", port)) as client:
        assert client.request().body.startswith(b"one ")
        assert b"Variable-REMOTE_USER: ada" in client.request(role=c.AUTHORIZER).head
        client.begin(role=c.FILTER, stdin=b"")
        client.send(client.core.send_data(1, b"  trim me ") + client.core.send_data(1, b""))
        assert client.answer().body == b"trim me"
    assert command.stop() == 0


def test_the_socket_s_mode_and_owner(wsgi: Callable[..., Command], folder: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    wsgi("--socket-mode", "0604", "--socket-owner", user).is_up()
    found = (folder / "app.sock").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o604, os.getuid())


def test_a_socket_that_listens_already(wsgi: Callable[..., Command], folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "app.sock"))
        listener.listen()
        command = wsgi(bind="", stdin=listener.fileno())
        assert command.ask()[2] == "True"
    assert command.stop() == 0
    assert (folder / "app.sock").exists()


def test_spawned_by_spawn_fcgi(folder: Path, processes: Processes) -> None:
    (folder / "app.py").rename(folder / "frontapp.py")
    path = spawn_fcgi(processes, folder, Site(processes, folder, "").script(), env={})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        client = Client(sock)
        for keep_conn in (True, True, False):
            version, _, is_multiprocess = client.request(keep_conn=keep_conn).body.split()
            assert (version, is_multiprocess) == (b"one", b"True")
        client.read_end()


def test_workers_share_the_socket_and_are_replaced(wsgi: Callable[..., Command], folder: Path) -> None:
    command = wsgi("--workers", "2").is_up()
    first = command.pids(2)
    assert wait_until(lambda: {command.ask()[1] for _ in range(20)} == set(map(str, first)), "both to answer")
    assert command.ask()[2] == "True"
    os.kill(min(first), signal.SIGKILL)
    wait_until(lambda: min(first) not in command.pids(2), "another worker", 20)
    command.wait_for_log(r"worker \d+ ended \(signal 9\), another starts in")
    assert command.ask()[0] == "one"
    workers = command.pids(2)
    assert command.stop() == 0
    assert not workers & children(os.getpid())
    assert not (folder / "app.sock").exists()


def test_a_worker_that_the_application_ends(wsgi: Callable[..., Command]) -> None:
    command = wsgi("--workers", "1", "--reload").is_up()
    with command.client() as client:
        client.begin(pairs=b"\x0c\x03QUERY_STRINGdie")
        client.read_end()
        assert client.answers[1].end is None
    command.wait_for_log(r"ended \(exit status 3\)")
    assert command.ask()[0] == "one"


def test_a_hangup_reloads(wsgi: Callable[..., Command], folder: Path) -> None:
    command = wsgi("--workers", "2").is_up()
    old = command.pids(2)
    write(folder, "two")
    command.process.send_signal(signal.SIGHUP)
    command.wait_for_log("reloaded")
    new = wait_until(lambda: not (found := command.pids(2)) & old and found, "the new workers", 20)
    assert len(new) == 2
    assert {command.ask()[0] for _ in range(10)} == {"two"}


def test_a_reload_that_fails_leaves_all_as_it_was(wsgi: Callable[..., Command], folder: Path) -> None:
    command = wsgi("--workers", "2").is_up()
    old = command.pids(2)
    write(folder, "broken", "import os,\n")
    command.process.send_signal(signal.SIGHUP)
    command.wait_for_log("not reloaded: .* the old ones go on")
    assert "SyntaxError" in command.log
    assert command.pids(2) == old
    assert {command.ask()[0] for _ in range(10)} == {"one"}
    write(folder, "three")
    command.process.send_signal(signal.SIGHUP)
    wait_until(lambda: command.is_of("three"), "the repaired one", 20)


def test_a_changed_file_reloads(wsgi: Callable[..., Command], folder: Path) -> None:
    command = wsgi("--reload").is_up()
    write(folder, "two")
    wait_until(lambda: command.is_of("two"), "the new version", 20)
    assert "app.py has changed" in command.log
    assert command.stop() == 0


def test_workers_end_with_a_master_that_is_killed(wsgi: Callable[..., Command]) -> None:
    command = wsgi("--workers", "2").is_up()
    workers = command.pids(2)
    command.stop(signal.SIGKILL)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") and pid in children(os.getpid()) for pid in workers),
               "the workers to end")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bind", "127.0.0.1:0", "--authorizer", "nothere:x"], "there is no module nothere"),
        (["--bind", "127.0.0.1:0", "--filter", "app:x", "--workers", "2"], "ended before it served"),
        (["--bind", "fd:0"], "descriptor 0 is not a listening socket"),
    ],
)
def test_what_cannot_start(wsgi: Callable[..., Command], arguments: list[str], words: str) -> None:
    command = wsgi(*arguments, bind="")
    assert command.wait() == 255
    assert words in command.log
    assert "Traceback" not in command.log
