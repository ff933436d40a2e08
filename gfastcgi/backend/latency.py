"""How long a host takes to answer: an average that jumps to a peak at once and forgives slowly.

    an answer as slow as the average, or slower:    average = seconds
    a faster one, `age` after the last:             average = average * w + seconds * (1 - w),  w = e^(-age / decay)
    no answer at all:                               it fades away, average * w, so that the host is tried again

Pure; the clock is given. Source: Finagle's Peak EWMA, twitter.github.io/finagle/guide/Clients.html.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp

__all__ = ["Latency"]

DECAY = 10.0
"""Seconds in which what was measured loses two thirds of its weight, as in Finagle."""


class Latency:
    """The latency of one host. `clock` gives seconds (monotonic)."""

    __slots__ = ("_average", "_clock", "_decay", "_stamp")

    def __init__(self, clock: Callable[[], float], decay: float = DECAY) -> None:
        self._clock = clock
        self._decay = decay
        self._stamp = clock()
        self._average = 0.0

    def __repr__(self) -> str:
        return f"<Latency {self.seconds:.6f} s>"

    @property
    def seconds(self) -> float:
        """What it is now; 0.0: nothing is known, or it was long ago."""
        return self._average * exp((self._stamp - self._clock()) / self._decay)

    def observe(self, seconds: float) -> None:
        """It took `seconds` until an answer came."""
        now = self._clock()
        weight = exp((self._stamp - now) / self._decay)
        self._stamp = now
        self._average = max(seconds, self._average * weight + seconds * (1 - weight))

    def give_up(self, seconds: float) -> None:
        """No answer came for `seconds`: that tells something only if it is longer than answers take."""
        if seconds > self.seconds:
            self.observe(seconds)
