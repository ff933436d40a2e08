"""Grants: a yes for everything beneath a prefix, for a while, so that hundreds of small files ask once.

An authorizer gives one with its yes: `Variable-GFASTCGI_GRANT: path=/maps/12/; ttl=300`. It holds for the same client
with the same credentials. The prefix is compared with the normalised path, and ends at a slash or with the path.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gfastcgi.auth.base import Allow
from gfastcgi.config.paths import is_beneath
from gfastcgi.errors import BadRequest
from gfastcgi.http.target import parse_target

__all__ = ["VARIABLE", "Grant", "Grants", "parse_grant", "without_grant"]

VARIABLE = b"GFASTCGI_GRANT"
"""The variable that carries a grant; it goes to no backend."""

_MOST_PREFIXES = 16


class Grant(NamedTuple):
    """`prefix` (a normalised path) for `seconds`."""

    prefix: str
    seconds: int


def parse_grant(value: bytes, key: str, longest: int) -> Grant:
    """The grant that `value` spells, of `longest` seconds at most. Raises ValueError.

    It must lie beneath `key`, where that is a prefix: nobody grants what is not his.
    """
    found: dict[str, str] = {}
    for part in value.decode("latin-1").split(";"):
        name, equals, text = part.strip().partition("=")
        if name not in ("path", "ttl") or not equals or name in found:
            raise ValueError(f"expected path=/...; ttl=seconds, found {value!r}")
        found[name] = text
    ttl = found.get("ttl", "")
    if not (ttl.isascii() and ttl.isdigit() and len(ttl) < 10):
        raise ValueError(f"the ttl of a grant is a number of seconds, found {ttl!r}")
    prefix = _normal(found.get("path", ""))
    if key.startswith("/") and not prefix.startswith(key) and prefix + "/" != key:
        raise ValueError(f"the path {prefix!r} does not lie beneath {key!r}")
    return Grant(prefix, min(int(ttl), longest))


def _normal(path: str) -> str:
    """`path`, decoded. One that requests could not have, or only in another spelling, is refused: it may mislead."""
    raw = path.encode("latin-1")
    try:
        normal = parse_target(raw).path
    except BadRequest as error:
        raise ValueError(str(error)) from error
    if normal.encode("utf-8", "surrogateescape") != unquote_to_bytes(raw) or not path.startswith("/"):
        raise ValueError(f"the path of a grant is normalised, without a query, found {path!r}")
    return normal


def without_grant(allow: Allow) -> Allow:
    """`allow` without the variable that carries a grant."""
    if VARIABLE not in allow.variables:
        return allow
    return replace(allow, variables={name: value for name, value in allow.variables.items() if name != VARIABLE})


class Grants:
    """The grants of one authorizer, at most `size` clients with some each. `clock` is seconds (monotonic)."""

    __slots__ = ("_clock", "_held", "_size")

    def __init__(self, size: int, *, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._held: OrderedDict[Hashable, dict[str, tuple[float, Allow]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Grants of {len(self._held)} clients>"

    def __len__(self) -> int:
        return len(self._held)

    def find(self, who: Hashable, path: str) -> Allow | None:
        """The yes that covers `path` for the client `who`."""
        now = self._clock()
        for prefix, (end, allow) in self._held.get(who, {}).items():
            if end > now and is_beneath(path, prefix):
                self._held.move_to_end(who)
                return allow
        return None

    def give(self, who: Hashable, grant: Grant, allow: Allow) -> None:
        """Lets `who` in with `allow` wherever `grant` reaches, from now on."""
        held = self._held.setdefault(who, {})
        self._held.move_to_end(who)
        held.pop(grant.prefix, None)
        held[grant.prefix] = self._clock() + grant.seconds, allow
        if len(held) > _MOST_PREFIXES:
            del held[next(iter(held))]
        if len(self._held) > self._size:
            self._held.popitem(last=False)

    def take_back(self, who: Hashable, path: str) -> None:
        """Ends the grants of `who` that cover `path`."""
        held = self._held.get(who, {})
        for prefix in [prefix for prefix in held if is_beneath(path, prefix)]:
            del held[prefix]
        if not held:
            self._held.pop(who, None)

    def purge(self) -> None:
        """Ends all grants."""
        self._held.clear()
