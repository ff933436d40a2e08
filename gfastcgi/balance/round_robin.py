"""`round-robin`: every host in its turn, as often as its weight says, the turns spread evenly.

Plan: stride scheduling (Waldspurger and Weihl, 1995). Time is counted in turns of a host of weight 1; a host is due
again 1/weight after its last turn, and who is due soonest is next. Who was away does not catch up on what it missed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, Candidate, RequestKey

__all__ = ["RoundRobin"]

# The golden section: however many hosts begin with it, one after the other, they lie evenly in their first turn. Where
# that starts is left to chance, so that gateways which start together do not all begin with the same host.
_STEP = (5**0.5 - 1) / 2


class RoundRobin:
    """In turn. While the same hosts are up each gets its share, give or take a request."""

    def __init__(self, rng: random.Random) -> None:
        self._now = 0.0
        self._start = rng.random()
        self._due: dict[str, float] = {}

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate whose turn it is."""
        due = self._due
        try:
            turns = [due[candidate.name] for candidate in candidates]
        except KeyError:
            self._welcome(candidates)
            turns = [due[candidate.name] for candidate in candidates]
        soonest = min(turns)
        chosen = candidates[turns.index(soonest)]
        self._now = max(self._now, soonest)
        due[chosen.name] = self._now + 1 / chosen.weight
        return chosen

    def _welcome(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            if candidate.name not in self._due:
                self._start = (self._start + _STEP) % 1
                self._due[candidate.name] = self._now + self._start / candidate.weight
