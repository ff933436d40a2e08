"""Ranges against a slow and obvious model."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gfastcgi.errors import RangeNotSatisfiable
from gfastcgi.http.conditional import format_http_date, parse_http_date
from gfastcgi.http.ranges import parse_range

positions = st.integers(0, 60)
specs = st.one_of(
    st.tuples(positions, positions).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    positions.map(lambda first: f"{first}-"),
    positions.map(lambda length: f"-{length}"),
)


def bytes_of(spec: str, size: int) -> set[int]:
    first, _, last = spec.partition("-")
    if not first:
        return {n for n in range(size) if n >= size - int(last)}
    return {n for n in range(size) if int(first) <= n and (not last or n <= int(last))}


@given(st.lists(specs, min_size=1, max_size=10), st.integers(1, 50))
def test_ranges_cover_what_was_asked_and_nothing_twice(asked: list[str], size: int) -> None:
    wanted = set().union(*(bytes_of(spec, size) for spec in asked))
    try:
        ranges = parse_range(("bytes=" + ", ".join(asked)).encode(), size)
    except RangeNotSatisfiable:
        assert not wanted
        return
    assert ranges
    covered = [n for start, end in ranges for n in range(start, end)]
    assert len(covered) == len(set(covered))
    assert set(covered) == wanted
    assert all(0 <= start < end <= size for start, end in ranges)


@given(st.binary(max_size=40) | st.binary(max_size=30).map(lambda tail: b"bytes=" + tail), st.integers(0, 1 << 50))
@example(b"bytes=" + b"9" * 5000 + b"-", 10)
def test_any_bytes_at_all(value: bytes, size: int) -> None:
    try:
        ranges = parse_range(value, size)
    except RangeNotSatisfiable:
        return
    assert ranges is None or all(0 <= start < end <= size for start, end in ranges)


@given(st.integers(0, 253402300799))
def test_dates_round_trip(seconds: int) -> None:
    assert parse_http_date(format_http_date(seconds).encode()) == seconds


@given(st.binary(max_size=40))
def test_any_bytes_as_a_date(value: bytes) -> None:
    parse_http_date(value)
