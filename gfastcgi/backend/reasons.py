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
    procs = [proc for host in hosts for proc in host.procs]
    reasons = [_describe(proc, is_tried=proc in tried) for proc in procs]
    reasons += [f"{host.name} has no address ({host.fault or 'not looked up yet'})" for host in hosts if not host.procs]
    cause = "no_backend"
    if any(proc.state is State.OVERLOADED for proc in procs):
        cause = "overloaded"
    elif {proc.cause for proc in procs if proc.state in _DOWN} == {"spawn_failed"}:
        cause = "spawn_failed"
    return NoBackendAvailable(f"no backend is available: {', '.join(reasons)}", cause=cause)


def _describe(proc: Proc, *, is_tried: bool) -> str:
    if proc.cause == "spawn_failed":
        return f"{proc.name} cannot be started"
    if proc.state not in _DOWN:
        return f"{proc.name} {'was tried' if is_tried else 'is not started'}"
    return f"{proc.name} {_DOWN[proc.state]} ({proc.cause})"
