"""Prints a `Config` as a lighttpd.conf that means the same: what `gfastcgi -p` shows.

Contract: parsing the text gives the same `Config` again; what equals its default is left out, a document root never.
`veiled` takes away what is not for every reader of the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gfastcgi.config import Address, Block, Condition, Config, Extension, HostConfig
from gfastcgi.lighttpd.conditions import SOCKET
from gfastcgi.lighttpd.nodes import Array, Item, Value
from gfastcgi.lighttpd.options import DIRECTIVES, Option, default_of
from gfastcgi.secrecy import without_secrets

__all__ = ["render", "veiled"]

INDENT = "    "


def render(config: Config) -> str:
    """The text of a configuration that means `config`."""
    lines = [f"{name} = {value}" for name, value in _listener_lines(config)]
    for option in DIRECTIVES.values():
        if option.scope == "server" and option.attributes:
            lines += _assignment(option, getattr(config.server, option.attributes[0]))
    for option in DIRECTIVES.values():
        if option.scope == "request" and option.attributes:
            lines += _assignment(option, getattr(config.settings, option.attributes[0]))
    for block in config.blocks:
        lines += ["", *_block(block)]
    # Behind the blocks: a conditional that stands twice is one, in the place of the first.
    for address in config.server.listeners[1:]:
        perms = f' server.socket-perms = "{address.mode:04o}" ' if address.mode is not None else " "
        lines += ["", f"${SOCKET} == {_quote(str(address))} {{{perms}}}"]
    return "\n".join(lines) + "\n"


def veiled(config: Config) -> Config:
    """`config` with lengths in the place of secrets, which no gateway would start with by mistake.

    They are `fastcgi.cache-secret`, passwords and tokens in URLs, and the variables of `"bin-environment"` that are
    named like secrets.
    """
    server = replace(
        config.server,
        cache_secret=config.server.cache_secret and without_secrets("secret", config.server.cache_secret),
        cache_redis=without_secrets("", config.server.cache_redis),
    )
    settings = replace(config.settings, extensions=_veiled_extensions(config.settings.extensions))
    blocks = [
        replace(block, overrides={**block.overrides, "extensions": _veiled_extensions(block.overrides["extensions"])})
        if "extensions" in block.overrides
        else block
        for block in config.blocks
    ]
    return replace(config, server=server, settings=settings, blocks=tuple(blocks))


def _veiled_extensions(extensions: tuple[Extension, ...]) -> tuple[Extension, ...]:
    return tuple(
        replace(extension, hosts=tuple(_veiled_host(host) for host in extension.hosts)) for extension in extensions
    )


def _veiled_host(host: HostConfig) -> HostConfig:
    environment = tuple((name, without_secrets(name, value)) for name, value in host.bin_environment)
    url, login = (without_secrets("", value) for value in (host.url, host.login))
    return replace(host, bin_environment=environment, url=url, login=login)


def _listener_lines(config: Config) -> Iterator[tuple[str, str]]:
    if not config.server.listeners:
        return
    first: Address = config.server.listeners[0]
    if first.path:
        yield "server.bind", _quote(first.path)
        if first.mode is not None:
            yield "server.socket-perms", _quote(f"{first.mode:04o}")
    else:
        yield "server.bind", _quote(f"[{first.host}]" if ":" in first.host else first.host)
        yield "server.port", str(first.port)


def _assignment(option: Option, value: Any, depth: int = 0, *, always: bool = False) -> Iterator[str]:
    rendered = None if option.is_alias else option.kind.render(value)
    if rendered is None:
        return
    if always or value != default_of(option) or option.name == "server.document-root":
        yield f"{INDENT * depth}{option.name} = {_value(rendered, depth)}"


def _block(block: Block) -> Iterator[str]:
    depth = 0
    for condition, truth in block.conditions:
        head = f"{INDENT * depth}{_condition(condition)} {{"
        yield head if truth else f"{head} }} else {{"
        depth += 1
    yield from _overrides(block.overrides, depth)
    for level in reversed(range(depth)):
        yield INDENT * level + "}"


def _overrides(overrides: Mapping[str, Any], depth: int) -> Iterator[str]:
    for option in DIRECTIVES.values():
        if option.scope == "request" and option.attributes and option.attributes[0] in overrides:
            yield from _assignment(option, overrides[option.attributes[0]], depth, always=True)


def _condition(condition: Condition) -> str:
    return f"${condition.variable} {condition.operator} {_quote(condition.operand)}"


def _quote(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _value(value: Value, depth: int) -> str:
    """`value` in the syntax of the file, its lines indented for a statement at `depth`."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quote(value)
    items = [_key(item) + _value(item.value, depth + 1) for item in value]
    is_flat = not any(isinstance(item.value, Array) for item in value)
    if is_flat and sum(map(len, items)) < 80:
        return f"( {', '.join(items)} )" if items else "()"
    inner = "".join(f"\n{INDENT * (depth + 1)}{item}," for item in items)
    return f"({inner}\n{INDENT * depth})"


def _key(item: Item) -> str:
    return "" if item.key is None else f"{_quote(item.key)} => "
