"""One request of a web server, and the greenlet that calls the application for it.

Contract: a request belongs to a `Peer`, its connection, which sends whole records for it. Every request that has begun
ends once: by `finish` or `cut`, or because the connection has ended; then nothing of it is left.
"""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import gevent
from gevent import get_hub
from gevent.event import Event
from greenlet import GreenletExit, getcurrent, greenlet

from gfastcgi.errors import StreamError
from gfastcgi.fcgi import constants
from gfastcgi.server.stdin import StdinBuffer, StdinReader
from gfastcgi.server.workers import Workers
from gfastcgi.server.wsgi import Answer, ErrorStream, WSGIApp, complete_environ

__all__ = ["Peer", "Request", "Service"]

_log = logging.getLogger(__name__)

_FAILURE = b"Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nInternal Server Error\n"


@dataclass(slots=True)
class Service:
    """What all connections of a server share."""

    roles: Mapping[int, WSGIApp]
    max_requests: int
    values: Mapping[bytes, bytes]
    fixed: Mapping[int, Mapping[str, Any]]
    """For each role what its environ holds whatever was sent."""
    max_spooled: int
    write_timeout: float
    open_requests: int = 0
    is_stopping: bool = False
    is_late: bool = False
    """It stops, and connections that take one request beside the other have found no moment to end in."""
    workers: Workers = field(default_factory=Workers)
    idle: Event = field(default_factory=Event)
    """Set when the last open request has ended while the server stops."""


class Peer(Protocol):
    """The connection of a request. What sends raises `StreamClosed`, and may wait."""

    @property
    def is_closed(self) -> bool: ...

    def send_stdout(self, request_id: int, data: bytes) -> None: ...

    def send_stderr(self, request_id: int, data: bytes) -> None: ...

    def finish(self, request: Request, rest: bytes, app_status: int) -> None: ...

    def cut(self, request: Request) -> None: ...


class Request:
    """One open request."""

    __slots__ = ("_connection", "_greenlet", "_service", "data", "id", "keep_conn", "role", "stdin")

    def __init__(
        self, connection: Peer, service: Service, request_id: int, role: int, keep_conn: bool, is_whole: bool
    ) -> None:
        """`is_whole`: all of it has come, and it has no content."""
        self.id = request_id
        self.role = role
        self.keep_conn = keep_conn
        self.stdin = None if is_whole else StdinBuffer(service.max_spooled)
        self.data = StdinBuffer(service.max_spooled) if role == constants.FILTER else None
        self._connection = connection
        self._service = service
        self._greenlet: greenlet | None = None
        service.open_requests += 1

    @property
    def has_all(self) -> bool:
        """Whether all that the web server sends for it has arrived."""
        return (self.stdin is None or self.stdin.is_ended) and (self.data is None or self.data.is_ended)

    def start(self, environ: dict[str, Any]) -> None:
        """Calls the application, in a greenlet of its own; returns when that waits for the first time."""
        self._service.workers.run(self._run, environ)

    def abort(self) -> None:
        """Ends the request where it stands: the application sees a GreenletExit where it waits."""
        if self._greenlet is not None:
            get_hub().loop.run_callback(self._throw)
            return
        self._finish_aborted()
        self._close()

    def _throw(self) -> None:
        # It may have ended meanwhile, and its greenlet have another request.
        if self._greenlet is not None:
            self._greenlet.throw(GreenletExit)

    def _close(self) -> None:
        for stream in (self.stdin, self.data):
            if stream is not None:
                stream.close()
        service = self._service
        service.open_requests -= 1
        if service.is_stopping and not service.open_requests:
            service.idle.set()

    def _run(self, environ: dict[str, Any]) -> None:
        self._greenlet = getcurrent()
        try:
            self._answer(environ)
        except StreamError as error:
            # Nobody can be told over this connection, now or any more.
            _log.debug("request %d: %s", self.id, error)
        except GreenletExit:
            self._finish_aborted()
        finally:
            self._greenlet = None
            self._close()

    def _finish_aborted(self) -> None:
        try:
            self._connection.finish(self, b"", 1)
        except StreamError as error:
            _log.debug("request %d: %s", self.id, error)

    def _answer(self, environ: dict[str, Any]) -> None:
        connection = self._connection
        answer = Answer(self._send_stdout, has_body=environ.get("REQUEST_METHOD") != "HEAD")
        error_stream = ErrorStream(self._send_stderr)
        try:
            self._complete(environ)
            environ["wsgi.errors"] = error_stream
            rest = answer.respond(self._service.roles[self.role], environ)
            app_status = 0
        except (Exception, gevent.Timeout, SystemExit):
            if connection.is_closed:
                _log.debug("request %d ended behind its connection", self.id, exc_info=True)
                return
            error_stream.write(traceback.format_exc())
            if answer.is_begun:
                connection.cut(self)
                return
            rest, app_status = _FAILURE, 1
        error_stream.flush()
        connection.finish(self, rest, app_status)

    def _complete(self, environ: dict[str, Any]) -> None:
        complete_environ(environ, self._service.fixed[self.role], is_authorizer=self.role == constants.AUTHORIZER)
        environ["wsgi.input"] = io.BytesIO() if self.role == constants.AUTHORIZER else _file_of(self.stdin)
        if self.data is not None:
            environ["fastcgi.data"] = _file_of(self.data)

    def _send_stdout(self, data: bytes) -> None:
        self._connection.send_stdout(self.id, data)

    def _send_stderr(self, data: bytes) -> None:
        self._connection.send_stderr(self.id, data)


def _file_of(stream: StdinBuffer | None) -> io.BytesIO | io.BufferedReader:
    if stream is None:
        return io.BytesIO()
    whole = stream.take_whole()
    return io.BufferedReader(StdinReader(stream)) if whole is None else io.BytesIO(whole)
