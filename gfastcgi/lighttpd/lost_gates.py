"""Gates that a conditional takes away: it sets `fastcgi.server` or `auth.require` anew, without those around it.

Contract: as in lighttpd, the value of the innermost scope holds alone. Whoever meant to add to it is warned; `()` says
plainly that nothing is to hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gfastcgi.config import Where
from gfastcgi.lighttpd.evaluate import Scope
from gfastcgi.lighttpd.report import Report

__all__ = ["LostGates"]

_ATTRIBUTES = {"fastcgi.server": "extensions", "auth.require": "auth_require"}


class LostGates:
    """Compares what each scope sets with what holds around it; scopes come after those that they stand in."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._held: dict[tuple[Scope | None, str], dict[str, Where]] = {}

    def enter(self, scope: Scope, chosen: Mapping[str, Any]) -> None:
        """`chosen` is what the directives of `scope` set, by attribute."""
        for name, attribute in _ATTRIBUTES.items():
            around = self._held.get((scope.parent, name), {})
            held = dict(_gates(name, chosen[attribute])) if attribute in chosen else around
            self._held[scope, name] = held
            if not chosen.get(attribute):
                continue
            for key, where in around.items():
                if not any(_covers(other, key) for other in held):
                    message = f'{name}: in here "{key}" ({where}) is not guarded; += adds to what is there'
                    self._report.warn(message, scope.settings[name].where)


def _gates(name: str, value: Any) -> Iterator[tuple[str, Where]]:
    if name == "auth.require":
        yield from ((requirement.prefix, requirement.where) for requirement in value)
        return
    for extension in value:
        if any(host.mode == "authorizer" for host in extension.hosts):
            yield extension.key, extension.where


def _covers(other: str, key: str) -> bool:
    """Whether a gate of `other` stands before every path that `key` fits."""
    if other.startswith("/") and other != "/":
        return key.startswith(other)
    return other in ("", "/") or (key.endswith(other) and not key.startswith("/"))
