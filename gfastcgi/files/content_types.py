"""Content types by file name: `mimetype.assign`, then the table that Python carries."""

from __future__ import annotations

import mimetypes

__all__ = ["content_type"]

DEFAULT = "application/octet-stream"

_KNOWN = mimetypes.MimeTypes().types_map[True]

# A site's settings are few and live long; holding the tuple keeps its id its own.
_tables: dict[int, tuple[tuple[tuple[str, str], ...], _Table]] = {}
_MOST_TABLES = 256


class _Table:
    """Suffixes, longest first, looked up in as many steps as there are lengths."""

    __slots__ = ("_lengths", "_types")

    def __init__(self, types: tuple[tuple[str, str], ...]) -> None:
        self._types: dict[str, str] = {}
        for suffix, value in types:
            self._types.setdefault(suffix.lower(), value)
        self._lengths = sorted({len(suffix) for suffix in self._types if suffix}, reverse=True)

    def find(self, name: str) -> str:
        """The type of `name` in lower case."""
        types = self._types
        for length in self._lengths:
            found = types.get(name[-length:])
            if found is not None:
                return found
        dot = name.rfind(".")
        return types.get("") or (_KNOWN.get(name[dot:], DEFAULT) if dot >= 0 else DEFAULT)


def content_type(name: str, types: tuple[tuple[str, str], ...]) -> str:
    """The Content-Type of a file by its `name`: its longest suffix in `types`, whatever the case of its letters.

    The empty suffix is the default (lighttpd: mimetype.assign); without one Python's own table fills in.
    """
    entry = _tables.get(id(types))
    if entry is None:
        if len(_tables) >= _MOST_TABLES:
            _tables.clear()
        entry = _tables[id(types)] = types, _Table(types)
    return entry[1].find(name.lower())
