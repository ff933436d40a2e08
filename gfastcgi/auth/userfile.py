"""Files of users and groups, read again when they change.

Contract: what cannot be read raises OSError, which denies. A file is looked at for each request, and parsed again when
one of its times, its size or its inode is another one; one that was just written is read until its times are certain
to tell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["UserFile"]

T = TypeVar("T")

# Two writes within the granularity of a file's time leave the same time behind.
_UNCERTAIN_SECONDS = 2.0


class UserFile(Generic[T]):
    """The parsed content of the file `filename`; `now` is seconds since 1970."""

    def __init__(self, filename: str, parse: Callable[[bytes], T], now: Callable[[], float] = time.time) -> None:
        self.filename = filename
        self._parse = parse
        self._now = now
        self._known: tuple[T, int] | None = None
        self._data = b""
        self._stamp: tuple[int, ...] | None = None
        self._generation = 0

    def __repr__(self) -> str:
        return f"<UserFile {self.filename}>"

    def load(self) -> tuple[T, int]:
        """What the file holds, and a number that is another one for other content. Raises OSError."""
        status = os.stat(self.filename)
        if self._known is None or _stamp(status) != self._stamp:
            self._known = self._read()
        return self._known

    def _read(self) -> tuple[T, int]:
        with open(self.filename, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
        now = self._now()
        is_certain = all(abs(now - written) > _UNCERTAIN_SECONDS for written in (status.st_mtime, status.st_ctime))
        self._stamp = _stamp(status) if is_certain else None
        if self._known is not None and data == self._data:
            return self._known
        self._data = data
        self._generation += 1
        return self._parse(data), self._generation


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    # Whoever copies a file may set its time, but not that of its last change.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
