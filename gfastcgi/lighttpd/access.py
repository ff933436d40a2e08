"""`auth.require` and its like: who may see what, checked word by word. What is not understood is a fault.

Contract: a requirement that would let nobody or everybody in by a slip of the pen is refused with its file and line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from gfastcgi.config import Requirement, Where
from gfastcgi.config.soundness import prefix_fault
from gfastcgi.errors import ConfigError, InvalidValue, UnknownOption
from gfastcgi.lighttpd.kinds import Context, Kind, array, text
from gfastcgi.lighttpd.nodes import Array, Item, Value, describe
from gfastcgi.lighttpd.report import nearest

__all__ = [
    "auth_cache",
    "field_names",
    "login_url",
    "redis_url",
    "requirements",
    "service_url",
    "variable_names",
]

_ALGORITHMS = ("SHA-256", "MD5")
_OPTIONS = ("method", "realm", "require", "algorithm")
_LOOKS = '"/path" => ( "method" => ..., "realm" => ..., "require" => ... )'
_RULES = {"user": "users", "group": "groups", "host": "hosts"}
_FIELD = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# What CGI gives these fields for is not the client's to say, whoever stands in between (see cgi/metavars).
_NEVER = frozenset({"proxy", "redirect-status", "x-sendfile-type", "x-accel-mapping", "content-length"})


def _requirements(value: Value, context: Context) -> tuple[Requirement, ...]:
    if not isinstance(value, Array):
        raise ValueError
    return tuple(found for found in (_requirement(item, context) for item in value) if found is not None)


def _requirement(item: Item, context: Context) -> Requirement | None:
    """The requirement of one key, or None when it is at fault; all its faults are told."""
    faults = list(_faults(item))
    for kind, message, where in faults:
        context.report.error(kind, f"{context.name}: {message}", where)
    if faults:
        return None
    assert isinstance(item.value, Array)
    given = {str(option.key): str(option.value) for option in item.value}
    chosen: Any = {"prefix": item.key, "method": given["method"].lower(), "realm": given["realm"]}
    algorithms = _algorithms(given.get("algorithm", "|".join(_ALGORITHMS)))
    return Requirement(**chosen, algorithms=algorithms, **_rules(given["require"]), where=item.where)


def _faults(item: Item) -> Iterator[tuple[type[ConfigError], str, Where]]:
    prefix, options = item.key, item.value
    if prefix is None:
        yield InvalidValue, f"a requirement looks like {_LOOKS}, found {describe(options)}", item.where
        return
    fault = prefix_fault(prefix)
    if fault:
        yield InvalidValue, fault, item.where
    if not isinstance(options, Array):
        message = f'"{prefix}" takes options, found {describe(options)}: a requirement looks like {_LOOKS}'
        yield InvalidValue, message, item.where
        return
    for option in options:
        kind = InvalidValue if option.key in _OPTIONS else UnknownOption
        for message in _option_faults(option):
            yield kind, f'"{prefix}": {message}', option.where
    unnamed = [option for option in options if option.key is None]
    missing = [f'"{name}"' for name in _OPTIONS[:3] if name not in [option.key for option in options]]
    if unnamed:
        found = describe(unnamed[0].value)
        message = f'options have names, like "method" => "basic", found {found} without one'
        yield InvalidValue, f'"{prefix}": {message}', unnamed[0].where
    elif missing:
        yield InvalidValue, f'"{prefix}": lacks {" and ".join(missing)}', item.where


def _option_faults(option: Item) -> Iterator[str]:
    name, value = option.key, option.value
    if name is None:
        return
    if name not in _OPTIONS:
        yield f'unknown option "{name}"{nearest(name, _OPTIONS)}'
    elif not isinstance(value, str) or not value or not value.isprintable():
        yield f'"{name}" takes a string, found {describe(value)}'
    elif name in _CHECKS:
        yield from _CHECKS[name](value)


def _method_faults(method: str) -> Iterator[str]:
    if method.lower() not in ("basic", "digest"):
        yield f'"method" is "basic" or "digest", found "{method}"'


def _algorithm_faults(words: str) -> Iterator[str]:
    if not set(_algorithms(words)) <= set(_ALGORITHMS):
        yield f'"algorithm" is made of {" and ".join(_ALGORITHMS)}, found "{words}"'


def _algorithms(words: str) -> tuple[str, ...]:
    return tuple(word.strip().upper() for word in words.split("|"))


def _rule_faults(require: str) -> Iterator[str]:
    for rule in require.split("|"):
        kind, equals, name = _parts(rule)
        if rule.strip() == "valid-user":
            continue
        if not equals or kind not in _RULES or not name:
            yield f'"require" is made of "valid-user", "user=...", "group=..." and "host=...", found "{rule}"'
        elif kind == "host" and not _is_network(name):
            yield f'"require": "host=" takes an address or a network, found "{name}"'


def _rules(require: str) -> dict[str, Any]:
    """The rules of `require` by attribute; it has no faults."""
    found: dict[str, list[str]] = {attribute: [] for attribute in _RULES.values()}
    any_user = False
    for rule in require.split("|"):
        kind, equals, name = _parts(rule)
        if equals:
            found[_RULES[kind]].append(name)
        else:
            any_user = True
    return {"any_user": any_user, **{attribute: tuple(names) for attribute, names in found.items()}}


def _parts(rule: str) -> tuple[str, str, str]:
    kind, equals, name = (part.strip() for part in rule.partition("="))
    return kind, equals, name


_CHECKS = {"method": _method_faults, "algorithm": _algorithm_faults, "require": _rule_faults}


def _is_network(name: str) -> bool:
    try:
        ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return True


def _render_requirements(value: tuple[Requirement, ...]) -> Value:
    return array([(requirement.prefix, _render_requirement(requirement)) for requirement in value])


def _render_requirement(requirement: Requirement) -> Array:
    rules = ["valid-user"] if requirement.any_user else []
    rules += [f"{kind}={name}" for kind, attribute in _RULES.items() for name in getattr(requirement, attribute)]
    return array([
        ("method", requirement.method), ("realm", requirement.realm), ("require", "|".join(rules)),
        ("algorithm", "|".join(requirement.algorithms)),
    ])  # fmt: skip


requirements = Kind(
    'requirements like ( "/a/" => ( "method" => "basic", "realm" => "...", "require" => "valid-user" ) )',
    _requirements,
    _render_requirements,
)


def _auth_cache(value: Value, _: Context) -> int:
    if not isinstance(value, Array) or any(item.key != "max-age" for item in value):
        raise ValueError
    for item in value:
        if not isinstance(item.value, int) or item.value < 0:
            raise ValueError
        return item.value
    return 0


auth_cache = Kind('a list like ( "max-age" => 600 )', _auth_cache, lambda value: array([("max-age", value)]))


def _service_url(value: Value, context: Context) -> str:
    url = text.parse(value, context)
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError when it is none
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or "@" in parts.netloc:
        raise ValueError
    if not url.isascii() or " " in url:
        raise ValueError
    return str(url)


service_url = Kind('a URL like "http://127.0.0.1:4180/oauth2/auth"', _service_url)


def _redis_url(value: Value, context: Context) -> str:
    url = str(text.parse(value, context))
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError when it is none
    if not (parts.hostname if parts.scheme == "redis" else parts.scheme == "unix" and parts.path):
        raise ValueError
    return url


redis_url = Kind('a URL like "redis://:password@127.0.0.1:6379/0" or "unix:///run/redis.sock"', _redis_url)


def _login_url(value: Value, context: Context) -> str:
    url = str(text.parse(value, context))
    is_path = url.startswith("/") and not url.startswith(("//", "/\\"))
    if not url.isascii() or " " in url or not (is_path or url.startswith(("https://", "http://"))):
        raise ValueError
    if not set(_PLACEHOLDER.findall(url)) <= {"url", "uri"}:
        raise ValueError
    return url


login_url = Kind('a URL or a path, with {url} or {uri} for the way back, like "/login?rd={url}"', _login_url)


def _variable_names(value: Value, _: Context) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Array):
        raise ValueError
    found: list[tuple[str, str]] = []
    for item in value:
        if not isinstance(item.value, str) or not _VARIABLE.fullmatch(item.value):
            raise ValueError
        if item.key is None or not _FIELD.fullmatch(item.key):
            raise ValueError
        found.append((item.key, item.value))
    return tuple(found)


variable_names = Kind(
    'variables by field like ( "X-Auth-Request-User" => "REMOTE_USER" )', _variable_names, lambda value: array([*value])
)


def _field_names(value: Value, _: Context) -> tuple[str, ...]:
    if not isinstance(value, Array):
        raise ValueError
    found: list[str] = []
    for item in value:
        if item.key is not None or not isinstance(item.value, str) or not _FIELD.fullmatch(item.value):
            raise ValueError
        if item.value.lower().replace("_", "-") in _NEVER:
            raise ValueError
        found.append(item.value)
    return tuple(found)


field_names = Kind(
    'names of fields like ( "Remote-User" )', _field_names, lambda value: array([(None, name) for name in value])
)
