"""`least-connection`, also named `fair`: the host with the lowest load for its weight.

Contract: loads of equal weights differ by at most one. Hosts that tie are drawn in proportion to their weights, so
that a quiet site uses all of them and not always the first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, RequestKey
from gfastcgi.balance.draws import Draws

__all__ = ["LeastConnection"]

# Draws among all hosts that may miss those that tie, before these are counted out.
_TRIES = 4


class LeastConnection:
    """The lowest load for the weight; ties by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._draws = Draws(rng)

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """One of the candidates whose load divided by weight is the lowest."""
        draws = self._draws
        draws.take(candidates)
        loads: list[int] | list[float]
        if draws.is_even:
            loads = [candidate.load for candidate in candidates]
        else:
            loads = [candidate.load / candidate.weight for candidate in candidates]
        lowest = min(loads)
        for _ in range(_TRIES):
            place = draws.one()
            if loads[place] == lowest:
                return candidates[place]
        ties = [candidate for candidate, load in zip(candidates, loads, strict=True) if load == lowest]
        return self._rng.choices(ties, [candidate.weight for candidate in ties])[0]
