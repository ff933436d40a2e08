"""One connection's records as lines to read.

Contract: `tell` takes the bytes of either side in any split, and never raises: a side that cannot be decoded is told
once, and then left alone. Secrets and bodies are told by their lengths, unless they are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gfastcgi.errors import BadRecord
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.params import decode_pairs
from gfastcgi.fcgi.records import RecordReader
from gfastcgi.log import escape
from gfastcgi.secrecy import without_secrets
from gfastcgi.tap.events import Side

__all__ = ["Narrator", "end_of_head"]

_LONGEST_PARAMS = 1 << 20
_LONGEST_HEAD = 65536
_LONGEST_TEXT = 2000
_MOST_REQUESTS = 1024
"""How much is put together of one request, and of how many at once; what is beyond goes untold."""

_BODIES = (c.STDIN, c.DATA)
_PAIRS = (c.GET_VALUES, c.GET_VALUES_RESULT)
_ARROWS: dict[Side, str] = {"front": ">", "backend": "<"}
_HEAD_END = re.compile(rb"\r?\n\r?\n")


def end_of_head(data: bytes, searched: int = 0) -> int:
    """Where the head of a CGI response ends (RFC 3875 section 6.2), its empty line with it; -1: not yet.

    In so many bytes, `searched`, there was no end before.
    """
    found = _HEAD_END.search(data, max(searched - 3, 0))
    return -1 if found is None else found.end()


class _Request:
    """What came of a request so far; `head` is None once it was told."""

    def __init__(self) -> None:
        self.params = b""
        self.head: bytes | None = b""


class Narrator:
    """Tells of one connection."""

    def __init__(self, *, shows_secrets: bool = False) -> None:
        self._shows_secrets = shows_secrets
        self._readers: dict[Side, RecordReader] = {"front": RecordReader(), "backend": RecordReader()}
        self._deaf: set[Side] = set()
        self._requests: dict[int, _Request] = {}

    def __repr__(self) -> str:
        return f"<Narrator of {len(self._requests)} requests{', deaf' if self._deaf else ''}>"

    def tell(self, side: Side, data: bytes) -> list[str]:
        """The lines for the next bytes of a side."""
        if side in self._deaf:
            return []
        lines: list[str] = []
        try:
            for kind, id, content in self._readers[side].read(data):
                lines += [f"{_ARROWS[side]} {line}" for line in self._record(kind, id, content)]
        except Exception as error:  # whatever it is, the bytes have to go on
            self._deaf.add(side)
            lines.append(f"{_ARROWS[side]} ! from here on not decoded, but forwarded: {error}")
        return lines

    def end(self, side: Side) -> list[str]:
        """The lines for the end of a side."""
        is_torn = side not in self._deaf and not self._readers[side].is_between
        return [f"{_ARROWS[side]} end{', inside a record' if is_torn else ''}"]

    def _record(self, kind: int, id: int, content: bytes) -> Iterator[str]:
        name = f"{c.KIND_NAMES.get(kind, f'type {kind}')} id {id}"
        if kind == c.BEGIN_REQUEST:
            yield f"{name}, {self._begin(id, content)}"
        elif kind == c.PARAMS:
            yield from self._params(name, id, content)
        elif kind in _BODIES:
            yield f"{name}, {_size(content)}"
            yield from self._text(content)
        elif kind == c.STDOUT:
            yield f"{name}, {_size(content)}"
            yield from self._stdout(id, content)
        elif kind == c.STDERR:
            yield f"{name}, {_size(content)}"
            yield from _lines_of(content)
        elif kind == c.END_REQUEST:
            yield f"{name}, {self._end_request(id, content)}"
        elif kind in _PAIRS:
            yield name
            yield from self._pairs(content)
        else:
            yield f"{name}, {_size(content)}" if content else name

    def _begin(self, id: int, content: bytes) -> str:
        if len(content) < 3:
            return f"{len(content)} bytes, which is too short"
        if len(self._requests) < _MOST_REQUESTS:
            self._requests[id] = _Request()
        role = int.from_bytes(content[:2], "big")
        return f"{c.ROLE_NAMES.get(role, f'role {role}')}{', keep_conn' if content[2] & c.KEEP_CONN else ''}"

    def _end_request(self, id: int, content: bytes) -> str:
        self._requests.pop(id, None)
        if len(content) < 5:
            return f"{len(content)} bytes, which is too short"
        status = c.STATUS_NAMES.get(content[4], f"protocol_status {content[4]}")
        return f"app_status {int.from_bytes(content[:4], 'big')}, {status}"

    def _params(self, name: str, id: int, content: bytes) -> Iterator[str]:
        """All of the stream at its end: a pair may be split over records."""
        request = self._requests.get(id)
        if request is None:
            yield f"{name}, {_size(content)}"
        elif content:
            request.params += content[: max(_LONGEST_PARAMS + 1 - len(request.params), 0)]
        else:
            params, request.params = request.params, b""
            if len(params) > _LONGEST_PARAMS:
                yield f"{name}, over {_LONGEST_PARAMS} bytes"
                return
            yield f"{name}, {_size(params)}"
            yield from self._pairs(params)

    def _pairs(self, data: bytes) -> Iterator[str]:
        try:
            pairs = [(_text(name), _text(value)) for name, value in decode_pairs(data)]
        except BadRecord as error:
            yield f"    ! {error}"
            return
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            yield f"    {escape(name):{width}} = {escape(self._value(name, value))}".rstrip()

    def _stdout(self, id: int, content: bytes) -> Iterator[str]:
        request = self._requests.get(id)
        if request is None or request.head is None:
            yield from self._text(content)
            return
        searched = len(request.head)
        request.head += content
        end = end_of_head(request.head, searched)
        if end >= 0 or not content or len(request.head) > _LONGEST_HEAD:
            head, body, request.head = request.head[: max(end, 0)], request.head[max(end, 0) :], None
            for line in _text(head).splitlines():
                name, colon, value = line.partition(":")
                if line:
                    yield f"    {escape(name)}{colon}{escape(self._value(name, value.rstrip()))}"
            if body:
                yield f"    and {_size(body)} of body"
                yield from self._text(body)

    def _value(self, name: str, value: str) -> str:
        if self._shows_secrets:
            return value
        told = without_secrets(name, value.strip())
        return f" {told}" if value.startswith(" ") else told

    def _text(self, content: bytes) -> Iterator[str]:
        if self._shows_secrets:
            yield from _lines_of(content)


def _size(content: bytes) -> str:
    return f"{len(content)} byte{'' if len(content) == 1 else 's'}" if content else "end"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _lines_of(content: bytes) -> Iterator[str]:
    for line in _text(content[:_LONGEST_TEXT]).splitlines():
        yield f"    | {escape(line)}"
    if len(content) > _LONGEST_TEXT:
        yield f"    ... and {len(content) - _LONGEST_TEXT} bytes more"
