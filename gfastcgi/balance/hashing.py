"""`hash` and `sticky`: the same host for the same key, by weighted rendezvous hashing.

Plan: every host draws a number from the key; the highest wins. So taking a host away moves only its own keys, and the
order of hosts does not matter. A draw is the host's number times the key's modulo 2**48, both odd and from BLAKE2, so
it is the same on every gateway. A host has a number for each power of two in its weight: of weight 5, one that counts
as 1 and one that counts as 4. The host with the lowest -ln(draw)/share wins (Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import reduce
from hashlib import blake2b
from math import inf, log
from operator import or_

from gfastcgi.balance.base import C, Candidate, RequestKey

__all__ = ["Hash", "Sticky"]

# All draws of a share come from one multiplication: the numbers stand side by side in one integer, in lanes that are
# wide enough for the whole product.
#
#     lane: | upper half of the product | lower half: the draw |
#             _SIZE bytes                 _SIZE bytes, big-endian
_SIZE = 6
_LANE = 2 * _SIZE
_RANGE = 1 << 8 * _SIZE


def _number(text: str, share: int = 0) -> int:
    data = text.encode("utf-8", "surrogatepass")
    digest = blake2b(data, digest_size=_SIZE, salt=share.to_bytes(8, "big")).digest()
    # Odd numbers have an inverse modulo 2**48, so hosts draw the same only if their numbers are the same.
    return int.from_bytes(digest, "big") | 1


class _Lanes(dict[str, bytes]):
    """The lane of each host's name, for one share."""

    def __init__(self, share: int) -> None:
        self._share = share

    def __missing__(self, name: str) -> bytes:
        lane = self[name] = _number(name, self._share).to_bytes(_LANE, "big")
        return lane


class _Rendezvous:
    """The draw itself."""

    def __init__(self, rng: random.Random) -> None:
        self._members: Sequence[Candidate] = ()
        self._lanes: dict[int, _Lanes] = {}
        self._shares: list[tuple[int, int, Sequence[int]]] = []
        """Each share (a power of two), the numbers of the hosts that have it, and their places."""

    def _draw(self, candidates: Sequence[C], key: str) -> C:
        if candidates is not self._members:
            self._pack(candidates)
        number = _number(key)
        best, lowest = 0, inf
        for share, numbers, places in self._shares:
            lane, draw = _highest((numbers * number).to_bytes(_LANE * len(places), "big"))
            cost = -log((draw + 1) / _RANGE) / share
            if cost < lowest:
                best, lowest = places[lane], cost
        return candidates[best]

    def _pack(self, candidates: Sequence[Candidate]) -> None:
        # A list may have changed when it comes again: only a tuple stays itself here.
        self._members = tuple(candidates)
        names = [candidate.name for candidate in candidates]
        weights = [candidate.weight for candidate in candidates]
        is_even = weights.count(weights[0]) == len(weights)
        self._shares = []
        for share in _powers_of_two(weights[:1] if is_even else set(weights)):
            lanes = self._lanes.setdefault(share, _Lanes(share))
            places: Sequence[int] = range(len(names))
            if not is_even:
                places = [place for place, weight in enumerate(weights) if weight & share]
            packed = b"".join([lanes[name] for name in (names if is_even else map(names.__getitem__, places))])
            self._shares.append((share, int.from_bytes(packed, "big"), places))


def _powers_of_two(weights: Iterable[int]) -> list[int]:
    """Those that any of `weights` is made of."""
    bits = reduce(or_, weights)
    return [1 << bit for bit in range(bits.bit_length()) if bits >> bit & 1]


def _highest(products: bytes) -> tuple[int, int]:
    """The lane with the highest draw, and that draw. Only those with the highest first byte are compared whole."""
    firsts = products[_SIZE::_LANE]
    first = max(firsts)
    best, highest, lane = 0, b"", -1
    while (lane := firsts.find(first, lane + 1)) >= 0:
        draw = products[lane * _LANE + _SIZE : (lane + 1) * _LANE]
        if draw > highest:
            best, highest = lane, draw
    return best, int.from_bytes(highest, "big")


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
