"""What the pool keeps of backends: a `Host` is one entry of `fastcgi.server`, a `Proc` one address of it.

Contract: plain state without behaviour; pools alone change loads, states and counters. A host with `"bin-path"` has a
proc for each process, `<socket>-<id>` or port + id (id from 0) as lighttpd names them; a host name has one for each of
its addresses, once they are known; any other host has one. Hosts that name one address share its proc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, Any

from gfastcgi.backend.states import State
from gfastcgi.config import Address, HostConfig

if TYPE_CHECKING:
    from gfastcgi.backend.latency import Latency
    from gfastcgi.backend.pool import Pool

__all__ = ["Host", "Proc", "address_of", "addresses_of", "make_hosts", "make_proc", "make_procs", "needs_lookup"]

DEFAULT_HOST = "127.0.0.1"


class Proc:
    """One address that serves, with what is known of it."""

    __slots__ = (
        "address", "capacity", "cause", "connected", "crowded_above", "died", "disabled", "disabled_until", "grow",
        "has_served", "hosts", "id", "idle", "idle_since", "is_learned", "is_local", "keep_alive", "load", "name",
        "overloaded", "pid", "recovering", "requests", "state", "turn",
    )  # fmt: skip

    def __init__(
        self,
        address: Address,
        *,
        id: int = 0,
        state: State = State.UNSET,
        capacity: int | None,
        keep_alive: bool = True,
    ) -> None:
        self.address = address
        self.name = str(address)
        self.id = id
        self.state = state
        self.capacity = capacity
        """The most connections at once; None: unknown, then without limit and none is kept."""
        self.is_learned = False
        """Whether the backend told its capacity itself; it has to tell it anew after a failure."""
        self.keep_alive = keep_alive
        self.hosts: list[Host] = []
        """The entries that use it, of one pool or several."""
        self.pid = 0
        self.is_local = False
        """Whether the process is ours."""
        self.load = 0
        self.turn = 0
        """The number of its last lease."""
        self.idle: list[Any] = []
        """Kept connections, the last used at the end."""
        self.idle_since = 0.0
        """Since when it has nothing to do, by the pool's clock; out of date while it has."""
        self.grow: Callable[[], None] | None = None
        """Asks who starts and ends its process to look whether another one is wanted; None: there is nobody."""
        self.crowded_above: float = inf
        """The load above which that may be so."""
        self.disabled_until = 0.0
        """When it is tried again, by the pool's clock, if it is down."""
        self.cause = ""
        """Why it is down."""
        self.recovering: tuple[float, float] | None = None
        """From when to when, by the pool's clock, its share of the requests grows to the whole."""
        self.has_served = False
        """Whether it answered a request since it was started; whoever reads the head of an answer says so."""
        self.connected = self.died = self.disabled = self.overloaded = 0
        self.requests = 0
        """How many have ended there, whatever became of them."""

    def __repr__(self) -> str:
        return f"<Proc {self.name} {self.state.name} load {self.load} idle {len(self.idle)} pid {self.pid}>"


class Host:
    """One host entry. `name` is unique among the hosts of a pool and the same on every gateway."""

    __slots__ = ("config", "fault", "has_turns", "load", "measured", "name", "place", "pool", "procs", "weight")

    pool: Pool
    place: int
    """Where it stands among the hosts of its pool."""

    def __init__(self, config: HostConfig, procs: Sequence[Proc], *, name: str = "") -> None:
        self.config = config
        self.procs = list(procs)
        self.name = name or config.name or procs[0].name
        self.weight = config.weight
        self.has_turns = needs_lookup(config)
        """Whether procs of equal load take turns. Processes of ours do not: those that are not needed become idle."""
        self.load = 0
        """The requests at its procs, also those that other hosts sent there."""
        self.fault = ""
        """Why it has no procs."""
        self.measured: Latency | None = None

    @property
    def latency(self) -> float:
        """Seconds that its answers take; 0.0: nothing is known, or nobody wants to know."""
        return 0.0 if self.measured is None else self.measured.seconds

    def __repr__(self) -> str:
        return f"<Host {self.name} load {self.load} procs {len(self.procs)}>"


def make_proc(config: HostConfig, address: Address, id: int) -> Proc:
    """A new proc; a spawned one is UNSET, any other RUNNING."""
    state = State.UNSET if config.bin_path else State.RUNNING
    return Proc(address, id=id, state=state, capacity=config.max_connections, keep_alive=config.keep_alive is not False)


def make_procs(config: HostConfig) -> list[Proc]:
    """New procs for an entry; none for a host name, whose addresses are not known yet."""
    return [make_proc(config, address, id) for id, address in enumerate(addresses_of(config))]


def make_hosts(configs: Iterable[HostConfig], make: Callable[[HostConfig], list[Proc]] = make_procs) -> list[Host]:
    """The hosts of an extension; `make` gives the procs of an entry, new ones or some that others use already."""
    hosts: list[Host] = []
    taken: set[str] = set()
    for config in configs:
        procs = make(config)
        base = name = config.name or (procs[0].name if procs else str(address_of(config)))
        number = 1
        while name in taken:
            number += 1
            name = f"{base}#{number}"
        taken.add(name)
        hosts.append(Host(config, procs, name=name))
    return hosts


def address_of(config: HostConfig) -> Address:
    """The address that an entry names."""
    return Address(path=config.socket) if config.socket else Address(config.host or DEFAULT_HOST, config.port)


def needs_lookup(config: HostConfig) -> bool:
    """Whether the entry's host is a name, whose addresses have to be looked up."""
    if config.socket or config.bin_path or not config.host:
        return False
    try:
        ip_address(config.host)
    except ValueError:
        return True
    return False


def addresses_of(config: HostConfig) -> list[Address]:
    """The addresses of an entry's procs, as far as it tells them."""
    if config.bin_path:
        return [_spawned_address(config, id) for id in range(config.max_procs)]
    return [] if needs_lookup(config) else [address_of(config)]


def _spawned_address(config: HostConfig, id: int) -> Address:
    if config.socket:
        return Address(path=f"{config.socket}-{id}")
    return Address(config.host or DEFAULT_HOST, config.port + id)
