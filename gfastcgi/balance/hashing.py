"""`hash` and `sticky`: the same host for the same key, by weighted rendezvous hashing.

Plan: every host draws a number from the key; the highest wins. So taking a host away moves only its own keys, and the
order of hosts does not matter. With weights the draw is -ln(u)/weight and the lowest wins (Schindelhauer and
Schomaker, "Weighted Distributed Hash Tables", 2005). All numbers come from BLAKE2: the same on every gateway.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from math import log

from gfastcgi.balance.base import C, RequestKey

__all__ = ["Hash", "Sticky"]

_BITS = 64
_MASK = (1 << _BITS) - 1


def _number(text: str) -> int:
    # Odd, so that multiplying by it modulo 2**64 loses nothing.
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_BITS // 8).digest()
    return int.from_bytes(digest, "big") | 1


class _Rendezvous:
    """The draw itself. Hosts of one weight are compared as integers; only the best of each weight needs a logarithm."""

    def __init__(self, rng: random.Random) -> None:
        self._names: list[str] = []
        self._classes: list[tuple[int, list[int], list[int]]] = []

    def _draw(self, candidates: Sequence[C], key: str) -> C:
        names = [candidate.name for candidate in candidates]
        if names != self._names:
            self._change_members(names, [candidate.weight for candidate in candidates])
        number = _number(key)
        best, lowest = 0, float("inf")
        for weight, seeds, places in self._classes:
            draws = [(seed * number) & _MASK for seed in seeds]
            highest = max(draws)
            cost = -log((highest + 1) / (1 << _BITS)) / weight
            if cost < lowest:
                best, lowest = places[draws.index(highest)], cost
        return candidates[best]

    def _change_members(self, names: list[str], weights: list[int]) -> None:
        classes: dict[int, tuple[list[int], list[int]]] = {}
        for place, (name, weight) in enumerate(zip(names, weights, strict=True)):
            seeds, places = classes.setdefault(weight, ([], []))
            seeds.append(_number(name))
            places.append(place)
        self._classes = [(weight, seeds, places) for weight, (seeds, places) in classes.items()]
        self._names = names


class Hash(_Rendezvous):
    """The same host for the same authority and path: for backends that cache."""

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate that the request's authority and path draw."""
        return self._draw(candidates, f"{request.authority}\0{request.path}")


class Sticky(_Rendezvous):
    """The same host for the same client address: for backends that keep sessions to themselves."""

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The candidate that the client's address draws."""
        return self._draw(candidates, request.remote_addr)
