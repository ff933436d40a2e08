"""A stream of one request (STDIN, or a filter's DATA) between the connection that receives it and who reads it.

Contract: `put` and `end` are the connection's side and never wait, `take` waits on the application's. Memory holds
`LIMIT` bytes and what one read of the connection adds. Beyond that either the connection is told to wait (by `put`),
or, where others are behind it, the data goes to an unnamed file of at most `max_spooled` bytes.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from gevent.event import Event

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LIMIT", "StdinBuffer", "StdinReader"]

LIMIT = 65536
"""Bytes that wait in memory for one application."""


class StdinBuffer:
    """First in, first out, one reader and one writer."""

    __slots__ = (
        "_file", "_filled", "_is_closed", "_max_spooled", "_pieces", "_read_at", "_size", "_written", "is_ended",
        "on_room",
    )  # fmt: skip

    def __init__(self, max_spooled: int) -> None:
        self._max_spooled = max_spooled
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._written = 0
        self._filled: Event | None = None
        self._is_closed = False
        self.on_room: Callable[[], None] | None = None
        """Called once when there is room again, or nobody will read."""
        self.is_ended = False
        """True once all of it has arrived."""

    def __repr__(self) -> str:
        spooled = f", {self._written - self._read_at} in a file" if self._file else ""
        return f"<StdinBuffer {self._size} bytes{spooled}{', ended' if self.is_ended else ''}>"

    def put(self, data: bytes, *, may_spool: bool) -> bool:
        """Adds a piece; True: a connection that can wait ought to, until `on_room`.

        Raises OSError when the file for it cannot be written, or would be too large.
        """
        if self._is_closed:
            return False
        if self._file is not None or (may_spool and self._size > LIMIT):
            self._spool(data)
            is_full = self._written >= self._max_spooled
        else:
            self._pieces.append(data)
            self._size += len(data)
            is_full = self._size > LIMIT and not may_spool
        if self._filled is not None:
            self._filled.set()
        return is_full

    def _spool(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it outlives this call
            self._read_at = self._written = 0
        # What one read of the connection adds is let in: a connection that can wait does so only behind it.
        if self._written > self._max_spooled + LIMIT:
            raise OSError(errno.EFBIG, f"more than {self._max_spooled} bytes wait for the application")
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._file.fileno(), rest, self._written)
            self._written += count
            rest = rest[count:]

    def end(self) -> None:
        """All of it has arrived."""
        self.is_ended = True
        if self._filled is not None:
            self._filled.set()

    def close(self) -> None:
        """Drops what nobody will read, and whatever else comes."""
        self._is_closed = True
        self._pieces.clear()
        self._size = 0
        self._close_file()
        if self._filled is not None:
            self._filled.set()
        self._tell_room()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._read_at = self._written = 0

    def _tell_room(self) -> None:
        on_room = self.on_room
        if on_room is not None and self._size <= LIMIT and self._file is None:
            self.on_room = None
            on_room()

    def take(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; b"" at the end."""
        while not (self._pieces or self._file or self.is_ended or self._is_closed):
            if self._filled is None:
                self._filled = Event()
            self._filled.clear()
            self._filled.wait()
        if self._pieces:
            data = self._pieces.popleft()
            if len(data) > size:
                self._pieces.appendleft(data[size:])
                data = data[:size]
            self._size -= len(data)
        elif self._file is not None:
            data = os.pread(self._file.fileno(), min(size, self._written - self._read_at), self._read_at)
            self._read_at += len(data)
            if self._read_at == self._written:
                self._close_file()
        else:
            return b""
        self._tell_room()
        return data

    def take_whole(self) -> bytes | None:
        """All of it, when it has arrived and is in memory; else None."""
        if not self.is_ended or self._file is not None:
            return None
        return b"".join(self._pieces)


class StdinReader(io.RawIOBase):
    """A `StdinBuffer` as a file, to be wrapped in `io.BufferedReader`."""

    def __init__(self, buffer: StdinBuffer) -> None:
        super().__init__()
        self._buffer = buffer

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer, /) -> int:
        """Waits for at least one byte; 0 at the end."""
        view = memoryview(target).cast("B")
        data = self._buffer.take(len(view))
        view[: len(data)] = data
        return len(data)
