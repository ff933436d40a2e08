"""Heads of HTTP/1 responses, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest

from gfastcgi.errors import LocalProtocolError
from gfastcgi.http.response import encode_chunk, encode_head, encode_interim, has_no_content

PLAIN = {"length": None, "is_chunked": False, "connection": b"", "date": b"now", "server": "us/1"}


def encode(*fields: tuple[str, str], status: str = "200 OK", **changed: Any) -> bytes:
    return encode_head(status, list(fields), **{**PLAIN, **changed})


@pytest.mark.parametrize(
    ("changed", "tail"),
    [
        ({}, b""),
        ({"length": 0}, b"Content-Length: 0\r\n"),
        ({"is_chunked": True}, b"Transfer-Encoding: chunked\r\n"),
        ({"length": 5, "connection": b"close"}, b"Content-Length: 5\r\nConnection: close\r\n"),
    ],
)
def test_framing(changed: dict[str, Any], tail: bytes) -> None:
    expected = b"HTTP/1.1 200 OK\r\nX-A: \xe9\r\nServer: us/1\r\nDate: now\r\n" + tail + b"\r\n"
    assert encode(("X-A", "é"), **changed) == expected


def test_what_a_handler_says_of_framing_counts_for_nothing() -> None:
    fields = [("Content-Length", "9"), ("Transfer-Encoding", "gzip"), ("keep-alive", "timeout=9"), ("TE", "x")]
    fields += [("Trailer", "x"), ("UPGRADE", "h2c"), ("Proxy-Connection", "x")]
    assert encode(*fields) == encode()


def test_date_and_server_of_a_handler_stay() -> None:
    fields = (("date", "then"), ("SERVER", "own"))
    assert encode(*fields) == b"HTTP/1.1 200 OK\r\ndate: then\r\nSERVER: own\r\n\r\n"
    assert b"Server" not in encode(server="")


def test_a_head_that_comes_again_is_the_same_but_for_its_own_words() -> None:
    first = encode(("X-A", "1"), length=3)
    assert encode(("X-A", "1"), length=3) == first
    assert encode(("X-A", "1"), length=3, date=b"later") == first.replace(b"now", b"later")
    assert encode(("X-A", "2"), length=4) == first.replace(b": 1", b": 2").replace(b": 3", b": 4")
    assert encode(("X-A", "1"), length=3, server="us/2") == first.replace(b"us/1", b"us/2")


@pytest.mark.parametrize("options", [["close, X-Hop"], ["x-HOP ,\tclose"], ["close", ",X-Hop,"]])
def test_fields_that_connection_names(options: list[str]) -> None:
    """RFC 9110 section 7.6.1: they go no further, nor does Connection."""
    fields = [("X-Hop", "1"), *[("Connection", option) for option in options], ("X-End", "2"), ("x-hop", "3")]
    assert encode(*fields, connection=b"close") == encode(("X-End", "2"), connection=b"close")
    early = [("Link", "</a>"), *fields]
    assert encode_interim(103, "Early Hints", early) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-End: 2\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nb", "a\nX: b", "a\rb", "a\0"])
@pytest.mark.parametrize("where", ["value", "name", "status"])
def test_no_head_is_split(value: str, where: str) -> None:
    field = ("X", value) if where == "value" else (value, "x")
    with pytest.raises(LocalProtocolError):
        encode(*([] if where == "status" else [field]), status=value if where == "status" else "200 OK")
    with pytest.raises(LocalProtocolError):
        encode_interim(103, value if where == "status" else "", [] if where == "status" else [field])


def test_chunk_and_no_content() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert [status for status in (100, 103, 200, 204, 205, 304, 404) if has_no_content(status)] == [100, 103, 204, 304]
