"""Which settings hold for a request: the conditionals of the configuration, evaluated lazily.

Plan: each distinct condition becomes one function of the request. `find` runs down the blocks, asks a condition at
most once, and notes in a bit mask which blocks hold; the settings of a mask are merged and built once. Pure: no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar, get_args

from gfastcgi.config import Block, Captures, Condition, Config, Operator, RewriteRule, Settings
from gfastcgi.config.addresses import client_address
from gfastcgi.errors import BadRequest, InvalidValue
from gfastcgi.http.target import check_authority
from gfastcgi.patterns import Pattern

__all__ = ["Captures", "ConditionRequest", "SiteTable"]

T = TypeVar("T")

NO_CAPTURES: Captures = {}
MAX_CACHED = 4096
"""Combinations of blocks whose settings are kept; a site has a handful."""


class _Peer(Protocol):
    @property
    def remote_addr(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def server_port(self) -> int: ...
    @property
    def socket(self) -> str: ...


class ConditionRequest(Protocol):
    """What conditions ask of a request."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def authority(self) -> str: ...
    @property
    def peer(self) -> _Peer: ...
    def field(self, name: bytes, /) -> bytes | None: ...


_OPERATORS = get_args(Operator)
_COLONS_OF_SYNTAX = re.compile(r"\(\?[A-Za-z-]*:|\[:\^?[a-z]+:\]|\\\[.*?\\\]")
_Subject = Callable[[Any], str]
_Check = Callable[[Any], Any]


def _field(name: str) -> _Subject:
    key = name.lower().encode()

    def subject(request: ConditionRequest) -> str:
        value = request.field(key)
        return value.decode("utf-8", "surrogateescape") if value else ""

    return subject


_SUBJECTS: dict[str, _Subject] = {
    'HTTP["url"]': lambda request: request.path,
    'HTTP["host"]': lambda request: request.authority,
    'HTTP["querystring"]': lambda request: request.query,
    'HTTP["cookie"]': _field("cookie"),
    'HTTP["useragent"]': _field("user-agent"),
    'HTTP["referer"]': _field("referer"),
    'HTTP["language"]': _field("accept-language"),
    'HTTP["remoteip"]': lambda request: request.peer.remote_addr,
    'HTTP["request-method"]': lambda request: request.method,
    'HTTP["scheme"]': lambda request: request.peer.scheme,
    'SERVER["socket"]': lambda request: request.peer.socket,
}


def _split_port(authority: str) -> tuple[str, str]:
    """Host and port of `host[:port]`; an IPv6 address keeps its brackets."""
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and not port.endswith("]") else (authority, "")


def _host_subject(operand: str) -> _Subject:
    """As lighttpd: a port counts only where the operand names one, and then the listener's stands in for none."""
    if not _split_port(operand)[1]:
        return lambda request: _split_port(request.authority)[0]

    def subject(request: ConditionRequest) -> str:
        has_port = _split_port(request.authority)[1] or not request.authority
        return request.authority if has_port else f"{request.authority}:{request.peer.server_port}"

    return subject


def _is_host(operand: str) -> _Check:
    """As lighttpd: a port counts only where both name one. Raises ValueError for a port that is none."""
    wanted, wanted_port = _split_port(operand)
    wanted_port = str(int(wanted_port)) if wanted_port else ""
    with suppress(BadRequest):
        wanted = check_authority(wanted.encode())

    def is_host(request: ConditionRequest) -> bool:
        host, port = _split_port(request.authority)
        return host == wanted and (not port or not wanted_port or port == wanted_port)

    return is_host


def _host_matches(operand: str) -> _Check:
    """The match of a regular expression in Host; no port that a client names takes a host away from one without."""
    search = Pattern(operand).search
    has_port = ":" in _COLONS_OF_SYNTAX.sub("", operand)

    def matches(request: ConditionRequest) -> Any:
        found = search(request.authority)
        host, port = _split_port(request.authority)
        return search(host) if found is None and port and not has_port else found

    return matches


def _is_in_network(operand: str) -> _Check:
    if operand.startswith("/"):
        return lambda request: request.peer.remote_addr == operand
    network = ipaddress.ip_network(operand, strict=False)

    @lru_cache(maxsize=1024)
    def is_member(text: str) -> bool:
        address = client_address(text)
        return address is not None and address.version == network.version and address in network

    return lambda request: is_member(request.peer.remote_addr)


def _check(condition: Condition) -> _Check:
    """A function of the request: true (the match, for `=~`) where the condition holds."""
    variable, operator, operand = condition.variable, condition.operator, condition.operand
    if operator not in _OPERATORS:
        raise ValueError(f'there is no operator "{operator}"')
    if variable.startswith("REQUEST_HEADER"):
        subject = _field(variable[len('REQUEST_HEADER["') : -len('"]')])
    elif variable == 'HTTP["host"]':
        return _host_check(operator, operand)
    else:
        subject = _SUBJECTS[variable]
    if operator == "=~":
        search = Pattern(operand).search
        return lambda request: search(subject(request))
    if operator == "!~":
        search = Pattern(operand).search
        return lambda request: not search(subject(request))
    if operator == "=^":
        return lambda request: subject(request).startswith(operand)
    if operator == "=$":
        return lambda request: subject(request).endswith(operand)
    if variable == 'HTTP["remoteip"]':
        is_in = _is_in_network(operand)
        return is_in if operator == "==" else lambda request: not is_in(request)
    if operator == "==":
        return lambda request: subject(request) == operand
    return lambda request: subject(request) != operand


def _host_check(operator: str, operand: str) -> _Check:
    if operator in ("==", "!="):
        holds = _is_host(operand)
    elif operator in ("=~", "!~"):
        holds = _host_matches(operand)
    else:
        subject, dotless = _host_subject(operand), operand.removesuffix(".")
        if operator == "=^":
            return lambda request: subject(request).startswith(operand)
        return lambda request: subject(request).endswith(dotless)
    return (lambda request: not holds(request)) if operator.startswith("!") else holds


def _checked(condition: Condition) -> _Check:
    try:
        return _check(condition)
    except (KeyError, ValueError) as error:
        fault = f"there is no variable {error}" if isinstance(error, KeyError) else str(error)
        message = f'${condition.variable} {condition.operator} "{condition.operand}": {fault}'
        raise InvalidValue(message, condition.where.filename, condition.where.lineno) from error


class SiteTable(Generic[T]):
    """The settings of every request, as `build` makes them of a `Settings` and of the blocks that went into it.

    Raises `InvalidValue` for conditions that the configuration language would have refused.
    """

    def __init__(self, config: Config, build: Callable[[Settings, Sequence[Block]], T]) -> None:
        self._settings = config.settings
        self._blocks = config.blocks
        self._build = build
        self._built: dict[int, T] = {0: build(config.settings, ())}
        places: dict[tuple[str, str, str], int] = {}
        self._checks: list[_Check] = []
        self._rows: list[tuple[int, list[tuple[int, bool]]]] = []
        self._wanted: dict[Condition, int] = {}
        for number, block in enumerate(config.blocks):
            row: list[tuple[int, bool]] = []
            for condition, truth in block.conditions:
                key = (condition.variable, condition.operator, condition.operand)
                if key not in places:
                    places[key] = len(self._checks)
                    self._checks.append(_checked(condition))
                row.append((places[key], truth))
            self._rows.append((1 << number, row))
            self._want(block, places)

    def _want(self, block: Block, places: dict[tuple[str, str, str], int]) -> None:
        """Notes the conditions whose captures a rule of `block` asks for."""
        for name in ("rewrite", "rewrite_if_not_file", "redirect"):
            rules: tuple[RewriteRule, ...] = block.overrides.get(name, ())
            for rule in rules:
                if rule.condition is not None and "%" in rule.replacement:
                    condition = rule.condition
                    self._wanted[condition] = places[condition.variable, condition.operator, condition.operand]

    def __repr__(self) -> str:
        return f"<SiteTable of {len(self._blocks)} blocks and {len(self._checks)} conditions>"

    def find(self, request: ConditionRequest) -> tuple[T, Captures]:
        """What holds for `request`. Raises `BadRequest` when a regular expression takes too long for it."""
        if not self._rows:
            return self._built[0], NO_CAPTURES
        checks = self._checks
        held: list[Any] = [_UNKNOWN] * len(checks)
        mask = 0
        for bit, row in self._rows:
            for place, truth in row:
                outcome = held[place]
                if outcome is _UNKNOWN:
                    outcome = held[place] = checks[place](request)
                if (not outcome) is truth:
                    break
            else:
                mask |= bit
        built = self._built.get(mask, _UNKNOWN)
        if built is _UNKNOWN:
            built = self._merge(mask)
        return built, self._captures(held) if self._wanted else NO_CAPTURES

    def _captures(self, held: list[Any]) -> Captures:
        return {
            condition: tuple(group or "" for group in (held[place][0], *held[place].groups()))
            for condition, place in self._wanted.items()
            if held[place] is not _UNKNOWN and held[place]
        }

    def _merge(self, mask: int) -> T:
        """The settings with the overrides of the blocks in `mask`, later ones winning, built and kept."""
        blocks = [block for number, block in enumerate(self._blocks) if mask >> number & 1]
        overrides: dict[str, Any] = {}
        for block in blocks:
            overrides.update(block.overrides)
        if len(self._built) >= MAX_CACHED:
            self._built.clear()
        built = self._built[mask] = self._build(replace(self._settings, **overrides), blocks)
        return built


_UNKNOWN: Any = object()
