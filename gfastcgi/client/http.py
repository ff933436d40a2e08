"""One HTTP request at a time to one service, over connections that are kept: what forward-auth asks with.

Contract: an answer is whole or it is an error: cut short, broken, larger than `largest` or later than its time. No
redirect is followed, no cookie kept. Connections, TLS (verified) and parsing (llhttp) are geventhttpclient's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import gevent
from gevent import socket, ssl
from gevent.lock import BoundedSemaphore
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPResponse, HTTPSocketPoolResponse

from gfastcgi.errors import (
    AnswerStalled,
    BackendClosed,
    BackendTimeout,
    BadCGIResponse,
    ConnectError,
    ConnectTimeout,
    Overloaded,
)
from gfastcgi.secrecy import without_secrets

__all__ = ["Answer", "Service"]

_FORBIDDEN = re.compile(rb"[\r\n\0]")
_FOREVER = 1e6
"""Seconds, where a limit of 0 means none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Field names are as they were sent."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes


class Service:
    """What listens at the origin of `url`. Times are seconds; `size` is the most connections at once.

    `read_timeout` is for each read, `time_limit` for all from the connection to the end of the answer.
    """

    def __init__(
        self, url: str, *, connect_timeout: float, read_timeout: float, queue_timeout: float, time_limit: float,
        size: int, largest: int, ca_file: str = "",
    ) -> None:  # fmt: skip
        self.url = urlsplit(url)
        self._connect_timeout, self._queue_timeout, self._time_limit = connect_timeout, queue_timeout, time_limit
        self._largest = largest
        self._room = BoundedSemaphore(size)
        self._pool = _pool(self.url, connect_timeout, read_timeout, size, ca_file)

    def __repr__(self) -> str:
        return f"<Service {self}>"

    def __str__(self) -> str:
        return without_secrets("", self.url.geturl())

    @property
    def target(self) -> str:
        """The path and query of the URL."""
        return (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")

    def get(self, fields: Iterable[tuple[bytes, bytes]]) -> Answer:
        """Asks by GET for the URL, with `fields` beside Host.

        Raises `Overloaded` when no connection became free in time, `ConnectError`, `ConnectTimeout`, `BackendTimeout`
        (`AnswerStalled` once it has begun), `BackendClosed` for an answer that ended early, `BadCGIResponse` for one
        that is none.
        """
        head = self._head(fields)
        if not self._room.acquire(timeout=self._queue_timeout or None):
            raise Overloaded(f"{self}: all connections are busy", cause="queue_timeout")
        try:
            # Each read has its own limit; this one is for an answer that drips.
            late = BackendTimeout(f"{self} took more than {self._time_limit:g} s")
            with gevent.Timeout(self._time_limit, late):
                return self._ask(head)
        finally:
            self._room.release()

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._pool.close()

    def _head(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        lines = [f"GET {self.target} HTTP/1.1\r\nHost: {self.url.netloc}\r\n".encode("ascii")]
        for name, value in fields:
            if _FORBIDDEN.search(name) or _FORBIDDEN.search(value):
                raise BadCGIResponse(f"a field for {self} holds a line end: {name!r}", cause="internal")
            lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join([*lines, b"\r\n"])

    def _ask(self, head: bytes) -> Answer:
        try:
            return self._exchange(head)
        except HTTPConnectionClosed:
            # It closed a connection that was kept, before the request came: nothing was answered, so ask once more.
            try:
                return self._exchange(head)
            except HTTPConnectionClosed as error:
                raise BackendClosed(f"{self} closed the connection without an answer") from error

    def _exchange(self, head: bytes) -> Answer:
        sock = self._connect()
        try:
            sock.sendall(head)
        except BaseException as error:
            self._pool.release_socket(sock)
            if isinstance(error, OSError):
                raise HTTPConnectionClosed(str(error)) from error
            raise
        response = None
        begun: list[bool] = []
        try:
            response = _OneResponse(sock, self._pool, lambda: begun.append(True))
            body = self._read(response)
            return Answer(response.get_code(), response.status_message or "", list(response.items()), body)
        except HTTPConnectionClosed:
            raise
        except HTTPParseError as error:
            raise BadCGIResponse(f"{self} gave no sound answer: {error.args[0] if error.args else error}") from error
        except (TimeoutError, BackendTimeout) as error:
            kind = AnswerStalled if begun else BackendTimeout
            told = f"{self} stayed silent past its read-timeout"
            raise kind(told if isinstance(error, TimeoutError) else str(error)) from error
        except OSError as error:
            raise BackendClosed(f"{self}: {error}", cause="eof_before_headers") from error
        finally:
            if response is not None:
                response.release()

    def _connect(self) -> socket.socket:
        try:
            return self._pool.get_socket()
        except ssl.SSLError as error:
            raise ConnectError(f"{self}: {error}", cause="connect_failed") from error
        except TimeoutError as error:
            raise ConnectTimeout(f"{self}: no connection within {self._connect_timeout:g} s") from error
        except OSError as error:
            cause = "connect_refused" if isinstance(error, ConnectionRefusedError) else "connect_failed"
            raise ConnectError(f"{self}: {error.strerror or error}", cause=cause) from error

    def _read(self, response: _OneResponse) -> bytes:
        body = b""
        while piece := response.read(65536):
            body += piece
            if len(body) > self._largest:
                raise BadCGIResponse(f"the answer of {self} is larger than {self._largest} bytes")
        return body


class _OneResponse(HTTPSocketPoolResponse):
    """One response, behind which nothing comes: a second one, as response splitting makes it, spoils it."""

    _is_final = False

    def __init__(self, sock: socket.socket, pool: ConnectionPool, on_begin: Callable[[], object]) -> None:
        self._on_begin = on_begin
        super().__init__(sock, pool, method="GET", headers_type=Headers)

    def _on_message_begin(self) -> None:
        self._on_begin()
        if self._is_final:
            raise HTTPParseError("something follows it")
        super()._on_message_begin()

    def _on_headers_complete(self) -> int | bool | None:
        self._is_final = self.get_code() >= 200
        return super()._on_headers_complete()

    def _on_message_complete(self) -> None:
        # Not given back yet: what came with its end is still to be looked at.
        HTTPResponse._on_message_complete(self)

    def should_close(self) -> bool:
        """Also with something left in the TLS layer, which no look at the socket shows."""
        pending = getattr(self._sock, "pending", None)
        return super().should_close() or bool(pending and pending())


def _pool(url: SplitResult, connect_timeout: float, read_timeout: float, size: int, ca_file: str) -> ConnectionPool:
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    limits: dict[str, Any] = {
        "size": size, "connection_timeout": connect_timeout or _FOREVER, "network_timeout": read_timeout,
    }  # fmt: skip
    if url.scheme == "https":
        options = {"ca_certs": ca_file} if ca_file else None
        return SSLConnectionPool(host, port, host, port, ssl_options=options, **limits)
    return ConnectionPool(host, port, host, port, **limits)
