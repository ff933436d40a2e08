"""Gates that a conditional takes away: it sets `fastcgi.server` or `auth.require` anew, without those set before.

Contract: as in lighttpd, the value of the innermost scope holds alone, and that of the last one of conditionals beside
each other. Whoever meant to add to it is warned: of gates around a conditional when the file is read, of those of one
beside it when a request meets both. `()` says plainly that nothing is to hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gfastcgi.config import Block, Where
from gfastcgi.lighttpd.evaluate import Scope
from gfastcgi.lighttpd.report import Report

__all__ = ["LostGates", "lost_beside"]

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
            for key, where in _lost(around, held):
                message = f'{name}: in here "{key}" ({where}) is not guarded; += adds to what is there'
                self._report.warn(message, scope.settings[name].where)


def lost_beside(blocks: Sequence[Block]) -> Iterator[str]:
    """What is lost where all of `blocks`, in the order of the file, hold for one request."""
    for name, attribute in _ATTRIBUTES.items():
        setters = [block for block in blocks if attribute in block.overrides]
        for earlier, later in pairwise(setters):
            is_around = set(earlier.conditions) <= set(later.conditions)
            if is_around or not later.overrides[attribute]:
                continue
            held = dict(_gates(name, later.overrides[attribute]))
            for key, where in _lost(dict(_gates(name, earlier.overrides[attribute])), held):
                yield (
                    f"{later.where}: {name}: a request meets this conditional and the one of {earlier.where}, and this "
                    f'value holds alone: "{key}" ({where}) is not guarded; put one into the other, with +='
                )


def _lost(before: Mapping[str, Where], held: Mapping[str, Where]) -> Iterator[tuple[str, Where]]:
    """Those of `before` that guard paths which none of `held` guards."""
    for key, where in before.items():
        if not any(_covers(other, key) for other in held):
            yield key, where


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
