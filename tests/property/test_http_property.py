"""HTTP/1 requests beside h11: what both accept they read alike, and no split changes what is read."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h11
from hypothesis import event, given
from hypothesis import strategies as st

from gfastcgi.errors import RemoteProtocolError
from gfastcgi.http.request import END, RequestHead, RequestParser
from gfastcgi.http.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = tuple[str, bytes, str, list[tuple[bytes, bytes]], bytes]

METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"get"])
TARGETS = st.sampled_from([b"/", b"/a/b?c=d&e", b"/%41%c3%a9", b"http://b.example/x", b"*", b"x", b"/\xe9", b"/a b"])
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"])
VALUES = st.one_of(
    st.sampled_from([b"", b"a", b"chunked", b"close", b"keep-alive", b"100-continue", b"3", b"0", b"a, b", b"\t x \t"]),
    st.binary(max_size=4),
)
NAMES = st.one_of(
    st.sampled_from([b"X-A", b"x-a", b"Connection", b"Accept", b"Content-Type", b"Expect", b"Host", b"Content-Length"]),
    st.binary(min_size=1, max_size=3),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=3)
STRAY = [b"", b"\r", b"\n", b" ", b":", b"\0", b"0", b";"]
PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request of the right form, whose parts may be wrong."""
    fields = [(b"Host", b"Some.Example"), *draw(FIELDS)]
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    pieces = draw(PIECES)
    body = b"".join(pieces)
    if framing == "length":
        fields.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        fields.append((b"Transfer-Encoding", b"chunked"))
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        body = b""
    line = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    head = b"\r\n".join([line, *(name + b": " + value for name, value in fields), b"", b""])
    return head + body


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Messages with some bytes changed, taken out or put in."""
    data = bytearray(b"".join(draw(st.lists(messages(), min_size=1, max_size=2))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from(STRAY))
    return bytes(data)


def by_us(pieces: Iterable[bytes]) -> tuple[list[Message], str]:
    parser, found, body = RequestParser(), [], b""
    head: RequestHead | None = None
    try:
        for piece in pieces:
            parser.feed(piece)
            while (got := parser.next_event()) is not None:
                if isinstance(got, RequestHead):
                    head, body = got, b""
                if got == END or (head is got and got.content_length == 0):
                    assert head is not None
                    found.append((head.method, head.target.uri, head.version, head.fields, body))
                    head = None
                elif isinstance(got, bytes):
                    body += got
    except RemoteProtocolError as error:
        return found, f"{type(error).__name__}: {error}"
    return found, "half" if head or not parser.is_idle else ""


def by_h11(data: bytes) -> list[Message]:
    """The whole messages that h11 reads before it stops."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[Message] = []
    request: h11.Request | None = None
    body = b""
    while True:
        try:
            got: Any = connection.next_event()
        except h11.RemoteProtocolError:
            return found
        if isinstance(got, h11.Request):
            request, body = got, b""
        elif isinstance(got, h11.Data):
            body += bytes(got.data)
        elif isinstance(got, h11.EndOfMessage):
            assert request is not None
            fields = [(bytes(name), bytes(value)) for name, value in request.headers]
            found.append((request.method.decode(), bytes(request.target), request.http_version.decode(), fields, body))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return found
            connection.start_next_cycle()
        else:
            return found


def comparable(message: Message) -> Message:
    """`message` with the target in our spelling and without the Host, which is where the target says."""
    method, target, version, fields, body = message
    return method, parse_target(target).uri, version, [field for field in fields if field[0] != b"host"], body


@given(mutated())
def test_as_h11(data: bytes) -> None:
    ours, error = by_us([data])
    theirs = by_h11(data)
    event(f"{len(ours)} messages, {'an error' if error else 'no error'}")
    for mine, other in zip(ours, theirs, strict=False):
        assert comparable(mine) == comparable(other)
    if not error:
        assert len(ours) >= len(theirs)  # h11 stops where a connection ends


@given(mutated(), st.lists(st.integers(0, 400), max_size=6))
def test_any_split(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges) if end > start]
    whole = by_us([data])
    assert by_us(pieces)[0] == whole[0]
    assert bool(by_us(pieces)[1]) == bool(whole[1])
    assert by_us(data[at : at + 1] for at in range(len(data)))[0] == whole[0]
