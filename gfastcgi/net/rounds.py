"""What is ready in one turn of the hub's loop is done together: all of it is read, then those who waited for it go on
one after the other, then all that they posted is sent.

Plan: the same few functions run for many connections in a row. Alternating with system calls they would have to be
fetched into the processor's caches again for each connection, which took half of the time of a small answer.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from gevent import get_hub

from gfastcgi.net.deadlines import Deadlines

__all__ = ["Round"]

LONGEST = 0.001
"""Seconds that a message may wait for others to be written."""

_of_hub: WeakKeyDictionary[Any, Round] = WeakKeyDictionary()
# Most programs have one hub: the last that was asked for is found without a look into the dictionary.
_last: list[Round] = []


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

    __slots__ = ("__weakref__", "_hub", "_is_due", "_loop", "_posts", "_requests", "_waiting", "deadlines")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._loop = hub.loop
        self.deadlines = Deadlines(hub)
        self._waiting: list[Waiting] = []
        self._requests: list[Post] = []
        self._posts: list[Post] = []
        self._is_due = False

    @staticmethod
    def here() -> Round:
        """The one of the running thread's hub, made at first use."""
        hub = get_hub()
        if _last and _last[0]._hub is hub:
            return _last[0]
        found = _of_hub.get(hub)
        if found is None:
            found = _of_hub[hub] = Round(hub)
        _last[:] = [found]
        return found

    def __repr__(self) -> str:
        return f"<Round of {len(self._waiting)} waiting, {len(self._requests) + len(self._posts)} posts>"

    def resume(self, waiting: Waiting) -> None:
        """Lets `waiting` go on in this round, behind those who came before."""
        self._waiting.append(waiting)
        if not self._is_due:
            self._begin()

    def post(self, post: Post, *, is_urgent: bool) -> None:
        """Has `post` send at the end of this round; what is urgent goes first: others have to work on it."""
        (self._requests if is_urgent else self._posts).append(post)
        if not self._is_due:
            self._begin()

    def _begin(self) -> None:
        self._is_due = True
        self._loop.run_callback(self._run)

    def _run(self) -> None:
        waiting, end = self._waiting, monotonic() + LONGEST
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
        self._send()
        self._is_due = False

    def _send(self) -> None:
        for posts in (self._requests, self._posts):
            if posts:
                for post in posts:
                    post.send_posted()
                posts.clear()
