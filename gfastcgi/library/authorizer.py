"""`authorizer_at`: an authorizer by its address, for any gate of a WSGI program."""

from __future__ import annotations

from typing import Any

from gfastcgi.answers import log_stderr
from gfastcgi.auth.base import Authorizer, Decision
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.config import CacheConfig, HostConfig
from gfastcgi.errors import InvalidValue
from gfastcgi.library.pool import Pool
from gfastcgi.request import Request

__all__ = ["authorizer_at"]

_SECONDS = 30


def authorizer_at(*addresses: str, **options: Any) -> Authorizer:
    """A FastCGI authorizer at one of `addresses`, each `unix:/path` or `tcp://host:port`; or one at an HTTP URL.

    `options` are those of a `HostConfig`, such as `read_timeout` (seconds, 30), `max_connections`, `cache` (a
    `CacheConfig`), `stale_allow` and `login`. Raises `InvalidValue`.
    """
    if options.get("recheck"):
        raise InvalidValue("recheck is for a gateway: nothing here asks again while an answer is sent")
    if not isinstance(options.get("cache"), CacheConfig | None):
        raise InvalidValue(f"cache is a CacheConfig, not {options['cache']!r}")
    options = {"mode": "authorizer", "read_timeout": _SECONDS, **options}
    if len(addresses) == 1 and addresses[0].startswith(("http://", "https://")):
        from gfastcgi.auth.forward import forward_authorizer  # its HTTP client is an extra

        return forward_authorizer(addresses[0], HostConfig(url=addresses[0], **options))
    return _PooledAuthorizer(", ".join(addresses), Pool(addresses, **options))


class _PooledAuthorizer(FastCGIAuthorizer):
    """Starts its pool with the first question."""

    def __init__(self, key: str, pool: Pool) -> None:
        super().__init__(key, pool.backend, log_stderr)
        self._start = pool.start
        self.config = pool.backend.hosts[0].config
        """The options that it was made with, for the gate that asks it."""

    def check(self, request: Request, root: str) -> Decision:
        """Asks once. Raises `BackendError`, `BadRecord`, `BadCGIResponse` when there is no sound answer."""
        self._start()
        return super().check(request, root)
