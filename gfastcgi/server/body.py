"""Request bodies: read from the client in pieces, and spooled so that a slow client never holds a backend.

Contract: `ClientBody` asks its connection for pieces, counts them and enforces the limit; `spool` reads all of a body
into memory, or from `MEMORY` bytes on into an unnamed file, and gives a body that can be read again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import IO

from gfastcgi.errors import ContentTooLarge

__all__ = ["EMPTY", "MEMORY", "ClientBody", "SpooledBody", "spool"]

MEMORY = 65536
"""Bytes of a body that are kept in memory."""


class ClientBody:
    """The body of one request as it comes from the client."""

    __slots__ = ("_next_piece", "is_read", "length", "limit", "received")

    def __init__(self, length: int | None, next_piece: Callable[[], bytes]) -> None:
        self.length = length
        self.limit = 0
        self.received = 0
        self.is_read = length == 0
        self._next_piece = next_piece

    def __repr__(self) -> str:
        return f"<ClientBody {self.received} of {self.length if self.length is not None else 'chunked'} bytes>"

    def read(self) -> bytes:
        """The next piece; b"" at the end. Raises `ContentTooLarge` past the limit, and what the connection raises."""
        if self.is_read:
            return b""
        if self.limit and (self.length or 0) > self.limit:
            raise ContentTooLarge(f"the body of {self.length} bytes is larger than {self.limit} bytes")
        piece = self._next_piece()
        if not piece:
            self.is_read = True
        self.received += len(piece)
        if self.limit and self.received > self.limit:
            raise ContentTooLarge(f"the body is larger than {self.limit} bytes")
        return piece

    def close(self) -> None:
        """Gives nothing back: the connection owns what is still to come."""


class SpooledBody:
    """A body read to its end: `data` when it is small, else a file. `rewind` lets it be read again."""

    __slots__ = ("_file", "_is_given", "data", "length", "limit")

    def __init__(self, data: bytes, file: IO[bytes] | None = None, length: int | None = None) -> None:
        self.data = data
        """All of it, when no file holds it."""
        self._file = file
        self._is_given = False
        self.length: int | None = len(data) if length is None else length
        self.limit = 0

    def __repr__(self) -> str:
        return f"<SpooledBody {self.length} bytes in {'a file' if self._file else 'memory'}>"

    @property
    def in_memory(self) -> bool:
        """True when `data` is the whole body."""
        return self._file is None

    def read(self) -> bytes:
        """The next piece; b"" at the end."""
        if self._file is not None:
            return self._file.read(MEMORY)
        if self._is_given:
            return b""
        self._is_given = True
        return self.data

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def rewind(self) -> None:
        """Starts again."""
        self._is_given = False
        if self._file is not None:
            self._file.seek(0)

    def close(self) -> None:
        """Removes the file."""
        if self._file is not None:
            self._file.close()


EMPTY = SpooledBody(b"")
"""No body at all; shared, since there is nothing to read."""


def spool(pieces: Iterator[bytes], folder: str | None = None) -> SpooledBody:
    """All of `pieces`; the file, when one is needed, is made in `folder` (server.upload-dirs) without a name.

    Raises what the pieces raise, and OSError when the folder is full or cannot be written.
    """
    kept: list[bytes] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size > MEMORY:
            return _spool_to_file(kept, size, pieces, folder)
    return SpooledBody(b"".join(kept))


def _spool_to_file(kept: list[bytes], size: int, pieces: Iterator[bytes], folder: str | None) -> SpooledBody:
    file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - it outlives this call
    try:
        for piece in kept:
            _write(file, piece)
        for piece in pieces:
            _write(file, piece)
            size += len(piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return SpooledBody(b"", file, size)


def _write(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
