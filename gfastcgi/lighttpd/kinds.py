"""What a value may be: one `Kind` a type of option, that checks a `Value` and turns it into what `config` holds.

Contract: `parse` raises ValueError when the value is not of the kind; what it wants to say beyond that goes to the
context's report. `render` is its inverse, for `gfastcgi -p`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gfastcgi.config import Condition, Extension, RewriteRule, Where
from gfastcgi.config.expressions import expression_fault
from gfastcgi.errors import InvalidValue, PluginError, UnknownOption
from gfastcgi.lighttpd.nodes import Array, Item, Value
from gfastcgi.lighttpd.report import Report, nearest

__all__ = [
    "Context", "Kind", "array", "balance", "boolean", "choice", "command", "host_name", "integer",
    "kibibytes", "log_path", "octal", "pairs", "parse_options", "path", "paths", "prefix_pairs", "rules", "strings",
    "switches", "text", "url_path",
]  # fmt: skip

MAX_INTEGER = 2**31 - 1


@dataclass(slots=True)
class Context:
    """Where a value stands: what its kind needs beside it."""

    report: Report
    name: str
    where: Where
    condition: Condition | None
    make_extensions: Callable[[Value, Context], tuple[Extension, ...]]
    find_balance: Callable[[str], object | None] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of option. `label` says in a few words what it takes."""

    label: str
    parse: Callable[[Value, Context], Any]
    render: Callable[[Any], Value | None] = lambda value: value


def array(items: list[tuple[str | None, Value]]) -> Array:
    return Array(tuple(Item(key, value, Where()) for key, value in items), Where())


def _boolean(value: Value, _: Context) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if word in ("enable", "enabled", "true", "1", 1):
        return True
    if word in ("disable", "disabled", "false", "0", 0):
        return False
    raise ValueError


boolean = Kind('"enable" or "disable"', _boolean, lambda value: "enable" if value else "disable")


def integer(low: int, high: int = MAX_INTEGER, *, unit: int = 1, label: str = "") -> Kind:
    """A number from `low` to `high`, also in quotes; `unit` is what one of it stands for."""

    def parse(value: Value, _: Context) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value * unit

    return Kind(label or f"a number from {low} to {high}", parse, lambda value: value // unit)


kibibytes = integer(0, 2**41, unit=1024, label="a number of KiB, 0 for no limit")


def _octal(value: Value, _: Context) -> int:
    number = int(str(value), 8) if isinstance(value, (str, int)) else -1
    if not 0 <= number <= 0o777:
        raise ValueError
    return number


octal = Kind('an octal mode like "0660"', _octal, lambda value: f"{value:04o}")


def _text(value: Value, _: Context) -> str:
    if not isinstance(value, str) or any(ord(char) < 32 or char == "\x7f" for char in value):
        raise ValueError
    return value


text = Kind("a string without control characters", _text)


def _path(value: Value, context: Context) -> str:
    if not _text(value, context):
        raise ValueError
    return str(value)


path = Kind("a path", _path)
host_name = Kind("a name or an address", _path)


def _command(value: Value, context: Context) -> str:
    if not shlex.split(_path(value, context)):  # raises ValueError as well
        raise ValueError
    return str(value)


command = Kind("a command, split as a shell does", _command)


def _url_path(value: Value, context: Context) -> str:
    found = _text(value, context)
    if found and not found.startswith("/"):
        raise ValueError
    return found


url_path = Kind('a path like "/status", or ""', _url_path)


def _log(value: Value, context: Context) -> str:
    if _path(value, context).lstrip().startswith("|"):
        raise ValueError
    return str(value)


log_path = Kind("the path of a file (a pipe is not served)", _log)


def choice(*names: str) -> Kind:
    """One of some words."""

    def parse(value: Value, _: Context) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError
        return value

    return Kind("one of " + ", ".join(f'"{name}"' for name in names), parse)


def balance(*names: str) -> Kind:
    """One of `names`, or what the context finds beside them."""

    def parse(value: Value, context: Context) -> str:
        if not isinstance(value, str):
            raise ValueError
        try:
            if value not in names and (context.find_balance is None or context.find_balance(value) is None):
                raise ValueError
        except PluginError as error:
            context.report.error(InvalidValue, f"{context.name}: {error}", context.where)
        return value

    return Kind("one of " + ", ".join(f'"{name}"' for name in names) + ", or the name of a plugin", parse)


def _items(value: Value, *, keyed: bool) -> list[tuple[str, str]]:
    if not isinstance(value, Array):
        raise ValueError
    found: list[tuple[str, str]] = []
    for item in value:
        content = str(item.value) if isinstance(item.value, int) else item.value
        if not isinstance(content, str) or (item.key is not None) != keyed:
            raise ValueError
        found.append((item.key or "", content))
    return found


def _strings(value: Value, _: Context) -> tuple[str, ...]:
    return tuple(content for _, content in _items(value, keyed=False))


def _pairs(value: Value, _: Context) -> tuple[tuple[str, str], ...]:
    return tuple(_items(value, keyed=True))


def _render_strings(value: tuple[str, ...]) -> Value:
    return array([(None, item) for item in value])


def _render_pairs(value: tuple[tuple[str, str], ...]) -> Value:
    return array(list(value))


strings = Kind('a list of strings like ( "..." )', _strings, _render_strings)
pairs = Kind('a list of strings with keys like ( "..." => "..." )', _pairs, _render_pairs)


def _paths(value: Value, context: Context) -> tuple[str, ...]:
    found = _strings(value, context)
    if not all(item.startswith("/") for item in found):
        raise ValueError
    return found


paths = Kind('a list of absolute paths like ( "/..." )', _paths, _render_strings)


def _prefix_pairs(value: Value, context: Context) -> tuple[tuple[str, str], ...]:
    found = _pairs(value, context)
    for position, (prefix, target) in enumerate(found):
        if not prefix.startswith("/") or not target.startswith("/"):
            raise ValueError
        for earlier, _ in found[:position]:
            if prefix.startswith(earlier):
                message = f'{context.name}: "{prefix}" is never reached, since "{earlier}" stands before it'
                context.report.error(InvalidValue, message, context.where)
    return found


prefix_pairs = Kind('a list of absolute paths like ( "/prefix" => "/folder" )', _prefix_pairs, _render_pairs)


def rules(*, once: bool = True) -> Kind:
    """Regular expressions and their replacements, for `url.rewrite*` and `url.redirect`."""

    def parse(value: Value, context: Context) -> tuple[RewriteRule, ...]:
        found: list[RewriteRule] = []
        for pattern, replacement in _pairs(value, context):
            fault = expression_fault(pattern)
            if fault:
                message = f'{context.name}: the regular expression "{pattern}" is at fault: {fault}'
                context.report.error(InvalidValue, message, context.where)
            found.append(RewriteRule(pattern, replacement, once, context.condition, context.where))
        return tuple(found)

    def render(value: tuple[RewriteRule, ...]) -> Value | None:
        own = [rule for rule in value if rule.once is once]
        return array([(rule.pattern, rule.replacement) for rule in own]) if own or not value else None

    return Kind('a list of regular expressions like ( "^/a" => "/b" )', parse, render)


def switches(
    take: Callable[[dict[str, Value], Context], Any], known: tuple[str, ...], render: Callable[[Any], Value]
) -> Kind:
    """A list of named switches, of which `take` makes one value. An unknown name is an error."""

    def parse(value: Value, context: Context) -> Any:
        if not isinstance(value, Array):
            raise ValueError
        found: dict[str, Value] = {}
        for item in value:
            if item.key is None:
                raise ValueError
            if item.key not in known:
                message = f'{context.name}: unknown option "{item.key}"{nearest(item.key, known)}'
                context.report.error(UnknownOption, message, item.where)
            found[item.key] = item.value
        return take(found, context)

    return Kind('a list like ( "name" => "enable" )', parse, render)


PARSE_OPTIONS = (
    "header-strict", "host-strict", "host-normalize", "url-normalize", "url-normalize-unreserved",
    "url-normalize-required", "url-ctrls-reject", "url-path-backslash-trans", "url-path-2f-decode",
    "url-path-2f-reject", "url-path-dotseg-remove", "url-path-dotseg-reject", "url-query-20-plus",
    "url-invalid-utf8-reject", "method-get-body",
)  # fmt: skip
ALWAYS_ON = frozenset(PARSE_OPTIONS[:7]) | {"url-path-dotseg-remove"}
NOT_SERVED = frozenset({
    "url-path-backslash-trans", "url-path-dotseg-reject", "url-query-20-plus", "url-invalid-utf8-reject",
    "method-get-body",
})  # fmt: skip


def _take_parse_options(found: dict[str, Value], context: Context) -> str:
    held = {name: _boolean(value, context) for name, value in found.items()}
    for name, is_on in held.items():
        if name in ALWAYS_ON and not is_on:
            message = f'{context.name}: "{name}" stays enabled: gfastcgi relaxes no check of a request'
            context.report.warn(message, context.where)
        elif name in NOT_SERVED and is_on:
            context.report.warn(f'{context.name}: "{name}" is known, but not served yet', context.where)
    if held.get("url-path-2f-decode") and held.get("url-path-2f-reject"):
        message = f'{context.name}: "url-path-2f-decode" and "url-path-2f-reject" exclude each other'
        context.report.error(InvalidValue, message, context.where)
    return "decode" if held.get("url-path-2f-decode") else "reject"


parse_options = switches(_take_parse_options, PARSE_OPTIONS, lambda value: array([(f"url-path-2f-{value}", "enable")]))
