"""What a responder says, as the answer to the client.

Contract: an answer that breaks off never looks whole. What the backend says to its gateway alone (X-Sendfile,
X-Accel-*) is done here, and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import webob

from gfastcgi.cgi.response import COMMANDS, Head
from gfastcgi.client import Exchange
from gfastcgi.errors import BackendError, ProtocolError, StreamClosed
from gfastcgi.files import apply_x_accel_redirect, apply_x_sendfile
from gfastcgi.request import Request
from gfastcgi.server.body import spool
from gfastcgi.site import Site

__all__ = ["SCRIPT_UNKNOWN", "hide_commands", "log_stderr", "make_answer", "without_commands"]

log = logging.getLogger("gfastcgi")

SCRIPT_UNKNOWN = b"Primary script unknown"
"""What php-fpm says on STDERR beside a 404 when the script is not where it looks."""

_X = ("X-", "x-")


def make_answer(
    request: Request, site: Site, exchange: Exchange, head: Head, failed: Callable[[str], None]
) -> webob.Response:
    """The responder's answer as a response; what it says to the gateway alone ends here.

    `failed` is told the cause when the answer breaks off after its head.
    """
    pieces = exchange.take_whole()
    fields = [*head.fields]
    for_us: list[tuple[str, str]] = []
    for field in fields:
        if field[0][:2] in _X and _is_for_us(field[0]):
            for_us += (field,)
    body: Iterable[bytes]
    if pieces is None:
        body = _Stream(request, exchange, failed)
        if not site.settings.stream_response_body and not _is_urgent(for_us):
            body = spooled = spool(iter(exchange), site.upload_dir)
            _log_app_status(request, exchange)
            if head.content_length is None and request.method != "HEAD":
                fields.append(("Content-Length", str(spooled.length)))
    else:
        body = pieces
        if exchange.app_status:
            _log_app_status(request, exchange)
        if head.content_length is not None and request.method != "HEAD":
            body = _fit(pieces, head.content_length)
    # None is WebOb's "200 OK", without parsing it.
    status = None if head.status == 200 and head.reason == "OK" else f"{head.status} {head.reason}"
    response = webob.Response(status=status, headerlist=fields, app_iter=body)
    if not for_us:
        return response
    assert exchange.host is not None
    answer = apply_x_sendfile(request, response, exchange.host, site.settings)
    if answer is response:
        answer = apply_x_accel_redirect(request, response, exchange.host, site.settings)
    return hide_commands(answer)


def hide_commands(answer: webob.Response) -> webob.Response:
    """`answer` without the fields by which its maker speaks to the gateway."""
    answer.headerlist = without_commands(answer.headerlist)
    return answer


def without_commands(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """`fields` less those by which a program speaks to the gateway."""
    return [field for field in fields if not _is_for_us(field[0])]


def _is_for_us(name: str) -> bool:
    """True for the fields by which a backend speaks to its gateway: they never reach a client."""
    return name.lower().startswith(COMMANDS)


def _is_urgent(for_us: list[tuple[str, str]]) -> bool:
    """Whether the backend wants its answer sent as it comes, whatever `server.stream-response-body` says (nginx)."""
    return any(name.lower() == "x-accel-buffering" and value.lower() == "no" for name, value in for_us)


def _fit(pieces: list[bytes], length: int) -> list[bytes] | Iterator[bytes]:
    """The body cut to the length that was promised; one that is too short stays short for the client to see."""
    body = b"".join(pieces)
    return [body[:length]] if len(body) >= length else iter(pieces)


class _Stream:
    """The body as it comes. When it breaks off the client's connection does, too: it must not look whole."""

    def __init__(self, request: Request, exchange: Exchange, failed: Callable[[str], None]) -> None:
        self._request = request
        self._exchange = exchange
        self._failed = failed
        self._is_under_way = False

    def __repr__(self) -> str:
        return f"<Stream of {self._exchange!r}>"

    def __iter__(self) -> Iterator[bytes]:
        self._is_under_way = True
        try:
            yield from self._exchange
        except (BackendError, ProtocolError) as error:
            self._is_under_way = False
            self._failed(error.cause)
            log.error("request %s: the answer broke off: %s (%s)", self._request.id, error, error.cause)
            raise StreamClosed(str(error)) from error
        self._is_under_way = False
        _log_app_status(self._request, self._exchange)

    def close(self) -> None:
        """Gives the backend back, also when nobody wants the body."""
        if self._is_under_way:
            self._is_under_way = False
            self._failed("client_closed")
        self._exchange.close()


def _log_app_status(request: Request, exchange: Exchange) -> None:
    """A responder's app_status is what its exit status would be (FastCGI 1.0 section 5.5): the answer stands."""
    if exchange.app_status:
        log.warning("request %s: the responder's status was %d (app_status)", request.id, exchange.app_status)


def log_stderr(request: Request, data: bytes, filename: str = "") -> None:
    """What a backend said on STDERR, line by line, with the request's id."""
    tried = f" (tried {filename}; script_unknown)" if SCRIPT_UNKNOWN in data else ""
    for line in data.decode("utf-8", "backslashreplace").splitlines():
        log.error("request %s: FastCGI-stderr: %s%s", request.id, line, tried)
