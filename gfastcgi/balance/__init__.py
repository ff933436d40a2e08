"""Balances: which host serves a request. One algorithm a file; `POLICIES` has them under lighttpd's names, and ours.

The unit of balancing is the host entry, as in lighttpd; inside a host the pool takes the least loaded proc. More of
them come from plugins (`gfastcgi.plugins`), by the same interface: `base.Policy`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from gfastcgi.balance.base import C, Candidate, Factory, Policy, RequestKey, wants_latency
from gfastcgi.balance.ewma import PeakEwma
from gfastcgi.balance.hashing import Hash, Sticky
from gfastcgi.balance.least_connection import LeastConnection
from gfastcgi.balance.round_robin import RoundRobin
from gfastcgi.balance.two_choices import TwoChoices

__all__ = [
    "POLICIES", "AsConfigured", "Candidate", "Factory", "Hash", "LeastConnection", "PeakEwma", "Policy", "RequestKey",
    "RoundRobin", "Sticky", "TwoChoices", "wants_latency",
]  # fmt: skip

POLICIES: Mapping[str, type[Policy]] = {
    "fair": LeastConnection,
    "least-connection": LeastConnection,
    "round-robin": RoundRobin,
    "hash": Hash,
    "sticky": Sticky,
    "p2c": TwoChoices,
    "ewma": PeakEwma,
}


class AsConfigured:
    """The policy that each request's settings name, over hosts that they all share.

    A policy is made when the first request names it, by what `find` gives for the name.
    """

    def __init__(self, rng: random.Random, find: Callable[[str], Factory] = POLICIES.__getitem__) -> None:
        self._rng = rng
        self._find = find
        self._policies: dict[str, Policy] = {}

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate of the policy `request.balance`."""
        policy = self._policies.get(request.balance)
        if policy is None:
            policy = self._policies[request.balance] = self._find(request.balance)(self._rng)
        return policy.select(candidates, request)
