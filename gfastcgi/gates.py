"""Builds the authorizers of a site: for each `fastcgi.server` key a gate, by what its first host names.

Contract: a host entry that no authorizer can be made of is an error here, never a gate that is left out.
"""

from __future__ import annotations

from gfastcgi.auth.base import Audit, Authorizer
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.auth.gate import Gate
from gfastcgi.backends import Backends
from gfastcgi.config import HostConfig, Settings
from gfastcgi.gateway import log_stderr
from gfastcgi.resolve import Resolver

__all__ = ["Gates"]


class Gates:
    """Makes the gates of one configuration, and keeps what they share. `audit` gets their verdicts."""

    def __init__(self, backends: Backends, *, audit: Audit | None = None) -> None:
        self._backends = backends
        self._audit = audit

    def gate(self, key: str, hosts: list[HostConfig], settings: Settings) -> Gate:
        """The gate of `key`; `hosts` (at least one) are the backends of its authorizer."""
        docroot = hosts[0].docroot
        resolver = Resolver(docroot, settings.index_file_names, settings.symlink_roots) if docroot else None
        return Gate(key, self._authorizer(key, hosts, settings), resolver, audit=self._audit)

    def _authorizer(self, key: str, hosts: list[HostConfig], settings: Settings) -> Authorizer:
        return FastCGIAuthorizer(key, self._backends.pool(hosts, settings), log_stderr)
