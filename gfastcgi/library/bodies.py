"""Request bodies as programs have them (bytes, files, iterables) in the form in which an exchange sends them.

Contract: a length is known before the first byte leaves, since CGI tells it first: what has none is read whole, into an
unnamed file when it is large. A body that fails, or has not the length that was promised, ends its request.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

from gfastcgi.errors import LocalProtocolError
from gfastcgi.server.body import EMPTY, SpooledBody, spool

__all__ = ["Body", "PromisedBody", "Readable", "make_body", "modified", "raise_own"]

_PIECE = 65536


class Readable(Protocol):
    """A file, or what reads like one."""

    def read(self, size: int, /) -> bytes: ...


Body: TypeAlias = "bytes | bytearray | memoryview | Readable | Iterable[bytes] | None"


class PromisedBody:
    """A body of `length` bytes that is sent as it comes."""

    def __init__(self, pieces: Iterator[bytes], length: int) -> None:
        self.length: int | None = length
        self.error: Exception | None = None
        """What the program's own iterable or file raised."""
        self._pieces = pieces
        self._left = length

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._left} of {self.length} bytes left>"

    def read(self) -> bytes:
        """The next piece; b"" at the end. Raises `LocalProtocolError` when it is too long, too short, or fails."""
        try:
            piece = bytes(next(filter(None, self._pieces), b"")) if self._left else b""
        except Exception as error:
            self.error = error
            raise LocalProtocolError(f"the body failed: {type(error).__name__}: {error}") from error
        self._left -= len(piece)
        if self._left < 0 or (self._left and not piece):
            what = f"{-self._left} bytes more" if self._left < 0 else f"{self._left} bytes less"
            raise LocalProtocolError(f"the body has {what} than the {self.length} that were promised")
        return piece

    def close(self) -> None:
        """Closes nothing: files are who opened them has to close."""


class _FileBody(PromisedBody):
    """One that can be sent again: from where its file stood."""

    def __init__(self, file: Any, length: int) -> None:
        super().__init__(_pieces_of(file), length)
        self._file = file
        self._start = file.tell()

    def rewind(self) -> None:
        """Starts again."""
        assert self.length is not None
        self._file.seek(self._start)
        self._pieces, self._left = _pieces_of(self._file), self.length


def make_body(given: Body, length: int | None = None) -> SpooledBody | PromisedBody:
    """`given` as a body; `length` is what was promised of it, None: nothing. Raises what reading `given` raises.

    ValueError for bytes of another length, TypeError for what is no body.
    """
    if given is None:
        given = b""
    if isinstance(given, (bytes, bytearray, memoryview)):
        if length not in (None, len(given)):
            raise ValueError(f"the body has {len(given)} bytes, and CONTENT_LENGTH says {length}")
        return SpooledBody([bytes(given)]) if len(given) else EMPTY
    if hasattr(given, "read"):
        if _is_seekable(given):
            return _FileBody(given, _rest_of(given) if length is None else length)
        given = _pieces_of(given)
    pieces = iter(given)
    return PromisedBody(pieces, length) if length is not None else spool(pieces)


def _pieces_of(file: Any) -> Iterator[bytes]:
    return iter(lambda: file.read(_PIECE), b"")


def _is_seekable(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable is not None and seekable())


def _rest_of(file: Any) -> int:
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    return int(end - start)


def raise_own(sent: Iterable[object]) -> None:
    """Raises what the program's own files and iterables among `sent` raised, if any."""
    for body in sent:
        if isinstance(body, PromisedBody) and body.error is not None:
            raise body.error


def modified(given: object) -> int:
    """When the file `given` was last modified, in seconds since 1970; 0: it is none."""
    try:
        return int(os.fstat(given.fileno()).st_mtime)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return 0
