"""The control socket: one line each way, for its owner alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import socket

from gfastcgi.control import ControlError, ControlSocket, command
from gfastcgi.errors import NoBackendAvailable
from gfastcgi.net.listeners import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def fail() -> dict[str, int]:
    raise NoBackendAvailable("nobody is there")


def break_down() -> dict[str, int]:
    raise ValueError("secret")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "control.sock")
    server = ControlSocket(path, {"purge": lambda: {"gates": 3}, "fail": fail, "break": break_down})
    server.start()
    yield path
    server.stop()
    assert not os.path.exists(path)


def say(path: str, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(line)
        sock.shutdown(socket.SHUT_WR)
        answer: bytes = sock.recv(65536)
        assert not sock.recv(1)
        return answer


def test_a_command(path: str) -> None:
    assert command(path, "purge") == {"gates": 3}
    assert say(path, b'{"command": "purge"}\n') == b'{"ok": true, "gates": 3}\n'
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"purge\n", b"[]\n", b"{}\n", b'{"command": []}\n', b'{"command": "x"}\n', b"\xff\n"]
)
def test_no_command(path: str, line: bytes) -> None:
    assert say(path, line).startswith(b'{"ok": false, "error": "expected a command, one of purge, fail, break, found ')


def test_commands_that_fail(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ControlError, match="nobody is there"):
        command(path, "fail")
    with pytest.raises(ControlError, match="see the error log"):
        command(path, "break")
    assert "secret" in caplog.text
    with pytest.raises(ControlError, match="expected a command"):
        command(path, "x")
    assert command(path, "purge") == {"gates": 3}


def test_nobody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    for _ in range(2):
        with pytest.raises(ControlError) as refused:
            command(path, "purge")
        assert str(refused.value) == f"no gateway is running at {path}"
        if not os.path.exists(path):  # then one that has ended
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)


@pytest.mark.parametrize("answer", [b"", b"what\n", b"[]\n", b'{"ok": false}\n'])
def test_somebody_else_answers(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(answer)

        server = gevent.spawn(serve)
        with pytest.raises(ControlError):
            command(path, "purge")
        server.get()


def test_one_gateway_a_socket(path: str) -> None:
    with pytest.raises(ListenError):
        ControlSocket(path, {})
