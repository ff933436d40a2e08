"""`least-connection`, also named `fair`: the host with the lowest load for its weight.

Contract: loads of equal weights differ by at most one. Hosts that tie are drawn in proportion to their weights, so
that a quiet site uses all of them and not always the first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, RequestKey

__all__ = ["LeastConnection"]


class LeastConnection:
    """The lowest load for the weight; ties by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """One of the candidates whose load divided by weight is the lowest."""
        loads = [candidate.load / candidate.weight for candidate in candidates]
        lowest = min(loads)
        if loads.count(lowest) == 1:
            return candidates[loads.index(lowest)]
        ties = [candidate for candidate, load in zip(candidates, loads, strict=True) if load == lowest]
        return self._rng.choices(ties, [candidate.weight for candidate in ties])[0]
