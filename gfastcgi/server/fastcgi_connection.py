"""A web server's connection to our FastCGI server, and the requests open on it.

Contract: one greenlet reads the connection; each request has a greenlet that calls its application. Whoever sends hands
over whole records, so that an aborted request never leaves half of one behind; what the kernel does not take at once
goes out by a greenlet of its own, and the sender waits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event

from gfastcgi.errors import BadRecord, StreamClosed, StreamError
from gfastcgi.fcgi import constants, events
from gfastcgi.fcgi.connection import Application
from gfastcgi.net.streams import Stream
from gfastcgi.server.stdin import StdinBuffer, StdinReader
from gfastcgi.server.wsgi import Answer, ErrorStream, WSGIApp, make_environ

__all__ = ["Connection", "Service"]

_log = logging.getLogger(__name__)

_PIECE = 262144
_LINGER_SECONDS = 2.0
_FAILURE = b"Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nInternal Server Error\n"


@dataclass(slots=True)
class Service:
    """What all connections of a server share."""

    roles: Mapping[int, WSGIApp]
    max_requests: int
    values: Mapping[bytes, bytes]
    is_multiprocess: bool
    open_requests: int = 0
    is_stopping: bool = False


class Connection:
    """One connection of a web server."""

    def __init__(self, service: Service, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._core = Application()
        self._requests: dict[int, _Request] = {}
        self._is_shared = False
        self.is_broken = False
        self._unsent: deque[bytes | memoryview] = deque()
        self._sender: gevent.Greenlet[..., None] | None = None
        self._drained = Event()
        self._handlers: dict[type[events.Event], Callable[[Any], None]] = {
            events.BeginRequest: self._begin,
            events.Params: self._start,
            events.Stdin: self._receive,
            events.AbortRequest: self._abort,
            events.GetValues: self._tell,
            events.UnknownManagement: self._decline,
        }

    def __repr__(self) -> str:
        return f"<Connection {self._stream!r} {len(self._requests)} requests>"

    # Receiving

    def run(self) -> None:
        """Serves the connection to its end. The web server's end of file is an abort of all that is open."""
        try:
            self._stream.no_delay()
            while data := self._stream.recv():
                for event in self._core.receive_data(data):
                    self._handlers[type(event)](event)
        except BadRecord as error:
            _log.warning("connection closed: %s", error)
        except StreamError as error:
            _log.debug("connection lost: %s", error)
        finally:
            self.break_off()
            try:
                ending = [request.abort() for request in list(self._requests.values())]
                gevent.joinall([greenlet for greenlet in ending if greenlet is not None])
            finally:
                self._stream.close()

    def _begin(self, event: events.BeginRequest) -> None:
        service = self._service
        if event.role not in service.roles:
            self._refuse(event, constants.UNKNOWN_ROLE)
        elif service.is_stopping or service.open_requests >= service.max_requests:
            self._refuse(event, constants.OVERLOADED)
        else:
            self._requests[event.request_id] = _Request(self, service, event)
            self._is_shared = self._is_shared or len(self._requests) > 1

    def _refuse(self, event: events.BeginRequest, protocol_status: int) -> None:
        self.send(self._core.end_request(event.request_id, 0, protocol_status))
        if not event.keep_conn:
            self._end_unless_open(has_all=False)

    # A request may have ended since: refused, cut or aborted while its records came in one piece.

    def _start(self, event: events.Params) -> None:
        request = self._requests.get(event.request_id)
        if request is not None:
            request.start(event.pairs)

    def _receive(self, event: events.Stdin) -> None:
        request = self._requests.get(event.request_id)
        if request is None:
            return
        if not event.data:
            request.stdin.end()
            return
        try:
            request.stdin.put(event.data, may_spill=self._is_shared)
        except OSError as error:
            _log.error("a request's content cannot be kept: %s", error)
            request.abort()
        if not self._is_shared:
            request.stdin.wait_for_room()

    def _abort(self, event: events.AbortRequest) -> None:
        request = self._requests.get(event.request_id)
        if request is not None:
            request.abort()

    def _tell(self, event: events.GetValues) -> None:
        values = self._service.values
        self.send(self._core.values({name: values[name] for name in event.names if name in values}))

    def _decline(self, event: events.UnknownManagement) -> None:
        self.send(self._core.unknown_type(event.kind))

    # Sending

    def send(self, data: bytes) -> None:
        """Sends whole records, and returns when the kernel has them. Raises `StreamClosed`."""
        if self.is_broken:
            raise StreamClosed("the web server has left")
        if self._sender is None:
            try:
                sent = self._stream.send(data)
            except StreamClosed:
                self.break_off()
                raise
            if sent == len(data):
                return
            self._drained.clear()
            self._unsent.append(memoryview(data)[sent:])
            self._sender = gevent.spawn(self._send_rest)
        else:
            self._unsent.append(data)
        self._drained.wait()
        if self.is_broken:
            raise StreamClosed("the web server has left")

    def _send_rest(self) -> None:
        try:
            while self._unsent:
                self._stream.wait_writable()
                self._stream.send_all(self._unsent.popleft())
        except StreamError as error:
            _log.debug("connection lost: %s", error)
            self.break_off()
        finally:
            self._unsent.clear()
            self._sender = None
            self._drained.set()

    def send_stdout(self, request_id: int, data: bytes) -> None:
        """Sends a part of the CGI response. Raises `StreamClosed`."""
        for at in range(0, len(data), _PIECE):
            self.send(self._core.send_stdout(request_id, data[at : at + _PIECE]))

    def send_stderr(self, request_id: int, data: bytes) -> None:
        """Sends error text. Raises `StreamClosed`."""
        if request_id in self._requests and data:
            self.send(self._core.send_stderr(request_id, data))

    # Ending

    def finish(self, request: _Request, rest: bytes, app_status: int) -> None:
        """Sends the rest of the answer and its end, once. Raises `StreamClosed`."""
        request_id = request.id
        if request_id not in self._requests:
            return
        if len(rest) > _PIECE:
            self.send_stdout(request_id, rest)
            rest = b""
        core = self._core
        data = core.send_stdout(request_id, rest) if rest else b""
        data += core.send_stdout(request_id, b"") + core.end_request(request_id, app_status)
        del self._requests[request_id]
        self.send(data)
        if not request.keep_conn or self._service.is_stopping:
            self._end_unless_open(has_all=request.stdin.is_ended)

    def cut(self, request: _Request) -> None:
        """Ends an answer that broke off: without END_REQUEST, so that it never looks whole.

        Where others share the connection it has to be END_REQUEST, with app_status 1.
        """
        if self._is_shared:
            self.finish(request, b"", 1)
        else:
            del self._requests[request.id]
            self.break_off()

    def end_if_idle(self) -> None:
        """Ends the connection unless a request is open."""
        self._end_unless_open(has_all=True)

    def _end_unless_open(self, *, has_all: bool) -> None:
        if self._requests:
            return
        if has_all:
            self._stream.hang_up()
            return
        # What still comes is read: closing on unread bytes would reset the connection under our answer.
        try:
            self._stream.shutdown_write()
        except StreamClosed:
            return
        gevent.spawn_later(_LINGER_SECONDS, self._stream.hang_up)

    def break_off(self) -> None:
        """Ends the connection where it stands."""
        self.is_broken = True
        self._stream.hang_up()


class _Request:
    """One open request, and the greenlet that answers it."""

    def __init__(self, connection: Connection, service: Service, event: events.BeginRequest) -> None:
        self.id = event.request_id
        self.keep_conn = event.keep_conn
        self.stdin = StdinBuffer()
        self._role = event.role
        self._connection = connection
        self._service = service
        self._greenlet: gevent.Greenlet[..., None] | None = None
        self._is_running = False
        self._is_aborted = False
        service.open_requests += 1

    def start(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """The params are complete: the application is called in a greenlet of its own."""
        self._greenlet = gevent.spawn(self._run, pairs)

    def abort(self) -> gevent.Greenlet[..., None] | None:
        """Ends the request where it stands: its iterable is closed, and END_REQUEST sent, by the greenlet returned.

        The application sees a GreenletExit where it waits.
        """
        self._is_aborted = True
        if self._greenlet is None:
            self._run([])
        elif self._is_running:
            self._greenlet.kill(block=False)
        return self._greenlet

    def _run(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._is_running = True
        try:
            if self._is_aborted:
                self._connection.finish(self, b"", 1)
            else:
                self._answer(pairs)
        except Exception as error:
            # Nobody can be told over this connection, now or any more.
            _log.debug("request %d: %s", self.id, error, exc_info=not isinstance(error, StreamError))
            self._connection.break_off()
        except gevent.GreenletExit:
            with contextlib.suppress(StreamError):
                self._connection.finish(self, b"", 1)
        finally:
            self._is_running = False
            self._service.open_requests -= 1
            self.stdin.close()

    def _answer(self, pairs: list[tuple[bytes, bytes]]) -> None:
        connection, request_id = self._connection, self.id
        answer = Answer(lambda data: connection.send_stdout(request_id, data))
        error_stream = ErrorStream(lambda data: connection.send_stderr(request_id, data))
        try:
            environ = self._environ(pairs)
            environ["wsgi.errors"] = error_stream
            rest = answer.respond(self._service.roles[self._role], environ)
            app_status = 0
        except Exception:
            if connection.is_broken:
                raise
            error_stream.write(traceback.format_exc())
            if answer.is_begun:
                connection.cut(self)
                return
            rest, app_status = _FAILURE, 1
        error_stream.flush()
        connection.finish(self, rest, app_status)

    def _environ(self, pairs: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        is_authorizer = self._role == constants.AUTHORIZER
        environ = make_environ(pairs, is_authorizer=is_authorizer, is_multiprocess=self._service.is_multiprocess)
        whole = b"" if is_authorizer else self.stdin.take_whole()
        environ["wsgi.input"] = io.BufferedReader(StdinReader(self.stdin)) if whole is None else io.BytesIO(whole)
        return environ
