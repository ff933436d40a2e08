"""The Range field and multipart/byteranges (RFC 9110 section 14)."""

from __future__ import annotations

import email

import pytest

from gfastcgi.errors import RangeNotSatisfiable
from gfastcgi.http.ranges import MAX_RANGES, content_range, multipart, parse_range

TB = 1 << 40


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        ("bytes=0-0", 10, [(0, 1)]),
        ("bytes=0-9", 10, [(0, 10)]),
        ("bytes=2-4", 10, [(2, 5)]),
        ("bytes=2-400", 10, [(2, 10)]),
        ("bytes=9-", 10, [(9, 10)]),
        ("bytes=-1", 10, [(9, 10)]),
        ("bytes=-10", 10, [(0, 10)]),
        ("bytes=-400", 10, [(0, 10)]),
        ("BYTES=0-1", 10, [(0, 2)]),
        ("bytes=0-1,4-5", 10, [(0, 2), (4, 6)]),
        ("bytes= 0-1 ,\t4-5 ", 10, [(0, 2), (4, 6)]),
        ("bytes=,,0-1,", 10, [(0, 2)]),
        ("bytes=4-5,0-1", 10, [(4, 6), (0, 2)]),
        ("bytes=0-4,5-9", 10, [(0, 5), (5, 10)]),
        ("bytes=0-1,100-200", 10, [(0, 2)]),
        ("bytes=0-1,-0", 10, [(0, 2)]),
        ("bytes=5-6,0-5", 10, [(0, 7)]),
        ("bytes=0-,0-,0-", 10, [(0, 10)]),
        ("bytes=0-1,4-9,-5", 10, [(0, 2), (4, 10)]),
        (f"bytes={TB - 1}-", TB, [(TB - 1, TB)]),
        (f"bytes=-{1 << 70}", TB, [(0, TB)]),
        (f"bytes=0-{'9' * 900}", TB, [(0, TB)]),
        ("bytes=000000000000000000000000000005-7", 10, [(5, 8)]),
    ],
)
def test_ranges(value: str, size: int, expected: list[tuple[int, int]]) -> None:
    assert parse_range(value.encode(), size) == expected


@pytest.mark.parametrize(
    "value",
    ["", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=a-b", "bytes=1", "bytes=5-2", "bytes=0-1,5-2", "bytes=0-1,x",
     "lines=0-1", "bytes =0-1", "bytes=+1-2", "bytes=1-+2", "bytes=0x1-2", "bytes=1_0-20", "bytes=0 -1", "bytes=--1",
     "bytes=0-1;2-3", "bytes=0-1, bytes=2-3", "bytes=\xb2-\xb3", "bytes=0-\n", "bytes=" + "0" * 5000 + "-1"],
)  # fmt: skip
def test_what_is_ignored(value: str) -> None:
    assert parse_range(value.encode("latin-1"), 10) is None


def test_an_empty_file_has_nothing_to_cut() -> None:
    assert parse_range(b"bytes=0-", 0) is None
    assert parse_range(b"bytes=-5", 0) is None


@pytest.mark.parametrize(
    "value", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,20-30,-0", "bytes=" + "9" * 99 + "-"]
)
def test_not_satisfiable(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable, match="10 bytes") as caught:
        parse_range(value.encode(), 10)
    assert caught.value.status_hint == 416


@pytest.mark.parametrize("count", [MAX_RANGES - 1, MAX_RANGES, MAX_RANGES + 1, 100])
def test_most_ranges(count: int) -> None:
    value = b"bytes=" + b",".join(b"%d-%d" % (2 * n, 2 * n) for n in range(count))
    ranges = parse_range(value, 1000)
    assert ranges == ([(2 * n, 2 * n + 1) for n in range(count)] if count <= MAX_RANGES else None)


def test_content_range() -> None:
    assert content_range(0, 500, 1234) == "bytes 0-499/1234"


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", ""])
def test_multipart_is_mime(content_type: str) -> None:
    content = bytes(range(100))
    pieces = multipart([(0, 2), (90, 100)], 100, content_type, "XX")
    body = b"".join(piece if isinstance(piece, bytes) else content[slice(*piece)] for piece in pieces)
    head = b"Content-Type: multipart/byteranges; boundary=XX\r\n\r\n"
    parts = list(email.message_from_bytes(head + body).walk())[1:]
    assert [part.get("Content-Range") for part in parts] == ["bytes 0-1/100", "bytes 90-99/100"]
    assert [part.get("Content-Type") for part in parts] == [content_type or None] * 2
    assert body.startswith(b"--XX\r\n")
    assert body.endswith(b"\r\n--XX--\r\n")
    assert b"\r\n\r\n\x00\x01\r\n--XX\r\n" in body
