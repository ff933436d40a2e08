"""The HTTP/1 server: accepts on one listening socket and gives each connection a greenlet.

Contract: `handler(request)` gives a `webob.Response`; `refuse(error)` answers bytes that are no request. `close` ends
accepting, idle connections end with it, and `drained` is set when the last request is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import webob
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from gfastcgi.config import Address
from gfastcgi.errors import RemoteProtocolError
from gfastcgi.http.request import Limits
from gfastcgi.net.listeners import SocketFile, address_of
from gfastcgi.net.streams import Stream
from gfastcgi.request import Peer, Request
from gfastcgi.server.connection import ClientConnection

__all__ = ["HTTPServer", "Handler", "Refuse", "Timeouts"]

Handler = Callable[[Request], webob.Response]
Refuse = Callable[[RemoteProtocolError], webob.Response]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds and counts of a client connection, by lighttpd's directives."""

    keep_alive_idle: float = 5  # server.max-keep-alive-idle
    keep_alive_requests: int = 1000  # server.max-keep-alive-requests; 0: no keep-alive
    read_idle: float = 60  # server.max-read-idle; inside a head: 408
    write_idle: float = 360  # server.max-write-idle
    head: float = 30  # the whole head, however slowly it trickles: 408


class _Date:
    """The Date field's value, made once a second."""

    __slots__ = ("_second", "_value")

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._value = formatdate(now, usegmt=True).encode()
        return self._value


@dataclass(slots=True, kw_only=True)
class HTTPServer:
    """Serves the clients of one listener; at most `max_connections` at once, the others wait to be accepted."""

    listener: socket.socket
    handler: Handler
    refuse: Refuse
    server_tag: str
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 4096
    is_started: bool = field(init=False, default=False)
    is_draining: bool = field(init=False, default=False)
    date: Callable[[], bytes] = field(init=False, default_factory=_Date)
    drained: Event = field(init=False, default_factory=Event)
    address: Address = field(init=False)
    connections: set[ClientConnection] = field(init=False, default_factory=set)
    _file: SocketFile = field(init=False)
    _server: StreamServer = field(init=False)

    def __post_init__(self) -> None:
        self.address = address_of(self.listener)
        self._file = SocketFile(self.address)
        self._server = StreamServer(self.listener, self._serve, spawn=self.max_connections)

    def __repr__(self) -> str:
        return f"<HTTPServer on {self.address} with {len(self.connections)} connections>"

    def start(self) -> None:
        """Begins to accept."""
        self.is_started = True
        self._server.start()

    def close(self) -> None:
        """Accepts no more; a request under way goes on, an idle connection ends."""
        self.is_draining = True
        self._server.close()
        self._file.remove()
        for connection in list(self.connections):
            connection.end_if_idle()
        self._note_end()

    def cut(self) -> None:
        """Ends the connections that are still open."""
        for connection in list(self.connections):
            connection.cut()

    def _serve(self, sock: socket.socket, remote: Any) -> None:
        try:
            peer = _peer(sock, remote, self.address)
            stream = Stream.adopt(sock, write_timeout=self.timeouts.write_idle)
        except OSError:
            # The client was gone before anything was known of it.
            sock.close()
            return
        connection = ClientConnection(self, stream, peer)
        self.connections.add(connection)
        try:
            stream.no_delay()
            connection.run()
        finally:
            stream.close()
            self.connections.discard(connection)
            self._note_end()

    def _note_end(self) -> None:
        if self.is_draining and not self.connections:
            self.drained.set()


def _peer(sock: socket.socket, remote: Any, listening: Address) -> Peer:
    if listening.path:
        return Peer(("", 0), ("", 0), socket=listening.path)
    local = sock.getsockname()
    return Peer(remote[:2], local[:2], socket=str(listening))
