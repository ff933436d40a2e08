"""Records, the one frame of FastCGI (section 3.3): written without padding, read in any split.

0         1         2         3         4         5         6         7
+---------+---------+---------+---------+---------+---------+---------+---------+
| version |  type   |    request id     |  content length   | padding | reserved|
|   (1)   |         |  (0: management)  |   (0 to 65535)    | length  |   (0)   |
+---------+---------+---------+---------+---------+---------+---------+---------+
| content ...                                             | padding, 0 to 255 B |
+---------------------------------------------------------+---------------------+
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from gfastcgi.errors import BadRecord, LocalProtocolError
from gfastcgi.fcgi.constants import END_REQUEST, HEADER_SIZE, MAX_CONTENT, MAX_REQUEST_ID, VERSION

__all__ = ["HEADER", "RecordReader", "encode_record", "encode_stream", "ends_request", "header"]

HEADER = Struct("!BBHHBB")
_unpack = HEADER.unpack_from
# The largest content that keeps records at multiples of 8 bytes, as the specification advises (section 3.3).
_STREAM_CONTENT = 65528
_END = bytes((VERSION, END_REQUEST))


def header(kind: int, request_id: int, content_length: int, padding_length: int = 0) -> bytes:
    """The 8 bytes before a content that is sent by other means. Raises `LocalProtocolError` for what does not fit."""
    if not (0 <= content_length <= MAX_CONTENT and 0 <= padding_length <= 255 and 0 <= request_id <= MAX_REQUEST_ID):
        raise LocalProtocolError(
            f"a record has an id and a content length of at most 65535, not {request_id} and {content_length}"
        )
    return HEADER.pack(VERSION, kind, request_id, content_length, padding_length, 0)


def encode_record(kind: int, request_id: int, content: bytes) -> bytes:
    """One record. Raises `LocalProtocolError` for more than 65535 bytes: a length is never cut to 16 bits."""
    return header(kind, request_id, len(content)) + content


def encode_stream(kind: int, request_id: int, data: bytes) -> bytes:
    """`data` in as many records of a stream as it takes (none for b""), without the empty record that ends it."""
    size = len(data)
    if size <= _STREAM_CONTENT:
        return header(kind, request_id, size) + data if size else b""
    view = memoryview(data)
    pieces: list[bytes | memoryview] = []
    for at in range(0, size, _STREAM_CONTENT):
        piece = view[at : at + _STREAM_CONTENT]
        pieces += (header(kind, request_id, len(piece)), piece)
    return b"".join(pieces)


def ends_request(data: bytes) -> bool:
    """Whether `data`, as it came, looks as if it ended with END_REQUEST (section 5.5), which nobody pads: a hint."""
    return data[-16:-14] == _END and data[-12:-9] == b"\0\x08\0"


class RecordReader:
    """Takes bytes in any split and gives whole records; holds at most one record beyond what it was last fed."""

    __slots__ = ("_needed", "_pending", "is_between")

    def __init__(self) -> None:
        self._pending = bytearray()
        self._needed = 0
        self.is_between = True
        """Whether no part of a record is held back, and no record is left that was not asked for."""

    def __repr__(self) -> str:
        return f"<RecordReader {len(self._pending)} of {self._needed} bytes>" if self._pending else "<RecordReader>"

    def read(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Takes the next bytes and gives the records that they complete: (type, request id, content), one by one.

        What a caller does not ask for stays unread, and `is_between` False. Raises `BadRecord` for another version.
        """
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return
            data = bytes(self._pending)
            self._pending.clear()
        at, end = 0, len(data)
        while (left := end - at) >= HEADER_SIZE:
            version, kind, request_id, length, padding, _ = _unpack(data, at)
            if version != VERSION:
                self.is_between = False
                raise BadRecord(f"a record starts with its version, 1, not with {data[at : at + HEADER_SIZE]!r}")
            size = HEADER_SIZE + length + padding
            if size > left:
                self._needed = size
                break
            start = at + HEADER_SIZE
            at += size
            self.is_between = at == end
            yield kind, request_id, data[start : start + length]
        else:
            self._needed = HEADER_SIZE
        self._pending += data[at:]
        self.is_between = at == end
