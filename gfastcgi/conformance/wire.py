"""FastCGI records by hand (FastCGI 1.0 sections 3.3, 3.4, 5), good and bad ones.

Contract: these lines are the bench's own, so that gfastcgi's codec is never its own judge.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = [
    "ABORT_REQUEST", "AUTHORIZER", "BEGIN_REQUEST", "CANT_MPX_CONN", "END_REQUEST", "FILTER", "GET_VALUES",
    "GET_VALUES_RESULT", "OVERLOADED", "PARAMS", "REQUEST_COMPLETE", "RESPONDER", "STDERR", "STDIN", "STDOUT",
    "UNKNOWN_ROLE", "answer", "end", "pairs", "record", "stderr", "stdout",
]  # fmt: skip

BEGIN_REQUEST: Final = 1
ABORT_REQUEST: Final = 2
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7
GET_VALUES: Final = 9
GET_VALUES_RESULT: Final = 10
RESPONDER: Final = 1
AUTHORIZER: Final = 2
FILTER: Final = 3
REQUEST_COMPLETE: Final = 0
CANT_MPX_CONN: Final = 1
OVERLOADED: Final = 2
UNKNOWN_ROLE: Final = 3


def record(kind: int, content: bytes = b"", request_id: int = 1, *, version: int = 1) -> bytes:
    """One record without padding; `content` has at most 65,535 bytes."""
    return struct.pack("!BBHHBB", version, kind, request_id, len(content), 0, 0) + content


def stdout(data: str | bytes, request_id: int = 1) -> bytes:
    """`data` on STDOUT, in as many records as it takes."""
    return _stream(STDOUT, data, request_id)


def stderr(data: str | bytes, request_id: int = 1) -> bytes:
    """`data` on STDERR, in as many records as it takes."""
    return _stream(STDERR, data, request_id)


def _stream(kind: int, data: str | bytes, request_id: int) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return b"".join(record(kind, data[at : at + 65535], request_id) for at in range(0, len(data), 65535))


def end(app_status: int = 0, protocol_status: int = REQUEST_COMPLETE, request_id: int = 1) -> bytes:
    """END_REQUEST."""
    return record(END_REQUEST, struct.pack("!IB3x", app_status, protocol_status), request_id)


def answer(data: str | bytes, request_id: int = 1, *, stderr: str | bytes = "") -> bytes:
    """A whole answer: `stderr` on STDERR, the CGI response `data` on STDOUT, then END_REQUEST, all well."""
    return _stream(STDERR, stderr, request_id) + stdout(data, request_id) + end(request_id=request_id)


def for_request(data: bytes, request_id: int) -> bytes:
    """`data` with its records for the request 1 given to `request_id`; what is no record stays as it is."""
    found, at = bytearray(data), 0
    while at + 8 <= len(data):
        if data[at + 2 : at + 4] == b"\0\x01":
            found[at + 2 : at + 4] = request_id.to_bytes(2, "big")
        at += 8 + int.from_bytes(data[at + 4 : at + 6], "big") + data[at + 6]
    return bytes(found)


def pairs(data: bytes | bytearray) -> Iterator[tuple[str, bytes]]:
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
        yield name.decode("latin-1"), bytes(value)
