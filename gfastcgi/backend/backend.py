"""What the pool keeps of backends: a `Host` is one entry of `fastcgi.server`, a `Proc` one address of it.

Contract: plain state without behaviour; the pool alone changes loads, states and counters. A host with `"bin-path"`
has a proc for each process, `<socket>-<id>` or port + id (id from 0) as lighttpd names them; any other host has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gfastcgi.backend.states import State
from gfastcgi.config import Address, HostConfig

__all__ = ["Host", "Proc", "make_hosts"]

DEFAULT_HOST = "127.0.0.1"


class Proc:
    """One address that serves, with what is known of it."""

    __slots__ = (
        "address", "capacity", "cause", "connected", "died", "disabled", "disabled_until", "has_served", "id", "idle",
        "is_local", "keep_alive", "load", "name", "overloaded", "pid", "state",
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
        self.keep_alive = keep_alive
        self.pid = 0
        self.is_local = False
        """Whether the process is ours."""
        self.load = 0
        self.idle: list[Any] = []
        """Kept connections, the last used at the end."""
        self.disabled_until = 0.0
        """When it is tried again, by the pool's clock, if it is down."""
        self.cause = ""
        """Why it is down."""
        self.has_served = False
        """Whether it gave a whole answer since it was started."""
        self.connected = self.died = self.disabled = self.overloaded = 0

    def __repr__(self) -> str:
        return f"<Proc {self.name} {self.state.name} load {self.load} idle {len(self.idle)} pid {self.pid}>"


class Host:
    """One host entry. `name` is unique among the hosts of a pool and the same on every gateway."""

    __slots__ = ("config", "load", "name", "procs", "weight")

    def __init__(self, config: HostConfig, procs: Sequence[Proc], *, name: str = "") -> None:
        self.config = config
        self.procs = list(procs)
        self.name = name or config.name or procs[0].name
        self.weight = config.weight
        self.load = 0

    def __repr__(self) -> str:
        return f"<Host {self.name} load {self.load} procs {len(self.procs)}>"


def make_hosts(configs: Iterable[HostConfig]) -> list[Host]:
    """The hosts of an extension, each with its procs: the spawned ones UNSET, the others RUNNING."""
    hosts: list[Host] = []
    taken: set[str] = set()
    for config in configs:
        procs = _make_procs(config)
        base = name = config.name or procs[0].name
        number = 1
        while name in taken:
            number += 1
            name = f"{base}#{number}"
        taken.add(name)
        hosts.append(Host(config, procs, name=name))
    return hosts


def _make_procs(config: HostConfig) -> list[Proc]:
    keep_alive = config.keep_alive is not False
    if not config.bin_path:
        address = Address(path=config.socket) if config.socket else Address(config.host or DEFAULT_HOST, config.port)
        return [Proc(address, state=State.RUNNING, capacity=config.max_connections, keep_alive=keep_alive)]
    return [
        Proc(_spawned_address(config, id), id=id, capacity=config.max_connections, keep_alive=keep_alive)
        for id in range(max(config.min_procs, 1))
    ]


def _spawned_address(config: HostConfig, id: int) -> Address:
    if config.socket:
        return Address(path=f"{config.socket}-{id}")
    return Address(config.host or DEFAULT_HOST, config.port + id)
