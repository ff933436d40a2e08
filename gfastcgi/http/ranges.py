"""Byte ranges of a representation (RFC 9110 section 14) and the multipart body that holds several of them.

Contract: pure; ranges are half-open (start, end) pairs that lie in the representation and never overlap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gfastcgi.errors import RangeNotSatisfiable

__all__ = ["MAX_RANGES", "content_range", "multipart", "parse_range"]

MAX_RANGES = 10
"""Ranges that one request may ask for; a field with more is ignored (section 14.2; CVE-2011-3192)."""

# As many digits as any size of a file has, ten times over; int() refuses absurd numbers by an exception.
_MAX_FIELD = 1024

# int-range = first-pos "-" [ last-pos ], suffix-range = "-" suffix-length (section 14.1.1)
_SPEC = re.compile(rb"([0-9]*)-([0-9]*)")


def parse_range(value: bytes, size: int, max_ranges: int = MAX_RANGES) -> list[tuple[int, int]] | None:
    """The ranges that the Range field `value` asks for of `size` bytes, in its order.

    None: the field counts for nothing, the answer is the whole (another unit, a broken or abusive set, nothing to cut).
    Overlapping ranges come merged and in ascending order. Raises `RangeNotSatisfiable` when none of them exists.
    """
    unit, _, specs = value.partition(b"=")
    if unit.lower() != b"bytes" or len(value) > _MAX_FIELD:
        return None
    ranges = []
    count = 0
    for spec in specs.split(b","):
        spec = spec.strip(b" \t")
        if not spec:  # a list may have empty elements (section 5.6.1.2)
            continue
        count += 1
        match = _SPEC.fullmatch(spec)
        if not match or spec == b"-" or count > max_ranges:
            return None
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return None
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start < end:
            ranges.append((start, end))
    if not count or not size:
        return None
    if not ranges:
        raise RangeNotSatisfiable(f"none of the ranges {value[:80]!r} lies in {size} bytes")
    return _merge(ranges)


def _merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges as they are when none overlaps another; else the fewest that cover the same bytes (section 15.3.7.2)."""
    ordered = sorted(ranges)
    merged = ordered[:1]
    for start, end in ordered[1:]:
        if start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return ranges if len(merged) == len(ranges) else merged


def content_range(start: int, end: int, size: int) -> str:
    """The value of Content-Range for the half-open range (section 14.4)."""
    return f"bytes {start}-{end - 1}/{size}"


def multipart(
    ranges: Sequence[tuple[int, int]], size: int, content_type: str, boundary: str
) -> list[bytes | tuple[int, int]]:
    """The body of a multipart/byteranges response (section 14.6): bytes between the ranges, in order."""
    pieces: list[bytes | tuple[int, int]] = []
    delimiter = f"--{boundary}"
    for start, end in ranges:
        type_line = f"Content-Type: {content_type}\r\n" if content_type else ""
        head = f"{delimiter}\r\n{type_line}Content-Range: {content_range(start, end, size)}\r\n\r\n"
        pieces += (head.encode("latin-1"), (start, end))
        delimiter = f"\r\n--{boundary}"
    pieces.append(f"{delimiter}--\r\n".encode("latin-1"))
    return pieces
