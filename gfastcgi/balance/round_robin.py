"""`round-robin`: every host in its turn, as often as its weight says, the turns spread evenly.

Plan: stride scheduling (Waldspurger and Weihl, 1995). Time is counted in turns of a host of weight 1; a host is due
again 1/weight after its last turn, and who is due soonest is next. Who was away does not catch up on what it missed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, Candidate, RequestKey

__all__ = ["RoundRobin"]


class RoundRobin:
    """In turn. Over any time in which the same hosts are up each gets its share, give or take one request."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now = 0.0
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
        # By chance within a turn: gateways that start together do not all begin with the first host.
        for candidate in candidates:
            if candidate.name not in self._due:
                self._due[candidate.name] = self._now + self._rng.random() / candidate.weight
