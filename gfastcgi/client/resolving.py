"""A backend that is named by a host name: all addresses of the name are procs of its host, looked up again and again.

Contract: a lookup that fails changes nothing. An address that the name no longer has gets no new request; those that
it works on are finished. When a proc fails the name is looked up early, but not more than once a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import Event

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.config import Address, HostConfig
from gfastcgi.net.dns import LookupFailed, look_up

__all__ = ["Resolving"]

log = logging.getLogger("gfastcgi")

_SHORTEST_PAUSE = 1.0


class Resolving:
    """The lookups for one host. `find_proc` gives the proc of an address, `forget` takes back one without a host."""

    def __init__(
        self,
        host: Host,
        find_proc: Callable[[HostConfig, Address, int], Proc],
        forget: Callable[[Proc], None],
        *,
        lookup: Callable[[str], list[str]] = look_up,
    ) -> None:
        self.host = host
        self._find_proc = find_proc
        self._forget = forget
        self._lookup = lookup
        self._is_wanted = Event()
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<Resolving {self.host.config.host} {len(self.host.procs)} addresses>"

    def refresh(self) -> None:
        """Looks the name up once, and gives the host its addresses."""
        name = self.host.config.host
        try:
            addresses = self._lookup(name)
        except LookupFailed as error:
            addresses, fault = [], str(error)
        else:
            fault = "" if addresses else "no addresses"
        if fault:
            if fault != self.host.fault:
                log.error("the backend %s is not found: %s", name, fault)
            self.host.fault = fault
            return
        self.host.fault = ""
        self._set_addresses(addresses)

    def _set_addresses(self, addresses: list[str]) -> None:
        host, config = self.host, self.host.config
        pool = host.pool
        known = {proc.address.host: proc for proc in host.procs}
        come = [address for address in addresses if address not in known]
        gone = [proc for address, proc in known.items() if address not in addresses]
        if come or gone:
            log.info("the backend %s is at %s", config.host, ", ".join(addresses))
        for address in come:
            id = next(id for id in range(len(host.procs) + 1) if all(proc.id != id for proc in host.procs))
            pool.add(host, self._find_proc(config, Address(address, config.port), id))
        for proc in gone:
            for connection in pool.remove(host, proc):
                connection.close()
            if not proc.hosts:
                self._forget(proc)

    def start(self) -> gevent.Greenlet[..., None]:
        """Looks up again after `"resolve"` seconds, and so on; the returned greenlet ends with the first lookup."""
        first = gevent.spawn(self.refresh)
        self._greenlet = gevent.spawn(self._run, first)
        return first

    def hurry(self) -> None:
        """Looks the name up now, since an address of it failed."""
        self._is_wanted.set()

    def stop(self) -> None:
        """Looks up no more."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _run(self, first: gevent.Greenlet[..., None]) -> None:
        first.join()
        while True:
            ended = monotonic()
            self._is_wanted.wait(self.host.config.resolve if self.host.procs else _SHORTEST_PAUSE)
            gevent.sleep(max(ended + _SHORTEST_PAUSE - monotonic(), 0.0))
            self._is_wanted.clear()
            self.refresh()
