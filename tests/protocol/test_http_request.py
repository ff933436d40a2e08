"""HTTP/1 requests on the wire: each stream whole, byte by byte and with more behind it; the refused ones, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gfastcgi.errors import (
    BadRequest,
    ExpectationFailed,
    FieldsTooLarge,
    NotImplementedByUs,
    RemoteProtocolError,
    TargetTooLong,
    VersionNotSupported,
)
from gfastcgi.http.request import END, Limits, RequestHead, RequestParser

if TYPE_CHECKING:
    from collections.abc import Iterable

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data/http1/bad_requests.json").read_text())
NEXT = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n"


def read(pieces: Iterable[bytes], limits: Limits = Limits()) -> tuple[list[Any], RemoteProtocolError | None]:  # noqa: B008
    """Heads with the whole body behind each (None: it did not end), and the error that stopped the stream."""
    parser, found = RequestParser(limits), []
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            while (event := parser.next_event()) is not None:
                if isinstance(event, RequestHead):
                    found.append([event, b"" if event.content_length == 0 else None])
                    body = b""
                elif event == END:
                    found[-1][1] = body
                else:
                    body += event
    except RemoteProtocolError as error:
        with pytest.raises(type(error)):  # an error is for ever
            parser.next_event()
        return found, error
    return found, None


def split(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def plain(found: list[Any]) -> list[Any]:
    return [
        (head.method, head.target.uri, head.version, head.fields, head.authority, head.content_length, head.keep_alive,
         head.expects_continue, body)
        for head, body in found
    ]  # fmt: skip


GOOD = {
    "get": (b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", b"/a?b", b"")),
    "leading empty lines": (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", b"/", b"")),
    "length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ("POST", b"/", b"hello")),
    "chunked": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n12\r\n56\r\n0\r\n\r\n",
        ("PUT", b"/", b"hello12\r\n56"),
    ),
    "trailers": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
        ("PUT", b"/", b"x"),
    ),
    "an upgrade is ignored": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ("GET", b"/", b"")
    ),
    "an upgrade with a body": (
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        ("POST", b"/", b"abc"),
    ),
    "options": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ("OPTIONS", b"*", b"")),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_any_split_gives_the_same(name: str) -> None:
    data, (method, uri, body) = GOOD[name]
    whole, error = read([data])
    assert error is None
    assert [(head.method, head.target.uri, got) for head, got in whole] == [(method, uri, body)]
    assert plain(read(split(data))[0]) == plain(whole)
    for pieces in ([data + NEXT], split(data + NEXT), [data, NEXT]):
        found, error = read(pieces)
        assert error is None
        assert plain(found[:1]) == plain(whole)
        assert [(head.target.uri, got) for head, got in found[1:]] == [(b"/next", b"")]


def test_fields_are_lower_case_and_stripped_in_order() -> None:
    ((head, _),) = read([b"GET / HTTP/1.0\r\nX-B: \t1 2 \t\r\nx-a:\r\nX-B: \xff\r\n\r\n"])[0]
    assert head.fields == [(b"x-b", b"1 2"), (b"x-a", b""), (b"x-b", b"\xff")]
    assert (head.authority, head.content_length, head.keep_alive) == ("", 0, False)


@pytest.mark.parametrize(
    ("line", "field", "authority"),
    [
        (b"GET / HTTP/1.1", b"Example.ORG:8080", b"example.org:8080"),
        (b"GET / HTTP/1.1", b"127.0.0.1", b"127.0.0.1"),
        (b"GET / HTTP/1.1", b"private.example.:080", b"private.example"),
        (b"GET http://private.example./ HTTP/1.1", b"near", b"private.example"),
        (b"GET http://Far.example:8/x HTTP/1.1", b"near", b"far.example:8"),
    ],
)
def test_one_spelling_of_the_host(line: bytes, field: bytes, authority: bytes) -> None:
    """RFC 9112 section 3.2.2: the target's authority wins; whoever reads Host reads the same."""
    ((head, _),) = read([line + b"\r\nHost: " + field + b"\r\n\r\n"])[0]
    assert head.authority == authority.decode()
    assert head.fields == [(b"host", authority)]


def test_http_1_0_without_a_host_has_none() -> None:
    ((head, _),) = read([b"GET / HTTP/1.0\r\n\r\n"])[0]
    assert (head.fields, head.authority) == ([], "")


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("1.1", "", True), ("1.1", "close", False), ("1.1", "x, Close", False), ("1.0", "", False),
        ("1.0", "Keep-Alive", True),
    ],
)  # fmt: skip
def test_keep_alive(version: str, connection: str, keep: bool) -> None:
    field = f"Connection: {connection}\r\n" if connection else ""
    ((head, _),) = read([f"GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n".encode()])[0]
    assert head.keep_alive is keep


@pytest.mark.parametrize(("version", "length", "expects"), [("1.1", 3, True), ("1.1", 0, False), ("1.0", 3, False)])
def test_expect(version: str, length: int, expects: bool) -> None:
    head = f"PUT / HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
    assert read([head.encode()])[0][0][0].expects_continue is expects


def request(line: str = "GET / HTTP/1.1", *fields: str, body: str = "") -> bytes:
    return "\r\n".join([line, "Host: a", *fields, "", body]).encode("latin-1")


LIMITS = Limits(target=20, field=40, fields=80, count=4, trailers=20, trailer_count=2)
REFUSED = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", BadRequest),
    "the star": (request("GET * HTTP/1.1"), BadRequest),
    "connect": (request("CONNECT a:80 HTTP/1.1"), NotImplementedByUs),
    "trace": (request("TRACE / HTTP/1.1"), NotImplementedByUs),
    "an unknown method": (request("BREW / HTTP/1.1"), NotImplementedByUs),
    "two spaces": (request("GET  / HTTP/1.1"), BadRequest),
    "0.9": (request("GET / HTTP/0.9"), VersionNotSupported),
    "a long target": (request("GET /" + "x" * 20 + " HTTP/1.1"), TargetTooLong),
    "a large field": (request("GET / HTTP/1.1", "X: " + "x" * 40), FieldsTooLarge),
    "large fields": (request("GET / HTTP/1.1", "X: " + "x" * 39, "Y: " + "x" * 39), FieldsTooLarge),
    "many fields": (request("GET / HTTP/1.1", "X: 1", "X: 2", "X: 3", "X: 4"), FieldsTooLarge),
    "an expectation": (request("PUT / HTTP/1.1", "Expect: x", "Content-Length: 0"), ExpectationFailed),
    "a coding": (request("PUT / HTTP/1.1", "Transfer-Encoding: gzip, chunked"), NotImplementedByUs),
    "two lengths": (request("PUT / HTTP/1.1", "Content-Length: 1", "Content-Length: 1", body="x"), BadRequest),
    "a long length": (request("PUT / HTTP/1.1", "Content-Length: " + "0" * 19), BadRequest),
    "a chunked upgrade": (
        request("PUT / HTTP/1.1", "Transfer-Encoding: chunked", "Connection: upgrade", "Upgrade: x"), BadRequest
    ),
    "a trailer that frames": (
        request("PUT / HTTP/1.1", "Transfer-Encoding: chunked", body="0\r\nContent-Length: 1\r\n\r\n"), BadRequest
    ),
    "large trailers": (
        request("PUT / HTTP/1.1", "Transfer-Encoding: chunked", body="0\r\nX: " + "x" * 20 + "\r\n\r\n"), FieldsTooLarge
    ),
    "many trailers": (
        request("PUT / HTTP/1.1", "Transfer-Encoding: chunked", body="0\r\nX: 1\r\nX: 2\r\nX:\r\n\r\n"), FieldsTooLarge
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, kind = REFUSED[name]
    for pieces in ([data], split(data), [data + NEXT]):
        found, error = read(pieces, LIMITS)
        assert type(error) is kind, (error, plain(found))
        assert all(body is None for _, body in found)


def test_what_came_before_an_error_is_served() -> None:
    found, error = read([NEXT + b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"])
    assert [body for _, body in found] == [b""]
    assert isinstance(error, BadRequest)


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_a_chunk_extension_has_an_end(size: int) -> None:
    data = request("PUT / HTTP/1.1", "Transfer-Encoding: chunked", body="5;" + "x" * 20_000 + "\r\nhello\r\n0\r\n\r\n")
    assert isinstance(read(data[at : at + size] for at in range(0, len(data), size))[1], BadRequest)


def test_a_head_without_an_end() -> None:
    parser = RequestParser(LIMITS)
    parser.feed(b"GET / HTTP/1.1\r\n")
    for _ in range(LIMITS.target + LIMITS.fields):
        parser.feed(b"X")
    with pytest.raises(FieldsTooLarge):
        parser.next_event()


def test_a_head_that_comes_again_means_the_same_again() -> None:
    parser = RequestParser()
    heads = []
    for data in (NEXT, NEXT, NEXT.replace(b"next", b"last"), NEXT):
        parser.feed(data)
        heads.append(parser.next_event())
        assert parser.next_event() is None
    assert [head.target.uri for head in heads if isinstance(head, RequestHead)] == [
        b"/next",
        b"/next",
        b"/last",
        b"/next",
    ]
    assert plain([[heads[0], b""]]) == plain([[heads[1], b""]])


@pytest.mark.parametrize("split_at", [0, 1, len(NEXT) - 1])
def test_the_bytes_of_a_known_head_inside_a_body_are_a_body(split_at: int) -> None:
    post = b"POST / HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n" % (len(NEXT) + split_at)
    found, error = read([NEXT, post + b"x" * split_at, NEXT, NEXT])
    assert error is None
    assert [(head.method, body) for head, body in found] == [
        ("GET", b""), ("POST", b"x" * split_at + NEXT), ("GET", b"")
    ]  # fmt: skip


def test_the_bytes_of_a_known_head_inside_another_belong_to_that() -> None:
    found, error = read([NEXT, b"GET /half HTTP/1.1\r\nX: ", NEXT])
    assert error is None
    assert [(head.target.uri, head.fields[0]) for head, _ in found] == [
        (b"/next", (b"host", b"n")), (b"/half", (b"x", b"GET /next HTTP/1.1"))
    ]  # fmt: skip


def test_idle_is_between_messages_alone() -> None:
    parser = RequestParser()
    assert parser.is_idle
    for at in range(len(NEXT)):
        parser.feed(NEXT[at : at + 1])
        assert not parser.is_idle
    assert isinstance(parser.next_event(), RequestHead)
    assert parser.is_idle


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_bad_requests(case: dict[str, Any]) -> None:
    """What must not reach a backend is refused here, or is the gateway's to refuse by its path or its limit."""
    send = case["send"]
    data = b"".join((piece if isinstance(piece, str) else piece[0] * piece[1]).encode("latin-1") for piece in send)
    found, error = read([data])
    again, same_error = read(data[at : at + 7] for at in range(0, len(data), 7))
    assert plain(again) == plain(found)
    assert type(same_error) is type(error)
    statuses = case["expected"]["status"]
    if error is not None:
        assert error.status_hint in statuses
    elif not found:
        assert 408 in statuses or "close" in statuses  # it waits for the rest
    else:
        assert not {400, 501, 505}.issuperset(statuses), plain(found)
