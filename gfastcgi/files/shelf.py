"""Small files kept with their fields: one that is asked for again costs a stat(2) instead of an open and a read.

Contract: what is kept was opened beneath its root and read whole, and is given out only while its name leads to the
very same file, unchanged. A file that changed just now is not kept: its times could not tell the next change. Requests
that were read before one of them looked share what it found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from operator import attrgetter
from time import time

from gfastcgi.net.beneath import OpenedFile
from gfastcgi.net.rounds import Round

__all__ = ["Kept", "Shelf"]

LARGEST = 65536
"""Bytes of a file that is kept."""
ROOM = 4 << 20
"""Bytes that all kept files have together."""
_SETTLED_SECONDS = 2.0
# Which file it is, and in which state: every write, and every change of owner or mode, makes another one.
_identity: Callable[[os.stat_result], tuple[int, ...]] = attrgetter(
    "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"
)


class Kept:
    """A file's fields, without those that depend on the request, and its content."""

    __slots__ = ("content", "fields", "identity", "seen_in")

    def __init__(self, identity: tuple[int, ...], fields: tuple[tuple[str, str], ...], content: bytes) -> None:
        self.identity = identity
        self.fields = fields
        self.content = content
        self.seen_in = 0
        """The round in which it was last found unchanged."""

    def __repr__(self) -> str:
        return f"<Kept {len(self.content)} bytes>"


class Shelf:
    """The kept files of one site. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._files: dict[str, Kept] = {}
        self._size = 0

    def __repr__(self) -> str:
        return f"<Shelf of {len(self._files)} files, {self._size} bytes>"

    def find(self, filename: str, turn: int = 0) -> Kept | None:
        """What is kept of `filename`, if that is what the name leads to now.

        `turn`: the round (`Round.number`) in which the request was read, 0 when other code has run for it since. A look
        made in the same round is new enough.
        """
        kept = self._files.get(filename)
        if kept is None:
            return None
        if turn and kept.seen_in == turn == Round.here().number:
            return kept
        try:
            if kept.identity == _identity(os.stat(filename)):
                kept.seen_in = turn
                return kept
        except OSError:
            pass
        del self._files[filename]
        self._size -= len(kept.content)
        return None

    def keep(self, filename: str, file: OpenedFile, fields: list[tuple[str, str]]) -> None:
        """Keeps `file`, opened as `filename`, if it is small, settled, and as long as it says."""
        stat = file.stat
        if stat.st_size > LARGEST or max(stat.st_mtime, stat.st_ctime) > self._clock() - _SETTLED_SECONDS:
            return
        content = os.pread(file.fd, stat.st_size + 1, 0)
        if len(content) != stat.st_size or filename in self._files:
            return
        if self._size + len(content) > ROOM:
            self._files.clear()
            self._size = 0
        self._files[filename] = Kept(_identity(stat), tuple(fields), content)
        self._size += len(content)
