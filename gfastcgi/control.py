"""Commands to a running gateway, over a unix socket that only its owner can open (`server.control-socket`).

    {"command": "purge"}\\n   ->   {"ok": true, ...}\\n   or   {"ok": false, "error": "..."}\\n

One line of JSON each way, then the connection ends. Who may command is what the socket's mode 0600 says.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer

from gfastcgi.config import Address
from gfastcgi.errors import GfastcgiError
from gfastcgi.net.listeners import SocketFile, listen

__all__ = ["Commands", "ControlError", "ControlSocket", "command"]

log = logging.getLogger("gfastcgi")

_MODE = 0o600
_SECONDS = 10.0
_LONGEST_LINE = 1 << 24

Commands = Mapping[str, Callable[[], Mapping[str, Any]]]


class ControlError(GfastcgiError):
    """No gateway listens there, or it refused the command; the message says which."""


class ControlSocket:
    """Listens at `path`; `commands` by name give what is answered beside "ok". Raises `ListenError`."""

    def __init__(self, path: str, commands: Commands) -> None:
        self._commands = commands
        address = Address(path=path, mode=_MODE)
        self._server = StreamServer(listen(address), self._serve)
        self._file = SocketFile(address)

    def __repr__(self) -> str:
        return f"<ControlSocket {self._file.path}>"

    def start(self) -> None:
        """Answers from now on."""
        self._server.start()

    def stop(self) -> None:
        """Ends, and removes the socket's file where that is allowed."""
        self._server.stop(timeout=0)
        try:
            self._file.remove()
        except OSError as error:
            log.info("the control socket stays behind: %s", error)

    def _serve(self, sock: socket.socket, _: object) -> None:
        try:
            with gevent.Timeout(_SECONDS):
                answer = self._answer(_read_line(sock))
                sock.sendall(json.dumps(answer).encode() + b"\n")
        except (OSError, gevent.Timeout):
            log.info("the control socket: somebody left before the answer")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
            wanted = message["command"]
            found = self._commands[wanted]
        except (ValueError, TypeError, LookupError):
            return {
                "ok": False,
                "error": f"expected a command, one of {', '.join(self._commands)}, found {line[:80]!r}",
            }
        try:
            return {"ok": True, **found()}
        except GfastcgiError as error:
            return {"ok": False, "error": str(error)}
        except Exception:
            log.exception("the command %r failed", wanted)
            return {"ok": False, "error": "the command failed, see the error log"}


def command(path: str, name: str) -> dict[str, Any]:
    """Sends the command `name` to the gateway whose control socket is `path`. Raises `ControlError`."""
    try:
        with gevent.Timeout(_SECONDS, TimeoutError("no answer in time")), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(json.dumps({"command": name}).encode() + b"\n")
            line = _read_line(sock)
        answer = json.loads(line)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlError(f"no gateway is running at {path}") from error
    except (OSError, ValueError) as error:
        raise ControlError(f"{path}: {error}") from error
    if not isinstance(answer, dict) or not answer.pop("ok", False):
        raise ControlError(f"{path}: {answer.get('error') if isinstance(answer, dict) else line!r}")
    return answer


def _read_line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        data = sock.recv(65536)
        if not data:
            break
        line += data
    return line
