"""A policy that is not ours, held to its contract: what it gets wrong costs a line in the log, not the request.

Contract: whatever the policy raises or returns, one of the candidates is chosen; where it fails by least-connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gfastcgi.balance.base import C, Factory, RequestKey, wants_latency
from gfastcgi.balance.least_connection import LeastConnection

__all__ = ["Guard", "Guarded"]


@dataclass(frozen=True)
class Guard:
    """A factory of policies that are held to their contract; `log` is told what they get wrong."""

    name: str
    factory: Factory
    log: Callable[[str], None]

    @property
    def wants_latency(self) -> bool:
        """As the plugin says."""
        return wants_latency(self.factory)

    def __call__(self, rng: random.Random) -> Guarded:
        return Guarded(self, rng)


class Guarded:
    """The policy of a plugin. Of failures in a row the first is logged."""

    def __init__(self, guard: Guard, rng: random.Random) -> None:
        self._guard = guard
        self._policy = guard.factory(rng)
        self._instead = LeastConnection(rng)
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
            self._guard.log(f"balance {self._guard.name}: {fault}; least-connection chooses instead")
        return self._instead.select(candidates, request)
