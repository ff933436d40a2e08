"""How long a client that guessed wrong has to wait for its answer, and how many of its guesses may wait at once.

Contract: pure, `clock` is monotonic seconds. It knows a bounded number of clients: an IPv6 client is its /64 network.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from gfastcgi.config.addresses import client_address

__all__ = ["Throttle", "network"]

FIRST_DELAY = 0.25
LONGEST_DELAY = 4.0
FORGIVEN_AFTER = 60.0
MOST_WAITING = 4
MOST_CLIENTS = 10_000


@dataclass(slots=True)
class _Client:
    failures: int = 0
    last: float = 0.0
    waits: list[float] = field(default_factory=list)
    """When the answers to its last wrong guesses are due. They count until then, whether or not it waits for them."""


class Throttle:
    """The failures of every client."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Throttle of {len(self._clients)} clients>"

    def is_busy(self, address: str) -> bool:
        """Whether so many wrong guesses from `address` wait for their answer that another one is not looked at."""
        client = self._clients.get(network(address))
        if client is None:
            return False
        now = self._clock()
        return sum(due > now for due in client.waits) >= MOST_WAITING

    def fail(self, address: str) -> float:
        """Counts a wrong guess. The seconds that its answer has to wait."""
        key = network(address)
        client = self._clients.setdefault(key, _Client())
        self._clients.move_to_end(key)
        now = self._clock()
        if now - client.last > FORGIVEN_AFTER:
            client.failures = 0
        client.last = now
        delay = min(FIRST_DELAY * 2.0 ** min(client.failures, 16), LONGEST_DELAY)
        client.failures += 1
        client.waits = [due for due in client.waits if due > now] + [now + delay]
        while len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        return delay


def network(address: str) -> str:
    """Which client the one at `address` is."""
    if ":" not in address:
        return address
    client = client_address(address)
    if not isinstance(client, ipaddress.IPv6Address):
        return str(client or address)
    return str(ipaddress.IPv6Network((int(client) >> 64 << 64, 64)))
