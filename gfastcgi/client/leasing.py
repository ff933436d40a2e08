"""How a greenlet gets a lease from a pool: at once, or by waiting for its turn, first come first served.

Contract: `obtain` returns a lease that the caller has to release, or raises; a greenlet that is killed while it waits
leaves nothing behind. The pool decides, here is only waited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent import get_hub

from gfastcgi.backend.backend import Proc
from gfastcgi.backend.pool import Lease, Pool
from gfastcgi.balance.base import RequestKey
from gfastcgi.errors import NoBackendAvailable, Overloaded, StreamTimeout
from gfastcgi.net.deadlines import Deadlines

__all__ = ["obtain"]

_FOREVER = 1e9


def obtain(pool: Pool, request: RequestKey, tried: list[Proc]) -> Lease:
    """A lease on a proc that is none of `tried`.

    Raises `NoBackendAvailable` when none runs, `Overloaded` after `"queue-timeout"` seconds in the queue.
    """
    return pool.acquire(request, tried) or _queue(pool, request, tried)


def _queue(pool: Pool, request: RequestKey, tried: list[Proc]) -> Lease:
    turn = _Turn(request, tried)
    pool.enqueue(turn)
    try:
        _await(pool, turn)
    except BaseException:
        pool.leave(turn)
        if turn.lease is not None:
            for connection in pool.release(turn.lease, keep=turn.lease.connection):
                connection.close()
        raise
    if turn.lease is None:
        raise turn.error or NoBackendAvailable("no backend is available")
    return turn.lease


def _await(pool: Pool, turn: _Turn) -> None:
    seconds = pool.hosts[0].config.queue_timeout or _FOREVER
    end = monotonic() + seconds
    while turn.lease is None and turn.error is None:
        now = monotonic()
        if now >= end:
            raise Overloaded(f"no free connection within {seconds} s", cause="queue_timeout")
        # A proc that has rested serves those who wait, though no new request asks for it.
        rested = pool.tick() or end
        with contextlib.suppress(StreamTimeout):
            Deadlines.here().wait(turn, max(min(end, rested) - now, 0.001))


class _Turn:
    """A place in the pool's queue; to the hub it looks like a watcher that fires when the lease is granted."""

    __slots__ = ("_args", "_callback", "error", "lease", "request", "tried")

    def __init__(self, request: RequestKey, tried: list[Proc]) -> None:
        self.request = request
        self.tried = tried
        self.lease: Lease | None = None
        self.error: NoBackendAvailable | None = None
        self._callback: Callable[..., Any] | None = None
        self._args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"<_Turn {'granted' if self.lease else 'failed' if self.error else 'waiting'}>"

    def start(self, callback: Callable[..., Any], *args: Any) -> None:
        """The hub waits: `callback` is to be called."""
        self._callback, self._args = callback, args
        if self.lease is not None or self.error is not None:
            self._wake()

    def stop(self) -> None:
        """The hub waits no more."""
        self._callback = None

    def grant(self, lease: Lease) -> None:
        """The pool has a lease for it."""
        self.lease = lease
        self._wake()

    def fail(self, error: NoBackendAvailable) -> None:
        """The pool will never have one."""
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._callback is not None:
            get_hub().loop.run_callback(self._fire)

    def _fire(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)
