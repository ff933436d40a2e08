"""What a running gateway is doing, as one record: what the control socket answers to "overview".

Contract: plain data, fit for JSON. Nothing is added up before somebody asks. `requests` is in every record, a number
that only grows while the gateway runs, so that two records give its rates (`status/rates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool

__all__ = ["Decided", "Overview", "authorizers_of", "backends_of"]

Overview = dict[str, Any]


class Decided(Protocol):
    """The counts of a gate."""

    allowed: int
    denied: int
    failed: int
    kept: int


def backends_of(pools: Mapping[Pool, Sequence[str]]) -> Overview:
    """All about the backends; `pools` have the keys of `fastcgi.server` that lead to them."""
    procs = {proc for pool in pools for host in pool.hosts for proc in host.procs}
    return {
        "backend_requests": sum(pool.leased for pool in pools),
        "active": sum(proc.load for proc in procs),
        "waiting": sum(pool.waiting for pool in pools),
        "pools": [_pool(pool, keys) for pool, keys in pools.items()],
    }


def authorizers_of(gates: Iterable[tuple[str, str, Decided]]) -> Overview:
    """All about the decisions; a gate is its key, how it is asked, and its counts. Gates alike in both add up."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for key, transport, counts in gates:
        known = sums.setdefault((key, transport), dict.fromkeys(("requests", "allowed", "denied", "failed", "kept"), 0))
        for name in ("allowed", "denied", "failed", "kept"):
            known[name] += getattr(counts, name)
        known["requests"] += counts.allowed + counts.denied + counts.failed
    total = {name: sum(each[name] for each in sums.values()) for name in ("allowed", "denied", "failed", "kept")}
    return {
        "decisions": {"requests": total["allowed"] + total["denied"] + total["failed"], **total},
        "authorizers": [{"key": key, "transport": transport, **known} for (key, transport), known in sums.items()],
    }


def _pool(pool: Pool, keys: Sequence[str]) -> Overview:
    return {
        "keys": list(keys),
        "mode": pool.hosts[0].config.mode,
        "waiting": pool.waiting,
        "requests": pool.leased,
        "hosts": [_host(host) for host in pool.hosts],
    }


def _host(host: Host) -> Overview:
    return {
        "name": host.name,
        "load": host.load,
        "requests": sum(proc.requests for proc in host.procs),
        "cause": host.fault,
        "procs": [_proc(proc) for proc in host.procs],
    }


def _proc(proc: Proc) -> Overview:
    return {
        "id": proc.id,
        "address": proc.name,
        "pid": proc.pid,
        "state": proc.state.name.lower(),
        "cause": proc.cause,
        "load": proc.load,
        "capacity": proc.capacity,
        "kept": len(proc.idle),
        "requests": proc.requests,
        "connected": proc.connected,
        "died": proc.died,
        "disabled": proc.disabled,
        "overloaded": proc.overloaded,
    }
