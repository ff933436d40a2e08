"""How a greenlet gets a lease from a pool: at once, or by waiting for its turn, first come first served.

Contract: `obtain` returns a lease that the caller has to release, or raises; a greenlet that is killed while it waits
leaves nothing behind. The pool decides, here is only waited.
"""

from __future__ import annotations

from time import monotonic

from gevent import getcurrent

from gfastcgi.backend.backend import Proc
from gfastcgi.backend.pool import Lease, Pool
from gfastcgi.balance.base import RequestKey
from gfastcgi.errors import NoBackendAvailable, Overloaded, StreamTimeout
from gfastcgi.net.rounds import Round

__all__ = ["obtain"]

_FOREVER = 1e9
_LOOK_AGAIN = 1.0
"""Seconds after which who waits looks for procs that began to rest meanwhile."""


def obtain(pool: Pool, request: RequestKey, tried: list[Proc]) -> Lease:
    """A lease on a proc that is none of `tried`.

    Raises `NoBackendAvailable` when none runs, `Overloaded` after `"queue-timeout"` seconds in the queue.
    """
    # Nobody overtakes those who wait: what is free is theirs.
    if (tried or not pool.waiters) and (lease := pool.acquire(request, tried)) is not None:
        return lease
    turn = _Turn(request, tried)
    pool.enqueue(turn)
    try:
        if turn.lease is None and turn.error is None:
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
    now = monotonic()
    end = now + seconds
    # A proc that has rested serves those who wait, though no new request asks for it; it may serve us right here.
    rested = pool.tick() or end
    while turn.lease is None and turn.error is None:
        if now >= end:
            raise Overloaded(f"no free connection within {seconds} s", cause="queue_timeout")
        turn.is_parked = True
        try:
            turn.round.deadlines.park(max(min(end, rested, now + _LOOK_AGAIN) - now, 0.001))
            return
        except StreamTimeout:
            now = monotonic()
            rested = pool.tick() or end
        finally:
            turn.is_parked = False


class _Turn:
    """A place in the pool's queue, and the greenlet that waits there."""

    __slots__ = ("_greenlet", "error", "is_parked", "lease", "request", "round", "tried")

    def __init__(self, request: RequestKey, tried: list[Proc]) -> None:
        self.request = request
        self.tried = tried
        self.lease: Lease | None = None
        self.error: NoBackendAvailable | None = None
        self.is_parked = False
        """Whether the greenlet has given the hub its turn, and waits for nothing else."""
        self._greenlet = getcurrent()
        self.round = Round.here()

    def __repr__(self) -> str:
        return f"<_Turn {'granted' if self.lease else 'failed' if self.error else 'waiting'}>"

    def grant(self, lease: Lease) -> None:
        """The pool has a lease for it."""
        self.lease = lease
        if self.is_parked:
            self.round.resume(self)

    def fail(self, error: NoBackendAvailable) -> None:
        """The pool will never have one."""
        self.error = error
        if self.is_parked:
            self.round.resume(self)

    def resume(self) -> None:
        """Lets the greenlet go on."""
        # It may have been killed, or have timed out, in the meantime.
        if self.is_parked:
            self._greenlet.switch()
