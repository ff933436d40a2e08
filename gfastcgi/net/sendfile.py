"""Response bodies that are pieces of files: sent by sendfile(2), or read by whoever iterates.

Contract: a `FileBody` knows its length beforehand and delivers exactly that, or raises `StreamError` so that the
connection is cut: a file that shrank is never silently short. Other greenlets get their turn after each MiB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import gevent

from gfastcgi.errors import StreamClosed, StreamError
from gfastcgi.net.beneath import OpenedFile

__all__ = ["FileBody", "Piece", "Sink"]

READ_SIZE = 65536
"""Bytes of one piece for those who iterate."""

TURN = 1 << 20
"""Bytes after which the hub runs: a fast reader of a big file would hold it for the whole transfer otherwise."""

Piece: TypeAlias = "bytes | tuple[OpenedFile, int, int]"
"""Bytes as they are, or the half-open range [start, end) of a file."""


class Sink(Protocol):
    """What `send_to` needs of a stream."""

    taken: int
    """How many bytes the kernel has taken to send them."""

    def fileno(self) -> int:
        """The non-blocking descriptor; -1 once closed."""

    def send_all(self, data: bytes) -> None:
        """Sends every byte."""

    def wait_writable(self) -> None:
        """Waits until the kernel takes bytes again."""


class FileBody:
    """The pieces of a body, in order. It owns their files; `close` closes them, and whoever drops the body has to."""

    __slots__ = ("_pieces", "length")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self.length = 0
        """Bytes of the whole body."""
        for piece in pieces:
            self.length += len(piece) if isinstance(piece, bytes) else piece[2] - piece[1]

    def __repr__(self) -> str:
        return f"<FileBody {self.length} bytes in {len(self._pieces)} pieces>"

    def small(self, limit: int) -> bytes | None:
        """The whole body by one read, when it is one range of at most `limit` bytes; else None.

        So the head and a small body leave in one segment and one system call.
        """
        if self.length > limit or len(self._pieces) != 1 or isinstance(piece := self._pieces[0], bytes):
            return None
        file, start, _ = piece
        data = os.pread(file.fd, self.length, start)
        return data if len(data) == self.length else None

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from _read(*piece)

    def send_to(self, stream: Sink) -> None:
        """Sends the body. Raises `StreamClosed`, `StreamTimeout`; `StreamError` when a file has not what it had."""
        for piece in self._pieces:
            if isinstance(piece, bytes):
                stream.send_all(piece)
            else:
                _send(stream, *piece)

    def close(self) -> None:
        """Closes the files; again: nothing happens."""
        for piece in self._pieces:
            if not isinstance(piece, bytes):
                piece[0].close()


def _read(file: OpenedFile, start: int, end: int) -> Iterator[bytes]:
    turn_ends = start + TURN
    while start < end:
        data = os.pread(file.fd, min(end - start, READ_SIZE), start)
        if not data:
            raise _shrunk(start, end)
        start += len(data)
        yield data
        if start >= turn_ends:
            gevent.sleep(0)
            turn_ends = start + TURN


def _send(stream: Sink, file: OpenedFile, start: int, end: int) -> None:
    turn_ends = start + TURN
    while start < end:
        try:
            sent = os.sendfile(stream.fileno(), file.fd, start, min(end, turn_ends) - start)
        except BlockingIOError:
            stream.wait_writable()
            turn_ends = start + TURN
            continue
        except OSError as error:
            raise StreamClosed(error.strerror or str(error)) from error
        if not sent:
            raise _shrunk(start, end)
        start += sent
        stream.taken += sent
        if start == turn_ends < end:
            gevent.sleep(0)
            turn_ends = start + TURN


def _shrunk(start: int, end: int) -> StreamError:
    return StreamError(f"the file ends at byte {start}, {end - start} bytes before its length as it was opened")
