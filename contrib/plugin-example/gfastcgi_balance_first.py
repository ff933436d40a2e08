"""`fastcgi.balance = "first"`: the first host that is up and has a free connection serves; the others are spares."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gfastcgi.balance import RequestKey
from gfastcgi.balance.base import C

__all__ = ["First"]


class First:
    """Candidates are hosts that can serve, in the order of the configuration: all that is left is to take the first."""

    def __init__(self, rng: random.Random) -> None:
        """A balance is made with its source of chance; this one needs none."""

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """The first of them."""
        return candidates[0]
