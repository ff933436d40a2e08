"""Answers that take long: whoever guards them is asked again every so many seconds, and a no cuts them.

Contract: nothing is started before the body is, and nothing outlives its `close`. Whatever keeps the question from
being answered cuts as well. What has been sent by then has been sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import webob

from gfastcgi.auth.gate import QuestionEnded
from gfastcgi.errors import ClientClosed
from gfastcgi.http.response import close_body
from gfastcgi.net.sendfile import FileBody, Sink
from gfastcgi.request import Request

__all__ = ["Recheck", "guard"]

log = logging.getLogger("gfastcgi")

_LARGEST_UNGUARDED = 65536
"""Bytes of a body that is whole in memory and leaves at once."""


class Recheck:
    """Asks `is_allowed` every `seconds` while the answer to `request` is sent; anything raised is a no.

    `keys` are those of the authorizers whom it asks, for the log.
    """

    def __init__(
        self, request: Request, seconds: float, is_allowed: Callable[[], bool], keys: Iterable[str] = ()
    ) -> None:
        self._request = request
        self._seconds = seconds
        self._is_allowed = is_allowed
        self._keys = tuple(keys)
        self._sender: Any = None
        self._watch: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<Recheck every {self._seconds} s of {self._request!r}>"

    def start(self) -> None:
        """From now on a no raises `ClientClosed` in the present greenlet, until `stop`."""
        self._sender = gevent.getcurrent()
        self._watch = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ends it; again, or before it was started: nothing happens."""
        self._sender = None
        if self._watch is not None:
            self._watch.kill(QuestionEnded, block=False)
            self._watch = None

    def _run(self) -> None:
        reason = ""
        try:
            while not reason:
                gevent.sleep(self._seconds)
                reason = self._ask()
        except (gevent.GreenletExit, gevent.Timeout) as error:
            # Ours, from `stop`; or an authorizer's, who has ended the greenlet that watches, or left a timer in it.
            reason = f"its authorizers could not be asked again: {error!r}"
        if self._sender is not None:
            uri, keys = self._request.uri.decode("latin-1"), ", ".join(self._keys)
            log.warning("request %s: %s %s: cut: %s (%s)", self._request.id, self._request.method, uri, reason, keys)
            gevent.get_hub().loop.run_callback(self._cut)

    def _cut(self) -> None:
        """Runs in the hub, where the sender waits; by then it may have come to its end."""
        if self._sender is not None:
            self._sender.throw(ClientClosed("access has ended"))

    def _ask(self) -> str:
        """Why the answer is to end; "": it may go on."""
        try:
            return "" if self._is_allowed() else "its authorizers, asked again, denied it"
        except Exception as error:
            return f"its authorizers could not be asked again: {error}"


def guard(response: webob.Response, recheck: Recheck) -> None:
    """Puts the body of `response` under `recheck`."""
    body: Any = response.app_iter
    fields = response.headerlist
    if isinstance(body, (list, tuple)):
        length = sum(map(len, body))
        if length <= _LARGEST_UNGUARDED:
            return
        if not any(name.lower() == "content-length" for name, _ in fields):
            fields.append(("Content-Length", str(length)))
    # WebOb drops the length with the body that it was set for.
    kept = list(fields)
    response.app_iter = _GuardedFile(body, recheck) if isinstance(body, FileBody) else _GuardedStream(body, recheck)
    response.headerlist = kept


class _GuardedFile(FileBody):
    __slots__ = ("_body", "_recheck")

    def __init__(self, body: FileBody, recheck: Recheck) -> None:
        super().__init__(())
        self._body = body
        self._recheck = recheck
        self.length = body.length

    def small(self, limit: int) -> bytes | None:
        return self._body.small(limit)

    def __iter__(self) -> Iterator[bytes]:
        return _iterate(self._body, self._recheck)

    def send_to(self, stream: Sink) -> None:
        self._recheck.start()
        self._body.send_to(stream)

    def close(self) -> None:
        self._recheck.stop()
        self._body.close()


class _GuardedStream:
    def __init__(self, body: Iterable[bytes], recheck: Recheck) -> None:
        self._body = body
        self._recheck = recheck

    def __repr__(self) -> str:
        return f"<_GuardedStream of {self._body!r}>"

    def __iter__(self) -> Iterator[bytes]:
        return _iterate(self._body, self._recheck)

    def close(self) -> None:
        self._recheck.stop()
        close_body(self._body)


def _iterate(body: Iterable[bytes], recheck: Recheck) -> Iterator[bytes]:
    recheck.start()
    yield from body
    recheck.stop()
