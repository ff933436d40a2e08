"""Balances: which host serves a request. One algorithm a file; `POLICIES` has them under lighttpd's names.

The unit of balancing is the host entry, as in lighttpd; inside a host the pool takes the least loaded proc.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from gfastcgi.balance.base import Candidate, Policy, RequestKey
from gfastcgi.balance.hashing import Hash, Sticky
from gfastcgi.balance.least_connection import LeastConnection
from gfastcgi.balance.round_robin import RoundRobin

__all__ = ["POLICIES", "Candidate", "Hash", "LeastConnection", "Policy", "RequestKey", "RoundRobin", "Sticky"]

POLICIES: Mapping[str, Callable[[random.Random], Policy]] = {
    "fair": LeastConnection,
    "least-connection": LeastConnection,
    "round-robin": RoundRobin,
    "hash": Hash,
    "sticky": Sticky,
}
