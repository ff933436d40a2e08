"""Builds the authorizers that are no FastCGI programs: those over HTTP (`"url"`) and in Python (`"python"`).

Contract: an entry has one authorizer, whatever sites use it. What cannot be made is a `ConfigError` with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from inspect import isasyncgenfunction, isclass, iscoroutinefunction, isgeneratorfunction, isroutine
from typing import Any

from gfastcgi.auth.answers import identity_names
from gfastcgi.auth.base import Authorizer
from gfastcgi.auth.python import DEFAULT_TIME_LIMIT, PythonAuthorizer, folder_of, load
from gfastcgi.backends import is_elsewhere, of_mode
from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import InvalidValue
from gfastcgi.faults import Faults
from gfastcgi.logins import require_extra

__all__ = ["Elsewhere", "identity_fields"]


class Elsewhere:
    """The authorizers of one configuration."""

    def __init__(self) -> None:
        self._made: dict[HostConfig, Authorizer] = {}

    def prepare(self, settings: Settings, faults: Faults) -> None:
        """Makes those of `settings`, so that their `faults` are found before the first request."""
        for extension in settings.extensions:
            for host in of_mode(extension.hosts, "authorizer")[:1]:
                if is_elsewhere(host):
                    with faults.caught():
                        self.authorizer(extension.key, host)

    def close(self) -> None:
        """Closes the connections that are kept."""
        for authorizer in self._made.values():
            close = getattr(authorizer, "close", None)
            if close is not None:
                close()

    def authorizer(self, key: str, host: HostConfig) -> Authorizer:
        """The one that `host` names. Raises `InvalidValue`."""
        if host not in self._made:
            if host.url:
                self._made[host] = require_extra("geventhttpclient", host.where, lambda: _forward(key, host))
            else:
                self._made[host] = _python(host)
        return self._made[host]


def _forward(key: str, host: HostConfig) -> Authorizer:
    from gfastcgi.auth.forward import forward_authorizer

    return forward_authorizer(key, host)


def _python(host: HostConfig) -> Authorizer:
    function, name = host.python, ""
    if isinstance(function, str):
        name = function
        try:
            function = load(name, folder_of(host.where.filename))
        except InvalidValue as error:
            raise InvalidValue(error.message, host.where.filename, host.where.lineno) from error
    fault = _never_allows(function)
    if fault:
        message = f'"python" => "{name or function}" is {fault}'
        raise InvalidValue(message, host.where.filename, host.where.lineno)
    limit = host.decision_timeout
    if not isinstance(function, PythonAuthorizer):
        return PythonAuthorizer(function, time_limit=limit or host.read_timeout or DEFAULT_TIME_LIMIT, name=name)
    # Another one: elsewhere it keeps the limit that it was made with.
    shortest = function.time_limit if limit is None or 0 < function.time_limit <= limit else limit
    return PythonAuthorizer(function.function, time_limit=shortest, name=name)


def _never_allows(function: Any) -> str:
    """What `function` is, when no answer of it can be a yes; else ""."""
    while isinstance(function, (PythonAuthorizer, partial)):
        function = function.function if isinstance(function, PythonAuthorizer) else function.func
    if isclass(function):
        return "a class, whose call makes an instance and decides nothing: name an instance, or a function"
    called = function if isroutine(function) else type(function).__call__
    if iscoroutinefunction(called) or isasyncgenfunction(called):
        return "a coroutine function (async def), which nobody awaits: an authorizer is a plain function"
    if isgeneratorfunction(called):
        return "a generator function, whose call decides nothing: an authorizer returns its answer"
    return ""


def identity_fields(settings: Settings) -> Iterator[bytes]:
    """The fields and variables by which the authorizers of `settings` say who a client is, where that is known."""
    for name in settings.identity_fields:
        yield name.encode()
    for extension in settings.extensions:
        for host in of_mode(extension.hosts, "authorizer"):
            if host.url:
                yield from identity_names(host.variables)
