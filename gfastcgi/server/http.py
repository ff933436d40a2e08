"""The HTTP/1 server: accepts on one listening socket and gives each connection a greenlet.

Contract: `close` ends accepting, idle connections end with it, and `drained` is set when the last request is answered.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

from gfastcgi.config import Address
from gfastcgi.net.listeners import SocketFile, address_of
from gfastcgi.net.streams import Stream
from gfastcgi.request import Peer
from gfastcgi.server.connection import ClientConnection
from gfastcgi.server.service import Service

__all__ = ["HTTPServer"]

log = logging.getLogger("gfastcgi")

_ACCEPT_PAUSE = 0.1
"""Seconds until the next try when a client could not be accepted: the process is out of descriptors."""


@dataclass(slots=True, kw_only=True)
class HTTPServer:
    """Serves the clients of one listener, in greenlets of `clients`; while that is full the others wait unaccepted.

    `name` is the listener's as the configuration spells it (`$SERVER["socket"]`), "": its address.
    """

    listener: socket.socket
    service: Service
    clients: Pool
    name: str = ""
    is_started: bool = field(init=False, default=False)
    drained: Event = field(init=False, default_factory=Event)
    address: Address = field(init=False)
    connections: set[ClientConnection] = field(init=False, default_factory=set)
    _file: SocketFile = field(init=False)
    _server: StreamServer = field(init=False)

    def __post_init__(self) -> None:
        self.address = address_of(self.listener)
        self.name = self.name or str(self.address)
        self._file = SocketFile(self.address)
        self._server = _Acceptor(self.listener, self._serve, spawn=self.clients)

    def __repr__(self) -> str:
        return f"<HTTPServer on {self.address} with {len(self.connections)} connections>"

    def start(self) -> None:
        """Begins to accept."""
        self.is_started = True
        self._server.start()

    def close(self) -> None:
        """Accepts no more; a request under way goes on, an idle connection ends."""
        self.service.is_draining = True
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
            peer = _peer(sock, remote, self.address, self.name)
            stream = Stream.adopt(sock, write_timeout=self.service.timeouts.write_idle)
        except OSError:
            # The client was gone before anything was known of it.
            sock.close()
            return
        connection = ClientConnection(self.service, stream, peer)
        self.connections.add(connection)
        try:
            stream.no_delay()
            connection.run()
        finally:
            stream.close()
            self.connections.discard(connection)
            self._note_end()

    def _note_end(self) -> None:
        if self.service.is_draining and not self.connections:
            self.drained.set()


class _Acceptor(StreamServer):
    """Says in a line why a client cannot be accepted, and pauses; it never ends for that."""

    def do_read(self) -> Any:
        try:
            return super().do_read()
        except OSError as error:
            log.error("no client can be accepted: %s", error.strerror)
            self.stop_accepting()
            self.loop.timer(_ACCEPT_PAUSE).start(self._accept_again)
            return None

    def _accept_again(self) -> None:
        if self.started:
            self.start_accepting()


def _peer(sock: socket.socket, remote: Any, listening: Address, name: str) -> Peer:
    if listening.path:
        return Peer(("", 0), ("", 0), socket=name)
    local = sock.getsockname()
    return Peer(remote[:2], local[:2], socket=name)
