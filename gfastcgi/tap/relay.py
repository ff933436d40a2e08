"""Forwards connections, byte for byte, both ways; an end and a loss are passed on as they come.

Contract: `on_event` is called from the hub, in the order in which things happened, and must neither wait nor raise.
Nothing is read before what was read earlier has gone on: a slow side slows the other down, as without us.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from gfastcgi.config import Address
from gfastcgi.errors import BackendError, ConnectError, StreamError
from gfastcgi.net.connecting import connect
from gfastcgi.net.dns import LookupFailed, look_up
from gfastcgi.net.streams import Stream
from gfastcgi.tap.events import Event, Side, What

__all__ = ["Relay", "dial"]

_CONNECT_SECONDS = 8.0


class Relay:
    """Listens on `listener`, and connects to `target` for each connection that comes."""

    def __init__(self, listener: socket.socket, target: Address, on_event: Callable[[Event], None]) -> None:
        self._target = target
        self._on_event = on_event
        self._start = monotonic()
        self._count = 0
        self._running = Pool()
        self._server = StreamServer(listener, self._serve, spawn=self._running)

    def __repr__(self) -> str:
        return f"<Relay to {self._target}, {len(self._running)} connections>"

    def start(self) -> None:
        """Accepts from now on."""
        self._server.start()

    def close(self) -> None:
        """Accepts no more; connections go on."""
        self._server.close()

    def wait(self, timeout: float) -> None:
        """Returns when all connections are over, or after `timeout` seconds."""
        self._running.join(timeout)

    def cut(self) -> None:
        """Ends what is left."""
        self._running.kill()

    def _serve(self, sock: socket.socket, peer: Any) -> None:
        self._count += 1
        _Connection(self._count, self._tell).run(Stream.adopt(sock), _name_of(peer), self._target)

    def _tell(self, connection: int, what: What, data: bytes, text: str) -> None:
        self._on_event(Event(monotonic() - self._start, connection, what, data, text))


class _Connection:
    """One of them."""

    def __init__(self, number: int, tell: Callable[[int, What, bytes, str], None]) -> None:
        self._number = number
        self._tell_all = tell
        self._why = ""

    def _tell(self, what: What, data: bytes = b"", text: str = "") -> None:
        self._tell_all(self._number, what, data, text)

    def run(self, front: Stream, peer: str, target: Address) -> None:
        """Its life, to the end of both sides."""
        self._tell("open", text=peer)
        try:
            backend = dial(target)
        except (BackendError, OSError) as error:
            front.close()
            self._tell("close", text=str(error))
            return
        front.no_delay()
        back = gevent.spawn(self._pass_on, "backend", backend, front)
        try:
            self._pass_on("front", front, backend)
            back.join()
        finally:
            back.kill()
            front.close()
            backend.close()
            self._tell("close", text=self._why)

    def _pass_on(self, side: Side, source: Stream, sink: Stream) -> None:
        try:
            while data := source.recv():
                self._tell(side, data)
                sink.send_all(data)
            self._tell("front-end" if side == "front" else "backend-end")
            sink.shutdown_write()
        except StreamError as error:
            # One of them is gone: so is the connection, and whoever waits on the other half has to know.
            self._why = self._why or str(error)
            for stream in (source, sink):
                with suppress(StreamError):
                    stream.hang_up()


def dial(target: Address) -> Stream:
    """A connection to `target`, which may be a name. Raises `BackendError`; OSError when descriptors are short."""
    if target.path or not any(char.isalpha() for char in target.host) or ":" in target.host:
        return connect(target, _CONNECT_SECONDS)
    try:
        host = look_up(target.host)[0]
    except LookupFailed as error:
        raise ConnectError(f"{target.host}: {error}", cause="connect_failed") from error
    return connect(Address(host=host, port=target.port), _CONNECT_SECONDS)


def _name_of(peer: Any) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a unix socket"
