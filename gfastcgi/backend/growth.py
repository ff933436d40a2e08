"""How many processes a spawned host should run: which is started next, which is ended first.

Contract: pure. As lighttpd's adaptive spawning between `"min-procs"` and `"max-procs"`, but asked whenever a request
waits, not once a second. While a process rests after a crash, its host does not grow: the next would crash as well.
"""

from __future__ import annotations

from collections.abc import Collection

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.states import State

__all__ = ["PATIENCE", "count_alive", "grow", "is_coming", "is_crowded", "longest_idle", "next_to_start"]

PATIENCE = 1.0
"""Seconds; a process that is started again within them is waited for, by requests that nobody else can serve."""

_NOT_ALIVE = (State.UNSET, State.DIED, State.KILLED)
_STARTABLE = (State.UNSET, State.KILLED)


def count_alive(host: Host) -> int:
    """How many procs of `host` have a process, or are served by somebody else."""
    return sum(proc.state not in _NOT_ALIVE for proc in host.procs)


def next_to_start(host: Host) -> Proc | None:
    """The proc that is started when one more is needed; None: nobody starts any, all run, or one that died rests."""
    if not _is_supervised(host) or any(proc.state is State.DIED for proc in host.procs):
        return None
    return next((proc for proc in host.procs if proc.state in _STARTABLE), None)


def grow(host: Host) -> None:
    """Has the next process of `host` started, if there is one to start."""
    proc = next_to_start(host)
    if proc is not None and proc.grow is not None:
        proc.grow()


def is_crowded(host: Host) -> bool:
    """Whether every running proc has a load above `"max-load-per-proc"`."""
    loads = [proc.load for proc in host.procs if proc.state is State.RUNNING]
    return bool(loads) and min(loads) > host.config.max_load_per_proc


def is_coming(host: Host, tried: Collection[Proc], now: float) -> bool:
    """Whether a proc, none of `tried`, will run soon: it can be started, or is about to be started again."""
    if not _is_supervised(host):
        return False
    if next_to_start(host) is not None:
        return any(proc.state in _STARTABLE and proc not in tried for proc in host.procs)
    soon = now + PATIENCE
    return any(proc.state is State.DIED and proc.disabled_until <= soon and proc not in tried for proc in host.procs)


def longest_idle(host: Host) -> Proc | None:
    """The process that `"idle-timeout"` ends next: ours, without load; None while no more than `"min-procs"` run."""
    if count_alive(host) <= host.config.min_procs:
        return None
    idle = [proc for proc in host.procs if proc.state is State.RUNNING and proc.is_local and not proc.load]
    return min(idle, key=lambda proc: (proc.idle_since, -proc.id), default=None)


def _is_supervised(host: Host) -> bool:
    return bool(host.procs) and host.procs[0].grow is not None
