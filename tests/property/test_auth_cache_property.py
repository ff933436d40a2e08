"""Keys of decisions: no two different inputs share one, whatever is in them."""

from __future__ import annotations

import re
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import unquote

import hypothesis.strategies as st
from filerig import ask
from hypothesis import given

from gfastcgi.auth.keys import KeyMaker, encode
from gfastcgi.config import CacheConfig

BYTES = st.one_of(st.binary(max_size=6), st.sampled_from([b"", b"n", b"b1:a", b"s0:", b"t0:", b"1", b":"]))
TEXT = st.one_of(st.text(max_size=4), st.sampled_from(["", "n", "b1:a", "\udcff"]))
VALUES: Any = st.recursive(
    st.one_of(st.none(), BYTES, TEXT), lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8
)


@given(VALUES, VALUES)
def test_encodings_are_unambiguous(one: Any, other: Any) -> None:
    is_same = one == other
    assert (encode(one) == encode(other)) is is_same


@given(st.lists(VALUES, max_size=4), st.integers(0, 4))
def test_moving_a_boundary_changes_the_encoding(values: list[Any], at: int) -> None:
    whole = encode((tuple(values),))
    assert encode((tuple(values[:at]), tuple(values[at:]))) != whole


COOKIE = st.text("ab;= ", max_size=6)
FIELD = st.text("ab", max_size=3)
MAKER = KeyMaker(CacheConfig(key=(("cookie", "a"), ("cookie", "b"), ("header", "x"), ("header", "y"))))


def cookies_of(text: str, ends: str = ";") -> list[tuple[str, str]]:
    """By the book (RFC 6265 section 5.4), or with other `ends`, as some read them."""
    pairs = [pair.lstrip(" \t").partition("=") for pair in re.split(f"[{ends}]", text)]
    return [(name, value) for name, _, value in pairs if name in ("a", "b") and value]


def readings(text: str) -> list[object]:
    """What programs may make of a Cookie field: PHP, CGI.pm, http.cookies."""
    simple: SimpleCookie = SimpleCookie()
    with suppress(CookieError):
        simple.load(text)
    found = sorted((name, morsel.value) for name, morsel in simple.items() if name in ("a", "b"))
    return [cookies_of(text), cookies_of(unquote(text)), cookies_of(text, ";,"), cookies_of(text, "; "), found]


@given(COOKIE, FIELD, FIELD, COOKIE, FIELD, FIELD)
def test_keys_differ_where_credentials_differ(c1: str, x1: str, y1: str, c2: str, x2: str, y2: str) -> None:
    one, other = (cookies_of(c1), x1, y1), (cookies_of(c2), x2, y2)
    first, second = MAKER.who(ask("/", cookie=c1, x=x1, y=y1)), MAKER.who(ask("/", cookie=c2, x=x2, y=y2))
    assert (first is None) is (not any(one))
    if first is not None and first == second:
        assert one == other
    if first is not None and second is not None and first != second:
        assert one != other or c1 != c2


PAIRS = st.lists(st.sampled_from(["a=1", "a=2", "b=1", "b=2", "c=3"]), min_size=1, max_size=3)
ODD = st.sampled_from(["%62=1", "b =1", "c=1 b=2", "c=1,b=2", 'c="', '"', "c", "a", "b", "c=,", "=", "d=%62=1"])


@given(PAIRS, ODD, PAIRS)
def test_equal_keys_are_equal_credentials_whatever_program_reads_them(
    before: list[str], odd: str, after: list[str]
) -> None:
    one, other = "; ".join(before + after), "; ".join([*before, odd, *after])
    if MAKER.who(ask("/", cookie=one)) == MAKER.who(ask("/", cookie=other)) is not None:
        assert readings(one) == readings(other)


@given(st.sampled_from(["", "; theme=dark", ";_ga=1.2-3", ";  c=a=b;"]))
def test_other_cookies_do_not_count(more: str) -> None:
    assert MAKER.who(ask("/", cookie="a=1; b=2" + more)) == MAKER.who(ask("/", cookie="a=1; b=2"))
