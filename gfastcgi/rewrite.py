"""`url.rewrite*` and `url.redirect`: regular expressions on the request target, and what to make of a match.

Plan: a replacement is compiled into a list of functions of the match. `$N` is a group of the rule's own match, `%N`
one of the condition around the rule; `${...}` takes modifiers (`esc:`, `escnde:`, `escpsnde:`, `noesc:`, `tolower:`),
`${url.path}` and its like, and `${qsa}`. Source: lighttpd's url.rewrite and url.redirect.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from gfastcgi.config import Captures, RewriteRule
from gfastcgi.errors import InvalidValue, LocalProtocolError
from gfastcgi.patterns import Pattern

__all__ = ["MAX_REWRITES", "Origin", "Redirector", "Rewriter"]

MAX_REWRITES = 100
"""Rounds of `url.rewrite-repeat` for one request, as in lighttpd; then it is answered with 500."""

_RESERVED_TOO = "/?#[]@!$&'()*+,;=:%"
_PARTS = re.compile(r"\$\$|%%|[$%][0-9]|[$%]\{[^}]*\}")
_MODIFIER = re.compile(r"[a-z0-9]+:")


class Origin(NamedTuple):
    """What stands before the path in the URL of a request."""

    scheme: str = "http"
    authority: str = ""
    port: int = 80


_NO_ORIGIN = Origin()


class _Scene(NamedTuple):
    """All that a replacement can draw from."""

    match: Any
    captures: tuple[str, ...]
    target: str
    origin: Origin

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


_Part = Callable[[_Scene, str], str]


def _decode_b64u(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return ""


def _quote(text: str, safe: str) -> str:
    return quote(text, safe=safe, errors="surrogateescape")


def _quote_once(text: str, safe: str) -> str:
    """As `_quote`, but what is already percent-encoded stays."""
    return re.sub("%25([0-9A-Fa-f]{2})", r"%\1", _quote(text, safe))


_MODIFIERS: dict[str, Callable[[str], str]] = {
    "esc:": lambda text: _quote(text, ""),
    "escape:": lambda text: _quote(text, ""),
    "escnde:": lambda text: _quote_once(text, ""),
    "escpsnde:": lambda text: _quote_once(text, "/"),
    "noesc:": lambda text: text,
    "noescape:": lambda text: text,
    "tolower:": str.lower,
    "toupper:": str.upper,
    "encb64u:": lambda text: base64.urlsafe_b64encode(text.encode("utf-8", "surrogateescape")).decode().rstrip("="),
    "decb64u:": _decode_b64u,
}

_URL_PARTS: dict[str, Callable[[_Scene], str]] = {
    "url.scheme": lambda scene: scene.origin.scheme,
    "url.authority": lambda scene: scene.origin.authority,
    "url.port": lambda scene: str(scene.origin.port),
    "url.path": lambda scene: scene.path,
    "url.query": lambda scene: scene.query,
}


def _group(number: int, *, of_condition: bool) -> Callable[[_Scene], str]:
    def from_match(scene: _Scene) -> str:
        return (scene.match[number] or "") if number <= scene.match.re.groups else ""

    def from_condition(scene: _Scene) -> str:
        return scene.captures[number] if number < len(scene.captures) else ""

    return from_condition if of_condition else from_match


def _query_string_append(scene: _Scene, so_far: str) -> str:
    if not scene.query:
        return ""
    return ("&" if "?" in so_far else "?") + scene.query


def _braced(text: str, *, of_condition: bool) -> _Part:
    """`${...}`: modifiers, then a number, a part of the URL, or `qsa`. A number alone is percent-encoded."""
    modifiers: list[Callable[[str], str]] = []
    while match := _MODIFIER.match(text):
        modifiers += [_MODIFIERS[match[0]]] if match[0] in _MODIFIERS else []
        text = text[match.end() :]
    if text == "qsa":
        return _query_string_append
    if text.isascii() and text.isdigit():
        source = _group(int(text), of_condition=of_condition)
        modifiers = modifiers or [_MODIFIERS["escpsnde:"]]
    else:
        source = _URL_PARTS.get(text, lambda _: "")

    def part(scene: _Scene, _: str) -> str:
        found = source(scene)
        for modifier in modifiers:
            found = modifier(found)
        return found

    return part


def _part(text: str) -> _Part:
    if text in ("$$", "%%"):
        return lambda _, __: text[0]
    if text[1] == "{":
        return _braced(text[2:-1], of_condition=text[0] == "%")
    source = _group(int(text[1]), of_condition=text[0] == "%")
    return lambda scene, _: source(scene)


def _literal(text: str) -> _Part:
    return lambda _, __: text


class _Rule:
    __slots__ = ("parts", "rule", "search")

    def __init__(self, rule: RewriteRule) -> None:
        self.rule = rule
        self.search = _search(rule)
        self.parts: list[_Part] = []
        position = 0
        for match in _PARTS.finditer(rule.replacement):
            if match.start() > position:
                self.parts.append(_literal(rule.replacement[position : match.start()]))
            self.parts.append(_part(match[0]))
            position = match.end()
        if position < len(rule.replacement):
            self.parts.append(_literal(rule.replacement[position:]))

    def substitute(self, match: Any, target: str, captures: Captures, origin: Origin) -> str:
        condition = self.rule.condition
        scene = _Scene(match, captures.get(condition, ()) if condition else (), target, origin)
        result = ""
        for part in self.parts:
            result += part(scene, result)
        # What a capture holds is decoded: neither a line end nor a blank of it may reach a request line or a
        # field (CWE-113).
        return _quote(result, _RESERVED_TOO)


def _search(rule: RewriteRule) -> Callable[[str], Any]:
    try:
        return Pattern(_normal_pattern(rule.pattern)).search
    except ValueError as error:
        message = f'the regular expression "{rule.pattern}" is at fault: {error}'
        raise InvalidValue(message, rule.where.filename, rule.where.lineno) from error


def _normal_pattern(pattern: str) -> str:
    """As lighttpd, since targets are canonical: upper-case hex digits, and characters beyond ASCII percent-encoded."""
    pattern = re.sub(r"%[0-9A-Fa-f]{2}", lambda match: match[0].upper(), pattern)
    return re.sub(r"[^\x00-\x7f]", lambda match: _quote(match[0], ""), pattern)


def _first_match(rules: Sequence[_Rule], target: str) -> tuple[_Rule, Any] | None:
    """The first rule that matches; None too where its replacement is empty, which says "leave it"."""
    for rule in rules:
        match = rule.search(target)
        if match:
            return (rule, match) if rule.rule.replacement else None
    return None


class Rewriter:
    """The rewrite rules that hold for a request, in their order; `rules_if_not_file` come in second.

    Raises `InvalidValue` for a regular expression that is none.
    """

    def __init__(self, rules: Sequence[RewriteRule], rules_if_not_file: Sequence[RewriteRule] = ()) -> None:
        self._rules = [_Rule(rule) for rule in rules]
        self._rules_if_not_file = [_Rule(rule) for rule in rules_if_not_file]

    def __repr__(self) -> str:
        return f"<Rewriter of {len(self._rules) + len(self._rules_if_not_file)} rules>"

    def __bool__(self) -> bool:
        return bool(self._rules or self._rules_if_not_file)

    def apply(
        self, target: str, captures: Captures, file_exists: Callable[[str], bool], origin: Origin = _NO_ORIGIN
    ) -> str | None:
        """The new target, or None where nothing changes. `target` is canonical and still percent-encoded.

        `file_exists` is asked with a target, and only where one of `rules_if_not_file` comes to it. An empty
        replacement ends it without a change. Raises `LocalProtocolError` after `MAX_REWRITES` rounds, `BadRequest`
        when a match takes too long.
        """
        current = target
        for _ in range(MAX_REWRITES):
            found = _first_match(self._rules, current)
            if found is None and self._rules_if_not_file and not file_exists(current):
                found = _first_match(self._rules_if_not_file, current)
            if found is None:
                break
            rule, match = found
            current = rule.substitute(match, current, captures, origin)
            if rule.rule.once:
                break
        else:
            message = f"url.rewrite-repeat goes on after {MAX_REWRITES} rounds"
            raise LocalProtocolError(message, cause="too_many_rewrites")
        return None if current == target else current


class Redirector:
    """The rules of `url.redirect`. Raises `InvalidValue` for a regular expression that is none."""

    def __init__(self, rules: Sequence[RewriteRule]) -> None:
        self._rules = [_Rule(rule) for rule in rules]

    def __repr__(self) -> str:
        return f"<Redirector of {len(self._rules)} rules>"

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply(self, target: str, captures: Captures, origin: Origin) -> str | None:
        """The value of the field Location, or None where no rule matches (or one with an empty replacement does)."""
        found = _first_match(self._rules, target)
        if found is None:
            return None
        rule, match = found
        return rule.substitute(match, target, captures, origin)
