"""What `gfastcgi tap --save` writes: a line of JSON for each event, the first one for the whole (docs/toolbox.md).

Contract: a recording holds every byte as it came, secrets too; its file is for its owner only. One that ends inside a
line was cut short: what stands before that is sound.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import IO, Any, get_args

from gfastcgi.errors import GfastcgiError
from gfastcgi.tap.events import Event, What

__all__ = ["BadRecording", "Recorder", "read_recording"]

VERSION = 1
_KINDS = frozenset(get_args(What))
_LONGEST_LINE = 1 << 20


class BadRecording(GfastcgiError):
    """The file is no recording; the message says where and why."""


class Recorder:
    """Writes a recording to `filename`; what was there is gone. `about` stands in its first line. Raises OSError."""

    def __init__(self, filename: str, about: dict[str, Any]) -> None:
        descriptor = os.open(filename, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="ascii")
        self._line({"gfastcgi-tap": VERSION, **about})

    def __repr__(self) -> str:
        return f"<Recorder {self._file.name}>"

    def write(self, event: Event) -> None:
        """Adds an event. Raises OSError."""
        line: dict[str, Any] = {"at": round(event.at, 6), "connection": event.connection, "event": event.what}
        if event.data:
            line["data"] = b64encode(event.data).decode("ascii")
        if event.text:
            line["text"] = event.text
        self._line(line)

    def _line(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """What was written is in the file. Raises OSError."""
        self._file.flush()

    def close(self) -> None:
        """The end. Raises OSError."""
        self._file.close()


def read_recording(file: IO[str]) -> Iterator[Event]:
    """The events of a recording, up to its end, or to where it was cut short. Raises `BadRecording`."""
    first = _parse(file.readline(_LONGEST_LINE), 1)
    if first.get("gfastcgi-tap") != VERSION:
        raise BadRecording(f'line 1: expected {{"gfastcgi-tap": {VERSION}, ...}}: this is no recording of gfastcgi tap')
    number = 1
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.endswith("\n") and len(line) < _LONGEST_LINE:
            return
        yield _event(_parse(line, number), number)


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise BadRecording(f"line {number}: {error}") from error
    if not isinstance(found, dict):
        raise BadRecording(f"line {number}: expected an object, found {line[:40]!r}")
    return found


def _event(line: dict[str, Any], number: int) -> Event:
    try:
        what = line["event"]
        if what not in _KINDS:
            raise ValueError(f"there is no event {what!r}")
        data = b64decode(line.get("data", ""), validate=True)
        return Event(float(line["at"]), int(line["connection"]), what, data, str(line.get("text", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecording(f"line {number}: {type(error).__name__}: {error}") from error
