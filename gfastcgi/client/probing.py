"""A short conversation with a backend beside the requests: on a connection of its own, within a few seconds.

Contract: the connection is closed when the caller stops asking for events. A probe counts as load of its proc.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.config import Address
from gfastcgi.errors import BackendClosed, BackendTimeout, StreamClosed, StreamTimeout
from gfastcgi.fcgi.connection import Event, WebServer
from gfastcgi.net.connecting import connect

__all__ = ["converse", "probing"]


def converse(address: Address, core: WebServer, data: bytes, *, seconds: float) -> Iterator[Event]:
    """Sends `data` and gives what comes back, until the backend closes.

    Raises `ConnectError`, `ConnectTimeout`, `BackendTimeout` when `seconds` have passed, `BackendClosed`, `BadRecord`.
    """
    end = monotonic() + seconds
    stream = connect(address, seconds)
    try:
        stream.write_timeout = seconds
        stream.send_all(data)
        while (left := end - monotonic()) > 0:
            stream.read_timeout = left
            received = stream.recv()
            if not received:
                return
            yield from core.receive_data(received)
        raise StreamTimeout("the time is up")
    except StreamTimeout as error:
        raise BackendTimeout(f"{address}: no answer within {seconds:g} s") from error
    except StreamClosed as error:
        raise BackendClosed(f"{address}: {error}") from error
    finally:
        stream.close()


@contextmanager
def probing(host: Host, proc: Proc) -> Iterator[bool]:
    """A slot of `proc` for a probe; False when requests use all of them."""
    pool = host.pool
    lease = pool.probe(host, proc)
    if lease is not None and lease.connection is not None:
        lease.connection.close()
    try:
        yield lease is not None
    finally:
        if lease is not None:
            pool.release(lease)
