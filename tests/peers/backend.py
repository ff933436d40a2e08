"""A FastCGI application of the tests' own, on threads: it answers as its script says, rightly or wrongly.

It has its own few lines of codec (sections 3.3 and 5 of the specification): the gateway's is never its own judge.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
GET_VALUES, GET_VALUES_RESULT = 9, 10
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
REQUEST_COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = range(4)


def record(kind: int, content: bytes = b"", request_id: int = 1) -> bytes:
    """One record: version, type, id, content length, padding length, reserved."""
    return struct.pack("!BBHHBB", 1, kind, request_id, len(content), 0, 0) + content


def stdout(data: bytes, request_id: int = 1) -> bytes:
    return b"".join(record(STDOUT, data[i : i + 65535], request_id) for i in range(0, len(data), 65535))


def end(app_status: int = 0, protocol_status: int = REQUEST_COMPLETE, request_id: int = 1) -> bytes:
    return record(END_REQUEST, struct.pack("!IB3x", app_status, protocol_status), request_id)


def answer(data: bytes | str, request_id: int = 1, *, stderr: bytes = b"") -> bytes:
    """A whole good answer around a CGI response."""
    data = data.encode() if isinstance(data, str) else data
    log = record(STDERR, stderr, request_id) if stderr else b""
    return log + stdout(data, request_id) + end(request_id=request_id)


def pairs(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Decodes name-value pairs (section 3.4)."""
    at = 0

    def length() -> int:
        nonlocal at
        if data[at] < 128:
            at += 1
            return data[at - 1]
        at += 4
        (value,) = struct.unpack_from("!I", data, at - 4)
        return int(value & 0x7FFFFFFF)

    while at < len(data):
        name_length, value_length = length(), length()
        name, at = data[at : at + name_length], at + name_length
        value, at = data[at : at + value_length], at + value_length
        yield name.decode("latin-1"), value


@dataclass
class Seen:
    """One request as the backend saw it; `stdin` is empty when it is only counted and hashed."""

    role: int
    request_id: int
    keep_conn: bool
    connection: int
    params: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    stdin: bytes = b""
    stdin_size: int = 0
    stdin_sha256: str = ""
    stdin_ended: bool = False
    params_records: int = 0

    def text(self, name: str) -> str | None:
        value = self.params.get(name)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def echo(self) -> bytes:
        """A CGI response that tells all of it."""
        told = {
            "params": {name: value.decode("latin-1") for name, value in self.params.items()},
            "size": self.stdin_size,
            "sha256": self.stdin_sha256,
        }
        return b"Status: 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(told).encode()


Then = Literal["keep", "close", "rst", "half", "hang"]


@dataclass
class Reply:
    """Raw bytes and what becomes of the connection after them."""

    data: bytes
    then: Then = "keep"


class BackendConnection:
    """The backend's side of one connection, for scripts that need more than a reply."""

    def __init__(self, backend: ScriptedBackend, sock: socket.socket, number: int) -> None:
        self.backend, self.sock, self.number = backend, sock, number
        self.buffer = b""

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

    def read_request(self, *, until: Literal["params", "stdin"] = "stdin") -> Seen | None:
        """The next request, by default with the whole of STDIN; None when the gateway closed first."""
        seen, params, digest = None, b"", hashlib.sha256()
        while (got := self.read_record()) is not None:
            kind, request_id, content = got
            if kind == BEGIN_REQUEST:
                role, flags = struct.unpack_from("!HB", content)
                seen = Seen(role, request_id, bool(flags & 1), self.number)
                self.backend.begun += 1
            elif kind == GET_VALUES:
                self.sock.sendall(record(GET_VALUES_RESULT, self.backend.values, 0))
            elif kind == ABORT_REQUEST:
                self.backend.aborts += 1
                return None
            elif seen is None:
                raise AssertionError(f"record {kind} before BEGIN_REQUEST")
            elif kind == PARAMS and content:
                params += content
                seen.params_records += 1
            elif kind == PARAMS:
                found = list(pairs(params))
                seen.params, seen.names = dict(found), [name for name, _ in found]
                if until == "params":
                    self.backend.add(seen)
                    return seen
            elif kind == STDIN and content:
                seen.stdin_size += len(content)
                digest.update(content)
                if self.backend.keep_stdin:
                    seen.stdin += content
            elif kind == STDIN:
                seen.stdin_sha256, seen.stdin_ended = digest.hexdigest(), True
                self.backend.add(seen)
                return seen
        return None

    def finish(self, then: Then) -> None:
        if then == "rst":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        elif then in ("half", "hang"):
            if then == "half":
                self.sock.shutdown(socket.SHUT_WR)
            self.wait_for_end()
        self.sock.close()

    def wait_for_end(self) -> None:
        """Waits until the gateway closes or the backend is stopped."""
        while True:
            ready, _, _ = select.select([self.sock, self.backend.stopped], [], [])
            if self.backend.stopped in ready or not self.sock.recv(65536):
                return


class ScriptedBackend:
    """A listening backend. `script(seen)` gives the answer of each request; by default it echoes all it got.

    `talk(connection)` in its place has the whole conversation of one connection in its hands.
    `is_serial`: it accepts a connection when the last one has ended, as a program of one thread does.
    `requests` are those that arrived whole, `begun` counts BEGIN_REQUESTs, `connections` and `aborts` count themselves.
    A gateway that only asks for FCGI_GET_VALUES gets `values`, and counts as `asked`.
    """

    def __init__(
        self,
        address: str | tuple[str, int],
        script: Callable[[Seen], bytes | Reply] | None = None,
        *,
        talk: Callable[[BackendConnection], None] | None = None,
        keep_stdin: bool = True,
        values: bytes = b"",
        backlog: int = 1024,
        is_serial: bool = False,
    ) -> None:
        self.script = script or (lambda seen: answer(seen.echo(), seen.request_id))
        self.talk = talk or self.answer_all
        self._is_serial = is_serial
        self.keep_stdin, self.values = keep_stdin, values
        self.requests: list[Seen] = []
        self.connections = self.begun = self.aborts = self.asked = 0
        self._counting = threading.Lock()
        self._open: set[socket.socket] = set()
        self.errors: list[BaseException] = []
        self.stopped, self._stopping = socket.socketpair()
        self.listener = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.listener.bind(address)
        self.listener.listen(backlog)
        self.address = self.listener.getsockname()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def option(self) -> str:
        """How a host entry of lighttpd.conf names it."""
        if isinstance(self.address, str):
            return f'"socket" => "{self.address}"'
        return f'"host" => "{self.address[0]}", "port" => {self.address[1]}'

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    @property
    def last(self) -> Seen:
        return self.requests[-1]

    def add(self, seen: Seen) -> None:
        self.requests.append(seen)

    def wait_for(self, condition: Callable[[ScriptedBackend], object], what: str, timeout: float = 10.0) -> None:
        wait_until(lambda: condition(self), what, timeout)

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self.listener, self.stopped], [], [])
            if self.stopped in ready:
                return
            sock, _ = self.listener.accept()
            if self._is_serial:
                self._converse(sock)
            else:
                threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        self._open.add(sock)
        try:
            head = sock.recv(2, socket.MSG_PEEK)
            if head[1:] == bytes([GET_VALUES]):
                self.asked += 1
                BackendConnection(self, sock, 0).read_request()
            else:
                with self._counting:
                    self.connections += 1
                    number = self.connections
                self.talk(BackendConnection(self, sock, number))
        except OSError:
            pass  # the gateway went away
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()
            self._open.discard(sock)

    def answer_all(self, connection: BackendConnection) -> None:
        """Answers every request of a connection by the script."""
        while (seen := connection.read_request()) is not None:
            reply = self.script(seen)
            reply = Reply(reply) if isinstance(reply, bytes) else reply
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sock.sendall(reply.data)
            if reply.then != "keep":
                return connection.finish(reply.then)
            if not seen.keep_conn:
                return None
        return None

    def stop(self) -> None:
        """Stops listening and ends all connections; a second time does nothing."""
        if not self._thread.is_alive():
            return
        self._stopping.send(b"\0")
        self._thread.join()
        self.listener.close()
        if isinstance(self.address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not self.open, "the backend's connections to end")
        self.stopped.close()
        self._stopping.close()
        assert not self.errors, self.errors
