"""Builds the gates of `auth.require`: Basic and Digest, with the files of users that `auth.backend` names.

Contract: gates of equal requirements and files are one, so that a password checked or a nonce given by one site of a
configuration is known to the others. What cannot be judged by the backend that is named is a `ConfigError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from gfastcgi.auth.base import Audit, Authorizer
from gfastcgi.auth.gate import Gate
from gfastcgi.auth.throttle import Throttle
from gfastcgi.auth.userfile import UserFile
from gfastcgi.config import Requirement, Settings, Where
from gfastcgi.config.soundness import prefix_fault
from gfastcgi.errors import InvalidValue
from gfastcgi.faults import Faults

__all__ = ["Logins", "require_extra"]

_METHODS = ("basic", "digest")


class Logins:
    """Makes the gates, and keeps what they share. `audit` gets their verdicts."""

    def __init__(self, *, audit: Audit | None = None) -> None:
        self._audit = audit
        self._throttle = Throttle(time.monotonic)
        self._gates: dict[tuple[object, ...], Gate] = {}

    def prepare(self, settings: Settings, faults: Faults) -> None:
        """Makes those of `settings`, so that their `faults` are found before the first request."""
        for requirement in settings.auth_require:
            with faults.caught():
                self._gate(requirement, settings)

    def gates(self, settings: Settings) -> list[Gate]:
        """A gate for each requirement, in their order: the first whose prefix fits holds. Raises `InvalidValue`."""
        return [self._gate(requirement, settings) for requirement in settings.auth_require]

    @property
    def made(self) -> list[Gate]:
        """All gates so far."""
        return list(self._gates.values())

    def _gate(self, requirement: Requirement, settings: Settings) -> Gate:
        kind = settings.auth_backend
        userfile = getattr(settings, f"auth_{kind}_userfile", "")
        where = requirement.where
        faults = Faults()
        for message in _faults(requirement, settings, userfile):
            faults.add(InvalidValue(message, where.filename, where.lineno))
        faults.raise_all()
        key = (requirement, kind, userfile, settings.auth_plain_groupfile, settings.auth_cache)
        if key not in self._gates:
            authorizer = require_extra("libpass", where, partial(self._authorizer, requirement, settings, userfile))
            self._gates[key] = Gate(requirement.prefix, authorizer, None, audit=self._audit)
        return self._gates[key]

    def _authorizer(self, requirement: Requirement, settings: Settings, userfile: str) -> Authorizer:
        from gfastcgi.auth.basic import BasicAuthorizer, Remembered
        from gfastcgi.auth.digest import DigestAuthorizer, Nonces
        from gfastcgi.auth.login import Groups, Login
        from gfastcgi.auth.passwords import parse_accounts, parse_groups

        groups: UserFile[Groups] | None = None
        if settings.auth_plain_groupfile:
            groups = UserFile(settings.auth_plain_groupfile, parse_groups)
        users = UserFile(userfile, partial(parse_accounts, settings.auth_backend or "plain"))
        login = Login(requirement, users, groups, self._throttle)
        if requirement.method == "basic":
            return BasicAuthorizer(login, Remembered(settings.auth_cache))
        return DigestAuthorizer(login, Nonces(), requirement.algorithms)


def _faults(requirement: Requirement, settings: Settings, userfile: str) -> Iterator[str]:
    """Why it would guard nothing of what it seems to, or cannot be judged by the backend that is named."""
    fault = prefix_fault(requirement.prefix)
    if fault:
        yield f"auth.require: {fault}"
    if requirement.method not in _METHODS:
        yield f'auth.require: "method" is "basic" or "digest", found "{requirement.method}"'
    kind = settings.auth_backend
    if not kind or not userfile:
        missing = f"auth.backend.{kind}.userfile" if kind else "auth.backend"
        yield f"auth.require needs {missing}"
    if requirement.method == "digest" and kind == "htpasswd":
        yield 'auth.require: "digest" needs the backend "htdigest" or "plain", whose secrets it is made of'
    if requirement.groups and not settings.auth_plain_groupfile:
        yield "auth.require: group= needs auth.backend.plain.groupfile"


def require_extra(package: str, where: Where, make: Callable[[], Authorizer]) -> Authorizer:
    """What `make` makes; `InvalidValue` when the `package` that it needs is not installed."""
    try:
        return make()
    except ModuleNotFoundError as error:
        message = f'this needs the package {package} (pip install ".[auth]" in the checkout): {error}'
        raise InvalidValue(message, where.filename, where.lineno) from error
