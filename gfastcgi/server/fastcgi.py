"""A FastCGI application under gevent: hosts a WSGI application, an authorizer or both on a listening socket.

Contract: connections are kept where the web server asks for it, and carry any number of requests at once, a greenlet
each. Nothing is monkey-patched: an application that blocks stops all others of its process while it does.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
from collections.abc import Collection
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

from gfastcgi.fcgi import constants
from gfastcgi.net.streams import Stream
from gfastcgi.server.fastcgi_connection import Connection, Service
from gfastcgi.server.wsgi import Authorizer, WSGIApp, as_application

__all__ = ["FastCGIServer", "listener_from_fd", "run"]

_log = logging.getLogger(__name__)


def listener_from_fd(fd: int = constants.LISTENSOCK_FILENO) -> socket.socket:
    """The listening socket that a spawner left on a descriptor (section 2.2). Raises OSError where there is none."""
    try:
        listener = socket.socket(fileno=fd)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise OSError(error.errno, f"descriptor {fd} is not a listening socket") from error
    if not is_listening:
        listener.detach()
        raise OSError(f"descriptor {fd} is a socket, yet it does not listen")
    return listener


def run(
    app: WSGIApp | None = None,
    *,
    authorizer: Authorizer | None = None,
    listener: socket.socket | None = None,
    stop_timeout: float = 30.0,
    **options: Any,
) -> None:
    """Serves on `listener`, by default that of descriptor 0, until SIGTERM, SIGINT or SIGUSR1; then requests have
    `stop_timeout` seconds to end. `options` are those of `FastCGIServer`."""
    if listener is None:
        listener = listener_from_fd()
        options.setdefault("is_multiprocess", True)
    server = FastCGIServer(listener, app, authorizer=authorizer, **options)
    handlers = [
        gevent.signal_handler(number, server.stop, stop_timeout)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    ]
    try:
        server.serve_forever()
    finally:
        for handler in handlers:
            handler.cancel()


class FastCGIServer:
    """Serves `app` as a responder and `authorizer` as an authorizer; an absent one is UNKNOWN_ROLE.

    Connections beyond `max_connections` wait unaccepted; requests beyond `max_requests` are ended with OVERLOADED.
    `allowed_addresses`: the IP addresses that may connect; None: those of FCGI_WEB_SERVER_ADDRS (section 3.2); empty:
    all. `is_multiprocess`: other processes serve the same application (`wsgi.multiprocess`).
    `write_timeout`: seconds without progress after which a web server that reads nothing is cut off.
    """

    def __init__(
        self,
        listener: socket.socket,
        app: WSGIApp | None = None,
        *,
        authorizer: Authorizer | None = None,
        max_connections: int = 1024,
        max_requests: int = 1024,
        is_multiprocess: bool = False,
        allowed_addresses: Collection[str] | None = None,
        write_timeout: float = 60.0,
    ) -> None:
        roles: dict[int, WSGIApp] = {}
        if app is not None:
            roles[constants.RESPONDER] = app
        if authorizer is not None:
            roles[constants.AUTHORIZER] = as_application(authorizer)
        values = {
            constants.MAX_CONNS: b"%d" % max_connections,
            constants.MAX_REQS: b"%d" % max_requests,
            constants.MPXS_CONNS: b"1",
        }
        self._service = Service(roles, max_requests, values, is_multiprocess)
        self._write_timeout = write_timeout
        self._allowed = _addresses(allowed_addresses)
        self._connections: set[Connection] = set()
        self._stopped = Event()
        self._acceptor = StreamServer(listener, self._serve, spawn=Pool(max_connections))
        # Siblings may share the listener: none takes more than it can begin with.
        self._acceptor.max_accept = 1

    def __repr__(self) -> str:
        return f"<FastCGIServer {len(self._connections)} connections, {self._service.open_requests} requests>"

    def start(self) -> None:
        """Begins to accept, and returns."""
        self._acceptor.start()

    def serve_forever(self) -> None:
        """Serves until `stop` has done its work."""
        self.start()
        self._stopped.wait()

    def stop(self, timeout: float = 30.0) -> None:
        """Accepts no more; open requests have `timeout` seconds to end, then they are killed."""
        self._service.is_stopping = True
        self._acceptor.close()
        for connection in list(self._connections):
            connection.end_if_idle()
        self._acceptor.stop(timeout)
        self._stopped.set()

    def _serve(self, sock: socket.socket, address: Any) -> None:
        if self._allowed and isinstance(address, tuple) and _plain(address[0]) not in self._allowed:
            _log.warning("connection refused: %s is not in FCGI_WEB_SERVER_ADDRS", address[0])
            return
        connection = Connection(self._service, Stream.adopt(sock, write_timeout=self._write_timeout))
        self._connections.add(connection)
        try:
            connection.run()
        finally:
            self._connections.discard(connection)


def _addresses(allowed: Collection[str] | None) -> frozenset[str]:
    if allowed is None:
        allowed = os.environ.get("FCGI_WEB_SERVER_ADDRS", "").split(",")
    return frozenset(_plain(address.strip()) for address in allowed if address.strip())


def _plain(address: str) -> str:
    """One spelling of an IP address; what is none stays as it is, and matches nothing."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(ip, "ipv4_mapped", None) or ip)
