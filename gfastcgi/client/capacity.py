"""Asks backends how many connections they serve at once (FCGI_GET_VALUES, section 4.1), so that some can be kept.

Contract: each proc of unknown capacity is asked once when it runs, and again when it comes back; never on the way of a
request. An answer that is missing, late or no sound number leaves the capacity unknown. Since others may use the same
backend, connections that are kept by its word are renewed every second: who waits for it gets his turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import gevent

from gfastcgi.backend.backend import Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.client.probing import converse, probing
from gfastcgi.config import Address
from gfastcgi.errors import BackendError, BadRecord, ConnectError, ConnectTimeout
from gfastcgi.fcgi.connection import UnknownType, Values, WebServer
from gfastcgi.fcgi.constants import MAX_CONNS, MAX_REQS

__all__ = ["Census", "ask_capacity"]

log = logging.getLogger("gfastcgi")

_SECONDS = 1.0
_MOST = 65535
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds before a backend that could not be reached is asked again; the last one repeats."""

LIFE = 1.0
"""Seconds after which a connection is renewed."""


def ask_capacity(address: Address, *, seconds: float = _SECONDS) -> int | None:
    """The most connections, each with one request, that the backend serves at once; None: it does not tell.

    Raises `BackendError`, `BadRecord`.
    """
    core = WebServer()
    for event in converse(address, core, core.get_values((MAX_CONNS, MAX_REQS)), seconds=seconds):
        if isinstance(event, Values):
            return _judge(event.values)
        if isinstance(event, UnknownType):
            return None
    return None


def _judge(values: dict[bytes, bytes]) -> int | None:
    if MAX_CONNS not in values:
        return None
    told = [values[name] for name in (MAX_CONNS, MAX_REQS) if name in values]
    if not all(text.isdigit() and len(text) < 10 and int(text) > 0 for text in told):
        return None
    return min(*map(int, told), _MOST)


class Census:
    """Asks the procs of all pools. `ask` is `ask_capacity`; `sleep` takes seconds."""

    def __init__(
        self,
        *,
        ask: Callable[[Address], int | None] = ask_capacity,
        sleep: Callable[[float], object] = gevent.sleep,
    ) -> None:
        self._ask = ask
        self._sleep = sleep
        self._asking: dict[Proc, gevent.Greenlet[..., None]] = {}
        self._pools: list[Pool] = []
        self._renewing: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<Census asks {len(self._asking)} procs>"

    def start(self, pools: Iterable[Pool]) -> None:
        """Asks whoever runs already."""
        self._pools = list(pools)
        for pool in self._pools:
            for host in pool.hosts:
                for proc in host.procs:
                    self.consider(proc)

    def consider(self, proc: Proc) -> None:
        """`proc` came, went or changed its state: asks it, if it is one to be asked."""
        if proc.state is not State.RUNNING:
            asking = self._asking.pop(proc, None)
            if asking is not None:
                asking.kill(block=False)
        elif proc.capacity is None and proc.keep_alive and proc not in self._asking:
            self._asking[proc] = gevent.spawn(self._ask_until_told, proc)

    def stop(self) -> None:
        """Asks no more."""
        gevent.killall([*self._asking.values(), *([self._renewing] if self._renewing else [])])
        self._asking.clear()
        self._renewing = None

    def _ask_until_told(self, proc: Proc) -> None:
        tries = 0
        while not self._is_done(proc):
            self._sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def _is_done(self, proc: Proc) -> bool:
        """False when the proc could not be asked."""
        if not proc.hosts:
            return True
        host = proc.hosts[0]
        try:
            with probing(host, proc):
                capacity = self._ask(proc.address)
        except (ConnectError, ConnectTimeout, OSError):  # OSError: descriptors or memory are short here
            return False
        except (BackendError, BadRecord) as error:
            log.debug("%s does not tell its capacity: %s", proc.name, error)
            return True
        if capacity is not None:
            host.pool.learned(proc, capacity)
            log.info("%s serves %d connections at once, as it says: they are kept", proc.name, capacity)
            self._renewing = self._renewing or gevent.spawn(self._renew)
        return True

    def _renew(self) -> None:
        while True:
            gevent.sleep(LIFE)
            for pool in self._pools:
                for connection in pool.renew():
                    connection.close()
