"""A connection to a backend, and what is sent over it.

Contract: one request at a time; between requests whoever holds the connection has put its stream to rest.
"""

from __future__ import annotations

from typing import Protocol

from gfastcgi import balance
from gfastcgi.fcgi.connection import WebServer
from gfastcgi.net.streams import Stream

__all__ = ["REQUEST_ID", "Connection", "RequestBody", "RequestKey"]

REQUEST_ID = 1
"""One request at a time: the id is always the same."""


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

    __slots__ = ("core", "is_reused", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.core = WebServer()
        self.is_reused = False

    def __repr__(self) -> str:
        return f"<Connection {self.stream!r}>"

    def close(self) -> None:
        """Closes the stream."""
        self.stream.close()
