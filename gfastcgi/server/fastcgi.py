"""A FastCGI application under gevent: hosts a WSGI application, an authorizer, a filter, or all, on a listening socket.

Contract: connections are kept where the web server asks for it, and carry any number of requests at once, a greenlet
each. Nothing is monkey-patched: an application that blocks stops all others of its process while it does.
"""

from __future__ import annotations

import _socket
import logging
import os
import resource
import signal
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any, TypeAlias

import gevent
from gevent import get_hub, socket
from gevent.event import Event

from gfastcgi.config.addresses import client_address
from gfastcgi.fcgi import constants
from gfastcgi.server.authorizer import Authorizer, Decide
from gfastcgi.server.fastcgi_connection import Connection
from gfastcgi.server.fastcgi_request import Service
from gfastcgi.server.wsgi import WSGIApp, fixed_environ

__all__ = ["FastCGIServer", "listener_from_fd", "run"]

_log = logging.getLogger(__name__)

Listener: TypeAlias = "socket.socket | _socket.socket"

_ROLES = {name.lower(): role for role, name in constants.ROLE_NAMES.items()}

_ACCEPTED_AT_ONCE = 16
"""Connections that one turn of the hub takes where no other process may want them."""
_OTHER_DESCRIPTORS = 64
"""How many are left to the application, and to spooled content."""
_ACCEPT_PAUSE = 0.1
"""Seconds until the next try when no connection could be accepted."""


def listener_from_fd(fd: int = constants.LISTENSOCK_FILENO) -> socket.socket:
    """The listening socket that a spawner left on a descriptor (FastCGI 1.0 section 2.2).

    Raises OSError where there is none.
    """
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
    listener: Listener | None = None,
    stop_timeout: float = 30.0,
    on_start: Callable[[FastCGIServer], None] | None = None,
    **options: Any,
) -> int:
    """Serves on `listener`, by default that of descriptor 0, until SIGTERM, SIGINT, SIGUSR1 or SIGHUP.

    Then requests have `stop_timeout` seconds to end, or until a second signal. `on_start` is called once it accepts;
    `options` are those of `FastCGIServer`. Returns the signal's number. Raises OSError where descriptor 0 is
    no listening socket, and what `FastCGIServer` raises.
    """
    if listener is None:
        listener = listener_from_fd()
        options.setdefault("is_multiprocess", True)
    server = FastCGIServer(listener, app, **options)
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        server.stop(stop_timeout if len(received) == 1 else 0)

    handlers = [
        gevent.signal_handler(number, stop, number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    ]
    try:
        server.start()
        if on_start is not None:
            on_start(server)
        server.serve_forever()
    finally:
        for handler in handlers:
            handler.cancel()
    return received[0] if received else 0


class FastCGIServer:
    """Serves `app` in each of `roles`, and `authorizer` and `filter` in theirs; the others are UNKNOWN_ROLE.

    `listener` is a socket that listens, gevent's or the standard library's; the server takes it over, and closes it.
    `app` and `filter` are WSGI applications; a filter finds the file that it works on as `environ["fastcgi.data"]`.
    `authorizer` is a function of a `webob.Request`, such as `@gfastcgi.authorizer` makes.
    Connections beyond `max_connections`, or beyond what RLIMIT_NOFILE leaves room for, wait unaccepted; requests beyond
    `max_requests` are ended with OVERLOADED.
    `allowed_addresses`: the IP addresses that may connect; None: those of FCGI_WEB_SERVER_ADDRS (FastCGI 1.0
    section 3.2); empty: all. `is_multiprocess`: other processes serve the same application (`wsgi.multiprocess`).
    `environ`: more for every environ. `max_spooled`: bytes in a file for one request that is not read while others may
    follow it. `write_timeout`: seconds without progress after which a web server that reads nothing is cut off.
    """

    def __init__(
        self,
        listener: Listener,
        app: WSGIApp | None = None,
        roles: Collection[str] = ("responder",),
        *,
        authorizer: Decide | None = None,
        filter: WSGIApp | None = None,
        environ: Mapping[str, Any] | None = None,
        max_connections: int = 1024,
        max_requests: int = 1024,
        max_spooled: int = 1 << 30,
        is_multiprocess: bool = False,
        allowed_addresses: Collection[str] | None = None,
        write_timeout: float = 60.0,
    ) -> None:
        """Raises ValueError for a role that there is not, or one with two to play it."""
        max_connections = _most_connections(max_connections)
        values = {
            constants.MAX_CONNS: b"%d" % max_connections,
            constants.MAX_REQS: b"%d" % max_requests,
            constants.MPXS_CONNS: b"1",
        }
        self._service = Service(
            roles=_cast(app, roles, authorizer, filter),
            max_requests=max_requests,
            values=values,
            fixed={
                role: {**fixed_environ(name, is_multiprocess=is_multiprocess), **(environ or {})}
                for role, name in constants.ROLE_NAMES.items()
            },
            max_spooled=max_spooled,
            write_timeout=write_timeout,
        )
        self._max_connections = max_connections
        self._allowed = _addresses(allowed_addresses)
        self._connections: set[Connection] = set()
        self._left = Event()
        """Set when the last connection has ended while the server stops."""
        self._stopped = Event()
        listener.setblocking(False)
        self._family, self._kind, self._proto = listener.family, listener.type, listener.proto
        self._listener = _socket.socket(self._family, self._kind, self._proto, listener.detach())
        # Siblings may share the listener: none takes more than it can begin with.
        self._accepted_at_once = 1 if is_multiprocess else _ACCEPTED_AT_ONCE
        self._acceptor: Any = None

    def __repr__(self) -> str:
        return f"<FastCGIServer {len(self._connections)} connections, {self._service.open_requests} requests>"

    @property
    def address(self) -> Any:
        """Where it listens, as sockets have it: a path, or host and port."""
        return self._listener.getsockname()

    def start(self) -> None:
        """Begins to accept, and returns."""
        if self._acceptor is None:
            self._acceptor = get_hub().loop.io(self._listener.fileno(), 1)
            self._watch()

    def serve_forever(self) -> None:
        """Serves until `stop` has done its work."""
        self.start()
        self._stopped.wait()

    def stop(self, timeout: float = 30.0) -> None:
        """Accepts no more; open requests, and answers on their way, have `timeout` seconds, then they are killed.

        For half of them new requests are served beside those that are open on a connection, since nothing tells the web
        server to go elsewhere; later ones are ended with OVERLOADED.
        """
        deadline = monotonic() + timeout
        if not self._service.is_stopping:
            self._service.is_stopping = True
            if self._acceptor is not None:
                self._acceptor.stop()
                self._acceptor.close()
            self._listener.close()
        for connection in list(self._connections):
            get_hub().loop.run_callback(connection.end_if_idle)
        gevent.sleep(0)  # behind them
        for _ in range(2):
            if self._connections:
                self._left.wait(timeout / 2)
            self._service.is_late = True
        self._wait_for_requests(deadline - monotonic())
        for connection in list(self._connections):
            connection.break_off()
        self._wait_for_requests(1.0)
        self._stopped.set()

    def _wait_for_requests(self, seconds: float) -> None:
        if self._service.open_requests and seconds > 0:
            self._service.idle.clear()
            self._service.idle.wait(seconds)

    # Accepting

    def _watch(self) -> None:
        if self._service.is_stopping or self._acceptor is None:
            return
        if len(self._connections) < self._max_connections:
            self._acceptor.start(self._accept)
        else:
            self._acceptor.stop()

    def _accept(self) -> None:
        for _ in range(self._accepted_at_once):
            if len(self._connections) >= self._max_connections or self._service.is_stopping:
                break
            try:
                fd, address = self._listener._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:
                # Out of descriptors: the listener stays readable, and asking it at once would be in vain.
                _log.error("no connection accepted: %s", error)
                self._acceptor.stop()
                get_hub().loop.timer(_ACCEPT_PAUSE).start(self._watch)
                return
            self._serve(_socket.socket(self._family, self._kind, self._proto, fd), address)
        if len(self._connections) >= self._max_connections:
            self._watch()

    def _serve(self, sock: _socket.socket, address: Any) -> None:
        if self._allowed and isinstance(address, tuple) and _plain(address[0]) not in self._allowed:
            _log.warning("connection refused: %s is not in FCGI_WEB_SERVER_ADDRS", address[0])
            sock.close()
            return
        sock.setblocking(False)
        if self._family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self._service, sock, self._discard)
        self._connections.add(connection)
        connection.start()

    def _discard(self, connection: Connection) -> None:
        was_full = len(self._connections) >= self._max_connections
        self._connections.discard(connection)
        if was_full:
            self._watch()
        if self._service.is_stopping and not self._connections:
            self._left.set()


def _most_connections(wanted: int) -> int:
    """What is told of it (GET_VALUES) has to be true: no more than there can be descriptors."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if descriptors == resource.RLIM_INFINITY else max(1, min(wanted, descriptors - _OTHER_DESCRIPTORS))


def _cast(
    app: WSGIApp | None,
    roles: Collection[str],
    authorizer: Decide | None,
    filter: WSGIApp | None,
) -> dict[int, WSGIApp]:
    """Who plays which role. Raises ValueError."""
    played: list[tuple[str, WSGIApp]] = []
    if app is not None:
        played += [(role, app) for role in roles]
    if authorizer is not None:
        played.append(("authorizer", Authorizer(authorizer)))
    if filter is not None:
        played.append(("filter", filter))
    cast: dict[int, WSGIApp] = {}
    for name, player in played:
        role = _ROLES.get(name)
        if role is None:
            raise ValueError(f"the roles are {', '.join(_ROLES)}, not {name!r}")
        if role in cast:
            raise ValueError(f"two are to play the role {name}")
        cast[role] = player
    return cast


def _addresses(allowed: Collection[str] | None) -> frozenset[str]:
    if allowed is None:
        allowed = os.environ.get("FCGI_WEB_SERVER_ADDRS", "").split(",")
    return frozenset(_plain(address.strip()) for address in allowed if address.strip())


def _plain(address: str) -> str:
    """One spelling of an IP address; what is none stays as it is, and matches nothing."""
    return str(client_address(address) or address)
