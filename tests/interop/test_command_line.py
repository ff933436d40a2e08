"""The command line as a process: start, signals, PID file, logs, and starts that must fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.gateway import Gateway
from peers.http import Connection
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONF = """server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = 0
server.modules = ( "mod_fastcgi", "mod_accesslog" )
index-file.names = ( "index.html" )
"""
ALONE = '"max-connections" => 4'
"""So that nobody asks the backend for it: the first connection is a request."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def start(*arguments: str, conf: str = "", log: Path | None = None) -> Gateway:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        (root / "index.html").write_text("hello\n")
        if not arguments:
            file = tmp_path / "site.conf"
            file.write_text(CONF.replace("{root}", str(root)) + conf)
            arguments = ("-D", "-f", str(file))
        started.append(Gateway(arguments, cwd=tmp_path, log=log))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.stop()


def gfastcgi(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gfastcgi", *arguments], cwd=cwd, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(start: Callable[..., Gateway], number: int) -> None:
    gateway = start()
    assert gateway.get("/").body == b"hello\n"
    gateway.terminate(number)
    gateway.process.wait(15)
    gateway.stop()
    assert "stopped" in gateway.log


def test_a_request_under_way_finishes_while_no_other_is_accepted(start: Callable[..., Gateway], tmp_path: Path) -> None:
    path = str(tmp_path / "slow.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    gateway = start(
        conf=f'fastcgi.server = ( "/app" => (( "socket" => "{path}", "check-local" => "disable", {ALONE} )) )\n'
    )
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(gateway.get("/app").body))
    client.start()
    backend, _ = listener.accept()
    backend.recv(65536)
    gateway.terminate()
    gateway.wait_for_log("stopping")

    def is_refused() -> bool:
        try:
            gateway.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(is_refused, "the port to be closed")
    content = b"Content-Type: text/plain\r\n\r\nlate"
    content += b"\0" * (-len(content) % 8)
    backend.sendall(
        bytes([1, 6, 0, 1, 0, len(content), 0, 0]) + content + bytes([1, 3, 0, 1, 0, 8, 0, 0]) + bytes(8)
    )  # fmt: skip
    client.join(10)
    gateway.process.wait(15)
    assert [answer.rstrip(b"\0") for answer in answers] == [b"late"]
    gateway.stop()
    backend.close()
    listener.close()


def test_a_second_signal_ends_it_at_once(start: Callable[..., Gateway], tmp_path: Path) -> None:
    path = str(tmp_path / "deaf.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    gateway = start(
        conf=f'fastcgi.server = ( "/app" => (( "socket" => "{path}", "check-local" => "disable", {ALONE} )) )\n'
    )
    with gateway.connect() as connection:
        connection.send(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
        backend, _ = listener.accept()
        gateway.terminate()
        gateway.wait_for_log("stopping")
        gateway.terminate()
        assert gateway.process.wait(5) == 128 + signal.SIGTERM
    backend.close()
    listener.close()
    gateway.kill()


def test_the_pid_file_lives_as_long_as_the_server(start: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "gfastcgi.pid"
    gateway = start(conf=f'server.pid-file = "{file}"\n')
    assert file.read_text() == f"{gateway.pid}\n"
    gateway.stop()
    assert not file.exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reopens_both_logs(start: Callable[..., Gateway], tmp_path: Path, number: int) -> None:
    error_log, access_log = tmp_path / "error.log", tmp_path / "access.log"
    gateway = start(
        conf=f'server.errorlog = "{error_log}"\naccesslog.filename = "{access_log}"\naccesslog.format = "%r %>s %b"\n',
        log=error_log,
    )
    gateway.get("/?old")
    wait_until(lambda: "?old" in access_log.read_text(), "the access log")
    address = gateway.address
    error_log.rename(tmp_path / "error.log.1")
    access_log.rename(tmp_path / "access.log.1")
    gateway.process.send_signal(number)
    wait_until(lambda: error_log.exists() and "logs reopened" in error_log.read_text(), "the new error log")
    with Connection(address) as connection:
        connection.request("GET", "/?new")
    gateway.stop()
    assert (tmp_path / "access.log.1").read_text() == "GET /?old HTTP/1.1 200 6\n"
    assert access_log.read_text() == "GET /?new HTTP/1.1 200 6\n"
    assert "listening on" in (tmp_path / "error.log.1").read_text()


def test_a_signal_without_a_meaning_is_told(start: Callable[..., Gateway]) -> None:
    gateway = start()
    gateway.process.send_signal(signal.SIGUSR2)
    gateway.wait_for_log("SIGUSR2 means nothing here, and is passed over")
    assert gateway.get("/").status == 200


def test_a_site_without_a_file(start: Callable[..., Gateway], tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    gateway = start("serve", "--root", str(tmp_path / "root"), "--bind", "127.0.0.1:0", "--access-log", "access.log")
    assert gateway.get("/").body == b"hello\n"
    gateway.stop()
    assert '"GET / HTTP/1.1" 200 6' in (tmp_path / "access.log").read_text()


def test_an_address_in_use_is_told_and_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = gfastcgi("serve", "--root", ".", "--bind", f"127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 255
    assert done.stderr == f"gfastcgi: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('server.errorlog = "/nonexistent/error.log"\n', "server.errorlog"),
        ('accesslog.filename = "/nonexistent/access.log"\n', "accesslog.filename"),
        ('server.pid-file = "/nonexistent/pid"\n', "server.pid-file"),
        ('server.username = "no-such-user"\n', "server.username"),
        ('server.groupname = "no-such-group"\n', "server.groupname"),
        ('accesslog.format = "%z"\n', "accesslog.format"),
    ],
)
def test_a_start_that_must_fail_says_why_and_exits_255(lines: str, message: str, tmp_path: Path) -> None:
    if "name =" in lines and os.geteuid() != 0:
        pytest.skip("only root changes its user")
    file = tmp_path / "site.conf"
    file.write_text(CONF.replace("{root}", str(tmp_path)) + lines)
    done = gfastcgi("-D", "-f", str(file), cwd=tmp_path)
    assert done.returncode == 255, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_privileges_are_dropped_after_binding(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start(conf='server.username = "nobody"\nserver.max-fds = 512\n')
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    groups = next(line.split()[1:] for line in status.splitlines() if line.startswith("Groups:"))
    assert "0" not in uids
    assert "0" not in groups
    limits = Path(f"/proc/{gateway.pid}/limits").read_text()
    assert next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")) == "512"
