"""An HTTP service of the tests' own, on threads: it answers as its script says, rightly or wrongly."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from peers.backend import Reply

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Asked:
    """One request as the service saw it. Names are in lower case."""

    method: str
    target: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    connection: int = 0

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name.lower()]


def http(status: int = 200, *fields: tuple[str, str], body: bytes = b"", reason: str = "Said So") -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


@dataclass
class Drip:
    """An answer of which every byte comes a moment after the one before."""

    data: bytes


class HTTPService:
    """Listens on a port of its own; `script(asked)` gives each answer. With `context` it speaks TLS."""

    def __init__(
        self, script: Callable[[Asked], bytes | Reply | Drip] | None = None, *, context: ssl.SSLContext | None = None
    ) -> None:
        self.script = script or (lambda asked: http())
        self.requests: list[Asked] = []
        self.connections = 0
        self._context = context
        self._talks: list[tuple[threading.Thread, socket.socket]] = []
        self._stopped, self._stopping = socket.socketpair()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, path: str = "/") -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}{path}"

    @property
    def last(self) -> Asked:
        return self.requests[-1]

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self.listener, self._stopped], [], [])
            if self._stopped in ready:
                return
            sock, _ = self.listener.accept()
            self.connections += 1
            thread = threading.Thread(target=self._converse, args=(sock, self.connections), daemon=True)
            self._talks.append((thread, sock))
            thread.start()

    def _converse(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            while (asked := self._read(sock)) is not None:
                asked.connection = number
                self.requests.append(asked)
                reply = self.script(asked)
                if isinstance(reply, Drip):
                    self._drip(sock, reply.data)
                    break
                reply = Reply(reply) if isinstance(reply, bytes) else reply
                sock.sendall(reply.data)
                if reply.then == "hang":
                    select.select([sock, self._stopped], [], [])
                if reply.then != "keep":
                    break
        sock.close()

    def _drip(self, sock: socket.socket, data: bytes) -> None:
        for byte in data:
            sock.sendall(bytes([byte]))
            if select.select([self._stopped], [], [], 0.02)[0]:
                break

    def _read(self, sock: socket.socket) -> Asked | None:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            piece = sock.recv(65536)
            if not piece:
                assert not data, f"half a request: {data!r}"
                return None
            data += piece
        line, *lines = data.decode("latin-1").split("\r\n")[:-2]
        method, target, version = line.split(" ")
        assert version == "HTTP/1.1"
        pairs = [each.split(": ", 1) for each in lines]
        return Asked(method, target, [(name.lower(), value) for name, value in pairs])

    def stop(self) -> None:
        """Stops listening and ends what hangs; a second time does nothing."""
        if self._thread.is_alive():
            self._stopping.send(b"\0")
            self._thread.join()
            for thread, sock in self._talks:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                thread.join()
            for each in (self.listener, self._stopped, self._stopping):
                each.close()
