"""Chance by weight: places of candidates, drawn in proportion to their weights.

Plan: the weights add up to a line on which a point is drawn; where all are alike no sum is needed. The sums of a tuple
are kept until another one comes, so that a draw among 1,000 hosts costs as much as among 3.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from gfastcgi.balance.base import Candidate

__all__ = ["Draws"]


class Draws:
    """Draws for one policy. `take` tells the candidates before any draw."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._members: Sequence[Candidate] = ()
        self._sums: Sequence[int] = ()
        self.is_even = True
        """Whether all weights are the same."""

    def take(self, candidates: Sequence[Candidate]) -> None:
        """From now on places of `candidates` are drawn."""
        if candidates is self._members:
            return
        # A list may have changed when it comes again: only a tuple stays itself here.
        self._members = tuple(candidates)
        weights = [candidate.weight for candidate in candidates]
        self.is_even = weights.count(weights[0]) == len(weights)
        self._sums = range(1, len(weights) + 1) if self.is_even else list(accumulate(weights))

    def one(self) -> int:
        """A place."""
        total = self._sums[-1]
        point = int(self._random() * total)
        return point if self.is_even else bisect_right(self._sums, point)

    def two(self) -> tuple[int, int]:
        """Two places, different ones where there are two: the second is drawn among all but the first."""
        first, sums = self.one(), self._sums
        if len(sums) == 1:
            return first, first
        start = sums[first - 1] if first else 0
        point = int(self._random() * (sums[-1] - sums[first] + start))
        if point >= start:
            point += sums[first] - start
        return first, point if self.is_even else bisect_right(sums, point)
