"""`Client`: one FastCGI program, asked by greenlets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gfastcgi.client.probing import converse, probing
from gfastcgi.config import HostConfig
from gfastcgi.errors import NoBackendAvailable
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import UnknownType, Values, WebServer
from gfastcgi.library.pool import Pool

__all__ = ["Client"]

LIMITS = tuple(name.decode() for name in (constants.MAX_CONNS, constants.MAX_REQS, constants.MPXS_CONNS))
"""What FastCGI 1.0 section 4.1 names."""


class Client(Pool):
    """A `Pool` of one: `backend` is `unix:/path`, `tcp://host:port` or a `HostConfig`; `options` are the pool's."""

    def __init__(self, backend: str | HostConfig, **options: Any) -> None:
        super().__init__([backend], **options)

    def get_values(self, names: Iterable[str] = LIMITS, *, timeout: float = 5.0) -> dict[str, str]:
        """What the program tells of itself (FCGI_GET_VALUES), on a connection of its own; it may know none of `names`.

        Raises `ConnectError`, `ConnectTimeout`, `BackendTimeout` after `timeout` seconds, `BackendClosed`, `BadRecord`;
        `NoBackendAvailable` while no process or address is known.
        """
        self.start()
        host = self.backend.hosts[0]
        if not host.procs:
            raise NoBackendAvailable(f"{host.name} has no address")
        proc, core = host.procs[0], WebServer()
        data = core.get_values([name.encode() for name in names])
        # Counted as load: a kept connection may have to make room, where the program serves no more than those.
        with probing(host, proc):
            for event in converse(proc.address, core, data, seconds=timeout):
                if isinstance(event, Values):
                    return {name.decode("latin-1"): value.decode("latin-1") for name, value in event.values.items()}
                if isinstance(event, UnknownType):
                    break
        return {}
