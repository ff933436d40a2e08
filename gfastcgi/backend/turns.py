"""Whose turn it is: slots that get free go to those who wait, first come first served, whatever pool they wait in.

Contract: pure. One who has tried a proc already is passed over for it, and keeps his place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.lease import Waiter

if TYPE_CHECKING:
    from gfastcgi.backend.pool import Pool

__all__ = ["hand_over", "serve"]


def hand_over(proc: Proc) -> None:
    """Gives a slot of `proc` to who has waited longest for it, in any pool."""
    if proc.capacity is not None and proc.load >= proc.capacity:
        return
    first: tuple[float, Host, Waiter] | None = None
    for host in proc.hosts:
        for waiter, since in host.pool.waiters.items():
            if proc not in waiter.tried:
                if first is None or since < first[0]:
                    first = since, host, waiter
                break
    if first is not None:
        _, host, waiter = first
        del host.pool.waiters[waiter]
        waiter.grant(host.pool.take(host, proc))


def serve(pools: Iterable[Pool]) -> None:
    """Serves the waiters of `pools` in the order in which they came, as far as slots are free."""
    queue = [(since, pool, waiter) for pool in dict.fromkeys(pools) for waiter, since in pool.waiters.items()]
    queue.sort(key=lambda place: place[0])
    for _, pool, waiter in queue:
        lease = pool.lease_for(waiter.request, waiter.tried)
        if lease is not None:
            del pool.waiters[waiter]
            waiter.grant(lease)
