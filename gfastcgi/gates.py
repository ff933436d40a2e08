"""Builds the authorizers of a site: for each `fastcgi.server` key a gate, by what its first host names.

Contract: a host entry that no authorizer can be made of is an error here, never a gate that is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.backend.pool import Pool
from gfastcgi.config import HostConfig, Settings
from gfastcgi.gateway import log_stderr
from gfastcgi.resolve import Resolver
from gfastcgi.site import Gate

__all__ = ["make_gate"]


def make_gate(key: str, hosts: Sequence[HostConfig], pool: Pool, settings: Settings) -> Gate:
    """The gate of `key`; `hosts` (at least one) are its authorizers, `pool` their backends."""
    docroot = hosts[0].docroot
    resolver = Resolver(docroot, settings.index_file_names, settings.symlink_roots) if docroot else None
    return Gate(key, FastCGIAuthorizer(key, pool, log_stderr), resolver)
