"""Request bodies: read from the client in pieces, and spooled so that a slow client never holds a backend.

Contract: `ClientBody` asks its connection for pieces, counts them and enforces the limit; `spool` reads all of a body
and gives one that can be read again: up to `MEMORY` bytes are kept in memory, up to `LARGEST` while there is `Room` for
them, more in an unnamed file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO

from gfastcgi.errors import ContentTooLarge

__all__ = ["EMPTY", "LARGEST", "MEMORY", "ClientBody", "Room", "SpooledBody", "spool"]

MEMORY = 65536
"""Bytes of a body that are kept in memory in any case."""
LARGEST = 1 << 20
"""Bytes of a body that is kept in memory where there is room."""
_PIECE_OVERHEAD = 128
"""Bytes that a piece takes beside its content: a body may come in very small ones."""


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


class Room:
    """Memory for bodies beyond their first `MEMORY` bytes: `size` bytes for all of them together."""

    __slots__ = ("left", "size")

    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def __repr__(self) -> str:
        return f"<Room for {self.left} of {self.size} bytes>"

    def take(self, size: int) -> bool:
        """Whether there is room for `size` bytes; they are taken then."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        """Makes room again."""
        self.left += size


class SpooledBody:
    """A body read to its end: `pieces` in memory, or a file of `length` bytes. `rewind` lets it be read again.

    `on_close` is called once, when nobody needs it any more.
    """

    __slots__ = ("_at", "_file", "_on_close", "_pieces", "length", "limit")

    def __init__(
        self,
        pieces: Sequence[bytes],
        file: IO[bytes] | None = None,
        length: int = 0,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._pieces = pieces
        self._at = 0
        self._file = file
        self._on_close = on_close
        self.length: int | None = length if file is not None else sum(map(len, pieces))
        self.limit = 0

    def __repr__(self) -> str:
        return f"<SpooledBody {self.length} bytes in {'a file' if self._file else 'memory'}>"

    @property
    def data(self) -> bytes:
        """All of it, where it is one piece in memory; else b""."""
        return self._pieces[0] if len(self._pieces) == 1 else b""

    def read(self) -> bytes:
        """The next piece; b"" at the end."""
        if self._file is not None:
            return self._file.read(MEMORY)
        at = self._at
        if at == len(self._pieces):
            return b""
        self._at = at + 1
        return self._pieces[at]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def rewind(self) -> None:
        """Starts again."""
        self._at = 0
        if self._file is not None:
            self._file.seek(0)

    def close(self) -> None:
        """Gives back what holds it; again: nothing happens."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            self._pieces = ()
            on_close()
        if self._file is not None:
            self._file.close()


EMPTY = SpooledBody(())
"""No body at all; shared, since there is nothing to read."""


def spool(
    pieces: Iterator[bytes], folder: str | None = None, *, room: Room | None = None, length: int | None = None
) -> SpooledBody:
    """All of `pieces`, which are `length` bytes (None: not known) and not empty.

    The file, when one is needed, is made in `folder` (server.upload-dirs) without a name. Raises what the pieces raise,
    and OSError when the folder is full or cannot be written.
    """
    kept: list[bytes] = []
    size = taken = 0
    most = MEMORY if room is None or (length or 0) > LARGEST else LARGEST
    try:
        for piece in pieces:
            kept.append(piece)
            size += len(piece)
            if size <= MEMORY:
                continue
            needed = len(piece) + _PIECE_OVERHEAD
            if size > most or room is None or not room.take(needed):
                return _spool_to_file(kept, size, pieces, folder)
            taken += needed
        if size <= MEMORY:
            return SpooledBody([b"".join(kept)] if kept else ())
        held, taken = taken, 0
        return SpooledBody(kept, on_close=partial(room.give_back, held) if room is not None else None)
    finally:
        if room is not None:
            room.give_back(taken)


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
    return SpooledBody((), file, size)


def _write(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
