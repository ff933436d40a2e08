"""FCGI_STDIN of one request between the connection that receives it and the application that reads it.

Contract: `put` and `end` are the connection's side, `take` waits on the application's. Memory holds `LIMIT` bytes and
what one read of the connection adds; beyond that the connection waits (`wait_for_room`), or, where others share it and
must not wait, the data goes to an unnamed file.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections import deque
from typing import IO, TYPE_CHECKING

from gevent.event import Event

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LIMIT", "StdinBuffer", "StdinReader"]

LIMIT = 65536
"""Bytes that wait in memory for one application."""


class StdinBuffer:
    """First in, first out, one reader and one writer."""

    __slots__ = ("_emptied", "_file", "_filled", "_is_closed", "_pieces", "_read_at", "_size", "_written", "is_ended")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._written = 0
        self._filled = Event()
        self._emptied = Event()
        self._is_closed = False
        self.is_ended = False
        """True once all of STDIN has arrived."""

    def __repr__(self) -> str:
        spilled = f", {self._written - self._read_at} in a file" if self._file else ""
        return f"<StdinBuffer {self._size} bytes{spilled}{', ended' if self.is_ended else ''}>"

    @property
    def is_full(self) -> bool:
        """True when the connection ought to wait."""
        return self._size > LIMIT

    def put(self, data: bytes, *, may_spill: bool) -> None:
        """Adds a piece. Raises OSError when the file for it cannot be written."""
        if self._is_closed:
            return
        if self._file is not None or (may_spill and self._size > LIMIT):
            self._spill(data)
        else:
            self._pieces.append(data)
            self._size += len(data)
        self._filled.set()

    def _spill(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it outlives this call
            self._read_at = self._written = 0
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._file.fileno(), rest, self._written)
            self._written += count
            rest = rest[count:]

    def end(self) -> None:
        """All of STDIN has arrived."""
        self.is_ended = True
        self._filled.set()

    def close(self) -> None:
        """Drops what nobody will read, and whatever else comes."""
        self._is_closed = True
        self._pieces.clear()
        self._size = 0
        self._close_file()
        self._filled.set()
        self._emptied.set()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def wait_for_room(self) -> None:
        """Waits until the application has taken some, or wants no more."""
        while self.is_full:
            self._emptied.clear()
            self._emptied.wait()

    def take(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; b"" at the end."""
        while not (self._pieces or self._file or self.is_ended or self._is_closed):
            self._filled.clear()
            self._filled.wait()
        if self._pieces:
            data = self._pieces.popleft()
            if len(data) > size:
                self._pieces.appendleft(data[size:])
                data = data[:size]
            self._size -= len(data)
            self._emptied.set()
            return data
        if self._file is None:
            return b""
        data = os.pread(self._file.fileno(), min(size, self._written - self._read_at), self._read_at)
        self._read_at += len(data)
        if self._read_at == self._written:
            self._close_file()
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
