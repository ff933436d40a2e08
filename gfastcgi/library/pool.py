"""`Pool`: the gateway's own backends in any program that runs on gevent.

Contract: building a pool starts nothing and connects to nothing; the first request, or `start`, does. Each request
holds one connection until its answer has ended, was closed, or its greenlet was killed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, TypeVar

from gfastcgi.backend.pool import Pool as BackendPool
from gfastcgi.backends import Backends
from gfastcgi.cli.site import parse_address
from gfastcgi.client import Exchange
from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import GfastcgiError, InvalidValue
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.library.bodies import Body, make_body, modified, raise_own
from gfastcgi.library.life import Life
from gfastcgi.library.params import Key, Params, encode, lengths, usual
from gfastcgi.library.response import Response
from gfastcgi.status import snapshot

__all__ = ["Pool", "host_of"]

log = logging.getLogger("gfastcgi")

Role = Literal["responder", "authorizer", "filter"]

_ROLES = {name.lower(): role for role, name in constants.ROLE_NAMES.items()}
_SECONDS = 60
"""Seconds in which a backend has to say, or to take, something, unless the program says otherwise."""

P = TypeVar("P", bound="Pool")


def host_of(given: str | HostConfig, options: Mapping[str, Any]) -> HostConfig:
    """The host that an address (`unix:/path`, `tcp://host:port`) with `options` names, or the one that is given.

    Raises `InvalidValue`.
    """
    if isinstance(given, HostConfig):
        if options:
            raise InvalidValue(f"options beside a HostConfig: {', '.join(sorted(options))}; they belong into it")
        return replace(given, min_procs=given.max_procs) if given.min_procs > given.max_procs else given
    address = parse_address(given, "a backend")
    chosen = {"read_timeout": _SECONDS, "write_timeout": _SECONDS, **options}
    try:
        return HostConfig(host=address.host, port=address.port, socket=address.path, **chosen)
    except TypeError as error:
        raise InvalidValue(f"{given}: {error}") from error


class Pool:
    """Backends that share requests: `hosts` are addresses, `unix:/path` or `tcp://host:port`, or `HostConfig`s.

    `options` are those of a `HostConfig`, for every address: `max_connections` (to one address at once; more wait, and
    connections are kept), `queue_timeout`, `connect_timeout`, `read_timeout`, `write_timeout` (seconds without a byte,
    60), `disable_time`, ... `balance` is one of `fastcgi.balance`, a plugin's too. A `HostConfig` with `bin_path` is
    spawned, and ended with the pool. As a context manager a pool is started and stopped. Raises `InvalidValue`.
    """

    def __init__(self, hosts: Iterable[str | HostConfig], *, balance: str = "fair", **options: Any) -> None:
        configs = [host_of(host, options) for host in ([hosts] if isinstance(hosts, str) else hosts)]
        if not configs:
            raise InvalidValue("a pool without a host serves nobody")
        self.balance = balance
        self._backends = Backends({balance})
        self._pool = self._backends.pool(configs, Settings(balance=balance))
        self._life = Life(self._backends.start, lambda timeout: self._backends.stop(timeout or 1.0))

    def __repr__(self) -> str:
        load = sum(host.load for host in self._pool.hosts)
        names = ", ".join(host.name for host in self._pool.hosts)
        return f"<{type(self).__name__} of {names}, load {load}, {self._pool.waiting} waiting>"

    # Its life

    def start(self) -> None:
        """Spawns what is to be spawned, and looks host names up, unless that was done. Raises `SpawnError`."""
        self._life.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Ends processes (deaf ones by force after `timeout` seconds) and kept connections; for good."""
        self._life.stop(timeout)

    def __enter__(self: P) -> P:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def backend(self) -> BackendPool:
        """What chooses and counts, for the parts of the gateway."""
        return self._pool

    def statistics(self) -> dict[str, int]:
        """Loads, states and counters by name, as `status.statistics-url` tells them (docs/status.md)."""
        return snapshot(self._backends.pools, {})

    # Requests

    def request(self, params: Params, body: Body = None, *, role: Role = "responder", data: Body = None) -> Response:
        """Asks one of the backends, and returns when the head of its answer has come.

        `params` are meta-variables; usual ones are added (None takes one away), CONTENT_LENGTH among them. `body` is
        bytes, a file, or an iterable of bytes, which is read first, unless `params` has its CONTENT_LENGTH. `data` is
        the file for a filter (FCGI_DATA).

        Raises `Overloaded` when no connection got free in `queue_timeout` seconds, `NoBackendAvailable`,
        `ConnectError`, `ConnectTimeout`, `BackendTimeout`, `BackendClosed`, `UnknownRole`, `BadRecord`,
        `BadCGIResponse`; what the program's own body raises; ValueError, TypeError for what cannot be sent.
        """
        self.start()
        number = _ROLES[role]
        if data is not None and role != "filter":
            raise ValueError(f"FCGI_DATA is for a filter, not for the role {role}")
        given = encode(params)
        length, data_length = lengths(given)
        sent = make_body(body, length)
        file = make_body(data, data_length) if role == "filter" else None
        bodies = (sent, file)
        variables = usual(role, sent.length or 0) | ({} if file is None else _of_file(data, file.length or 0)) | given
        named = {name: value for name, value in variables.items() if value is not None}
        encoded = encode_pairs(named.items())
        stderr: list[bytes] = []
        exchange = Exchange(
            self._pool, Key.of(named, self.balance), lambda host: encoded, sent,
            role=number, data=file, log_stderr=stderr.append, on_interim=_pass_over,
        )  # fmt: skip
        try:
            head = exchange.start()
        except GfastcgiError:
            if stderr:
                log.error("FastCGI-stderr: %s", b"".join(stderr).decode("utf-8", "backslashreplace").rstrip())
            raise_own(bodies)
            raise
        has_body = named.get(b"REQUEST_METHOD") != b"HEAD" and head.status not in (204, 304)
        return Response(head, exchange, bodies, stderr, has_body=has_body)


def _of_file(data: Body, length: int) -> dict[bytes, bytes | None]:
    """FastCGI 1.0 section 6.4."""
    return {b"FCGI_DATA_LENGTH": b"%d" % length, b"FCGI_DATA_LAST_MOD": b"%d" % modified(data)}


def _pass_over(head: object) -> None:
    """An interim answer (1xx) says nothing to a program."""
