"""`hash` and `sticky`: the same host for the same key, by weighted rendezvous hashing.

Plan: every host draws a number from the key; the highest wins. So taking a host away moves only its own keys, and the
order of hosts does not matter. A draw is the host's number times the key's modulo 2**48, both odd and from BLAKE2, so
it is the same on every gateway. A host has a number for each power of two in its weight: of weight 5, one that counts
as 1 and one that counts as 4. The host with the lowest -ln(draw)/share wins (Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from hashlib import blake2b
from math import inf, log

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


class _Share:
    """The hosts that have one power of two in their weights."""

    def __init__(self, share: int) -> None:
        self.share = share
        self._lanes = bytearray()
        self._numbers = 0
        self._places: list[int] = []

    def add(self, name: str, place: int) -> None:
        self._lanes += _number(name, self.share).to_bytes(_LANE, "big")
        self._places.append(place)

    def pack(self) -> None:
        self._numbers = int.from_bytes(self._lanes, "big")

    def draw(self, number: int, up: Collection[int]) -> tuple[int, int]:
        """The highest draw of those that are `up`, and whose it is; (-1, 0): none is.

        Hosts with the same first byte are compared whole, beginning with those of the highest.
        """
        products = (self._numbers * number).to_bytes(len(self._lanes), "big")
        firsts = products[_SIZE::_LANE]
        best, highest = -1, b""
        for first in range(255 if 255 in firsts else max(firsts), -1, -1):
            lane = -1
            while (lane := firsts.find(first, lane + 1)) >= 0:
                draw = products[lane * _LANE + _SIZE : (lane + 1) * _LANE]
                if draw > highest and self._places[lane] in up:
                    best, highest = self._places[lane], draw
            if best >= 0:
                break
        return best, int.from_bytes(highest, "big")


class _Rendezvous:
    """The draw itself. Every host that was ever a candidate keeps its place and its lanes."""

    def __init__(self, rng: random.Random) -> None:
        self._places: dict[str, int] = {}
        self._shares: dict[int, _Share] = {}
        self._members: Sequence[Candidate] = ()
        self._up: list[int] = []
        """The places of the members, in their order, and as a set."""
        self._is_up: set[int] = set()

    def _draw(self, candidates: Sequence[C], key: str) -> C:
        if candidates is not self._members:
            self._take(candidates)
        number = _number(key)
        winner, lowest = -1, inf
        for share, hosts in self._shares.items():
            place, draw = hosts.draw(number, self._is_up)
            cost = -log((draw + 1) / _RANGE) / share
            if place >= 0 and cost < lowest:
                winner, lowest = place, cost
        return candidates[self._up.index(winner)]

    def _take(self, candidates: Sequence[Candidate]) -> None:
        # A list may have changed when it comes again: only a tuple stays itself here.
        self._members = tuple(candidates)
        places = self._places
        try:
            self._up = [places[candidate.name] for candidate in candidates]
        except KeyError:
            self._welcome(candidates)
            self._up = [places[candidate.name] for candidate in candidates]
        self._is_up = set(self._up)

    def _welcome(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            if candidate.name in self._places:
                continue
            place = self._places[candidate.name] = len(self._places)
            for share in (1 << bit for bit in range(candidate.weight.bit_length()) if candidate.weight >> bit & 1):
                self._shares.setdefault(share, _Share(share)).add(candidate.name, place)
        for hosts in self._shares.values():
            hosts.pack()


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
