"""One client connection of HTTP/1: requests are read, asked for, and answered, one after the other.

Contract: the handler never raises but for a client that left. Bytes that are no request are refused once, and the
connection ends; a body that nobody read is drained if it is small, so that the next request is found.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import gevent
import webob
from gevent import get_hub, getcurrent

from gfastcgi.errors import (
    ClientClosed,
    RemoteProtocolError,
    RequestTimeout,
    StreamClosed,
    StreamError,
    StreamTimeout,
)
from gfastcgi.http.request import END, RequestHead, RequestParser
from gfastcgi.net.streams import Stream
from gfastcgi.request import Peer, Request
from gfastcgi.server.body import EMPTY, ClientBody
from gfastcgi.server.service import Service
from gfastcgi.server.writer import ResponseWriter

__all__ = ["ClientConnection"]

_DRAIN = 65536
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1 << 20
CLIENT_LEFT = 499
"""The status that the access log gets where none was sent, since the client left (nginx's number for it)."""


class ClientConnection:
    """Serves one client from its first request to its last."""

    __slots__ = (
        "_greenlet", "_is_working", "_leaving", "_parser", "_peer", "_request", "_service", "_turn",
        "_waits_for_head", "_writer", "stream",
    )  # fmt: skip

    def __init__(self, service: Service, stream: Stream, peer: Peer) -> None:
        self._service = service
        self._greenlet: Any = getcurrent()
        self._peer = peer
        self.stream = stream
        self._parser = RequestParser(service.limits)
        self._writer = ResponseWriter(stream, service.date, service.server_tag)
        self._waits_for_head = False
        self._turn = 0
        self._is_working = False
        self._request: Request | None = None
        self._leaving: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {self._peer!r} {self._peer.requests} requests>"

    def run(self) -> None:
        """Serves requests until either side ends the connection."""
        try:
            try:
                while self._serve_one():
                    pass
            except RemoteProtocolError as error:
                self._refuse(error)
            except StreamClosed:
                # Told to end, it may still owe the client the rest of its last answer.
                pass
            self.stream.settle()
        except StreamError:
            pass

    def end_if_idle(self) -> None:
        """Ends the wait for a next request. What has come by then is served, as the last one."""
        get_hub().loop.run_callback(self._end_if_idle)

    def _end_if_idle(self) -> None:
        # In the hub, and at once: a round in between could let the greenlet go on with a request.
        if self._waits_for_head and self._parser.is_idle and not self.stream.has_come:
            self._greenlet.throw(StreamClosed)

    def cut(self) -> None:
        """Ends the connection wherever it is."""
        self._greenlet.kill(ClientClosed, block=False)

    def _serve_one(self) -> bool:
        """One request and its answer; False when the connection is to end."""
        head = self._read_head()
        if head is None:
            return False
        stream = self.stream
        self._peer.requests += 1
        stream.read_timeout = self._service.timeouts.read_idle
        body: ClientBody | None = None
        if head.content_length != 0:
            body = ClientBody(head.content_length, lambda: self._read_piece(head))
        interim = stream.send_all if head.version == "1.1" else None
        request = self._request = Request(head, self._peer, body or EMPTY, monotonic(), interim)
        request.turn = self._turn
        try:
            response, keep, sent = self._answer(request, head, body)
        except StreamError:
            if request.log is not None:
                status, fields, sent = self._writer.broken_off() or (CLIENT_LEFT, [], 0)
                request.log(request, status, fields, sent, monotonic() - request.started, False)
            raise
        finally:
            self._is_working = False
            stream.on_close = None
            if self._leaving is not None:
                self._leaving.kill(block=False)
                self._leaving = None
        if request.log is not None:
            request.log(request, response.status_int, response.headerlist, sent, monotonic() - request.started, True)
        if keep and (body is None or body.is_read or self._drain(body)):
            return True
        # The client gets the time to read the last answer.
        stream.linger(_LINGER_SECONDS, _LINGER_BYTES)
        return False

    def _answer(self, request: Request, head: RequestHead, body: ClientBody | None) -> tuple[webob.Response, bool, int]:
        """Asks the handler and writes what it says: the response, whether to go on, the bytes of content sent.

        A client that leaves once its request is read ends the work for it.
        """
        service, stream, most = self._service, self.stream, self._service.timeouts.keep_alive_requests
        self._is_working = True
        if body is None:
            stream.watch_close(self._on_close)
        response = service.handler(request)
        keep = head.keep_alive and not service.is_draining and self._peer.requests < most
        if body is not None and head.expects_continue and not body.is_read:
            keep = False
        keep, sent = self._writer.write(
            response, method=head.method, version=head.version, keep=keep, server_tag=request.server_tag
        )
        return response, keep, sent

    def _on_close(self, is_reset: bool) -> None:
        """The client has left, or it ended its side and still reads: that shows by what can be sent to it."""
        request = self._request
        if is_reset or request is None or request.patience == 0:
            self._greenlet.throw(ClientClosed("the client left"))
        else:
            self._leaving = gevent.spawn(self._outwait, request)

    def _outwait(self, request: Request) -> None:
        """Ends the work for a client that ended its side, once it was sent nothing for as long as it is waited for.

        One that has still to read of what it was sent is not waited for: its time is that of a slow reader.
        """
        taken = -1
        while request.patience is not None:
            if self.stream.taken == taken and not self.stream.is_behind():
                self._greenlet.kill(ClientClosed("the client left"), block=False)
                return
            taken = self.stream.taken
            gevent.sleep(request.patience)

    def _drain(self, body: ClientBody) -> bool:
        body.limit = 0
        end = monotonic() + _LINGER_SECONDS
        try:
            while body.received <= _DRAIN and (left := end - monotonic()) > 0:
                self.stream.read_timeout = left
                if body.read() == END:
                    return True
        except (RemoteProtocolError, StreamTimeout):
            pass
        return False

    def _refuse(self, error: RemoteProtocolError) -> None:
        try:
            self._writer.write(self._service.refuse(error), method="GET", version="1.1", keep=False)
            self.stream.linger(_LINGER_SECONDS, _LINGER_BYTES)
        except StreamError:
            pass

    # Reading

    def _read_head(self) -> RequestHead | None:
        """The next head; None when the client is done. Raises `RequestTimeout` when a head stays half."""
        event = self._parser.next_event()
        # None for what came along with the request before it: that may have changed what this one asks for.
        self._turn = 0
        if event is None:
            if self._service.is_draining and self._parser.is_idle:
                return None
            self._waits_for_head = self.stream.begins_work = True
            event = self._await_head()
            self._waits_for_head = self.stream.begins_work = False
            self._turn = self.stream.round.number
        else:
            # Others come before the next one of a client who sends many at once.
            gevent.sleep(0)
        assert not isinstance(event, bytes)
        return event

    def _await_head(self) -> RequestHead | bytes | None:
        stream, parser, timeouts = self.stream, self._parser, self._service.timeouts
        stream.read_timeout = timeouts.keep_alive_idle if self._peer.requests else timeouts.read_idle
        end = 0.0
        while True:
            try:
                # The next request is not there yet when the last answer has just left.
                stream.wait_readable()
                data = stream.recv()
            except StreamTimeout:
                if parser.is_idle:
                    return None
                raise RequestTimeout("the head of the request did not come in time") from None
            if not data:
                if parser.is_idle:
                    return None
                raise StreamClosed("the client left inside a head")
            parser.feed(data)
            event = parser.next_event()
            if event is not None:
                return event
            end = end or monotonic() + timeouts.head
            stream.read_timeout = max(0.001, min(timeouts.read_idle or timeouts.head, end - monotonic()))

    def _read_piece(self, head: RequestHead) -> bytes:
        """The next piece of a body; b"" at its end."""
        event = self._parser.next_event()
        if event is None and head.expects_continue:
            # Only now: the handler wants the body, and none of it has come (RFC 9110 section 10.1.1).
            self.stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        head.expects_continue = False
        while event is None:
            # By way of the hub: others get their turn, however fast this client sends.
            self.stream.wait_readable()
            data = self.stream.recv()
            if not data:
                raise ClientClosed("the client left inside its body")
            self._parser.feed(data)
            event = self._parser.next_event()
        assert isinstance(event, bytes)
        if event == END and self._is_working:
            self.stream.watch_close(self._on_close)
        return event
