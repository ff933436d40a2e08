"""`round-robin`: every host in its turn, as often as its weight says, the turns spread evenly.

Plan: smooth weighted round-robin. Each turn every host earns its weight and the richest pays the sum of all weights.
A host that goes away takes its balance along; one that comes back starts with the average, so that nobody is owed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance.base import C, RequestKey

__all__ = ["RoundRobin"]


class RoundRobin:
    """In turn. Over any time in which the same hosts are up each gets its share, give or take one request."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: list[str] = []
        self._weights: list[int] = []
        self._balances: list[float] = []

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate whose turn it is."""
        names = [candidate.name for candidate in candidates]
        if names != self._names:
            self._change_members(names, [candidate.weight for candidate in candidates])
        balances = [balance + weight for balance, weight in zip(self._balances, self._weights, strict=True)]
        turn = balances.index(max(balances))
        balances[turn] -= sum(self._weights)
        self._balances = balances
        return candidates[turn]

    def _change_members(self, names: list[str], weights: list[int]) -> None:
        known = dict(zip(self._names, self._balances, strict=True))
        stayed = [known[name] for name in names if name in known]
        average = sum(stayed) / len(stayed) if stayed else 0.0
        # Newcomers draw a fraction of a turn: gateways that start together do not all begin with the first host.
        self._balances = [known[name] - average if name in known else self._rng.random() for name in names]
        self._names, self._weights = names, weights
