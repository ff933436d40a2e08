"""Why no backend is available, in words: each proc with what is wrong with it, alike until that changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.states import State
from gfastcgi.errors import NoBackendAvailable

__all__ = ["unavailable"]

_DOWN = {
    State.OVERLOADED: "rests",
    State.DISABLED: "is disabled",
    State.DIED: "died",
    State.KILLED: "was ended",
    State.UNHEALTHY: "is unhealthy",
}


def unavailable(hosts: Sequence[Host], tried: Collection[Proc]) -> NoBackendAvailable:
    """The error that says why none of `hosts` serves a request that `tried` some procs already."""
    reasons = [_describe(proc, is_tried=proc in tried) for host in hosts for proc in host.procs]
    reasons += [f"{host.name} has no address ({host.fault or 'not looked up yet'})" for host in hosts if not host.procs]
    is_overloaded = any(proc.state is State.OVERLOADED for host in hosts for proc in host.procs)
    cause = "overloaded" if is_overloaded else "no_backend"
    return NoBackendAvailable(f"no backend is available: {', '.join(reasons)}", cause=cause)


def _describe(proc: Proc, *, is_tried: bool) -> str:
    if proc.state not in _DOWN:
        return f"{proc.name} {'was tried' if is_tried else 'is not started'}"
    return f"{proc.name} {_DOWN[proc.state]} ({proc.cause})"
