"""What a spawned process writes to its stdout and stderr, as lines fit for a log."""

from __future__ import annotations

from gfastcgi.log import escape

__all__ = ["MAX_LINE", "LineSplitter"]

MAX_LINE = 4096
"""Bytes; a longer line becomes several, so that a process without line ends costs no memory."""


class LineSplitter:
    """Cuts bytes, fed in any pieces, into escaped lines; empty ones are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) >= MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rest = rest
        return [text for line in lines for text in _texts(line)]

    def close(self) -> list[str]:
        """The last line, if it had no end."""
        rest, self._rest = self._rest, b""
        return _texts(rest)


def _texts(line: bytes) -> list[str]:
    line = line.rstrip(b"\r")
    pieces = [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]
    return [escape(piece.decode("utf-8", "surrogateescape")) for piece in pieces]
