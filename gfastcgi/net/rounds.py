"""What is ready in one turn of the hub's loop is done together: all of it is read, then those who waited for it go on
one after the other, then all that they posted is sent. What is under way goes first, so that others get their part to
work on; what is new comes behind it.

Plan: the same few functions run for many connections in a row. Alternating with system calls they would have to be
fetched into the processor's caches again for each connection, which took half of the time of a small answer.
"""

from __future__ import annotations

import sys
from itertools import count
from time import monotonic
from typing import Any, Protocol

from gevent import get_hub
from gevent.monkey import get_original

from gfastcgi.net.deadlines import Deadlines

__all__ = ["Round"]

LONGEST = 0.001
"""Seconds that a message may wait for others to be written."""

_numbers = count(1)
# Of the thread, whatever gevent has put in the place of `threading.local`: it goes when the thread does.
_thread = get_original("threading", "local")()


class Waiting(Protocol):
    """Somebody who goes on in this round."""

    def resume(self) -> None:
        """Called in the hub; nothing happens when he has gone on, or given up, by himself."""


class Post(Protocol):
    """Somebody who has something to send."""

    def send_posted(self) -> None:
        """Called at the end of the round; never waits, raises nothing."""


class Round:
    """The present round of one hub; `Round.here()` is the running hub's. `deadlines` are the hub's, too."""

    __slots__ = (
        "__weakref__", "_answers", "_hub", "_is_due", "_loop", "_new", "_requests", "_under_way", "deadlines", "number",
    )  # fmt: skip

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._loop = hub.loop
        self.deadlines = Deadlines(hub)
        self._under_way: list[Waiting] = []
        self._new: list[Waiting] = []
        self._requests: list[Post] = []
        self._answers: list[Post] = []
        self._is_due = False
        self.number = 0
        """Of the round that is being run, no other's ever; 0 while none is."""

    @staticmethod
    def here() -> Round:
        """The one of the running thread's hub, made at first use."""
        hub = get_hub()
        found: Round | None = getattr(_thread, "round", None)
        if found is None or found._hub is not hub:
            found = _thread.round = Round(hub)
        return found

    def __repr__(self) -> str:
        waiting, posts = len(self._under_way) + len(self._new), len(self._requests) + len(self._answers)
        return f"<Round of {waiting} waiting, {posts} posts>"

    def resume(self, waiting: Waiting, *, is_new: bool = False) -> None:
        """Lets `waiting` go on in this round; `is_new`: with what nobody has begun to work on, behind all others."""
        (self._new if is_new else self._under_way).append(waiting)
        if not self._is_due:
            self._begin()

    def post(self, post: Post, *, is_request: bool = False) -> None:
        """Has `post` send at the end of this round; a request goes first: others have to work on it."""
        (self._requests if is_request else self._answers).append(post)
        if not self._is_due:
            self._begin()

    def _begin(self) -> None:
        self._is_due = True
        self._loop.run_callback(self._run)

    def _run(self) -> None:
        self.number = next(_numbers)
        try:
            self._go_on(self._under_way)
            self._send()
            self._go_on(self._new)
            self._send()
        finally:
            self._is_due = False
            self.number = 0
            # The new may have let others go on; and an interrupt from the keyboard comes anywhere.
            if self._under_way or self._new or self._requests or self._answers:
                self._begin()

    def _go_on(self, waiting: list[Waiting]) -> None:
        end = monotonic() + LONGEST
        # It grows meanwhile: who goes on may let others go on.
        for each in waiting:
            try:
                each.resume()
            except BaseException:
                # The end of a greenlet that nobody else looks after is no reason to forget the others.
                self._hub.handle_error(each, *sys.exc_info())
            if monotonic() > end:
                self._send()
                end = monotonic() + LONGEST
        waiting.clear()

    def _send(self) -> None:
        for posts in (self._requests, self._answers):
            if posts:
                for post in posts:
                    post.send_posted()
                posts.clear()
