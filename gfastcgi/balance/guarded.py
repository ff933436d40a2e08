"""A policy that is not ours, held to its contract: what it gets wrong costs a line in the log, not the request.

Contract: whatever the policy raises or returns, one of the candidates is chosen; where it fails by least-connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from gfastcgi.balance.base import C, Factory, RequestKey
from gfastcgi.balance.least_connection import LeastConnection

__all__ = ["Guarded"]


class Guarded:
    """The policy of `factory`. `log` is told of its first failure, and of the first after each that went well."""

    def __init__(self, name: str, factory: Factory, log: Callable[[str], None], rng: random.Random) -> None:
        self._name = name
        self._policy = factory(rng)
        self._instead = LeastConnection(rng)
        self._log = log
        self._has_failed = False

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate that the policy chooses, or in its place one of the least loaded."""
        try:
            chosen = self._policy.select(candidates, request)
        except Exception as error:  # whatever a plugin raises
            fault = f"{type(error).__name__}: {error}"
        else:
            if any(chosen is candidate for candidate in candidates):
                self._has_failed = False
                return chosen
            fault = f"it returned {chosen!r:.100}, which is no candidate"
        if not self._has_failed:
            self._has_failed = True
            self._log(f"balance {self._name}: {fault}; least-connection chooses instead")
        return self._instead.select(candidates, request)
