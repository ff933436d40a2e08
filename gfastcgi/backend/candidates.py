"""Which hosts of a pool have a free slot, and which of a host's procs gets the next request.

Plan: the hosts are found once and then kept, in the order of the configuration; a host that gets full, or is no longer,
leaves or joins. They are a tuple, which is exchanged and never changed, so that policies know it when it comes again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from operator import attrgetter

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.states import State

__all__ = ["Candidates", "free_proc"]

_RUNNING = State.RUNNING
_place_of = attrgetter("place")


class Candidates:
    """The hosts of one pool that have a free slot. `hosts` are in the order of the configuration."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._free: tuple[Host, ...] | None = None
        for place, host in enumerate(hosts):
            host.place = place

    def __repr__(self) -> str:
        return f"<Candidates {'unknown' if self._free is None else len(self._free)} of {len(self._hosts)}>"

    def find(self, tried: Collection[Proc] = ()) -> tuple[Host, ...]:
        """Those that have a free slot at a proc that is none of `tried`."""
        if tried:
            return tuple(host for host in self._hosts if free_proc(host, tried) is not None)
        if self._free is None:
            self._free = tuple(host for host in self._hosts if free_proc(host, ()) is not None)
        return self._free

    def forget(self) -> None:
        """Much may have changed: they are found anew."""
        self._free = None

    def update(self, host: Host) -> None:
        """A proc of `host` got full, or is no longer."""
        free = self._free
        if free is None:
            return
        place = bisect_left(free, host.place, key=_place_of)
        is_known = place < len(free) and free[place] is host
        has_slot = free_proc(host, ()) is not None
        if is_known and not has_slot:
            self._free = free[:place] + free[place + 1 :]
        elif has_slot and not is_known:
            self._free = (*free[:place], host, *free[place:])


def free_proc(host: Host, tried: Collection[Proc]) -> Proc | None:
    """The running proc of `host`, none of `tried`, that gets the next request; None: all are full.

    The least loaded; among equals one with a kept connection, which saves connecting, or who is longest not asked.
    """
    best: Proc | None = None
    has_turns = host.has_turns
    for proc in host.procs:
        capacity = proc.capacity
        if proc.state is not _RUNNING or (capacity is not None and proc.load >= capacity) or (tried and proc in tried):
            continue
        if (
            best is None
            or proc.load < best.load
            or (proc.load == best.load and (proc.turn < best.turn if has_turns else proc.idle and not best.idle))
        ):
            best = proc
    return best
