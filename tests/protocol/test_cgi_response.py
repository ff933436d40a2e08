"""Heads of CGI responses: whole, byte by byte and with trailing bytes; what is refused, and what each kind is."""

from __future__ import annotations

import pytest

from gfastcgi.cgi.response import Head, parse_head
from gfastcgi.errors import BadCGIResponse


def parsed(data: bytes) -> Head:
    """The head of `data`, which comes byte by byte and at once, alone and with a body."""
    head = parse_head(data)
    assert head is not None
    assert head.body_start == len(data)
    for size in range(len(data)):
        assert parse_head(data[:size]) is None
        assert parse_head(data[: size + 1], searched=size) in (None, head)
    assert parse_head(data, searched=len(data) - 1) == head
    assert parse_head(data + b"body\n\nmore\r\n\r\n") == head
    return head


def refused(data: bytes) -> BadCGIResponse:
    """The error for `data`, which comes at once and byte by byte."""
    with pytest.raises(BadCGIResponse) as whole:
        parse_head(data)
    assert any(_is_refused(data[:size]) for size in range(1, len(data) + 1))
    assert whole.value.status_hint == 502
    return whole.value


def _is_refused(data: bytes, max_size: int = 65536) -> bool:
    try:
        parse_head(data, max_size=max_size)
    except BadCGIResponse:
        return True
    return False


def test_a_document() -> None:
    head = parsed(b"Content-Type: text/html; charset=UTF-8\r\nX-Powered-By:PHP\r\n\r\n")
    assert (head.status, head.reason, head.has_status, head.is_nph) == (200, "OK", False, False)
    assert head.fields == (("Content-Type", "text/html; charset=UTF-8"), ("X-Powered-By", "PHP"))
    assert (head.kind, head.location, head.content_length) == ("document", None, None)


@pytest.mark.parametrize("first", [b"\n", b"\r\n"])
@pytest.mark.parametrize("second", [b"\n", b"\r\n"])
@pytest.mark.parametrize("blank", [b"\n", b"\r\n"])
def test_line_ends_of_any_kind(first: bytes, second: bytes, blank: bytes) -> None:
    head = parsed(b"X-A: 1" + first + b"X-B: 2" + second + blank)
    assert head.fields == (("X-A", "1"), ("X-B", "2"))


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        (b"200 OK", 200, "OK"),
        (b"404", 404, "Not Found"),
        (b"404 Gone Fishing", 404, "Gone Fishing"),
        (b" 503\t Busy ", 503, "Busy"),
        (b"299", 299, ""),
        (b"599 caf\xe9", 599, "café"),
        (b"100 Continue", 100, "Continue"),
        (b"103 Early Hints", 103, "Early Hints"),
    ],
)
def test_status(value: bytes, status: int, reason: str) -> None:
    head = parsed(b"Status:" + value + b"\r\nX-A: b\r\n\r\n")
    assert (head.status, head.reason, head.has_status) == (status, reason, True)
    assert head.fields == (("X-A", "b"),)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"abc", b"99", b"1000", b"000", b"600", b"999", b"-200", b"+200", b"2 00", b"200x", b"20\xb2", b"2e2",
        b"0200",
    ],
)  # fmt: skip
def test_no_status(value: bytes) -> None:
    refused(b"Status: " + value + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 201 Created", 201, "Created"),
        (b"HTTP/1.0 404", 404, "Not Found"),
        (b"HTTP/1.1 204 ", 204, "No Content"),
    ],
)
def test_a_status_line(line: bytes, status: int, reason: str) -> None:
    head = parsed(line + b"\r\nX-A: b\r\n\r\n")
    assert (head.status, head.reason, head.is_nph, head.has_status) == (status, reason, True, True)
    assert head.fields == (("X-A", "b"),)
    assert parsed(line + b"\n\n").fields == ()


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2 200 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 abc", b"HTTP/1.1 99", b"HTTP/11 200 OK",
        b"HTTP/1.1  ,200",
    ],
)  # fmt: skip
def test_no_status_line(line: bytes) -> None:
    refused(line + b"\r\nContent-Type: a/b\r\n\r\n")


def test_a_status_named_twice() -> None:
    refused(b"Status: 404\r\nStatus: 404\r\n\r\n")
    refused(b"HTTP/1.1 200 OK\r\nstatus: 200\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status", "kind"),
    [
        (b"Location: /local?x=1", 302, "local-redirect"),
        (b"location: /local", 302, "local-redirect"),
        (b"Location: //elsewhere/", 302, "client-redirect"),
        (b"Location: http://a/", 302, "client-redirect"),
        (b"Location: relative", 302, "client-redirect"),
        (b"Location: /local\r\nStatus: 301", 301, "client-redirect"),
        (b"Location: /new\r\nStatus: 201 Created", 201, "document"),
        (b"Location: /x\r\nStatus: 200", 200, "document"),
        (b"HTTP/1.1 307 Go\r\nLocation: /x", 307, "client-redirect"),
    ],
)
def test_redirects(head: bytes, status: int, kind: str) -> None:
    found = parsed(head + b"\r\n\r\n")
    assert (found.status, found.kind) == (status, kind)
    assert found.location is not None
    assert any(name.lower() == "location" for name, _ in found.fields)


def test_ambiguous_redirects() -> None:
    refused(b"Location: /a\r\nLocation: /b\r\n\r\n")
    refused(b"Location: \r\n\r\n")
    assert parsed(b"Status: 302\r\nLocation:\r\n\r\n").location == ""


@pytest.mark.parametrize(
    "line",
    [
        b"garbage", b"X A: b", b"X-A : b", b" X-A: b", b"\tX-A: b", b": b", b"", b"X\x00A: b", b"X-\xe9: b", b"(x): b",
        b"X-A: a\rb", b"X-A: a\x00b", b"X-A: a\x1b[31m", b"X-A: a\x7f", b"X-A: \x0bb", b"X-A: a\r\r", b"X-A: a\r\n b",
    ],
)  # fmt: skip
def test_broken_fields(line: bytes) -> None:
    refused(line + b"\r\nContent-Type: text/plain\r\n\r\n")


def test_values_keep_tabs_and_high_bytes() -> None:
    head = parsed(b"X-A: \t a\tb\xa0\x85\xff \r\nX-Empty:\r\n\r\n")
    assert head.fields == (("X-A", "a\tb\xa0\x85\xff"), ("X-Empty", ""))


def test_repeated_fields_keep_their_order_and_spelling() -> None:
    head = parsed(b"Set-Cookie: a=1\nset-cookie: b=2\nSET-COOKIE: a=1\n\n")
    assert head.fields == (("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("SET-COOKIE", "a=1"))


@pytest.mark.parametrize("value", [b"0", b"5", b"007", b"9" * 18])
def test_content_length(value: bytes) -> None:
    assert parsed(b"Content-Length: " + value + b"\r\n\r\n").content_length == int(value)


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+4", b"4, 4", b"abc", b"0x4", b"0_4", b"4.0", b"\xb2", b"9" * 19, b"4 4", b"1e3"]
)
def test_no_content_length(value: bytes) -> None:
    refused(b"Content-Length: " + value + b"\r\n\r\n")


def test_framing_of_its_own() -> None:
    refused(b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n")
    refused(b"Content-Length: 4\r\ncontent-length: 9\r\n\r\n")
    for value in (b"chunked", b"gzip", b""):
        refused(b"Transfer-Encoding: " + value + b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"\n", b"\r\n", b"\r\n\r\nbody", b"\n\nbody", b"\nX-A: b\n\n"])
def test_an_empty_head(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\r\n"])
def test_the_largest_head(end: bytes) -> None:
    for length in (99, 100, 101, 102):
        line = b"X-A: " + b"h" * (length - 5)
        data = line + end
        fits = len(data[: data.index(b"\n")]) <= 100
        for sizes in ([len(data)], range(1, len(data) + 1)):
            if fits:
                assert [parse_head(data[:size], max_size=100) for size in sizes][-1] is not None
            else:
                assert any(_is_refused(data[:size], max_size=100) for size in sizes)


def test_a_head_without_an_end() -> None:
    with pytest.raises(BadCGIResponse) as error:
        parse_head(b"h" * 70_000)
    assert error.value.cause == "header_too_big"


def test_the_most_fields() -> None:
    assert parse_head(b"X-A: b\n" * 100 + b"\n") is not None
    with pytest.raises(BadCGIResponse) as too_many:
        parse_head(b"X-A: b\n" * 101 + b"\n")
    assert too_many.value.cause == "header_too_big"
    assert parse_head(b"HTTP/1.1 200 OK\n" + b"X-A: b\n" * 100 + b"\n") is not None


def test_many_different_names_are_not_kept_for_ever() -> None:
    from gfastcgi.cgi import response

    for number in range(3000):
        head = parse_head(b"X-%d: v\n\n" % number)
        assert head is not None
        assert head.fields == ((f"X-{number}", "v"),)
    assert len(response._names) <= 512
    assert len(response._heads) <= 256
