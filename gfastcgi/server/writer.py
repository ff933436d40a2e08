"""Writes answers to an HTTP/1 client: the head with its framing, then a body of any kind (RFC 9112 section 6).

Contract: an answer's end is never made up. One that breaks off raises `StreamError`, and the connection is cut, so that
it never looks whole. A body is closed, whatever happened to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import webob

from gfastcgi.errors import StreamClosed
from gfastcgi.http.response import LAST_CHUNK, close_body, encode_chunk, encode_head, has_no_content
from gfastcgi.net.sendfile import FileBody
from gfastcgi.net.streams import Stream

__all__ = ["ResponseWriter"]

# A file up to this size leaves together with its head, in one system call.
_JOIN = 65536
_BARE = ("204", "304")


class ResponseWriter:
    """Writes to one client. `date` gives the value of Date, `server_tag` that of Server."""

    __slots__ = ("_begun", "_date", "_server_tag", "_stream")

    def __init__(self, stream: Stream, date: Callable[[], bytes], server_tag: str) -> None:
        self._stream = stream
        self._date = date
        self._server_tag = server_tag
        self._begun: tuple[webob.Response, int] | None = None
        """What takes longer to send, until it is sent, and how many bytes the stream had taken before its content."""

    def __repr__(self) -> str:
        return f"<ResponseWriter to {self._stream!r}>"

    def write(
        self, response: webob.Response, *, method: str, version: str, keep: bool, server_tag: str = ""
    ) -> tuple[bool, int]:
        """Writes `response`; returns whether the connection may go on, and the bytes of content sent.

        Raises `StreamError` when it broke off.
        """
        body = response.app_iter
        tag = server_tag or self._server_tag
        status = response.status
        try:
            if method == "HEAD" or status[:3] in _BARE or status[0] == "1":
                return keep, self._send_bare(response, body, _connection(keep, version), tag, is_head=method == "HEAD")
            if isinstance(body, (list, tuple)):
                # Most answers go this way: what others do in steps is done here at once. They need no more work, and
                # are sent to those, too, who ended their own direction.
                self._stream.on_close = None
                content: bytes = body[0] if len(body) == 1 else b"".join(body)
                head = encode_head(
                    status, response.headerlist, length=len(content), is_chunked=False,
                    connection=b"" if keep and version == "1.1" else _connection(keep, version),
                    date=self._date(), server=tag,
                )  # fmt: skip
                if len(content) <= _JOIN:
                    self._stream.post(head + content)
                else:
                    self._begin(response, head)
                    self._stream.send_all(head + content)
                    self._begun = None
                return keep, len(content)
            if isinstance(body, FileBody):
                return keep, self._send_file(response, body, _connection(keep, version), tag)
            return self._send_stream(response, body, version, keep, tag)
        finally:
            close_body(body)

    def broken_off(self) -> tuple[int, list[tuple[str, str]], int] | None:
        """Status and fields of the answer that broke off, and about how many bytes of content left; None: none did."""
        if self._begun is None:
            return None
        response, base = self._begun
        sent = self._stream.taken - base
        return (response.status_int, response.headerlist, sent) if sent >= 0 else None

    def _begin(self, response: webob.Response, head: bytes) -> None:
        self._stream.settle()
        self._begun = response, self._stream.taken + len(head)

    def _head(
        self, response: webob.Response, connection: bytes, tag: str, length: int | None, *, is_chunked: bool = False
    ) -> bytes:
        return encode_head(
            response.status, response.headerlist, length=length, is_chunked=is_chunked, connection=connection,
            date=self._date(), server=tag,
        )  # fmt: skip

    def _send_bare(self, response: webob.Response, body: Any, connection: bytes, tag: str, *, is_head: bool) -> int:
        """A head alone; to HEAD it tells the length that GET would have had, where that is known."""
        self._stream.on_close = None
        length = _length(response, body) if is_head and not has_no_content(response.status_int) else None
        self._stream.post(self._head(response, connection, tag, length))
        return 0

    def _send_file(self, response: webob.Response, body: FileBody, connection: bytes, tag: str) -> int:
        self._stream.on_close = None
        head = self._head(response, connection, tag, body.length)
        small = body.small(_JOIN)
        if small is not None:
            self._stream.post(head + small)
        else:
            self._begin(response, head)
            self._stream.send_all(head)
            body.send_to(self._stream)
            self._begun = None
        return body.length

    def _send_stream(
        self, response: webob.Response, body: Iterable[bytes], version: str, keep: bool, tag: str
    ) -> tuple[bool, int]:
        """Pieces as they come: framed by their length where it is told, else in chunks, else by the end."""
        length = _length(response, body)
        is_chunked = length is None and version == "1.1"
        keep = keep and (is_chunked or length is not None)
        pending = self._head(response, _connection(keep, version), tag, length, is_chunked=is_chunked)
        self._begin(response, pending)
        sent = 0
        try:
            for piece in body:
                if length is not None:
                    piece = piece[: length - sent]
                sent += len(piece)
                # An empty piece says that nothing more is there yet: what is must not wait for it.
                data = pending + (encode_chunk(piece) if is_chunked and piece else piece)
                pending = b""
                if data:
                    self._stream.send_all(data)
        except BaseException:
            if length is None and not is_chunked:
                # It ends with the connection: an orderly end would make it look whole (RFC 9112 section 8).
                self._stream.reset_on_close()
            raise
        if length is not None and sent < length:
            if pending:
                self._stream.send_all(pending)
            raise StreamClosed(f"the answer broke off after {sent} of {length} bytes")
        if is_chunked or pending:
            self._stream.send_all(pending + (LAST_CHUNK if is_chunked else b""))
        self._begun = None
        return keep, sent


def _connection(keep: bool, version: str) -> bytes:
    """The value of Connection (RFC 9112 section 9.3)."""
    if keep:
        return b"keep-alive" if version == "1.0" else b""
    return b"close"


def _length(response: webob.Response, body: Any) -> int | None:
    """The length of the content, from what is known of it."""
    if isinstance(body, FileBody):
        return body.length
    if isinstance(body, (list, tuple)) and any(body):
        return sum(map(len, body))
    for name, value in response.headerlist:
        if name.lower() == "content-length" and value.isdigit():
            return int(value)
    return None
