"""The counters of a gateway, under lighttpd's names (docs/status.md).

Contract: `snapshot` reads the plain integers that pools and the gateway keep anyway; nothing is added up before
somebody asks. A counter of an entry of `fastcgi.server` has two names, gw.backend.* and fastcgi.backend.*, as lighttpd
has called it since 1.4.46 and before. Entries of one name, of several extensions, add up; a proc that they share
counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.errors import CAUSES

__all__ = ["render", "snapshot"]

_PREFIXES = ("gw.backend.", "fastcgi.backend.")
_OF_PROC = ("connected", "died", "disabled", "load", "overloaded")


def snapshot(pools: Iterable[Pool], failures: Mapping[str, int]) -> dict[str, int]:
    """All counters by name, in the order in which they are told; `failures` counts by cause. No pools: none."""
    pools = list(pools)
    if not pools:
        return {}
    procs = _procs_by_name(host for pool in pools for host in pool.hosts)
    counters = {
        "fastcgi.requests": sum(pool.leased for pool in pools),
        "gw.active-requests": sum(proc.load for proc in set().union(*procs.values())),
        "gw.waiting-requests": sum(pool.waiting for pool in pools),
    }
    of_hosts = _of_hosts(procs)
    for prefix in _PREFIXES:
        counters.update({prefix + name: value for name, value in of_hosts.items()})
    counters.update({f"gw.failed.{cause}": failures.get(cause, 0) for cause in sorted(CAUSES)})
    return counters


def _procs_by_name(hosts: Iterable[Host]) -> dict[str, dict[Proc, None]]:
    """The procs of all hosts of a name, in order: one that several of them share counts once."""
    procs: dict[str, dict[Proc, None]] = {}
    for host in hosts:
        procs.setdefault(host.name, {}).update(dict.fromkeys(host.procs))
    return procs


def _of_hosts(procs: Mapping[str, Iterable[Proc]]) -> dict[str, int]:
    counters: dict[str, int] = {}

    def add(name: str, value: int) -> None:
        counters[name] = counters.get(name, 0) + value

    for host, its_procs in procs.items():
        add(f"{host}.load", sum(proc.load for proc in its_procs))
        for proc in its_procs:
            for name in _OF_PROC:
                add(f"{host}.{proc.id}.{name}", getattr(proc, name))
            add(f"{host}.{proc.id}.idle", len(proc.idle))
    return counters


def render(counters: Mapping[str, int]) -> bytes:
    """The text of `status.statistics-url`: a line `name: value` for each."""
    return "".join(f"{name}: {value}\n" for name, value in counters.items()).encode()
