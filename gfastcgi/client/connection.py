"""A connection to a backend, and what is sent over it.

Contract: one request at a time, each under an id of its own; between requests whoever holds the connection has put its
stream to rest.
"""

from __future__ import annotations

from typing import Protocol

from gfastcgi import balance
from gfastcgi.fcgi.connection import WebServer
from gfastcgi.net.streams import Stream

__all__ = ["Connection", "RequestBody", "RequestKey"]

_MOST_IDS = 255
"""Ids that one connection uses in turn: each fits into a byte."""


class RequestBody(Protocol):
    """What is sent as STDIN."""

    length: int | None

    def read(self) -> bytes: ...
    def close(self) -> None: ...


class RequestKey(balance.RequestKey, Protocol):
    """What balancing and retrying look at."""

    @property
    def method(self) -> str: ...


class Connection:
    """A connection to a proc, with the protocol's state."""

    __slots__ = ("core", "is_reused", "request_id", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.core = WebServer()
        self.is_reused = False
        self.request_id = 0
        """That of the present request. What follows the end of an answer bears another one than the next request has,
        and answers nobody, whenever it comes."""

    def next_id(self) -> int:
        """An id for the next request."""
        self.request_id = self.request_id % _MOST_IDS + 1
        return self.request_id

    def __repr__(self) -> str:
        return f"<Connection {self.stream!r}>"

    def close(self) -> None:
        """Closes the stream."""
        self.stream.close()
