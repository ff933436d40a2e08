"""Balances: which host serves a request. One algorithm a file; `POLICIES` has them under lighttpd's names.

The unit of balancing is the host entry, as in lighttpd; inside a host the pool takes the least loaded proc.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from gfastcgi.balance.base import C, Candidate, Policy, RequestKey
from gfastcgi.balance.hashing import Hash, Sticky
from gfastcgi.balance.least_connection import LeastConnection
from gfastcgi.balance.round_robin import RoundRobin

__all__ = [
    "POLICIES", "AsConfigured", "Candidate", "Hash", "LeastConnection", "Policy", "RequestKey", "RoundRobin", "Sticky",
]  # fmt: skip

POLICIES: Mapping[str, Callable[[random.Random], Policy]] = {
    "fair": LeastConnection,
    "least-connection": LeastConnection,
    "round-robin": RoundRobin,
    "hash": Hash,
    "sticky": Sticky,
}


class AsConfigured:
    """The policy that each request's settings name, over hosts that they all share."""

    def __init__(self, rng: random.Random) -> None:
        self._policies = {name: make(rng) for name, make in POLICIES.items()}

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate of the policy `request.balance`."""
        return self._policies[request.balance].select(candidates, request)
