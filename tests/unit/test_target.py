"""The request target and Host: one canonical form, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.errors import BadRequest
from gfastcgi.http.target import check_authority, host_of, parse_target


@pytest.mark.parametrize(
    ("raw", "path", "uri"),
    [
        (b"/", "/", b"/"),
        (b"/a/b.php/c", "/a/b.php/c", b"/a/b.php/c"),
        (b"/%61%2E", "/a.", b"/a."),
        (b"/a//b///c/", "/a/b/c/", b"/a/b/c/"),
        (b"/a/./b/../c", "/a/c", b"/a/c"),
        (b"/%2e%2e/%2E./x", "/x", b"/x"),
        (b"/../..", "/", b"/"),
        (b"/a/..", "/", b"/"),
        (b"/a/b/..", "/a/", b"/a/"),
        (b"/.hidden/...", "/.hidden/...", b"/.hidden/..."),
        (b"/%252e%252e/x", "/%2e%2e/x", b"/%252e%252e/x"),
        (b"/caf%c3%a9", "/café", b"/caf%C3%A9"),
        (b"/\xff", "/\udcff", b"/%FF"),
        (b"/a%20b%3f%23", "/a b?#", b"/a%20b%3F%23"),
        (b"/~a!$&'()*+,;=:@b", "/~a!$&'()*+,;=:@b", b"/~a!$&'()*+,;=:@b"),
    ],
)
def test_path(raw: bytes, path: str, uri: bytes) -> None:
    target = parse_target(raw)
    assert (target.path, target.uri, target.query, target.authority) == (path, uri, "", None)
    asked = parse_target(raw + b"?a=%2F../&\xe9?")
    assert (asked.path, asked.uri, asked.query) == (path, uri + b"?a=%2F../&\xe9?", "a=%2F../&\xe9?")


@pytest.mark.parametrize(
    ("raw", "uri", "authority"),
    [
        (b"http://A.example/x?y", b"/x?y", b"A.example"),
        (b"HTTPS://a:81", b"/", b"a:81"),
        (b"http://a?q", b"/?q", b"a"),
    ],
)
def test_absolute_form(raw: bytes, uri: bytes, authority: bytes) -> None:
    assert (parse_target(raw).uri, parse_target(raw).authority) == (uri, authority)


def test_the_query_has_one_spelling() -> None:
    """RFC 3986 section 6.2.2: a condition holds for a word however its letters are encoded. Nothing else changes."""
    target = parse_target(b"/a?%61ction=%41dmin%2d%7E&x=%2f%3D%26+%c3%A9%zz%")
    assert target.query == "action=Admin-~&x=%2F%3D%26+%C3%A9%zz%"
    assert target.uri == b"/a?" + target.query.encode()


def test_an_empty_query_stays() -> None:
    assert parse_target(b"/a?").uri == b"/a?"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"a", b"/a b", b"/#x", b"/\x00", b"/\x7f", b"/a\\b", b"/%", b"/%4", b"/%zz", b"/%u0041", b"/%00", b"/%0a",
        b"/a/..;/b", b"/..;x=1/b", b"/.;/b", b"/a/%2e%2e%3b/b", b"/a/..;", b"/...//..;/", b"http://a/..;/b",
        b"/%7f", b"/a%2fb", b"/a%5Cb", b"*x", b"ftp://a/", b"http:///x", b"http://u@a/", b"http://a:99999/", b"//\t",
    ],
)  # fmt: skip
def test_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_target(raw)


@pytest.mark.parametrize("raw", [b"/a;/b", b"/a..;/b", b"/a/;..", b"/..a;/b", b"/;", b"/a?/..;/"])
def test_other_parameters_are_what_they_are(raw: bytes) -> None:
    assert parse_target(raw).uri == raw


def test_an_encoded_slash_becomes_one_when_asked() -> None:
    assert parse_target(b"/a%2f..%2Fb", decode_2f=True).path == "/b"


@given(st.binary(max_size=30).map(lambda raw: b"/" + raw))
def test_canonical(raw: bytes) -> None:
    """The canonical form is a fixed point, without a way up, a doubled slash, or a byte that needs escaping."""
    try:
        target = parse_target(raw)
    except BadRequest:
        return
    again = parse_target(target.uri)
    assert (again.path, again.uri, again.query) == (target.path, target.uri, target.query)
    assert target.path.startswith("/")
    assert "//" not in target.path
    assert not {".", ".."} & set(target.path.split("/"))
    assert target.uri.partition(b"?")[0].isascii()


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        (b"A.Example", "a.example", ""), (b"a.example.", "a.example", ""), (b"a.example.:080", "a.example", ""),
        (b"a:80", "a", ""), (b"a:8080", "a", ":8080"), (b"a:0443", "a", ":443"), (b"a:00000", "a", ":0"),
        (b"a:", "a", ""), (b"a.:", "a", ""), (b"[::1]:80", "[::1]", ""), (b"[0:0::1]:81", "[::1]", ":81"),
        (b"[::0.0.0.1]", "[::1]", ""), (b"[::1]", "[::1]", ""), (b"[::FF]:", "[::ff]", ""),
        (b"under_score-1", "under_score-1", ""), (b"127.0.0.1:65535", "127.0.0.1", ":65535"),
    ],
)  # fmt: skip
def test_authority(value: bytes, host: str, port: str) -> None:
    """In one spelling: a condition on the host must not hold for one spelling and not for another."""
    authority = check_authority(value)
    assert authority == host + port
    assert host_of(authority) == host


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" a",
        b"a b",
        b"a/b",
        b"a..b",
        b".a",
        b"a:65536",
        b"a:-1",
        b"a:x",
        b"u@a",
        b"[::1",
        b"[::1]x",
        b"[x]",
        b"[:::1]",
        b"[1]",
        b".",
        b"a.:x",
        b"[::1].",
        b"a..",
        b"a\n",
        b"a.\n",
    ],
)
def test_no_authority(value: bytes) -> None:
    with pytest.raises(BadRequest):
        check_authority(value)
