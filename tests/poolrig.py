"""What tests of pools share: a clock that stands still, a request, and one who waits for a lease."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from gfastcgi.backend.backend import Proc
    from gfastcgi.backend.lease import Lease

REQUEST: Any = SimpleNamespace(authority="example.org", path="/", remote_addr="192.0.2.1", balance="fair")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Waiter:
    """A place in a queue; it is granted a lease, or failed, once."""

    def __init__(self, tried: Collection[Proc] = (), request: Any = REQUEST) -> None:
        self.tried, self.request = tried, request
        self.lease: Lease | None = None
        self.error: Exception | None = None

    @property
    def is_waiting(self) -> bool:
        return self.lease is None and self.error is None

    def grant(self, lease: Lease) -> None:
        assert self.is_waiting
        self.lease = lease

    def fail(self, error: Exception) -> None:
        assert self.is_waiting
        self.error = error
