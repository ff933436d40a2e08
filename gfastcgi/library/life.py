"""What is started by whoever needs it first, once, and ended once, at the latest with the program.

Contract: `start` returns when all is started, however many greenlets call it, and whoever of them is killed meanwhile.
A start that fails, fails for good.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

import gevent

from gfastcgi.errors import NoBackendAvailable

__all__ = ["Life"]


class Life:
    """`on_start` may wait and raise; `on_stop` ends what it started, within about as many seconds as it is given."""

    def __init__(self, on_start: Callable[[], None], on_stop: Callable[[float], None]) -> None:
        self._on_start = on_start
        self._on_stop = on_stop
        self._starting: gevent.Greenlet[..., None] | None = None
        self._error: Exception = NoBackendAvailable("it was stopped")
        self.is_running = False
        self.is_ended = False

    def __repr__(self) -> str:
        return f"<Life {'ended' if self.is_ended else 'running' if self.is_running else 'not begun'}>"

    def start(self) -> None:
        """Starts, unless that was done. Raises what that raised; `NoBackendAvailable` behind `stop`."""
        if self.is_running:
            return
        if self._starting is None and not self.is_ended:
            atexit.register(self.stop, 0)
            # In a greenlet of its own: one that is killed must not take it from the others.
            self._starting = gevent.spawn(self._start)
        if self._starting is not None:
            self._starting.join()
        if self.is_ended:
            raise self._error

    def _start(self) -> None:
        try:
            self._on_start()
        except Exception as error:
            self._error = error
            self._end(0)
            return
        self.is_running = True

    def stop(self, timeout: float = 10.0) -> None:
        """Ends what was started; again: nothing happens."""
        if self._starting is not None:
            self._starting.kill()
        if not self.is_ended:
            self._end(timeout)

    def _end(self, timeout: float) -> None:
        self.is_running, self.is_ended = False, True
        atexit.unregister(self.stop)
        self._on_stop(timeout)
