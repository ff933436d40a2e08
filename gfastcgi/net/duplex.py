"""A connected socket that the hub itself reads: bytes are handed to a callback, so that waiting takes no greenlet.

Contract: `receive` gets what comes, b"" once at the end or loss, and never waits. `send` never waits either: what the
kernel does not take at once is queued and goes out as it can; whoever sends much waits by `wait_for_room`. OSError and
time-outs leave as `StreamClosed`. The socket is closed exactly once, then `on_close` is called.
"""

from __future__ import annotations

import _socket
import contextlib
import socket as _constants
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.event import Event

from gfastcgi.errors import StreamClosed

__all__ = ["LIMIT", "Duplex"]

READ, WRITE = 1, 2

LIMIT = 262144
"""Bytes that wait for the kernel before senders wait."""

FLOOD = 4 * LIMIT
"""Bytes that wait for the kernel before no more is read: the peer asks for answers, and reads none."""

LINGER_SECONDS = 2.0
"""How long what the peer still sends is read and dropped: a close on unread bytes resets what we have sent."""


class Duplex:
    """`write_timeout`: seconds without progress after which a peer that reads nothing is cut off; 0: never."""

    __slots__ = (
        "_hub", "_is_ending", "_is_held", "_is_watching", "_lingers", "_on_close", "_readable", "_receive", "_room",
        "_sock", "_timer", "_unsent", "_unsent_size", "_writable", "_write_timeout", "is_closed",
    )  # fmt: skip

    def __init__(
        self,
        sock: _socket.socket,
        receive: Callable[[bytes], None],
        on_close: Callable[[], None],
        *,
        write_timeout: float = 0,
    ) -> None:
        self._sock = sock
        self._receive = receive
        self._on_close = on_close
        self._write_timeout = write_timeout
        self._hub = get_hub()
        self._readable: Any = None
        self._writable: Any = None
        self._timer: Any = None
        self._is_watching = False
        self._is_held = False
        self._is_ending = False
        self._lingers = False
        self._unsent: deque[bytes | memoryview] = deque()
        self._unsent_size = 0
        self._room: Event | None = None
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<Duplex fd={self._sock.fileno()}{' closed' if self.is_closed else ''}>"

    # Receiving

    def start(self) -> None:
        """Reads what has come already, and goes on from the hub."""
        self._read()
        self._watch()

    def read_now(self) -> None:
        """Reads what has come already; called in the hub."""
        if not (self.is_closed or self._is_held or self._is_ending):
            self._read()

    def hold(self) -> None:
        """Reads no more until `release`."""
        self._is_held = True
        self._watch()

    def release(self) -> None:
        """Ends `hold`."""
        self._is_held = False
        self._watch()

    def _watch(self) -> None:
        """Has the hub watch for bytes, or not, as things stand."""
        wanted = not (self.is_closed or self._is_held or self._unsent_size > FLOOD)
        if wanted == self._is_watching:
            return
        self._is_watching = wanted
        if not wanted:
            self._readable.stop()
            return
        if self._readable is None:
            self._readable = self._hub.loop.io(self._sock.fileno(), READ)
        self._readable.start(self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not self._lingers:
            self._receive(data)
        if not data:
            self.close()

    # Sending

    def send(self, data: bytes) -> None:
        """Sends `data`, or queues what the kernel does not take. Raises `StreamClosed`."""
        if self.is_closed:
            raise StreamClosed("the peer has left")
        if self._unsent:
            self._unsent.append(data)
            self._unsent_size += len(data)
        else:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.close()
                raise StreamClosed(error.strerror or str(error)) from error
            if sent == len(data):
                return
            self._unsent.append(memoryview(data)[sent:])
            self._unsent_size += len(data) - sent
            self._wait_to_write()
        self._watch()

    def _wait_to_write(self) -> None:
        loop = self._hub.loop
        if self._writable is None:
            self._writable = loop.io(self._sock.fileno(), WRITE)
        self._writable.start(self._write)
        if self._write_timeout:
            if self._timer is None:
                self._timer = loop.timer(self._write_timeout)
            self._timer.start(self.close)

    def _write(self) -> None:
        unsent = self._unsent
        try:
            sent = self._sock.send(unsent[0])
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._unsent_size -= sent
        if sent == len(unsent[0]):
            unsent.popleft()
        else:
            unsent[0] = memoryview(unsent[0])[sent:]
        if self._timer is not None:
            self._timer.stop()
            if unsent:
                self._timer.start(self.close)
        if not unsent:
            self._writable.stop()
            if self._is_ending:
                self._end()
        if self._room is not None and self._unsent_size <= LIMIT:
            self._room.set()
        self._watch()

    def wait_for_room(self) -> None:
        """Waits while more than `LIMIT` bytes are queued. Raises `StreamClosed` when they will never be sent."""
        while self._unsent_size > LIMIT:
            if self._room is None:
                self._room = Event()
            self._room.clear()
            self._room.wait()
        if self.is_closed:
            raise StreamClosed("the peer has left")

    # Ending

    def end(self, *, lingers: bool) -> None:
        """Closes when all is sent; `lingers`: the peer may still be sending, and is listened to for a moment."""
        if not (self.is_closed or self._is_ending):
            self._is_ending = True
            self._lingers = lingers
            if not self._unsent:
                self._end()

    def _end(self) -> None:
        if not self._lingers:
            self.close()
            return
        self._is_held = False
        with contextlib.suppress(OSError):
            self._sock.shutdown(_constants.SHUT_WR)
        if self._timer is not None:
            self._timer.close()
        self._timer = self._hub.loop.timer(LINGER_SECONDS)
        self._timer.start(self.close)
        self._watch()

    def close(self) -> None:
        """Closes at once; what is queued is dropped. Again: nothing happens."""
        if self.is_closed:
            return
        self.is_closed = True
        for watcher in (self._readable, self._writable, self._timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._is_watching = False
        self._unsent.clear()
        self._unsent_size = 0
        self._sock.close()
        if self._room is not None:
            self._room.set()
        on_close, self._on_close, self._receive = self._on_close, _nothing, _drop  # no cycle is left to the collector
        on_close()


def _nothing() -> None:
    """Nobody is left to be told."""


def _drop(data: bytes) -> None:
    """Nobody is left to read."""
