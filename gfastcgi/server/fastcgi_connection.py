"""A web server's connection to our FastCGI server: records in, the requests open on it, records out.

Contract: the hub reads it (`net.duplex`) and calls what is here, which never waits; a request's greenlet begins when
its params are complete. Whoever sends hands over whole records, so that an aborted request never leaves half of one.
A request that is not read goes to a file where others may follow it on the connection; else the connection waits.
"""

from __future__ import annotations

import _socket
import logging
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from gfastcgi.errors import BadRecord, StreamClosed
from gfastcgi.fcgi import constants, events
from gfastcgi.fcgi.connection import Application
from gfastcgi.fcgi.records import header
from gfastcgi.net.duplex import Duplex
from gfastcgi.server.fastcgi_request import Request, Service
from gfastcgi.server.stdin import StdinBuffer

__all__ = ["Connection"]

_log = logging.getLogger(__name__)

_PIECE = 262144
_MOST_ERROR_TEXT = 32768


class Connection:
    """One connection of a web server; `on_close(connection)` is called when it is no more."""

    def __init__(self, service: Service, sock: _socket.socket, on_close: Callable[[Connection], None]) -> None:
        self._service = service
        self._core = Application(as_text=True)
        self._requests: dict[int, Request] = {}
        self._error_text: dict[int, bytes] = {}
        self._starting: list[tuple[Request, dict[str, Any]]] = []
        self._is_shared = False
        self._on_close = on_close
        self._duplex = Duplex(sock, self._receive, self._closed, write_timeout=service.write_timeout)

    def __repr__(self) -> str:
        return f"<Connection {self._duplex!r} {len(self._requests)} requests>"

    @property
    def is_closed(self) -> bool:
        """True when nothing can be sent any more."""
        return self._duplex.is_closed

    # Receiving

    def start(self) -> None:
        """Serves the connection to its end. The web server's end of file is an abort of all that is open."""
        self._duplex.start()

    def _receive(self, data: bytes) -> None:
        try:
            for event in self._core.receive_data(data):
                _HANDLERS[type(event)](self, event)
        except BadRecord as error:
            _log.warning("connection closed: %s", error)
            self.break_off()
        except StreamClosed as error:
            _log.debug("connection lost: %s", error)
        except Exception:
            _log.exception("connection closed")
            self.break_off()
        starting, self._starting = self._starting, []
        for request, environ in starting:
            # It may have ended since: cut or aborted while its records came in one piece.
            if self._requests.get(request.id) is request:
                request.start(environ)

    def _closed(self) -> None:
        for request in list(self._requests.values()):
            request.abort()
        self._requests.clear()
        self._on_close(self)

    def _begin(self, event: events.BeginRequest) -> None:
        self._admit(event.request_id, event.role, event.keep_conn, is_whole=False)

    def _receive_whole(self, event: events.WholeRequest) -> None:
        request = self._admit(event.request_id, constants.RESPONDER, event.keep_conn, is_whole=True)
        if request is not None:
            self._starting.append((request, event.variables))

    def _admit(self, request_id: int, role: int, keep_conn: bool, *, is_whole: bool) -> Request | None:
        service = self._service
        if role not in service.roles:
            status = constants.UNKNOWN_ROLE
        elif service.open_requests >= service.max_requests or (service.is_late and self._requests):
            status = constants.OVERLOADED
        else:
            request = self._requests[request_id] = Request(self, service, request_id, role, keep_conn, is_whole)
            self._is_shared = self._is_shared or len(self._requests) > 1
            return request
        self._duplex.send(self._core.end_request(request_id, 0, status))
        if not keep_conn:
            self._end_unless_open(has_all=is_whole)
        return None

    # A request may have ended since: refused, cut or aborted while its records came in one piece.

    def _start(self, event: events.ParamsText) -> None:
        request = self._requests.get(event.request_id)
        if request is not None:
            self._starting.append((request, event.variables))

    def _receive_stdin(self, event: events.Stdin) -> None:
        request = self._requests.get(event.request_id)
        if request is not None and request.stdin is not None:
            self._put(request, request.stdin, event.data)

    def _receive_file(self, event: events.Data) -> None:
        request = self._requests.get(event.request_id)
        if request is not None and request.data is not None:
            self._put(request, request.data, event.data)

    def _put(self, request: Request, stream: StdinBuffer, data: bytes) -> None:
        if not data:
            stream.end()
            return
        # Kept connections may be shared at any time; a filter's second stream comes behind an unread first one.
        may_spool = self._is_shared or request.keep_conn or request.role == constants.FILTER
        try:
            is_full = stream.put(data, may_spool=may_spool)
        except OSError as error:
            _log.error("a request's content cannot be kept: %s", error)
            request.abort()
            return
        if is_full and not self._is_shared:
            self._duplex.hold()
            stream.on_room = self._duplex.release

    def _abort(self, event: events.AbortRequest) -> None:
        request = self._requests.get(event.request_id)
        if request is not None:
            request.abort()

    def _tell(self, event: events.GetValues) -> None:
        values = self._service.values
        self._duplex.send(self._core.values({name: values[name] for name in event.names if name in values}))

    def _decline(self, event: events.UnknownManagement) -> None:
        self._duplex.send(self._core.unknown_type(event.kind))

    # Sending, from a request's greenlet

    def send_stdout(self, request_id: int, data: bytes) -> None:
        """Sends a part of the CGI response. Raises `StreamClosed`."""
        duplex, core = self._duplex, self._core
        for at in range(0, len(data), _PIECE):
            duplex.wait_for_room()
            errors = self._take_errors(request_id) if self._error_text else b""
            duplex.send(errors + core.send_stdout(request_id, data[at : at + _PIECE]))

    def send_stderr(self, request_id: int, data: bytes) -> None:
        """Sends error text, with the next part of the answer where it is little. Raises `StreamClosed`.

        There are web servers that cannot take STDERR alone.
        """
        if request_id not in self._requests:
            return
        self._error_text[request_id] = self._error_text.get(request_id, b"") + data
        if len(self._error_text[request_id]) > _MOST_ERROR_TEXT:
            self._duplex.wait_for_room()
            self._duplex.send(self._take_errors(request_id))

    def _take_errors(self, request_id: int) -> bytes:
        text = self._error_text.pop(request_id, b"")
        return self._core.send_stderr(request_id, text) if text else b""

    def finish(self, request: Request, rest: bytes, app_status: int) -> None:
        """Sends the rest of the answer and its end, once. Raises `StreamClosed`."""
        request_id = request.id
        if request_id not in self._requests:
            return
        if len(rest) > _PIECE:
            self.send_stdout(request_id, rest)
            rest = b""
        if rest:
            self._duplex.wait_for_room()
        errors = self._take_errors(request_id) if self._error_text else b""
        del self._requests[request_id]
        self._duplex.send(errors + self._core.finish_request(request_id, rest, app_status))
        if not request.keep_conn:
            self._end_unless_open(has_all=request.has_all)
        elif self._service.is_stopping:
            get_hub().loop.run_callback(self.end_if_idle)

    def cut(self, request: Request) -> None:
        """Ends an answer that broke off: inside a record and without END_REQUEST, so that it never looks whole.

        Where others share the connection it has to be END_REQUEST, with app_status 1.
        """
        if self._is_shared:
            self.finish(request, b"", 1)
            return
        errors = self._take_errors(request.id)
        del self._requests[request.id]
        self._duplex.send(errors + header(constants.STDOUT, request.id, 1))
        self.break_off()

    # Ending

    def end_if_idle(self) -> None:
        """Ends the connection unless a request is open, or has come and was not read yet; called in the hub."""
        if not self._requests:
            self._duplex.read_now()
        self._end_unless_open(has_all=True)

    def _end_unless_open(self, *, has_all: bool) -> None:
        if not self._requests:
            self._duplex.end(lingers=not has_all)

    def break_off(self) -> None:
        """Ends the connection where it stands."""
        self._duplex.close()


_HANDLERS: dict[type[events.Event], Callable[[Connection, Any], None]] = {
    events.WholeRequest: Connection._receive_whole,
    events.BeginRequest: Connection._begin,
    events.ParamsText: Connection._start,
    events.Stdin: Connection._receive_stdin,
    events.Data: Connection._receive_file,
    events.AbortRequest: Connection._abort,
    events.GetValues: Connection._tell,
    events.UnknownManagement: Connection._decline,
}
