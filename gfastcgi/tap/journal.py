"""Tells and keeps events on a native thread, so that neither a slow terminal nor a full disk holds up the bytes.

Contract: `put` never waits and never raises. Of a connection that brings more than can be told in time, the rest is
given up, and that is said; its bytes go on all the same.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from collections.abc import Callable

import gevent
from gevent.event import Event as Flag
from gevent.threadpool import ThreadPool

from gfastcgi.tap.events import Event
from gfastcgi.tap.narrator import Narrator
from gfastcgi.tap.recording import Recorder

__all__ = ["Journal"]

MOST_WAITING = 64 << 20
"""Bytes that wait to be told before a connection is given up."""
_OVERHEAD = 500
"""Bytes that an event takes beside its data."""
_MOMENT = 0.3
"""Seconds for what only waits for its turn."""


class Journal:
    """`out` is a descriptor to tell lines to, None: tells nothing; `tell_fault` gets what goes wrong with either."""

    def __init__(
        self,
        *,
        out: int | None,
        recorder: Recorder | None,
        tell_fault: Callable[[str], None],
        shows_secrets: bool = False,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.is_whole = True
        """Whether all was told and kept so far."""
        self._out = out
        self._recorder = recorder
        self._tell_fault = tell_fault
        self._shows_secrets = shows_secrets
        self._most_waiting = most_waiting
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        # Each is written by one thread only: the hub's, and ours.
        self._came = self._went = 0
        self._given_up: set[int] = set()
        self._narrators: dict[int, Narrator] = {}
        self._pool = ThreadPool(1)
        self._work = self._pool.spawn(self._run)

    def __repr__(self) -> str:
        return f"<Journal, {self._came - self._went} bytes behind>"

    def put(self, event: Event) -> None:
        """Takes the next event."""
        if event.what == "close":
            self._given_up.discard(event.connection)
        elif event.connection in self._given_up:
            return
        elif self._came - self._went > self._most_waiting:
            self._given_up.add(event.connection)
            self.is_whole = False
            event = Event(event.at, event.connection, "lost", text="it brings more than can be told in time")
        self._came += len(event.data) + _OVERHEAD
        self._queue.put(event)

    def close(self, timeout: float, *, hurry: Flag | None = None) -> bool:
        """Tells and keeps what is waiting, for `timeout` seconds, or until a moment behind `hurry`; False: not all."""
        self._queue.put(None)
        gevent.wait([self._work] if hurry is None else [self._work, hurry], timeout, count=1)
        if hurry is not None and hurry.is_set():
            gevent.wait([self._work], _MOMENT)
        if not self._work.ready():
            self.is_whole = False
        return bool(self._work.ready())

    # On the thread

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            self._keep(event)
            self._tell(event)
            self._went += len(event.data) + _OVERHEAD
        self._attempt_to_keep(lambda recorder: recorder.close())

    def _keep(self, event: Event) -> None:
        self._attempt_to_keep(lambda recorder: recorder.write(event))
        if self._queue.empty():
            self._attempt_to_keep(lambda recorder: recorder.flush())

    def _attempt_to_keep(self, attempt: Callable[[Recorder], None]) -> None:
        if self._recorder is None:
            return
        try:
            attempt(self._recorder)
        except OSError as error:
            self._recorder = None
            self.is_whole = False
            self._tell_fault(f"nothing is saved any more: {error.strerror}")

    def _tell(self, event: Event) -> None:
        if self._out is None:
            return
        text = "".join(f"{event.at:9.3f} {event.connection:3} {line}\n" for line in self._lines(event))
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError as error:
            self._out = None
            self.is_whole = False
            self._tell_fault(f"nothing is told any more: {error.strerror}")

    def _lines(self, event: Event) -> list[str]:
        """The lines of an event."""
        narrator = self._narrators.get(event.connection)
        if event.what == "open":
            self._narrators[event.connection] = Narrator(shows_secrets=self._shows_secrets)
            return [f"open, from {event.text}"]
        if event.what == "close":
            self._narrators.pop(event.connection, None)
            return [f"close{': ' + event.text if event.text else ''}"]
        if event.what == "lost" or narrator is None:
            self._narrators.pop(event.connection, None)
            return [f"! from here on not told, but forwarded: {event.text}"] if event.text else []
        if event.what == "front" or event.what == "backend":
            return narrator.tell(event.what, event.data)
        return narrator.end("front" if event.what == "front-end" else "backend")
