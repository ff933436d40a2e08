"""One connection from the application's side: requests as they come, and what becomes of the connection after answers.

Contract: blocking, on a thread of its own. What a web server says out of order is an AssertionError, for tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gfastcgi.conformance import wire
from gfastcgi.conformance.rows import Then

if TYPE_CHECKING:
    from gfastcgi.conformance.peer import Peer

__all__ = ["Asked", "Conversation"]

_LAST = {"params": wire.PARAMS, "stdin": wire.STDIN}


@dataclass
class Asked:
    """One request as it came. `stdin` is empty where the body is only counted and hashed."""

    role: int
    request_id: int
    keep_conn: bool
    connection: int
    """The number of the connection that it came on, from 1."""
    address: str | tuple[str, int]
    """Where that was accepted."""
    params: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """Those of the params as they came, the ones that stand twice too."""
    stdin: bytes = b""
    stdin_size: int = 0
    stdin_sha256: str = ""
    stdin_ended: bool = False
    params_records: int = 0
    _pairs: bytearray = field(default_factory=bytearray, init=False, repr=False)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256, init=False, repr=False)

    def take(self, kind: int, content: bytes, *, keep_stdin: bool) -> bool:
        """Takes a record of PARAMS or STDIN. Returns whether it was the last of its stream."""
        if kind == wire.PARAMS:
            self._pairs += content
            self.params_records += bool(content)
            if not content:
                found = list(wire.pairs(self._pairs))
                self.params, self.names = dict(found), [name for name, _ in found]
        elif kind == wire.STDIN:
            self.stdin_size += len(content)
            self._hash.update(content)
            self.stdin += content if keep_stdin else b""
            if not content:
                self.stdin_sha256, self.stdin_ended = self._hash.hexdigest(), True
        return kind in (wire.PARAMS, wire.STDIN) and not content

    def text(self, name: str) -> str | None:
        """A meta-variable; None where it did not come."""
        value = self.params.get(name)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def echo(self) -> bytes:
        """A CGI response in JSON that tells all of it: "params", and "size" and "sha256" of the body."""
        told = {
            "params": {name: value.decode("latin-1") for name, value in self.params.items()},
            "size": self.stdin_size,
            "sha256": self.stdin_sha256,
        }
        return b"Status: 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(told).encode()


class Conversation:
    """One connection, for scripts that need more than a reply. `number` 0: it only asks for FCGI_GET_VALUES."""

    def __init__(self, backend: Peer, sock: socket.socket, number: int, address: str | tuple[str, int]) -> None:
        self.backend, self.sock, self.number, self.address = backend, sock, number, address
        self.buffer = b""

    def __repr__(self) -> str:
        return f"<Conversation {self.number} at {self.address}>"

    def read_record(self) -> tuple[int, int, bytes] | None:
        """(type, request id, content), or None at the end."""
        head = self._read(8)
        if head is None:
            return None
        _, kind, request_id, size, padding, _ = struct.unpack("!BBHHBB", head)
        content = self._read(size + padding)
        return None if content is None else (kind, request_id, content[:size])

    def _read(self, size: int) -> bytes | None:
        while len(self.buffer) < size:
            data = self.sock.recv(262144)
            if not data:
                return None
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_request(self, *, until: Literal["params", "stdin"] = "stdin") -> Asked | None:
        """The next request, by default with the whole of STDIN; None when the web server closed or aborted first."""
        asked = None
        while (got := self.read_record()) is not None:
            kind, request_id, content = got
            if kind == wire.BEGIN_REQUEST:
                role, flags = struct.unpack_from("!HB", content)
                asked = Asked(role, request_id, bool(flags & 1), self.number, self.address)
                self.backend.begun += 1
            elif kind == wire.GET_VALUES:
                self.sock.sendall(wire.record(wire.GET_VALUES_RESULT, self.backend.values, 0))
            elif kind == wire.ABORT_REQUEST:
                self.backend.aborts += 1
                return None
            elif asked is None:
                # Nobody waited for the STDIN of the request before.
                if until == "stdin":
                    raise AssertionError(f"record {kind} before BEGIN_REQUEST")
            elif asked.take(kind, content, keep_stdin=self.backend.keep_stdin) and kind == _LAST[until]:
                self.backend.add(asked)
                return asked
        return None

    def finish(self, then: Then) -> None:
        """Does what stands behind a reply, and closes."""
        if then == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif then in ("half", "hang"):
            if then == "half":
                self.sock.shutdown(socket.SHUT_WR)
            self.wait_for_end()
        self.sock.close()

    def wait_for_end(self) -> None:
        """Waits until the web server closes or the peer is stopped."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass
