"""Builds the backends of a configuration: a pool for each list of hosts, a supervisor for each that is spawned.

Contract: keys, and sites, that share a list of hosts share its pool and its processes. Nothing is started here.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable

from gfastcgi.backend.backend import Host, Proc, make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import AsConfigured
from gfastcgi.config import HostConfig, Settings
from gfastcgi.log import VERBATIM
from gfastcgi.supervise.supervisor import Supervisor

__all__ = ["Backends", "of_mode"]

log = logging.getLogger("gfastcgi")


class Backends:
    """Every pool and supervisor of one configuration."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []
        self.supervisors: list[Supervisor] = []
        self._pools: dict[tuple[int, ...], Pool] = {}
        self._procs: dict[str, list[Proc]] = {}

    def prepare(self, settings: Settings) -> None:
        """Makes the pools of `settings`, those that are not there yet."""
        for extension in settings.extensions:
            for mode in ("responder", "authorizer"):
                hosts = of_mode(extension.hosts, mode)
                if hosts:
                    self.pool(hosts, settings)

    def pool(self, hosts: list[HostConfig], settings: Settings) -> Pool:
        """The pool of `hosts`; the same one for the same hosts."""
        key = tuple(map(id, hosts))
        found = self._pools.get(key)
        if found is not None:
            return found
        live = make_hosts(hosts)
        self._keep_no_shared(live)
        debug = _log_debug if settings.debug else None
        pool = Pool(live, AsConfigured(random.Random()), clock=time.monotonic, log=debug, level=settings.debug)
        self._pools[key] = pool
        self.pools.append(pool)
        supervisors = [Supervisor(host, pool, log=log.info) for host in live if host.config.bin_path]
        self.supervisors += supervisors
        # For "min-procs" => 0: the first request starts a process.
        pool.wake = lambda: any(supervisor.want_one() for supervisor in supervisors)
        return pool

    def _keep_no_shared(self, hosts: Iterable[Host]) -> None:
        """An address that several pools use keeps no connection: one that is idle would starve the other pools."""
        for proc in (proc for host in hosts for proc in host.procs):
            same = self._procs.setdefault(proc.name, [])
            same.append(proc)
            for each in same:
                each.keep_alive = each.keep_alive and len(same) == 1


def _log_debug(line: str) -> None:
    log.info(line, extra=VERBATIM)


def of_mode(hosts: Iterable[HostConfig], mode: str) -> list[HostConfig]:
    """The hosts of one FastCGI role."""
    return [host for host in hosts if host.mode == mode]
