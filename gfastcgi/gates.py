"""Builds the authorizers of a site: for each `fastcgi.server` key a gate, by what its first host names.

Contract: a host entry that no authorizer can be made of is an error here, never a gate that is left out. Sites that
differ in nothing that an authorizer could see share their gates, and what these remember.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields
from hashlib import sha256

from gfastcgi.answers import log_stderr
from gfastcgi.auth.base import Audit, Authorizer
from gfastcgi.auth.denial import make_gate
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.auth.gate import Gate
from gfastcgi.auth.keeper import Shared
from gfastcgi.backends import Backends, is_elsewhere
from gfastcgi.config import HostConfig, Settings
from gfastcgi.elsewhere import Elsewhere
from gfastcgi.faults import Faults
from gfastcgi.resolve import Resolver

__all__ = ["Gates"]


class Gates:
    """Makes the gates of one configuration. `audit` gets their verdicts, `shared` what other gateways may know."""

    def __init__(self, backends: Backends, *, audit: Audit | None = None, shared: Shared | None = None) -> None:
        self._backends = backends
        self._audit = audit
        self._shared = shared
        self._elsewhere = Elsewhere()
        self._gates: dict[Hashable, Gate] = {}

    def prepare(self, settings: Settings, faults: Faults) -> None:
        """Makes the authorizers of `settings` that are no FastCGI programs, so that their faults are found at once."""
        self._elsewhere.prepare(settings, faults)

    def gate(self, key: str, hosts: list[HostConfig], settings: Settings) -> Gate:
        """The gate of `key`; `hosts` (at least one) are the backends of its authorizer."""
        seen = settings.document_root, settings.server_name, settings.index_file_names, settings.symlink_roots
        known = key, tuple(map(id, hosts)), seen
        if known not in self._gates:
            self._gates[known] = self._make(key, hosts, settings)
        return self._gates[known]

    @property
    def made(self) -> list[Gate]:
        """All gates so far; those of a site are made when its first request comes."""
        return list(self._gates.values())

    def close(self) -> None:
        """Closes the connections of authorizers that are no FastCGI programs."""
        self._elsewhere.close()

    def purge(self) -> int:
        """Forgets every decision that is remembered. Returns the number of gates that remember any."""
        gates = [gate for gate in self._gates.values() if gate.keeper is not None]
        for gate in gates:
            gate.purge()
        return len(gates)

    def _make(self, key: str, hosts: list[HostConfig], settings: Settings) -> Gate:
        first = hosts[0]
        resolver = Resolver(first.docroot, settings.index_file_names, settings.symlink_roots) if first.docroot else None
        return make_gate(
            key,
            self._authorizer(key, hosts, settings),
            first,
            resolver,
            identity=_identity(key, hosts, settings),
            shared=self._shared,
            audit=self._audit,
        )

    def _authorizer(self, key: str, hosts: list[HostConfig], settings: Settings) -> Authorizer:
        if is_elsewhere(hosts[0]):
            return self._elsewhere.authorizer(key, hosts[0])
        return FastCGIAuthorizer(key, self._backends.pool(hosts, settings), log_stderr)


def _identity(key: str, hosts: list[HostConfig], settings: Settings) -> bytes:
    """A digest of all that makes this authorizer what it is: another configuration is another authorizer."""
    told = [
        [(field.name, repr(getattr(host, field.name))) for field in fields(host) if field.name != "where"]
        for host in hosts
    ]
    return sha256(repr((key, told, settings.document_root, settings.server_name)).encode()).digest()
