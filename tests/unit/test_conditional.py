"""Preconditions and HTTP dates (RFC 9110 sections 5.6.7 and 13)."""

from __future__ import annotations

import pytest

from gfastcgi.http.conditional import evaluate, format_http_date, if_range_holds, parse_http_date

ETAG = '"1a-2b"'
MTIME = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"


def status(method: str = "GET", etag: str = ETAG, mtime: float = MTIME, **fields: str) -> int:
    given = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in fields.items()}
    return evaluate(method, given.get, etag=etag, mtime=mtime)


def test_without_preconditions() -> None:
    assert status() == 200


@pytest.mark.parametrize(
    ("value", "read", "write"),
    [
        (ETAG, 304, 412),
        ("W/" + ETAG, 304, 412),
        (f'"x", {ETAG}', 304, 412),
        (f'"x",W/{ETAG} , "y"', 304, 412),
        ("*", 304, 412),
        ('"x"', 200, 200),
        ('"1a-2b', 200, 200),
        ("1a-2b", 200, 200),
        ("", 200, 200),
        ('"\xe4"', 200, 200),
    ],
)
def test_if_none_match(value: str, read: int, write: int) -> None:
    assert status(if_none_match=value) == read
    assert status("HEAD", if_none_match=value) == read
    assert status("POST", if_none_match=value) == write


@pytest.mark.parametrize(
    ("value", "expected"),
    [(ETAG, 200), (f'"x",{ETAG}', 200), ("*", 200), ("W/" + ETAG, 412), ('"x"', 412), ("", 412), ("1a-2b", 412)],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_if_match(method: str, value: str, expected: int) -> None:
    assert status(method, if_match=value) == expected


def test_weak_tag_of_our_own() -> None:
    weak = "W/" + ETAG
    assert status(etag=weak, if_none_match=ETAG) == 304
    assert status(etag=weak, if_none_match=weak) == 304
    assert status(etag=weak, if_match=weak) == 412
    assert status(etag=weak, if_match=ETAG) == 412


def test_no_tag_of_our_own() -> None:
    assert status(etag="", if_none_match='""') == 200
    assert status(etag="", if_none_match="*") == 304
    assert status(etag="", if_match=ETAG) == 412


@pytest.mark.parametrize(("value", "expected"), [(DATE, 304), (AFTER, 304), (BEFORE, 200), ("junk", 200), ("", 200)])
def test_if_modified_since(value: str, expected: int) -> None:
    assert status(if_modified_since=value) == expected
    assert status("HEAD", if_modified_since=value) == expected
    assert status("POST", if_modified_since=value) == 200


@pytest.mark.parametrize(("value", "expected"), [(DATE, 200), (AFTER, 200), (BEFORE, 412), ("junk", 200)])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_if_unmodified_since(method: str, value: str, expected: int) -> None:
    assert status(method, if_unmodified_since=value) == expected


def test_order_of_section_13_2_2() -> None:
    assert status(if_match=ETAG, if_unmodified_since=BEFORE) == 200
    assert status(if_match='"x"', if_none_match=ETAG) == 412
    assert status(if_none_match='"x"', if_modified_since=DATE) == 200
    assert status(if_match=ETAG, if_none_match=ETAG) == 304


def test_fractions_of_a_second_do_not_count() -> None:
    assert status(mtime=MTIME + 0.9, if_modified_since=DATE) == 304
    assert status(mtime=MTIME + 0.9, if_unmodified_since=DATE) == 200
    assert if_range_holds(DATE.encode(), etag="", mtime=MTIME + 0.9)


@pytest.mark.parametrize(
    ("value", "holds"),
    [(ETAG, True), ("W/" + ETAG, False), ('"x"', False), (DATE, True), (AFTER, False), (BEFORE, False), ("junk", False),
     (f'{ETAG}, "x"', False), ("*", False)],
)  # fmt: skip
def test_if_range(value: str, holds: bool) -> None:
    assert if_range_holds(value.encode(), etag=ETAG, mtime=MTIME) is holds


def test_if_range_is_a_strong_comparison() -> None:
    assert not if_range_holds(b'W/"x"', etag='W/"x"', mtime=MTIME)
    assert not if_range_holds(b'"x"', etag='W/"x"', mtime=MTIME)


@pytest.mark.parametrize(
    "value", [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 06 08:49:37 1994"]
)
def test_the_three_forms_of_a_date(value: str) -> None:
    assert parse_http_date(value.encode()) == MTIME


@pytest.mark.parametrize(
    ("value", "year"), [(b"Friday, 01-Jan-70 00:00:00 GMT", 1970), (b"Friday, 01-Jan-69 00:00:00 GMT", 2069)]
)
def test_two_digit_years(value: bytes, year: int) -> None:
    assert parse_http_date(value) == parse_http_date(b"Mon, 01 Jan %d 00:00:00 GMT" % year)


@pytest.mark.parametrize(
    "value",
    ["", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 24:49:37 GMT",
     "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
     "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", DATE + "\n",
     "784111777", "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT"],
)  # fmt: skip
def test_no_dates(value: str) -> None:
    assert parse_http_date(value.encode()) is None


def test_leap_second() -> None:
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == 1483228800


def test_format() -> None:
    assert format_http_date(MTIME + 0.99) == DATE
    assert format_http_date(-5) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_http_date(1e15) == "Fri, 31 Dec 9999 23:59:59 GMT"
