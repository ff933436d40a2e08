"""How processes are ended: kill-signal, again and again, then SIGTERM, then SIGKILL.

Contract: as lighttpd means it: kill-signal at once and each second from second 5, SIGTERM to the whole process group
from second 9, SIGKILL after 16. The plan is pure, `end` follows it and returns when all are gone, or the plan is.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gfastcgi.supervise.process import Process

__all__ = ["LONGEST", "Step", "end", "plan_ending"]

LONGEST = 16.0
"""Seconds until SIGKILL; a shorter limit shrinks all steps alike."""
LAST_WAIT = 1.0
"""Seconds that a killed process has to be gone."""


@dataclass(frozen=True)
class Step:
    """`number` is sent `after` seconds, to the process or to its whole group."""

    after: float
    number: int
    to_group: bool = False

    def send(self, processes: Iterable[Process]) -> None:
        """Sends it."""
        for process in processes:
            if self.to_group:
                process.kill_group(self.number)
            else:
                process.kill(self.number)


def plan_ending(kill_signal: int, limit: float = LONGEST) -> list[Step]:
    """The steps, SIGKILL within `limit` seconds."""
    scale = min(limit / LONGEST, 1.0)
    asks = [Step(after * scale, kill_signal) for after in (0, 5, 6, 7, 8)]
    terms = [Step(after * scale, signal.SIGTERM, to_group=True) for after in range(9, 16)]
    return [*asks, *terms, Step(LONGEST * scale, signal.SIGKILL, to_group=True)]


def end(
    processes: Sequence[Process], steps: Iterable[Step], *, clock: Callable[[], float] = time.monotonic
) -> list[Process]:
    """Sends `steps` to those that still run; returns those that are left, which nothing can end (kernel state D)."""
    began = clock()
    for step in steps:
        running = _wait(processes, began + step.after, clock)
        if not running:
            break
        step.send(running)
    _wait(processes, clock() + LAST_WAIT, clock)
    for process in processes:
        process.clean_up()
    return [process for process in processes if not process.has_ended]


def _wait(processes: Iterable[Process], until: float, clock: Callable[[], float]) -> list[Process]:
    """Those that still run at `until`."""
    return [process for process in processes if not process.wait(max(until - clock(), 0.0))]
