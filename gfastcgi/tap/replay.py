"""Sends what a recording holds to a FastCGI program again, and compares the answers.

Contract: connections and requests follow each other as they did: whatever came after the end of an answer is sent after
the end of its answer now. At most the answers that are being compared are held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import gevent
from gevent.event import Event as Signal

from gfastcgi.errors import StreamError
from gfastcgi.net.streams import Stream
from gfastcgi.tap.answers import Answer, Answers, differences
from gfastcgi.tap.events import Event

__all__ = ["Outcome", "Replay"]

Outcome = tuple[str, list[str]]
"""Which request, and how its answer differs from what it was."""


class Replay:
    """`dial` connects to the program, and raises `BackendError`; `seconds` is how long an answer may take."""

    def __init__(self, dial: Callable[[], Stream], *, seconds: float, ignored: Collection[str] = ()) -> None:
        self._dial = dial
        self._seconds = seconds
        self._ignored = frozenset(name.lower() for name in ignored)
        self._playing: dict[int, _Connection] = {}

    def __repr__(self) -> str:
        return f"<Replay on {len(self._playing)} connections>"

    def run(self, events: Iterable[Event]) -> Iterator[Outcome]:
        """The outcomes, as the answers end. Raises what `dial` raises, and what `events` raise."""
        try:
            for event in events:
                yield from self._play(event)
            for number in list(self._playing):
                yield from self._finish(number)
        finally:
            for connection in self._playing.values():
                connection.close()

    def _play(self, event: Event) -> Iterator[Outcome]:
        number = event.connection
        if event.what == "open":
            self._playing[number] = _Connection(number, self._dial())
            return
        connection = self._playing.get(number)
        if connection is None:
            return
        if event.what == "front":
            connection.send(event.data)
        elif event.what == "front-end":
            connection.end()
        elif event.what == "backend":
            connection.expected.answer(event.data)
            yield from connection.compare(self._seconds, self._ignored)
        elif event.what == "close":
            yield from self._finish(number)
        elif event.what == "lost":
            self._playing.pop(number).close()

    def _finish(self, number: int) -> Iterator[Outcome]:
        connection = self._playing.pop(number)
        try:
            yield from connection.finish(self._seconds, self._ignored)
        finally:
            connection.close()


class _Connection:
    """One of the recording's connections: what was answered on it, and what is answered now."""

    def __init__(self, number: int, stream: Stream) -> None:
        self._number = number
        self.expected = Answers()
        self._actual = Answers()
        self._stream = stream
        self._news = Signal()
        self._is_over = ""
        self._reading = gevent.spawn(self._read)

    def send(self, data: bytes) -> None:
        """Sends what the web server sent."""
        self.expected.ask(data)
        self._actual.ask(data)
        try:
            self._stream.send_all(data)
        except StreamError as error:
            self._is_over = self._is_over or f"the connection was lost: {error}"

    def end(self) -> None:
        """Says no more, as the web server did."""
        try:
            self._stream.shutdown_write()
        except StreamError as error:
            self._is_over = self._is_over or f"the connection was lost: {error}"

    def close(self) -> None:
        """Ends it."""
        self._reading.kill()
        self._stream.close()

    def _read(self) -> None:
        try:
            while data := self._stream.recv():
                self._actual.answer(data)
                self._news.set()
            self._is_over = self._is_over or "the program closed the connection"
        except StreamError as error:
            self._is_over = self._is_over or f"the connection was lost: {error}"
        self._news.set()

    def compare(self, seconds: float, ignored: Collection[str]) -> Iterator[Outcome]:
        """Compares what ended in the recording with what ends now, and waits for that."""
        while self.expected.ended:
            wanted = self.expected.ended.pop(0)
            yield self._outcome(wanted, self._obtain(wanted.name, seconds), ignored)

    def _obtain(self, name: str, seconds: float) -> Answer | str:
        """The answer to the request of that name, once it ended; or why there is none."""
        timer = gevent.Timeout(seconds)
        try:
            with timer:
                while (found := self._take(name)) is None and not (self._is_over or self._actual.fault):
                    self._news.clear()
                    self._news.wait()
        except gevent.Timeout as timeout:
            if timeout is not timer:
                raise
            return f"no answer within {seconds:g} s"
        return found if found is not None else self._actual.fault or self._is_over

    def _take(self, name: str) -> Answer | None:
        """The first answer of that name: multiplexed ones may end in another order."""
        for at, answer in enumerate(self._actual.ended):
            if answer.name == name:
                return self._actual.ended.pop(at)
        return None

    def _outcome(self, before: Answer, now: Answer | str, ignored: Collection[str]) -> Outcome:
        told = [now] if isinstance(now, str) else list(differences(before, now, ignored))
        return f"{self._number} {before.name}", told

    def finish(self, seconds: float, ignored: Collection[str]) -> Iterator[Outcome]:
        """The recording of it is over: what had no end there may have none now."""
        yield from self.compare(seconds, ignored)
        for answer in self.expected.left():
            found = self._take(answer.name)
            if found is not None:
                yield self._outcome(answer, found, ignored)
