"""Runs the statements of a configuration: variables, includes and conditionals become a list of scopes.

Contract: a `Scope` holds what one conditional sets; the first one is the global scope, and later scopes win over
earlier ones. As in lighttpd, names are looked up without regard to case, `+=` begins with what the surrounding scopes
hold so far, and a conditional that stands twice in the same place is one scope.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gfastcgi.config import Condition, Where
from gfastcgi.errors import ConfigError, ConfigSyntaxError, InvalidValue
from gfastcgi.lighttpd.grammar import MAX_NESTING, parse
from gfastcgi.lighttpd.nodes import (
    Array,
    Assign,
    Chain,
    Expression,
    Global,
    Include,
    Item,
    List,
    Literal,
    Name,
    Statement,
    Value,
    describe,
)
from gfastcgi.lighttpd.report import Report, nearest

__all__ = ["SHELL_TIMEOUT", "Scope", "Setting", "read_text", "scopes_of"]

SHELL_TIMEOUT = 10.0
"""Seconds that an `include_shell` command may take."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a name was last set to; `value` is None where its statement was at fault."""

    name: str
    value: Value | None
    where: Where


@dataclass(slots=True, eq=False)
class Scope:
    """What one conditional sets; `conditions` are those of the scopes around it and its own, with their truth."""

    conditions: tuple[tuple[Condition, bool], ...]
    where: Where
    parent: Scope | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    children: dict[tuple[str, str, str], Scope] = field(default_factory=dict)

    def find(self, key: str) -> Setting | None:
        scope: Scope | None = self
        while scope is not None:
            if key in scope.settings:
                return scope.settings[key]
            scope = scope.parent
        return None


class _PoisonedError(Exception):
    """The value leans on a statement that is already reported."""


def read_text(filename: str) -> str:
    """The text of a file, whatever its bytes. Raises OSError."""
    with open(filename, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


def scopes_of(text: str, filename: str, report: Report, *, base: str, environment: Mapping[str, str]) -> list[Scope]:
    """The scopes of `text`. Relative includes are looked for in the folder `base`; faults go to `report`."""
    top = Scope((), Where(filename))
    predefined: dict[str, Value] = {"var.CWD": os.getcwd(), "var.PID": os.getpid()}
    for name, value in predefined.items():
        top.settings[name.lower()] = Setting(name, value, Where())
    evaluator = _Evaluator(report, base, environment, top)
    evaluator.run(parse(text, filename, report), top, (filename,))
    return evaluator.scopes


class _Evaluator:
    def __init__(self, report: Report, base: str, environment: Mapping[str, str], top: Scope) -> None:
        self.report = report
        self.base = base
        self.environment = environment
        self.scopes = [top]

    def run(self, statements: Iterable[Statement], scope: Scope, files: tuple[str, ...], depth: int = 0) -> None:
        """`files` are the file at work and those that include it; `depth` counts blocks and includes."""
        for statement in statements:
            try:
                if isinstance(statement, Assign):
                    self.assign(statement, scope)
                elif isinstance(statement, Include):
                    self.include(statement, scope, files, depth + 1)
                elif isinstance(statement, Chain):
                    self.chain(statement, scope, files, depth + 1)
                else:
                    self.enter_global(statement, files, depth + 1)
            except _PoisonedError:
                pass
            except ConfigError as error:
                self.report.errors.append(error)

    def enter_global(self, statement: Global, files: tuple[str, ...], depth: int) -> None:
        self.run(statement.body, self.scopes[0], files, depth)

    def chain(self, chain: Chain, scope: Scope, files: tuple[str, ...], depth: int) -> None:
        refused: list[tuple[Condition, bool]] = []
        for branch in chain.branches:
            own: list[tuple[Condition, bool]] = list(refused)
            key = None
            if branch.operand is not None:
                operand = self.value(branch.operand, scope)
                if not isinstance(operand, str):
                    raise _error(InvalidValue, f"expected a string, found {describe(operand)}", branch.where)
                condition = Condition(branch.variable, branch.operator, operand, branch.where)
                refused.append((condition, False))
                own.append((condition, True))
                key = (branch.variable, branch.operator, operand) if branch is chain.branches[0] else None
            inner = scope.children.get(key) if key else None
            if inner is None:
                inner = Scope((*scope.conditions, *own), branch.where, scope)
                self.scopes.append(inner)
                if key:
                    scope.children[key] = inner
            else:
                refused[-1] = (inner.conditions[-1][0], False)
            self.run(branch.body, inner, files, depth)

    def assign(self, statement: Assign, scope: Scope) -> None:
        name = statement.name if "." in statement.name else f"var.{statement.name}"
        if name.startswith("env."):
            raise _error(InvalidValue, f"{name} cannot be set: the environment is only read", statement.where)
        key = name.lower()
        previous = scope.settings.get(key)
        try:
            value = self.value(statement.value, scope)
            if statement.operator == "+=":
                so_far = scope.find(key)
                if so_far is not None:
                    value = _add(_known(so_far), value, statement.where)
            elif statement.operator == "=" and previous is not None:
                message = f"Duplicate config variable: {name} is already set at {previous.where}"
                raise _error(InvalidValue, message, statement.where)
        except (ConfigError, _PoisonedError):
            scope.settings[key] = previous or Setting(name, None, statement.where)
            raise
        scope.settings[key] = Setting(name, value, statement.where)

    def value(self, expression: Expression, scope: Scope) -> Value:
        if isinstance(expression, Literal):
            return expression.value
        if isinstance(expression, Name):
            return self.lookup(expression, scope)
        if isinstance(expression, List):
            return self.array(expression, scope)
        total = self.value(expression.terms[0], scope)
        for term in expression.terms[1:]:
            total = _add(total, self.value(term, scope), expression.where)
        return total

    def lookup(self, expression: Name, scope: Scope) -> Value:
        name = expression.name
        if name.startswith("env."):
            if name[4:] not in self.environment:
                raise _error(InvalidValue, f"Undefined environment variable: {name[4:]}", expression.where)
            return self.environment[name[4:]]
        key = (name if "." in name else f"var.{name}").lower()
        setting = scope.find(key)
        if setting is None:
            names = [known.removeprefix("var.") for known in _names(scope)]
            advice = nearest(name.removeprefix("var."), names)
            raise _error(InvalidValue, f"Undefined config variable: {name}{advice}", expression.where)
        return _known(setting)

    def array(self, expression: List, scope: Scope) -> Array:
        items: list[Item] = []
        keys: set[str] = set()
        for element in expression.elements:
            key: str | None = None
            if element.key is not None:
                name = self.value(element.key, scope)
                if isinstance(name, Array):
                    raise _error(InvalidValue, "an array cannot be the key of an array", element.where)
                key = str(name)
                if key in keys:
                    raise _error(InvalidValue, f"Duplicate array-key: {describe(key)}", element.where)
                keys.add(key)
            items.append(Item(key, self.value(element.value, scope), element.where))
        return Array(tuple(items), expression.where)

    def include(self, statement: Include, scope: Scope, files: tuple[str, ...], depth: int) -> None:
        source = self.value(statement.source, scope)
        if not isinstance(source, str):
            raise _error(InvalidValue, f"expected a string to include, found {describe(source)}", statement.where)
        if "\0" in source:
            raise _error(InvalidValue, "a NUL byte in what is to be included", statement.where)
        if depth > MAX_NESTING:
            raise _error(InvalidValue, f"includes and blocks are nested more than {MAX_NESTING} deep", statement.where)
        if statement.is_shell:
            output = _run(source, self.base, statement.where)
            self.run(parse(output, source, self.report, depth=depth), scope, (*files, source), depth)
            return
        for filename in _included_files(self.base, source, statement.where):
            if os.path.realpath(filename) in map(os.path.realpath, files):
                raise _error(InvalidValue, f"{filename} includes itself", statement.where)
            try:
                text = read_text(filename)
            except OSError as error:
                message = f"cannot include {filename}: {error.strerror}"
                raise _error(InvalidValue, message, statement.where) from error
            self.run(parse(text, filename, self.report, depth=depth), scope, (*files, filename), depth)


def _error(kind: type[ConfigError], message: str, where: Where) -> ConfigError:
    return kind(message, where.filename, where.lineno)


def _known(setting: Setting) -> Value:
    if setting.value is None:
        raise _PoisonedError
    return setting.value


def _names(scope: Scope | None) -> Iterable[str]:
    while scope is not None:
        yield from scope.settings
        scope = scope.parent


def _add(left: Value, right: Value, where: Where) -> Value:
    """`left + right`: numbers add up, text is joined (also with a number), arrays are merged."""
    if isinstance(left, Array) and isinstance(right, Array):
        keys = {item.key for item in left if item.key is not None}
        for item in right:
            if item.key in keys:
                raise _error(InvalidValue, f"Duplicate array-key: {describe(item.key)}", where)
        return Array(left.items + right.items, left.where)
    if isinstance(left, Array) or isinstance(right, Array):
        raise _error(InvalidValue, f"cannot add {describe(left)} and {describe(right)}", where)
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return f"{left}{right}"


def _run(command: str, folder: str, where: Where) -> str:
    """What `command` prints, run by the shell in `folder`. Raises `InvalidValue`, also when it takes too long."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            timeout=SHELL_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        message = f"include_shell: {describe(command)} took longer than {SHELL_TIMEOUT:g} seconds"
        raise _error(InvalidValue, message, where) from None
    except (OSError, ValueError) as error:
        raise _error(InvalidValue, f"include_shell: {describe(command)}: {error}", where) from error
    if done.returncode:
        message = f"include_shell: {describe(command)} ended with status {done.returncode}"
        raise _error(ConfigSyntaxError, message, where)
    return done.stdout.decode("utf-8", "surrogateescape")


def _included_files(folder: str, pattern: str, where: Where) -> list[str]:
    """The files that `pattern` names, in the order of their names; only a pattern may match none."""
    found: list[str] = []
    for plain in _braces(os.path.join(folder, pattern)):
        found += sorted(glob.glob(plain)) if glob.has_magic(plain) else [plain]
    if not re.search(r"[*?\[{]", pattern) and not os.path.exists(found[0]):
        raise _error(InvalidValue, f"include file not found: {found[0]}", where)
    return [filename for filename in found if os.path.exists(filename)]


def _braces(pattern: str) -> list[str]:
    """`a{b,c}d` stands for `abd` and `acd`."""
    match = re.search(r"\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [plain for choice in match[1].split(",") for plain in _braces(head + choice + tail)]
