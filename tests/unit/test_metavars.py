"""Meta-variables from fields: their names, and those that a client cannot have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.cgi.metavars import field_variables, variable_name


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"host", b"HTTP_HOST"), (b"x-a-1", b"HTTP_X_A_1"), (b"content-type", b"CONTENT_TYPE"),
        (b"content-length", b"HTTP_CONTENT_LENGTH"), (b"authorization", b"HTTP_AUTHORIZATION"),
    ],
)  # fmt: skip
def test_name(field: bytes, name: bytes) -> None:
    assert variable_name(field) == name
    assert variable_name(field) == name  # the second time from the table


@pytest.mark.parametrize(
    "field",
    [
        b"x_a", b"x.a", b"x~a", b"-", b"", b"proxy", b"redirect-status", b"remote-user", b"auth-type", b"variable-a",
        b"x-sendfile-type", b"x-accel-mapping", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"keep-alive",
    ],
)  # fmt: skip
def test_refused(field: bytes) -> None:
    assert variable_name(field) is None
    assert field_variables([(field, b"evil"), (b"a", b"1")]) == {b"HTTP_A": b"1"}


def test_repeated_and_empty() -> None:
    fields = [(b"cookie", b"a=1"), (b"x", b"1"), (b"e", b""), (b"cookie", b"b=2"), (b"x", b""), (b"x", b"2")]
    assert field_variables(fields) == {b"HTTP_COOKIE": b"a=1; b=2", b"HTTP_X": b"1, 2"}


@pytest.mark.parametrize("connection", [b"close, X-A", b"x-a", b" ,x-A\t, authorization, cookie, host, content-type"])
def test_connection(connection: bytes) -> None:
    """What it names stays here, but for what routes or authenticates: a client must not hide that from a backend."""
    kept = [(b"host", b"h"), (b"authorization", b"z"), (b"cookie", b"c"), (b"content-type", b"t")]
    found = field_variables([(b"x-a", b"1"), (b"connection", connection), *kept])
    assert found.keys() == {
        b"HTTP_CONNECTION", b"HTTP_HOST", b"HTTP_AUTHORIZATION", b"HTTP_COOKIE", b"CONTENT_TYPE",
    }  # fmt: skip


@given(st.binary(max_size=12).map(bytes.lower), st.binary(max_size=12).map(bytes.lower))
def test_two_fields_never_share_a_name(one: bytes, other: bytes) -> None:
    if one != other and variable_name(one) is not None:
        assert variable_name(one) != variable_name(other)


def test_the_table_does_not_grow_without_end() -> None:
    for number in range(3000):
        assert variable_name(b"x-%d" % number) == b"HTTP_X_%d" % number
    assert variable_name(b"x_late") is None
