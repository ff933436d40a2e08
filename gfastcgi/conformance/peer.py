"""A FastCGI application on threads that answers each request with the bytes it is told, and counts who asked.

Contract: one thread accepts for all listeners, one serves each connection. Where the caller has patched the standard
library (the command line does) they are greenlets.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gfastcgi.conformance import wire
from gfastcgi.conformance.rows import Reply

__all__ = ["Asked", "Peer"]

_PATIENCE = 30.0
"""Seconds after which a connection that says nothing is given up."""


@dataclass
class Asked:
    """One request as it came: its role and meta-variables, and which listener it came to."""

    listener: str
    role: int
    variables: dict[str, str] = field(default_factory=dict)


class Peer:
    """Listens on unix sockets; `script(asked)` says what to answer."""

    def __init__(self, script: Callable[[Asked], Reply]) -> None:
        self._script = script
        self._listeners: dict[int, tuple[socket.socket, str]] = {}
        self._open: set[socket.socket] = set()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __repr__(self) -> str:
        return f"<Peer on {len(self._listeners)} sockets>"

    def listen(self, path: str) -> None:
        """Listens on a unix socket, before `start`."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        self._listeners[listener.fileno()] = listener, path

    def start(self) -> None:
        """Begins to accept."""
        self._thread.start()

    def close(self) -> None:
        """Ends all connections and listeners."""
        self._stop.send(b"\0")
        self._thread.join()
        for listener, path in self._listeners.values():
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._stop.close()
        self._stopped.close()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([*self._listeners, self._stopped.fileno()], [], [])
            if self._stopped.fileno() in ready:
                return
            for fd in ready:
                listener, path = self._listeners[fd]
                sock, _ = listener.accept()
                self._open.add(sock)
                threading.Thread(target=self._serve, args=(sock, path), daemon=True).start()

    def _serve(self, sock: socket.socket, path: str) -> None:
        try:
            sock.settimeout(_PATIENCE)
            with sock:
                self._converse(_Records(sock), path)
        except OSError:
            pass  # the gateway went away, as some answers make it
        finally:
            self._open.discard(sock)

    def _converse(self, records: _Records, path: str) -> None:
        keep = True
        while keep:
            found = records.request(path)
            if found is None:
                return
            asked, keep = found
            reply = self._script(asked)
            records.sock.sendall(reply.data)
            if reply.then == "reset":
                records.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if reply.then == "hang":
                records.drain()
                return
            keep = keep and reply.then == "keep"
        # A gateway may still be sending its empty STDIN: closing at once would reset what it has not read yet.
        records.sock.shutdown(socket.SHUT_WR)
        records.drain()


class _Records:
    """What comes on one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def request(self, path: str) -> tuple[Asked, bool] | None:
        """The next request, up to the end of its PARAMS, and whether its connection is to be kept; None: no more."""
        asked, keep, params = Asked(path, 0), False, b""
        while (record := self._record()) is not None:
            kind, content = record
            if kind == wire.BEGIN_REQUEST:
                role, flags = struct.unpack_from("!HB", content)
                asked, keep, params = Asked(path, role), bool(flags & 1), b""
            elif kind == wire.PARAMS and content:
                params += content
            elif kind == wire.PARAMS:
                asked.variables.update(wire.pairs(params))
                return asked, keep
        return None

    def _record(self) -> tuple[int, bytes] | None:
        head = self._read(8)
        if head is None:
            return None
        _, kind, _, size, padding, _ = struct.unpack("!BBHHBB", head)
        content = self._read(size + padding)
        return None if content is None else (kind, content[:size])

    def _read(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def drain(self) -> None:
        """Waits for the gateway to close."""
        while self.sock.recv(65536):
            pass
