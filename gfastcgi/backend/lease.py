"""What the pool gives to a request: a lease at once, or a place in the queue."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.balance.base import RequestKey
from gfastcgi.errors import NoBackendAvailable

__all__ = ["Lease", "Waiter"]


class Lease:
    """The right to one connection to a proc. `connection` is a kept one, or None: connect to `proc.address`."""

    __slots__ = ("connection", "host", "is_open", "is_probe", "number", "proc", "since")

    def __init__(self, host: Host, proc: Proc, connection: Any | None, number: int = 0) -> None:
        self.host = host
        self.proc = proc
        self.connection = connection
        self.number = number
        self.is_open = True
        self.is_probe = False
        self.since = 0.0
        """When it began, by the pool's clock, while the time until its answer is measured."""

    def __repr__(self) -> str:
        return f"<Lease {self.number} of {self.proc.name}{'' if self.is_open else ' released'}>"


class Waiter(Protocol):
    """A request that waits for a slot."""

    @property
    def request(self) -> RequestKey: ...

    @property
    def tried(self) -> Collection[Proc]:
        """Procs that it does not want."""

    def grant(self, lease: Lease) -> None:
        """It has a connection; it waits no more."""

    def fail(self, error: NoBackendAvailable) -> None:
        """Nothing that it wants is running; it waits no more."""
