"""Waits with a deadline, all of one hub on one timer.

Plan: a wait costs one dict entry; every tenth of a second the timer looks for deadlines that passed and raises
`StreamTimeout` in their greenlets. Thousands of idle connections need no timer each. The clock is monotonic.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from gevent import getcurrent
from greenlet import greenlet

from gfastcgi.errors import StreamTimeout

__all__ = ["TICK", "Deadlines"]

TICK = 0.1
"""Seconds by which a deadline may be late."""


class Deadlines:
    """The pending waits of one hub."""

    __slots__ = ("_hub", "_is_ticking", "_timer", "_waits")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._waits: dict[greenlet, float] = {}
        self._timer = hub.loop.timer(TICK, TICK)
        self._is_ticking = False

    def __repr__(self) -> str:
        return f"<Deadlines of {len(self._waits)} waits>"

    def wait(self, watcher: Any, seconds: float) -> None:
        """Waits for `watcher`; raises `StreamTimeout` after `seconds`, or never for 0."""
        if not seconds:
            self._hub.wait(watcher)
            return
        if not self._is_ticking:
            self._start()
        me = getcurrent()
        self._waits[me] = monotonic() + seconds
        try:
            self._hub.wait(watcher)
        finally:
            del self._waits[me]

    def park(self, seconds: float) -> None:
        """Gives the hub its turn until somebody switches back; raises `StreamTimeout` after `seconds`."""
        if not self._is_ticking:
            self._start()
        me = getcurrent()
        self._waits[me] = monotonic() + seconds
        try:
            self._hub.switch()
        finally:
            del self._waits[me]

    def _start(self) -> None:
        self._is_ticking = True
        self._timer.start(self._tick)

    def _tick(self) -> None:
        now = monotonic()
        for waiting in [waiting for waiting, deadline in self._waits.items() if deadline <= now]:
            # The one before may have ended this wait, too.
            if waiting in self._waits:
                waiting.throw(StreamTimeout("the peer let the deadline pass"))
        if not self._waits:
            self._is_ticking = False
            self._timer.stop()
