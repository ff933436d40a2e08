"""`p2c`: of two hosts drawn by chance, the one with the lower load for its weight.

Contract: a choice costs the same for 3 hosts as for 1,000. Gateways that do not know each other's loads do not run
all at once to the host that each of them believes to be idle, as the lowest of all would make them.
Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, RequestKey
from gfastcgi.balance.draws import Draws

__all__ = ["TwoChoices"]


class TwoChoices:
    """The less loaded of two, which are drawn by weight; of equals the first drawn."""

    def __init__(self, rng: random.Random) -> None:
        self._draws = Draws(rng)

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The better of two different candidates, if there are two."""
        self._draws.take(candidates)
        place, other = self._draws.two()
        first, second = candidates[place], candidates[other]
        return second if second.load * first.weight < first.load * second.weight else first
