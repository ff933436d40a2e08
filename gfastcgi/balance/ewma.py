"""`ewma`: of two hosts drawn by chance, the one that promises the sooner answer.

Plan: a host's cost is its latency times the requests that it will then work on, for its weight. `backend.latency`
keeps the latency: it jumps to a slow answer at once and forgives slowly. A host of which nothing is known gets one
request, and no second one until it has answered.
Source: Finagle's "Power of Two Choices + Peak EWMA" (twitter.github.io/finagle/guide/Clients.html).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, Candidate, RequestKey
from gfastcgi.balance.draws import Draws

__all__ = ["PeakEwma"]

# Seconds; more than any latency times load, so that every host with a known latency comes first.
_UNKNOWN = 1e12


class PeakEwma:
    """The lower latency times load of two, which are drawn by weight; of equals the first drawn."""

    wants_latency = True

    def __init__(self, rng: random.Random) -> None:
        self._draws = Draws(rng)

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The better of two different candidates, if there are two."""
        self._draws.take(candidates)
        place, other = self._draws.two()
        first, second = candidates[place], candidates[other]
        return second if _cost(second) < _cost(first) else first


def _cost(candidate: Candidate) -> float:
    load = candidate.load
    latency = candidate.latency or (_UNKNOWN if load else 0.0)
    return latency * (load + 1) / candidate.weight
