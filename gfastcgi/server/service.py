"""What all connections of a server share: who answers, within which limits, under which name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

import webob

from gfastcgi.errors import RemoteProtocolError
from gfastcgi.http.request import Limits
from gfastcgi.request import Request

__all__ = ["Handler", "Refuse", "Service", "Timeouts"]

Handler = Callable[[Request], webob.Response]
"""Answers a request. Raises `StreamError` alone, for a client that left."""
Refuse = Callable[[RemoteProtocolError], webob.Response]
"""Answers bytes that are no request."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds and counts of a client connection, by lighttpd's directives."""

    keep_alive_idle: float = 5  # server.max-keep-alive-idle
    keep_alive_requests: int = 1000  # server.max-keep-alive-requests; 0: no keep-alive
    read_idle: float = 60  # server.max-read-idle; inside a head: 408
    write_idle: float = 360  # server.max-write-idle
    head: float = 30  # the whole head, however slowly it trickles: 408


class _Date:
    """The Date field's value, made once a second."""

    __slots__ = ("_second", "_value")

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._value = formatdate(now, usegmt=True).encode()
        return self._value


@dataclass(slots=True, kw_only=True)
class Service:
    """`is_draining`: each connection ends with the request that it works on."""

    handler: Handler
    refuse: Refuse
    server_tag: str
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    is_draining: bool = False
    date: Callable[[], bytes] = field(init=False, default_factory=_Date)
