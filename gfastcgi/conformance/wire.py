"""FastCGI records by hand (FastCGI 1.0 sections 3.3, 3.4, 5), good and bad ones.

Contract: these lines are the bench's own, so that gfastcgi's codec is never its own judge.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = [
    "AUTHORIZER", "BEGIN_REQUEST", "CANT_MPX_CONN", "OVERLOADED", "PARAMS", "UNKNOWN_ROLE", "answer", "end", "pairs",
    "record", "stderr", "stdout",
]  # fmt: skip

BEGIN_REQUEST: Final = 1
END_REQUEST: Final = 3
PARAMS: Final = 4
STDOUT: Final = 6
STDERR: Final = 7
AUTHORIZER: Final = 2
CANT_MPX_CONN: Final = 1
OVERLOADED: Final = 2
UNKNOWN_ROLE: Final = 3


def record(kind: int, content: bytes, request_id: int = 1, *, version: int = 1) -> bytes:
    """One record without padding."""
    return struct.pack("!BBHHBB", version, kind, request_id, len(content), 0, 0) + content


def stdout(text: str, request_id: int = 1) -> bytes:
    """`text` (at most 65,535 characters) on STDOUT."""
    return record(STDOUT, text.encode("latin-1"), request_id)


def stderr(text: str) -> bytes:
    """`text` on STDERR."""
    return record(STDERR, text.encode("latin-1"))


def end(app_status: int = 0, protocol_status: int = 0, request_id: int = 1) -> bytes:
    """END_REQUEST."""
    return record(END_REQUEST, struct.pack("!IB3x", app_status, protocol_status), request_id)


def answer(text: str) -> bytes:
    """A whole answer: `text` on STDOUT, then END_REQUEST, all well."""
    return stdout(text) + end()


def pairs(data: bytes) -> Iterator[tuple[str, str]]:
    """The name-value pairs of PARAMS (section 3.4)."""
    at = 0

    def length() -> int:
        nonlocal at
        if data[at] < 128:
            at += 1
            return data[at - 1]
        at += 4
        (value,) = struct.unpack_from("!I", data, at - 4)
        return int(value & 0x7FFFFFFF)

    while at < len(data):
        sizes = length(), length()
        name, at = data[at : at + sizes[0]], at + sizes[0]
        value, at = data[at : at + sizes[1]], at + sizes[1]
        yield name.decode("latin-1"), value.decode("latin-1")
