"""Conditional requests and the dates they compare (RFC 9110 sections 5.6.7, 8.8 and 13).

Contract: pure; `evaluate` takes the preconditions in the order of section 13.2.2 and says which status they leave.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from typing import Literal

__all__ = ["CONDITIONS", "evaluate", "format_http_date", "if_range_holds", "parse_http_date"]

CONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})
"""The fields that `evaluate` asks for."""

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE (section 8.8.3)
_ENTITY_TAG = re.compile(rb'(W/)?("[!#-~\x80-\xff]*")')

_LAST_SECOND = 253402300799
"""31 Dec 9999: the year of an HTTP-date has four digits, the time stamp of a file may have any."""

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = rb"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
# HTTP-date = IMF-fixdate / rfc850-date / asctime-date
_DATES = tuple(
    re.compile(form)
    for form in (
        _DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT",
        _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT",
        _DAY + rb" " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _TIME + rb" (?P<year>[0-9]{4})",
    )
)


def format_http_date(seconds: float) -> str:
    """`seconds` since 1970 as an IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT"."""
    return _format(min(max(int(seconds // 1), 0), _LAST_SECOND))


@lru_cache(maxsize=1024)
def _format(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


@lru_cache(maxsize=1024)
def parse_http_date(value: bytes) -> float | None:
    """Seconds since 1970 of a date in any of the three forms; None when it is none (section 5.6.7).

    The two digits of an rfc850-date mean 1970 to 2069, as POSIX has it: no clock decides here.
    """
    for form in _DATES:
        match = form.fullmatch(value)
        if match:
            day, month, year, hour, minute, second = match.group("day", "month", "year", "hour", "minute", "second")
            full_year = int(year) if len(year) == 4 else (int(year) - 70) % 100 + 1970
            number = _MONTHS.index(month) + 1
            if full_year < 1 or not 1 <= int(day) <= calendar.monthrange(full_year, number)[1]:
                return None
            return float(calendar.timegm((full_year, number, int(day), int(hour), int(minute), int(second))))
    return None


def evaluate(
    method: str, get_field: Callable[[bytes], bytes | None], *, etag: str, mtime: float
) -> Literal[200, 304, 412]:
    """The status that the preconditions of a request leave for an existing representation (section 13.2.2).

    `etag` is its entity-tag ("" when it has none), `mtime` its modification in seconds since 1970. 200: go on.
    """
    tag = etag.encode("latin-1")
    is_read = method in ("GET", "HEAD")
    value = get_field(b"if-match")
    if value is not None:
        if not _is_listed(value, tag, is_strong=True):
            return 412
    elif (date := _date(get_field(b"if-unmodified-since"))) is not None and mtime // 1 > date:
        return 412
    value = get_field(b"if-none-match")
    if value is not None:
        if _is_listed(value, tag, is_strong=False):
            return 304 if is_read else 412
    elif is_read and (date := _date(get_field(b"if-modified-since"))) is not None and mtime // 1 <= date:
        return 304
    return 200


def if_range_holds(value: bytes, *, etag: str, mtime: float) -> bool:
    """Whether the `value` of If-Range names this very representation, so that Range counts (section 13.1.5)."""
    match = _ENTITY_TAG.fullmatch(value)
    if match:
        return not match[1] and match[2] == etag.encode("latin-1")
    return _date(value) == mtime // 1


def _is_listed(value: bytes, tag: bytes, *, is_strong: bool) -> bool:
    """Whether `tag` is in a list of entity-tags, by strong or weak comparison (section 8.8.3.2)."""
    if value == b"*":
        return True
    if is_strong:
        return any(not weak and opaque == tag for weak, opaque in _ENTITY_TAG.findall(value))
    opaque_tag = tag.removeprefix(b"W/")
    return any(opaque == opaque_tag for _, opaque in _ENTITY_TAG.findall(value))


def _date(value: bytes | None) -> float | None:
    return None if value is None else parse_http_date(value)
