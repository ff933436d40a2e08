"""Answers on the wire: their framing for each kind of body, and what becomes of the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import webob

from gfastcgi.errors import LocalProtocolError, StreamClosed
from gfastcgi.net.beneath import open_beneath
from gfastcgi.net.sendfile import FileBody
from gfastcgi.server.writer import ResponseWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Wire:
    """A stream that keeps what was sent, call by call."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_all(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    post = send_all

    def settle(self) -> None:
        pass

    @property
    def taken(self) -> int:
        return sum(map(len, self.sent))

    @property
    def head(self) -> dict[str, str]:
        lines = b"".join(self.sent).partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return {"": lines[0], **dict(line.split(": ", 1) for line in lines[1:])}

    @property
    def body(self) -> bytes:
        return b"".join(self.sent).partition(b"\r\n\r\n")[2]


class Pieces:
    """A body that comes piece by piece and knows whether it was closed."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1


def write(
    body: Any, *fields: tuple[str, str], wire: Wire | None = None, status: str = "200 OK", method: str = "GET",
    version: str = "1.1", keep: bool = True,
) -> tuple[Wire, bool, int]:  # fmt: skip
    wire = wire or Wire()
    writer = ResponseWriter(wire, lambda: b"now", "us/1")  # type: ignore[arg-type]
    response = webob.Response(status=status, headerlist=list(fields), app_iter=body)
    return wire, *writer.write(response, method=method, version=version, keep=keep)


@pytest.mark.parametrize(
    ("version", "keep", "connection"),
    [("1.1", True, None), ("1.1", False, "close"), ("1.0", True, "keep-alive"), ("1.0", False, "close")],
)
def test_whole(version: str, keep: bool, connection: str | None) -> None:
    wire, kept, sent = write([b"ab", b"c"], ("Content-Length", "9"), version=version, keep=keep)
    assert (kept, sent, len(wire.sent)) == (keep, 3, 1)
    assert wire.head["Content-Length"] == "3"
    assert wire.head.get("Connection") == connection
    assert wire.body == b"abc"


def test_stream_with_a_length() -> None:
    body = Pieces(b"ab", b"", b"cd", b"surplus")
    wire, kept, sent = write(body, ("content-length", "4"))
    assert (wire.body, kept, sent, body.closed) == (b"abcd", True, 4, 1)
    assert "Transfer-Encoding" not in wire.head


def test_stream_in_chunks() -> None:
    wire, kept, sent = write(Pieces(b"", b"ab", b"", b"c" * 20))
    assert wire.head["Transfer-Encoding"] == "chunked"
    assert wire.body == b"2\r\nab\r\n14\r\n" + b"c" * 20 + b"\r\n0\r\n\r\n"
    assert (kept, sent) == (True, 22)
    assert wire.sent[0].endswith(b"\r\n\r\n"), "the head waits for the body"
    assert len(wire.sent) == 4


def test_stream_to_http_1_0_ends_with_its_connection() -> None:
    wire, kept, _ = write(Pieces(b"ab", b"c"), version="1.0")
    assert (wire.body, kept, wire.head["Connection"]) == (b"abc", False, "close")
    assert "Transfer-Encoding" not in wire.head


@pytest.mark.parametrize(
    ("fields", "pieces"),
    [
        ((("Content-Length", "9"),), (b"ab",)),
        ((("Content-Length", "9"),), ()),
        ((("Content-Length", "9"),), (b"ab", StreamClosed("x"))),
        ((), (b"ab", StreamClosed("x"))),
    ],
)
def test_an_answer_that_breaks_off_never_looks_whole(fields: tuple[Any, ...], pieces: tuple[Any, ...]) -> None:
    body, wire = Pieces(*pieces), Wire()
    with pytest.raises(StreamClosed):
        write(body, *fields, wire=wire)
    assert wire.head[""] == "HTTP/1.1 200 OK"
    assert wire.body in (b"", b"ab", b"2\r\nab\r\n")
    assert body.closed == 1


@pytest.mark.parametrize(
    ("fields", "pieces", "told"),
    [
        ((("Content-Length", "9"),), (b"ab", b"", b"c", StreamClosed("x")), 3),
        ((("Content-Length", "9"),), (b"ab",), 2),
        ((), (b"ab", StreamClosed("x")), len("2\r\nab\r\n")),
        ((), (StreamClosed("x"),), None),
    ],
)
def test_what_left_of_an_answer_that_broke_off(fields: Any, pieces: Any, told: int | None) -> None:
    """Nothing before its head is sent: that the client has seen no status."""
    writer = ResponseWriter(Wire(), lambda: b"now", "us/1")  # type: ignore[arg-type]
    whole = webob.Response(status=404, app_iter=Pieces(b"whole"))
    assert writer.broken_off() is None
    writer.write(whole, method="GET", version="1.1", keep=True)
    assert writer.broken_off() is None
    response = webob.Response(status=206, headerlist=list(fields), app_iter=Pieces(*pieces))
    with pytest.raises(StreamClosed):
        writer.write(response, method="GET", version="1.1", keep=True)
    assert writer.broken_off() == (None if told is None else (206, list(fields), told))


@pytest.mark.parametrize(("status", "length"), [("200 OK", "7"), ("204 No Content", None), ("304 Not Modified", None)])
@pytest.mark.parametrize("kind", ["list", "stream"])
def test_head_and_answers_without_content(status: str, length: str | None, kind: str) -> None:
    body: Any = [b"content"] if kind == "list" else Pieces(b"content")
    wire, kept, sent = write(body, ("Content-Length", "7"), status=status, method="HEAD")
    assert (wire.body, kept, sent, wire.head.get("Content-Length")) == (b"", True, 0, length)
    assert "Transfer-Encoding" not in wire.head
    if length is None:
        assert write([b"content"], status=status)[0].body == b""
    if kind == "stream":
        assert body.closed == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_small_file_leaves_with_its_head(tmp_path: Path, method: str) -> None:
    (tmp_path / "x").write_bytes(b"content")
    body = FileBody([(open_beneath(str(tmp_path), "x"), 1, 5)])
    wire, kept, sent = write(body, method=method)
    assert (wire.head["Content-Length"], kept, len(wire.sent)) == ("4", True, 1)
    assert (wire.body, sent) == ((b"onte", 4) if method == "GET" else (b"", 0))


def test_a_field_that_would_split_the_head_sends_nothing() -> None:
    body, wire = Pieces(b"x"), Wire()
    with pytest.raises(LocalProtocolError):
        write(body, ("X", "a\r\nb: c"), wire=wire)
    assert (wire.sent, body.closed) == ([], 1)
