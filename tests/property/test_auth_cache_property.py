"""Keys of decisions: no two different inputs share one, whatever is in them."""

from __future__ import annotations

from typing import Any

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


def cookies_of(text: str) -> list[tuple[str, str]]:
    """By the book (RFC 6265 section 5.4), for comparison."""
    pairs = [pair.lstrip(" \t").partition("=") for pair in text.split(";")]
    return [(name, value) for name, _, value in pairs if name in ("a", "b") and value]


@given(COOKIE, FIELD, FIELD, COOKIE, FIELD, FIELD)
def test_keys_differ_where_credentials_differ(c1: str, x1: str, y1: str, c2: str, x2: str, y2: str) -> None:
    one, other = (cookies_of(c1), x1, y1), (cookies_of(c2), x2, y2)
    first, second = MAKER.who(ask("/", cookie=c1, x=x1, y=y1)), MAKER.who(ask("/", cookie=c2, x=x2, y=y2))
    assert (first is None) is (not any(one))
    if first is not None and second is not None:
        assert (first == second) is (one == other)
