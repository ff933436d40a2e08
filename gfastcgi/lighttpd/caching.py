"""The host option `"cache"`: how long the decisions of an authorizer are kept, and what tells them apart.

Contract: a key without a credential is a fault, with its file and line: one client's yes would be everybody's.
"""

from __future__ import annotations

import re
from typing import Any

from gfastcgi.config import CacheConfig
from gfastcgi.errors import InvalidValue, UnknownOption
from gfastcgi.lighttpd.kinds import Context, Kind, array, integer, strings
from gfastcgi.lighttpd.nodes import Array, Item, Value, describe
from gfastcgi.lighttpd.report import nearest

__all__ = ["cache"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN = ("address", "method", "path", "prefix", "query")
_NAMED = ("cookie", "header", "prefix")
_seconds = integer(0)
_FIELDS: dict[str, tuple[str, Kind]] = {
    "ttl": ("ttl", _seconds),
    "negative-ttl": ("negative_ttl", _seconds),
    "grant-ttl": ("grant_ttl", _seconds),
    "size": ("size", integer(1, 10_000_000)),
}


def _key(value: Value, context: Context) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for text in strings.parse(value, context):
        kind, colon, name = text.partition(":")
        name = name.lower() if kind == "header" else name
        is_known = _is_named(kind, name) if colon else kind in _PLAIN
        if not is_known:
            known = [f"{kind}:..." for kind in _NAMED] + [*_PLAIN]
            message = f'"cache": the key has no part "{text}"{nearest(text, known)}; its parts are {", ".join(known)}'
            context.report.error(InvalidValue, message, context.where)
        found.append((kind, name))
    return tuple(dict.fromkeys(found))


def _is_named(kind: str, name: str) -> bool:
    if kind == "prefix":
        return name.isascii() and name.isdigit() and 0 < int(name) < 100
    return kind in _NAMED and _TOKEN.fullmatch(name) is not None


def _cache(value: Value, context: Context) -> CacheConfig:
    if not isinstance(value, Array) or any(item.key is None for item in value):
        raise ValueError
    found: dict[str, Any] = {"key": ()}
    for item in value:
        _take(item, context, found)
    cache = CacheConfig(**found)
    if not cache.has_credential:
        message = '"cache": the key needs a credential, "cookie:NAME" or "header:NAME": one yes would be everybody\'s'
        context.report.error(InvalidValue, message, context.where)
    return cache


def _take(item: Item, context: Context, found: dict[str, Any]) -> None:
    name = item.key or ""
    attribute, kind = ("key", strings) if name == "key" else _FIELDS.get(name, ("", strings))
    if not attribute:
        message = f'"cache": unknown option "{name}"{nearest(name, ["key", *_FIELDS])}'
        context.report.error(UnknownOption, message, item.where)
        return
    try:
        found[attribute] = _key(item.value, context) if attribute == "key" else kind.parse(item.value, context)
    except ValueError:
        message = f'"cache": "{name}" takes {kind.label}, found {describe(item.value)}'
        context.report.error(InvalidValue, message, item.where)


def _render(value: CacheConfig | None) -> Value | None:
    if value is None:
        return None
    key = [(None, f"{kind}:{name}" if name else kind) for kind, name in value.key]
    fields = [(name, getattr(value, attribute)) for name, (attribute, _) in _FIELDS.items()]
    return array([*fields, ("key", array([*key]))])


cache = Kind('a list like ( "ttl" => 60, "key" => ( "cookie:SID" ) )', _cache, _render)
