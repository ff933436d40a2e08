"""The answers on one connection, each in a form that can be compared with another one.

Contract: pure, but for what it holds: of an answer its head, a part of its STDERR, the size and the hash of its body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

from gfastcgi.errors import BadRecord
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.params import decode_pairs
from gfastcgi.fcgi.records import RecordReader
from gfastcgi.secrecy import is_secret
from gfastcgi.tap.narrator import end_of_head

__all__ = ["Answer", "Answers", "differences"]

_LONGEST_HEAD = 65536
_LONGEST_STDERR = 4096
_LONGEST_PARAMS = 1 << 20


class Answer:
    """What came for one request. `name` says which, by its method and its target."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.head = b""
        self.size = 0
        self.stderr = b""
        self.end: tuple[int, int] | None = None
        """app_status and protocol_status; None: it broke off."""
        self._hash = hashlib.sha256()
        self._has_head = False

    def __repr__(self) -> str:
        return f"<Answer to {self.name}, {self.size} bytes{'' if self.end else ', not ended'}>"

    @property
    def digest(self) -> str:
        """The hash of the body."""
        return self._hash.hexdigest()

    def add(self, content: bytes) -> None:
        """Takes more of STDOUT; b"" ends it."""
        if not self._has_head:
            searched = len(self.head)
            self.head += content
            end = end_of_head(self.head, searched)
            if end < 0 and content and len(self.head) <= _LONGEST_HEAD:
                return
            self._has_head = True
            content, self.head = self.head[max(end, 0) :], self.head[: max(end, 0)]
        self.size += len(content)
        self._hash.update(content)

    def add_stderr(self, content: bytes) -> None:
        """Takes more of STDERR."""
        self.stderr += content[: _LONGEST_STDERR - len(self.stderr)]

    def fields(self) -> dict[str, list[str]]:
        """The fields of the head, by their names in lower case."""
        found: dict[str, list[str]] = {}
        for line in self.head.decode("latin-1").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                found.setdefault(name.strip().lower(), []).append(value.strip())
        return found


class Answers:
    """Takes both directions of a connection, and has the answers that ended, in that order."""

    def __init__(self) -> None:
        self.ended: list[Answer] = []
        self.fault = ""
        """Why what the program says cannot be read any further."""
        self._open: dict[int, Answer] = {}
        self._params: dict[int, bytes] = {}
        self._front = RecordReader()
        self._backend = RecordReader()
        self._is_front_deaf = False

    def __repr__(self) -> str:
        return f"<Answers: {len(self.ended)} ended, {len(self._open)} open>"

    def ask(self, data: bytes) -> None:
        """Takes what the web server says, which gives the answers their names."""
        if self._is_front_deaf:
            return
        try:
            for kind, id, content in self._front.read(data):
                if kind == c.BEGIN_REQUEST:
                    self._open[id], self._params[id] = Answer(), b""
                elif kind == c.PARAMS and id in self._params:
                    self._add_params(id, content)
        except BadRecord:
            self._is_front_deaf = True

    def _add_params(self, id: int, content: bytes) -> None:
        if content and len(self._params[id]) < _LONGEST_PARAMS:
            self._params[id] += content
        elif not content:
            try:
                pairs = dict(decode_pairs(self._params.pop(id)))
            except BadRecord:
                pairs = {}
            method = pairs.get(b"REQUEST_METHOD", b"?")
            target = pairs.get(b"REQUEST_URI") or pairs.get(b"SCRIPT_NAME", b"") + pairs.get(b"PATH_INFO", b"")
            self._open[id].name = f"{method.decode('latin-1')} {target.decode('utf-8', 'surrogateescape')}"

    def answer(self, data: bytes) -> None:
        """Takes what the program says."""
        if self.fault:
            return
        try:
            for kind, id, content in self._backend.read(data):
                answer = self._open.get(id)
                if answer is None:
                    continue
                if kind == c.STDOUT:
                    answer.add(content)
                elif kind == c.STDERR:
                    answer.add_stderr(content)
                elif kind == c.END_REQUEST and len(content) >= 5:
                    answer.add(b"")
                    answer.end = int.from_bytes(content[:4], "big"), content[4]
                    self.ended.append(self._open.pop(id))
        except BadRecord as error:
            self.fault = str(error)

    def left(self) -> Iterator[Answer]:
        """Those that did not end."""
        for answer in self._open.values():
            answer.add(b"")
            yield answer


def differences(before: Answer, now: Answer, ignored: Collection[str]) -> Iterator[str]:
    """How an answer differs from what it was; `ignored` are fields, in lower case."""
    if before.end != now.end:
        yield f"{_end(now)} instead of {_end(before)}"
    fields, fields_now = before.fields(), now.fields()
    for name in sorted({*fields, *fields_now} - {*ignored}):
        was, came = (", ".join(each.get(name, ["none"])) for each in (fields, fields_now))
        if was != came:
            yield f"{name}: another value" if is_secret(name) else f"{name}: {came} instead of {was}"
    if before.size != now.size:
        yield f"a body of {now.size} bytes instead of {before.size}"
    elif before.digest != now.digest:
        yield f"another body of {now.size} bytes"
    if before.stderr != now.stderr:
        yield f"STDERR {now.stderr[:200]!r} instead of {before.stderr[:200]!r}"


def _end(answer: Answer) -> str:
    if answer.end is None:
        return "no END_REQUEST"
    return f"app_status {answer.end[0]} and protocol_status {answer.end[1]}"
