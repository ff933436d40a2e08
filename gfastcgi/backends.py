"""Builds the backends of a configuration: a pool for each list of hosts, a supervisor for each that is spawned.

Contract: keys, and sites, that share a list of hosts share its pool. Entries that name the same address share its proc,
with its capacity, kept connections and process; the first of them says how it is spawned. Building starts nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable

import gevent

from gfastcgi.backend.backend import Host, Proc, address_of, addresses_of, make_hosts, make_proc, needs_lookup
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.slow_start import SlowStart
from gfastcgi.backend.states import State
from gfastcgi.balance import AsConfigured, Factory, wants_latency
from gfastcgi.client.capacity import Census
from gfastcgi.client.health import HealthChecks
from gfastcgi.client.resolving import Resolving
from gfastcgi.config import Address, HostConfig, Settings
from gfastcgi.errors import InvalidValue, PluginError
from gfastcgi.log import VERBATIM
from gfastcgi.plugins import find_balance
from gfastcgi.supervise.supervisor import Supervisor

__all__ = ["Backends", "is_elsewhere", "of_mode"]

log = logging.getLogger("gfastcgi")


class Backends:
    """Every pool and supervisor of one configuration."""

    def __init__(self, balances: Iterable[str]) -> None:
        """`balances` are the names that `fastcgi.balance` has anywhere. Raises `InvalidValue`."""
        factories = [_find_balance(name) for name in balances]
        self._measures = any(map(wants_latency, factories))
        self.pools: list[Pool] = []
        self.keys: dict[Pool, list[str]] = {}
        """The keys of `fastcgi.server` that lead to a pool, as far as it was prepared."""
        self.supervisors: list[Supervisor] = []
        self._pools: dict[tuple[int, ...], Pool] = {}
        self._procs: dict[Address, Proc] = {}
        self._spawned: dict[Address, HostConfig] = {}
        self._supervised: set[Address] = set()
        self._census = Census()
        self._resolvings: dict[Host, Resolving] = {}
        self._checks: list[HealthChecks] = []

    def prepare(self, settings: Settings) -> None:
        """Makes the pools of `settings`, those that are not there yet."""
        for extension in settings.extensions:
            for mode in ("responder", "authorizer"):
                hosts = of_mode(extension.hosts, mode)
                if hosts and not is_elsewhere(hosts[0]):
                    keys = self.keys.setdefault(self.pool(hosts, settings), [])
                    if extension.key not in keys:
                        keys.append(extension.key)

    def pool(self, hosts: list[HostConfig], settings: Settings) -> Pool:
        """The pool of `hosts`; the same one for the same hosts."""
        key = tuple(map(id, hosts))
        found = self._pools.get(key)
        if found is not None:
            return found
        live = make_hosts(hosts, self._find_procs)
        rng = random.Random()
        pool = Pool(
            live, AsConfigured(rng, _find_balance), clock=time.monotonic, log=_log_debug if settings.debug else None,
            level=settings.debug, slow_start=SlowStart(time.monotonic, rng), measures=self._measures,
        )  # fmt: skip
        self._pools[key] = pool
        self.pools.append(pool)
        pool.on_move = self._moved
        for host in live:
            if needs_lookup(host.config):
                self._resolvings[host] = Resolving(host, self._find_proc, self._forget)
            if host.config.health_check is not None:
                self._checks.append(HealthChecks(host, settings.document_root))
        for host in live:
            address = address_of(host.config)
            if host.config.bin_path and address not in self._supervised:
                self._supervised.add(address)
                self.supervisors.append(Supervisor(host, pool, log=log.info))
        return pool

    def start(self) -> None:
        """Starts processes, looks names up once, then watches over all. Raises `SpawnError`."""
        for supervisor in self.supervisors:
            supervisor.start()
        gevent.joinall([resolving.start() for resolving in self._resolvings.values()])
        self._census.start(self.pools)
        for checks in self._checks:
            checks.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Ends what `start` started, deaf processes by force after `timeout` seconds. Closes the kept connections."""
        watches: list[Census | Resolving | HealthChecks] = [self._census, *self._resolvings.values(), *self._checks]
        for watch in watches:
            watch.stop()
        gevent.joinall([gevent.spawn(supervisor.stop, timeout) for supervisor in self.supervisors])
        for pool in self.pools:
            for connection in pool.drain():
                connection.close()

    def _moved(self, proc: Proc) -> None:
        self._census.consider(proc)
        if proc.state is State.DISABLED:
            for host in proc.hosts:
                if host in self._resolvings:
                    self._resolvings[host].hurry()

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
        if config.bin_path:
            # An entry without "bin-path" may have named it before; nothing runs yet.
            proc.id, proc.state = id, State.UNSET
        proc.keep_alive = proc.keep_alive and config.keep_alive is not False
        return proc

    def _forget(self, proc: Proc) -> None:
        self._procs.pop(proc.address, None)


def _find_balance(name: str) -> Factory:
    try:
        factory = find_balance(name)
    except PluginError as error:
        raise InvalidValue(f"fastcgi.balance: {error}") from error
    if factory is None:
        raise InvalidValue(f'fastcgi.balance: there is no balance named "{name}"')
    return factory


def _log_debug(line: str) -> None:
    log.info(line, extra=VERBATIM)


def is_elsewhere(host: HostConfig) -> bool:
    """Whether this authorizer is asked otherwise than by FastCGI, and so has no backend."""
    return bool(host.url or host.python)


def of_mode(hosts: Iterable[HostConfig], mode: str) -> list[HostConfig]:
    """The hosts of one FastCGI role."""
    return [host for host in hosts if host.mode == mode]
