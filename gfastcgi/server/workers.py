"""Greenlets that call applications, kept for the next request: a new one costs a mapping of memory and a page fault.

Contract: `run(job, argument)` returns when the job waits for the first time, or has ended. A job starts in an empty
`contextvars` context. It must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import get_hub
from greenlet import getcurrent, greenlet

__all__ = ["Workers"]

MOST_IDLE = 64
"""Greenlets that are kept while nobody needs them."""


class Workers:
    """The greenlets of one hub."""

    def __init__(self) -> None:
        self._hub = get_hub()
        self._idle: list[greenlet] = []

    def __repr__(self) -> str:
        return f"<Workers {len(self._idle)} idle>"

    def run(self, job: Callable[[Any], None], argument: object) -> None:
        """Calls `job(argument)` in a greenlet; called in the hub."""
        while self._idle:
            worker = self._idle.pop()
            if not worker.dead:  # an application's forgotten time-out may have hit it
                break
        else:
            worker = greenlet(self._work, self._hub)
        worker.switch(job, argument)

    def _work(self, job: Callable[[Any], None], argument: object) -> None:
        me, idle, wait = getcurrent(), self._idle, self._hub.switch
        while True:
            job(argument)
            me.gr_context = None
            if len(idle) >= MOST_IDLE:
                return
            idle.append(me)
            job, argument = wait()
