"""One request as the gateway sees it, whatever protocol brought it.

Contract: a server (HTTP/1 today) makes it, the story rooms read it; a `webob.Request` is made only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Body", "Peer", "Request"]


class Peer:
    """Both ends of a client connection. Addresses are text without brackets; a unix socket has port 0."""

    __slots__ = ("params", "remote_addr", "remote_port", "scheme", "server_addr", "server_port", "socket")

    def __init__(self, remote: tuple[str, int], local: tuple[str, int], *, scheme: str = "http", socket: str = "") -> None:
        self.remote_addr, self.remote_port = remote
        self.server_addr, self.server_port = local
        self.scheme = scheme
        self.socket = socket or f"{local[0]}:{local[1]}"
        self.params = b""
        """The connection's own meta-variables, encoded once by whoever sends them first."""

    def __repr__(self) -> str:
        return f"<Peer {self.remote_addr}:{self.remote_port} at {self.server_addr}:{self.server_port}>"


class Body(Protocol):
    """A request body that is read once, in pieces."""

    length: int | None
    """Bytes, when known before reading (0: there is no body); None for a chunked body."""

    def read(self, limit: int = 65536) -> bytes:
        """The next piece, at most `limit` bytes; b"" at the end. Raises a `RemoteProtocolError` or `StreamError`."""


class Request:
    """One request. Field names are lower-case bytes as `head.fields` has them; `path` is normalised, once, for good."""

    __slots__ = (
        "accept_100", "authority", "body", "documents", "fields", "id", "method", "path", "peer", "query",
        "rewritten_from", "started", "target", "user", "variables", "version", "watch",
    )  # fmt: skip
