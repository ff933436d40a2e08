"""What answers a `Request` as a WSGI application, so that any WSGI server on gevent can host it.

Contract: the request's path is made canonical once, and its body is read as it is asked for; an answer that breaks off
raises, so that the server cuts the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any

import webob

from gfastcgi.errors import ClientClosed, RemoteProtocolError, StreamError
from gfastcgi.http.response import close_body, has_no_content
from gfastcgi.net.sendfile import FileBody
from gfastcgi.pages import error_page
from gfastcgi.request import Log, Request
from gfastcgi.server.body import ClientBody
from gfastcgi.wsgi.environ import request_of

__all__ = ["StartResponse", "host", "send"]

StartResponse = Callable[..., Any]

_PIECE = 65536
# RFC 9110 section 7.6.1: between the server and its client.
_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def host(
    environ: dict[str, Any],
    start_response: StartResponse,
    handler: Callable[[Request], webob.Response],
    refuse: Callable[[RemoteProtocolError], webob.Response],
) -> Iterable[bytes]:
    """Answers a WSGI call by `handler`, or by `refuse` where it brings no sound request."""
    try:
        request = request_of(environ, body_of(environ))
    except RemoteProtocolError as error:
        return send(refuse(error), environ, start_response)
    try:
        response = handler(request)
    except StreamError:
        # The client left inside its body: nobody reads this, but the server wants an answer.
        response = error_page(400, cause="client_closed", request_id=request.id)
    body = send(response, environ, start_response)
    return body if request.log is None else _Logged(body, request, request.log, response)


def body_of(environ: dict[str, Any]) -> ClientBody:
    """The body of a WSGI request. One of unknown length is read where the server ends it (`wsgi.input_terminated`)."""
    text = environ.get("CONTENT_LENGTH") or ""
    is_chunked = not text and bool(environ.get("wsgi.input_terminated")) and "HTTP_TRANSFER_ENCODING" in environ
    length = None if is_chunked else int(text) if text.isascii() and text.isdigit() else 0
    read, left = environ["wsgi.input"].read, length

    def read_piece() -> bytes:
        nonlocal left
        if left == 0:
            return b""
        try:
            piece: bytes = read(_PIECE if left is None else min(left, _PIECE))
        except OSError as error:
            raise ClientClosed(f"the client left inside its body: {error}") from error
        if left is not None:
            if not piece:
                raise ClientClosed("the client left inside its body")
            left -= len(piece)
        return piece

    return ClientBody(length, read_piece)


def send(response: webob.Response, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """`response` as the answer to a WSGI call, without what concerns one connection alone (PEP 3333)."""
    body, status = response.app_iter, response.status
    fields = end_to_end(response.headerlist)
    is_bare = environ["REQUEST_METHOD"] == "HEAD"
    if has_no_content(int(status[:3])):
        is_bare = True
        fields = [field for field in fields if field[0].lower() != "content-length"]
    elif isinstance(body, (list, FileBody)) and not (is_bare and not body):
        length = body.length if isinstance(body, FileBody) else sum(map(len, body))
        fields = [field for field in fields if field[0].lower() != "content-length"]
        fields.append(("Content-Length", str(length)))
    start_response(status, fields)
    if is_bare:
        close_body(body)
        return []
    return body


def end_to_end(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """`fields` without Connection, what it names, and others like it."""
    fields = list(fields)
    named = ",".join(value for name, value in fields if name.lower() == "connection").lower()
    dropped = _HOP_BY_HOP.union(option.strip(" \t") for option in named.split(","))
    return [field for field in fields if field[0].lower() not in dropped]


class _Logged:
    """A body behind whose end the access log gets its line."""

    def __init__(self, body: Iterable[bytes], request: Request, log: Log, response: webob.Response) -> None:
        self._body = body
        self._request = request
        self._log = log
        self._response = response
        self._sent = 0
        self._is_whole = True

    def __iter__(self) -> Iterator[bytes]:
        self._is_whole = False
        for piece in self._body:
            yield piece
            self._sent += len(piece)
        self._is_whole = True

    def close(self) -> None:
        """Closes the body."""
        close_body(self._body)
        request, response = self._request, self._response
        seconds = monotonic() - request.started
        self._log(request, response.status_int, response.headerlist, self._sent, seconds, self._is_whole)
