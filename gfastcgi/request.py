"""One request as the gateway sees it, whatever protocol brought it.

Contract: a server (HTTP/1 today) makes it, the story rooms read it. A `webob.Request` is made only when somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO, StringIO
from itertools import count
from typing import Any, NamedTuple, Protocol

import webob

from gfastcgi.cgi.metavars import field_variables
from gfastcgi.http.request import RequestHead
from gfastcgi.http.target import Target, host_of

__all__ = ["Asker", "Body", "Log", "Peer", "Request"]


def _ids() -> Iterator[str]:
    """Ids that no other process gives, and that this one did not before it was started again."""
    return map(f"{os.urandom(4).hex()}-{{}}".format, count(1))


_next_id = _ids()


def _begin_ids() -> None:
    global _next_id
    _next_id = _ids()


os.register_at_fork(after_in_child=_begin_ids)


class Peer:
    """Both ends of a client connection. Addresses are text without brackets; a unix socket has port 0."""

    __slots__ = (
        "askers", "field_params", "fields", "params", "remembered", "remote_addr", "remote_port", "requests", "scheme",
        "server_addr", "server_name", "server_port", "socket",
    )  # fmt: skip

    def __init__(
        self, remote: tuple[str, int], local: tuple[str, int], *, scheme: str = "http", socket: str = ""
    ) -> None:
        self.remote_addr, self.remote_port = remote
        self.server_addr, self.server_port = local
        self.scheme = scheme
        self.socket = socket or f"{local[0]}:{local[1]}"
        """The listener as `$SERVER["socket"]` names it."""
        self.requests = 0
        """How many requests the connection brought, the present one among them."""
        self.fields: list[tuple[bytes, bytes]] | None = None
        """The fields of its last request, and `field_params`: what they and `server_name` are as meta-variables."""
        self.server_name = ""
        self.field_params = b""
        self.remembered: dict[object, Known] = {}
        """The last meta-variables for each backend that it led to."""
        self.askers: dict[object, Asker] = {}
        """Whom its last request showed, to each authorizer whose decisions are kept."""
        self.params: bytes | None = None
        """The connection's own meta-variables, encoded once by whoever sends them first."""

    def __repr__(self) -> str:
        return f"<Peer {self.remote_addr}:{self.remote_port} at {self.server_addr}:{self.server_port}>"


class Asker(NamedTuple):
    """Who asks, as the keys of decisions have it, and all of a request that says so.

    A client that sends the same head again brings the very same list of fields.
    """

    who: tuple[Any, ...] | None
    fields: list[tuple[bytes, bytes]]
    method: str
    authority: str


class Known:
    """Encoded meta-variables, and all of the request that they are made of.

    A client that asks the same again brings the very same objects: they are compared by identity.
    """

    __slots__ = (
        "_fields", "_head", "_length", "_local", "_method", "_place", "_server_name", "_server_tag", "_uri", "params",
    )  # fmt: skip

    def __init__(self, request: Request, place: object, length: int, params: bytes) -> None:
        self._head, self._fields, self._uri, self._method = request.head, request.fields, request.uri, request.method
        self._server_name, self._server_tag = request.server_name, request.server_tag
        self._place, self._local, self._length = place, request.local, length
        self.params = params

    def holds(self, request: Request, place: object, length: int) -> bool:
        """Whether `request`, which leads to `place` with a body of `length` bytes, would have the same."""
        return (
            request.head is self._head
            and request.fields is self._fields
            and request.uri is self._uri
            and place is self._place
            and length == self._length
            and request.method == self._method
            and request.local == self._local
            and request.server_name == self._server_name
            and request.server_tag == self._server_tag
        )


class Body(Protocol):
    """A request body, read once, in pieces."""

    length: int | None
    """Bytes, known before reading (0: there is no body); None for a chunked body."""
    limit: int
    """The most bytes taken; 0: any number."""

    def read(self) -> bytes:
        """The next piece; b"" at the end. Raises `RemoteProtocolError` or `StreamError`."""

    def close(self) -> None:
        """Gives back what holds it."""


class Request:
    """One request. Field names are lower-case bytes; `path` is decoded and normalised, once, for good."""

    __slots__ = (
        "_id", "added", "authority", "balance", "body", "fields", "head", "interim", "local", "log", "method",
        "original_uri", "path", "patience", "peer", "query", "server_name", "server_tag", "started", "trail", "turn",
        "uri", "user", "variables",
    )  # fmt: skip

    def __init__(
        self, head: RequestHead, peer: Peer, body: Body, started: float, interim: Callable[[bytes], None] | None = None
    ) -> None:
        target = head.target
        self.head = head
        self.method = head.method
        self.path = target.path
        self.query = target.query
        self.uri = target.uri
        """The canonical target, path and query; `original_uri` stays what the client sent when a rewrite changes it."""
        self.original_uri = target.uri
        self.fields = head.fields
        self.authority = head.authority
        """`host[:port]` in lower case; "" when an HTTP/1.0 client sent none."""
        self.peer = peer
        self.body = body
        self.started = started
        """`time.monotonic()` when the head was complete."""
        self.interim = interim
        """Sends the bytes of a 1xx response; None where the client knows none (HTTP/1.0)."""
        self.user = ""
        """Who an authorizer says it is, for the access log."""
        self.variables: dict[bytes, bytes] = {}
        """Meta-variables set by authorizers and hooks; they win over everything that the client sent."""
        self.server_name = ""
        """What the site calls itself; "": as the client calls it."""
        self.server_tag = ""
        self.balance = ""
        """What `fastcgi.balance` is for this request."""
        self.patience: float | None = 1.0
        """Seconds without a byte sent after which a client that ended its side has left; None: it never has."""
        self.local = ""
        """The file that is asked for, beneath its root, where it is not simply `path`: of an alias, or an index."""
        self.log: Log | None = None
        self.turn = 0
        """The round of the hub in which it was read, while no code of others was run for it; 0: none."""
        self.added: tuple[tuple[str, str], ...] = ()
        """Fields that authorizers add to the answer, whatever comes of it."""
        self.trail: object = None
        """What the audit log holds of it."""
        self._id = ""

    def __repr__(self) -> str:
        return f"<Request {self.id} {self.method} {self.uri!r}>"

    @property
    def id(self) -> str:
        """A word that joins the log lines of one request, and is no other request's."""
        self._id = self._id or next(_next_id)
        return self._id

    def rewrite(self, target: Target) -> None:
        """Goes on with another target; `original_uri` stays what the client asked for."""
        self.path, self.query, self.uri = target.path, target.query, target.uri

    def redirect_locally(self, target: Target, body: Body) -> None:
        """Begins again as a GET of `target` with the empty `body` (RFC 3875 section 6.2.2), of nobody known."""
        self.rewrite(target)
        self.method = "GET" if self.method != "HEAD" else "HEAD"
        self.body = body
        # What the site let through, or dropped, is judged again by the site that the new target leads to.
        self.fields = [field for field in self.head.fields if not field[0].startswith(b"content-")]
        self.variables = {}
        self.user = ""

    @property
    def version(self) -> str:
        """ "1.0" or "1.1"."""
        return self.head.version

    @property
    def remote_addr(self) -> str:
        """The client's address."""
        return self.peer.remote_addr

    def field(self, name: bytes) -> bytes | None:
        """The values of the field `name` (lower-case) joined as one (RFC 9110 section 5.3), or None."""
        values = [value for field, value in self.fields if field == name]
        if not values:
            return None
        return values[0] if len(values) == 1 else (b"; " if name == b"cookie" else b", ").join(values)

    def webob(self) -> webob.Request:
        """This request for Python code, without its body."""
        peer = self.peer
        host = host_of(self.authority)
        port = self.authority[len(host) + 1 :]
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": self.path.encode("utf-8", "surrogateescape").decode("latin-1"),
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "SERVER_NAME": self.server_name or host or peer.server_addr,
            "SERVER_PORT": port or str(peer.server_port),
            "REMOTE_ADDR": peer.remote_addr,
            "REMOTE_PORT": str(peer.remote_port),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": peer.scheme,
            "wsgi.input": BytesIO(),
            "wsgi.errors": StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        shadowed = {b"HTTP_" + name for name in self.variables}
        for variables in (field_variables(self.fields), self.variables):
            _add(environ, (pair for pair in variables.items() if pair[0] not in shadowed))
        return webob.Request(environ)


def _add(environ: dict[str, Any], variables: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in variables:
        environ[name.decode("latin-1")] = value.decode("latin-1")


Log = Callable[[Request, int, list[tuple[str, str]], int, float, bool], None]
"""Writes the access log's line: the request, status, fields, bytes, seconds of its answer, and whether it is whole."""
