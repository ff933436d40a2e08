"""Turns the scopes of a configuration into a `Config`: every directive checked, every conditional flattened.

Contract: each fault and each warning names its file and line; nothing that restricts access is ever passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from gfastcgi.config import Address, Block, Condition, Config, RewriteRule, ServerConfig, Settings, Where
from gfastcgi.config.soundness import MIN_SECRET
from gfastcgi.errors import ConfigSyntaxError, InvalidValue, UnknownOption
from gfastcgi.lighttpd.conditions import SOCKET, canonical, parse_address
from gfastcgi.lighttpd.evaluate import Scope, Setting
from gfastcgi.lighttpd.hosts import HostMaker
from gfastcgi.lighttpd.kinds import Context
from gfastcgi.lighttpd.lost_gates import LostGates
from gfastcgi.lighttpd.nodes import describe
from gfastcgi.lighttpd.options import DIRECTIVES, Option
from gfastcgi.lighttpd.report import Report, nearest, nearest_name
from gfastcgi.lighttpd.unserved import UNSAFE, UNSERVED, is_off, misspelling_reason, unsafe_reason

__all__ = ["compile_config"]

_KNOWN = [*DIRECTIVES, *UNSERVED, *(name for name in UNSAFE if not name.endswith("."))]
_ORDER = {name: position for position, name in enumerate(DIRECTIVES)}


def compile_config(
    scopes: list[Scope], report: Report, find_balance: Callable[[str], object | None] | None = None
) -> Config:
    """The configuration that `scopes` describe; faults go to `report`, and then the result is of no use."""
    return _Compiler(scopes, report, find_balance).config()


class _Compiler:
    def __init__(
        self, scopes: list[Scope], report: Report, find_balance: Callable[[str], object | None] | None
    ) -> None:
        self.scopes = scopes
        self.find_balance = find_balance
        self.report = report
        self.make_extensions = HostMaker(report).extensions
        self.lost_gates = LostGates(report)
        self.port = 80
        self._canonical: dict[Condition, Condition] = {}

    def config(self) -> Config:
        top = self.scopes[0]
        chosen = self.directives(top, ())
        self.lost_gates.enter(top, chosen)
        self.port = chosen.pop("server.port", 80)
        server = {field.name: chosen[field.name] for field in fields(ServerConfig) if field.name in chosen}
        settings = {field.name: chosen[field.name] for field in fields(Settings) if field.name in chosen}
        is_whole = not any(isinstance(error, ConfigSyntaxError) for error in self.report.errors)
        if is_whole and "server.document-root" not in top.settings:
            self.report.error(InvalidValue, "server.document-root is not set", Where(top.where.filename))
        self.check_sharing(top, server)
        blocks = tuple(self.blocks())
        listeners = self.listeners(chosen)
        places = {key: setting.where for key, setting in top.settings.items() if key in DIRECTIVES}
        return Config(
            server=ServerConfig(listeners=listeners, **server),
            settings=Settings(**settings),
            blocks=blocks,
            places=places,
        )

    def check_sharing(self, top: Scope, server: dict[str, Any]) -> None:
        """Whoever can write to the Redis of the decisions could open every gate, were they not signed."""
        if server.get("cache_redis") and len(server.get("cache_secret", "")) < MIN_SECRET:
            message = f"fastcgi.cache-redis needs fastcgi.cache-secret, of at least {MIN_SECRET} characters"
            self.report.error(InvalidValue, message, top.settings["fastcgi.cache-redis"].where)

    def blocks(self) -> Iterator[Block]:
        for scope in self.scopes[1:]:
            conditions = tuple((self.condition(condition), truth) for condition, truth in scope.conditions)
            overrides = self.directives(scope, conditions)
            self.lost_gates.enter(scope, overrides)
            if overrides:
                yield Block(conditions, overrides, scope.where)

    def condition(self, condition: Condition) -> Condition:
        if condition not in self._canonical:
            self._canonical[condition] = canonical(condition, self.port, self.report)
        return self._canonical[condition]

    def directives(self, scope: Scope, conditions: tuple[tuple[Condition, bool], ...]) -> dict[str, Any]:
        """What the directives of `scope` set, by attribute; those of the table without one by their own name."""
        capturing = next((held for held, truth in reversed(conditions) if truth and held.operator == "=~"), None)
        chosen: dict[str, Any] = {}
        for key in sorted(scope.settings, key=lambda key: _ORDER.get(key, -1)):
            setting = scope.settings[key]
            option = DIRECTIVES.get(key)
            if key.startswith("var."):
                continue
            if option is None:
                self.unknown(key, setting)
            elif option.scope == "server" and conditions:
                if key != "server.socket-perms" or conditions[-1][0].variable != SOCKET:
                    message = f"{setting.name} holds for the whole process: inside a conditional it is passed over"
                    self.report.warn(message, setting.where)
            elif setting.value is not None:
                self.take(option, setting, capturing, chosen)
        return chosen

    def take(self, option: Option, setting: Setting, capturing: Condition | None, chosen: dict[str, Any]) -> None:
        context = Context(self.report, setting.name, setting.where, capturing, self.make_extensions, self.find_balance)
        assert setting.value is not None
        try:
            value = option.kind.parse(setting.value, context)
        except ValueError:
            message = f"{setting.name} takes {option.kind.label}, found {describe(setting.value)}"
            self.report.error(InvalidValue, message, setting.where)
            return
        for attribute in option.attributes:
            chosen[attribute] = _added(chosen.get(attribute, ()), value) if option.is_additive else value
        if not option.attributes and option.scope == "server":
            chosen[option.name] = value

    def unknown(self, key: str, setting: Setting) -> None:
        name, reason = setting.name, unsafe_reason(key)
        if reason and not is_off(setting.value):
            message = f"{name} is not served yet, and serving without it would be unsafe: {reason}"
            self.report.error(InvalidValue, message, setting.where)
        elif reason or key in UNSERVED:
            self.report.warn(f"{name} is known, but not served yet", setting.where)
        else:
            message = f"unknown directive {name}{nearest(name, _KNOWN)}"
            reason = misspelling_reason(key, nearest_name(name, _KNOWN), setting.value)
            if reason and not is_off(setting.value):
                message += f", and serving without it may be unsafe: {reason}"
                self.report.error(UnknownOption, message, setting.where)
            else:
                self.report.warn(message, setting.where)

    def listeners(self, chosen: dict[str, Any]) -> tuple[Address, ...]:
        """`server.bind` with `server.port`, and each `$SERVER["socket"] == "..."`, as lighttpd listens."""
        perms: int | None = chosen.get("server.socket-perms")
        found: list[Address] = []
        try:
            found.append(parse_address(chosen.get("server.bind", ""), self.port, perms))
        except ValueError as error:
            setting = self.scopes[0].settings["server.bind"]
            self.report.error(InvalidValue, f"server.bind: {error}", setting.where)
        for scope in self.scopes[1:]:
            condition, truth = scope.conditions[-1]
            if not truth or condition.operator != "==" or condition.variable != SOCKET:
                continue
            try:
                address = parse_address(condition.operand, self.port, self.socket_perms(scope, perms))
            except ValueError:
                continue  # the condition itself is reported
            if str(address) not in map(str, found):
                found.append(address)
        return tuple(found)

    def socket_perms(self, scope: Scope, default: int | None) -> int | None:
        setting = scope.settings.get("server.socket-perms")
        if setting is None or setting.value is None:
            return default
        chosen: dict[str, Any] = {}
        self.take(DIRECTIVES["server.socket-perms"], setting, None, chosen)
        return chosen.get("server.socket-perms", default)


def _added(rules: tuple[RewriteRule, ...], more: tuple[RewriteRule, ...]) -> tuple[RewriteRule, ...]:
    """Both, less what is never reached, since a rule with the same pattern stands before it."""
    known = {(rule.pattern, rule.once) for rule in rules}
    return rules + tuple(rule for rule in more if (rule.pattern, rule.once) not in known)
