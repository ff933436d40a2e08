"""Slow start: a proc that recovered gets a share of its requests that grows from nothing to the whole.

Contract: pure; the clock and chance are arguments. Before each choice it is drawn which of the recovering procs are
spared this time, so that every policy works as it is; where nobody else can serve, nobody is spared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from gfastcgi.backend.backend import Proc

__all__ = ["SlowStart"]


class SlowStart:
    """The recovering procs of one pool. `clock` is the pool's; without `rng` nobody is spared."""

    def __init__(self, clock: Callable[[], float], rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self.procs: list[Proc] = []

    def __repr__(self) -> str:
        return f"<SlowStart of {len(self.procs)} procs>"

    def add(self, proc: Proc) -> None:
        """`proc` recovers, as its `recovering` says."""
        if proc not in self.procs:
            self.procs.append(proc)

    def discard(self, proc: Proc) -> None:
        """`proc` is no longer ours."""
        if proc in self.procs:
            self.procs.remove(proc)

    def draw(self) -> Sequence[Proc]:
        """The procs to spare this time; who has recovered leaves."""
        now = self._clock()
        for proc in [proc for proc in self.procs if proc.recovering is None or proc.recovering[1] <= now]:
            proc.recovering = None
            self.procs.remove(proc)
        return [proc for proc in self.procs if self._is_spared(proc, now)]

    def _is_spared(self, proc: Proc, now: float) -> bool:
        if self._rng is None or proc.recovering is None:
            return False
        start, end = proc.recovering
        return self._rng.random() >= (now - start) / (end - start)
