"""Builds the backends of a configuration: a pool for each list of hosts, a supervisor for each that is spawned.

Contract: keys, and sites, that share a list of hosts share its pool. Entries that name the same address share its proc,
with its capacity, kept connections and process; the first of them says how it is spawned. Nothing is started here.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable

from gfastcgi.backend.backend import Proc, address_of, addresses_of, make_hosts, make_proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.slow_start import SlowStart
from gfastcgi.balance import AsConfigured
from gfastcgi.config import Address, HostConfig, Settings
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
        self._procs: dict[Address, Proc] = {}
        self._spawned: dict[Address, HostConfig] = {}
        self._supervisors: dict[Address, Supervisor] = {}

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
        live = make_hosts(hosts, self._find_procs)
        rng = random.Random()
        pool = Pool(
            live, AsConfigured(rng), clock=time.monotonic, log=_log_debug if settings.debug else None,
            level=settings.debug, slow_start=SlowStart(time.monotonic, rng),
        )  # fmt: skip
        self._pools[key] = pool
        self.pools.append(pool)
        supervisors: list[Supervisor] = []
        for host in live:
            if host.config.bin_path:
                address = address_of(host.config)
                if address not in self._supervisors:
                    self._supervisors[address] = Supervisor(host, pool, log=log.info)
                    self.supervisors.append(self._supervisors[address])
                supervisors.append(self._supervisors[address])
        # For "min-procs" => 0: the first request starts a process.
        pool.wake = lambda: any(supervisor.want_one() for supervisor in supervisors)
        return pool

    def _find_procs(self, config: HostConfig) -> list[Proc]:
        """The procs of an entry, those that are known by their address among them."""
        if config.bin_path:
            config = self._spawned.setdefault(address_of(config), config)
        return [self._find_proc(config, address, id) for id, address in enumerate(addresses_of(config))]

    def _find_proc(self, config: HostConfig, address: Address, id: int) -> Proc:
        proc = self._procs.get(address)
        if proc is None:
            proc = self._procs[address] = make_proc(config, address, id)
        elif config.max_connections is not None:
            proc.capacity = min(config.max_connections, proc.capacity or config.max_connections)
        proc.keep_alive = proc.keep_alive and config.keep_alive is not False
        return proc


def _log_debug(line: str) -> None:
    log.info(line, extra=VERBATIM)


def of_mode(hosts: Iterable[HostConfig], mode: str) -> list[HostConfig]:
    """The hosts of one FastCGI role."""
    return [host for host in hosts if host.mode == mode]
