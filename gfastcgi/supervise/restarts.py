"""When processes that ended are started again: pauses of 1, 2, 4 .. 60 s.

Contract: pure; times are seconds of one clock. A process that served, or stayed up for `STABLE` seconds, was healthy:
it is started again at once, but once in the shortest pause unless it left in order, and its pauses begin anew. Where
no other serves, processes that crash in the same step share its pause, and one alone is tried; the others follow when
it has served or stayed up. So four that exit at once are started 9 times in the first minute.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LONGEST_PAUSE", "STABLE", "Restarts"]

STABLE = 10.0
LONGEST_PAUSE = 60.0


class Restarts:
    """The plan of one host. `shortest` is the first pause in seconds."""

    def __init__(self, shortest: float = 1.0) -> None:
        self._shortest = shortest
        self._pause = 0.0
        self._step_began = 0.0
        self._tried_at = 0.0
        self._is_crashing = False
        self._due: dict[int, float] = {}
        self._own_pauses: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<Restarts pause {self._pause:g} s, {len(self._due)} due{', crashing' if self._is_crashing else ''}>"

    @property
    def next(self) -> float | None:
        """When `take_due` has something to do; None: nothing is due."""
        return min(self._due.values(), default=None)

    @property
    def due(self) -> Mapping[int, float]:
        """When each process that waits for its start is started, at the earliest."""
        return self._due

    def ended(
        self, id: int, *, started: float, now: float, has_served: bool, is_orderly: bool = False, is_alone: bool = True
    ) -> float:
        """Process `id`, up since `started`, ended. Returns when it is started again; `due` tells that of the others.

        `is_orderly`: with exit status 0; `is_alone`: no other process of the host serves, so the program may be broken.
        """
        if has_served or now - started >= STABLE:
            self._pause = 0.0
            self._is_crashing = False
            self._own_pauses.pop(id, None)
            self._due[id] = now if is_orderly else max(now, started + self._shortest)
            return self._due[id]
        if not is_alone:
            pause = self._own_pauses[id] = min(self._own_pauses.get(id, 0.0) * 2 or self._shortest, LONGEST_PAUSE)
            self._due[id] = now + pause
            return self._due[id]
        if not self._pause or started >= self._step_began or now >= self._step_began + self._pause:
            self._pause = min(self._pause * 2 or self._shortest, LONGEST_PAUSE)
            self._step_began = now
            self._is_crashing = True
        due = self._step_began + self._pause
        self._due = {other: max(time, due) for other, time in self._due.items()}
        self._due[id] = due
        return due

    def started(self, now: float) -> None:
        """A process was started."""
        self._tried_at = now

    def recovered(self) -> None:
        """A process serves: the program is sound, whatever ended another one; those that were put off follow."""
        if self._is_crashing:
            self._is_crashing = False
            due = self._step_began + self._pause
            self._due = {id: min(time, due) for id, time in self._due.items()}

    def is_crashing(self, now: float) -> bool:
        """Whether one process alone is tried, until it has stayed up or served."""
        if self._tried_at > self._step_began and now - self._tried_at >= STABLE:
            self._is_crashing = False
        return self._is_crashing

    def forget(self, id: int) -> None:
        """Process `id` is not to be started again."""
        self._due.pop(id, None)

    def take_due(self, now: float) -> list[int]:
        """The processes to start now."""
        due = sorted(id for id, time in self._due.items() if time <= now)
        if due and self.is_crashing(now):
            del due[1:]
            self._tried_at = now
            self._due = {id: max(time, now + STABLE) for id, time in self._due.items()}
        for id in due:
            del self._due[id]
        return due
