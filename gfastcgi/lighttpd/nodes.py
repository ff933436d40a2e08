"""What a lighttpd.conf is made of: the statements and expressions that `grammar` reads, and the values they come to.

Plan: statements and expressions are the tree of one file; `evaluate` turns expressions into `Value`s. An `Array`
knows the place of each item, so that a host option's fault is told with its own line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gfastcgi.config import Operator, Where
from gfastcgi.secrecy import without_secrets

__all__ = [
    "Array", "Assign", "Branch", "Chain", "Element", "Expression", "Global", "Include", "Item", "List", "Literal",
    "Name", "Statement", "Sum", "Value", "describe",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One item of an array; `key` is None where it has none."""

    key: str | None
    value: Value
    where: Where


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """`( "a" => 1, "b" )`: items in their order, with and without keys."""

    items: tuple[Item, ...]
    where: Where

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


Value = str | int | Array


def describe(value: Value) -> str:
    """`value` as messages show it, cut where it is long, and without a URL's secrets."""
    if isinstance(value, Array):
        items = [("" if item.key is None else f'"{item.key}" => ') + describe(item.value) for item in value.items[:10]]
        text = f"( {', '.join(items)} )"
    else:
        text = f'"{without_secrets("", value)}"' if isinstance(value, str) else str(value)
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int
    where: Where


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, or a directive that was set before."""

    name: str
    where: Where


@dataclass(frozen=True, slots=True)
class Element:
    key: Expression | None
    value: Expression
    where: Where


@dataclass(frozen=True, slots=True)
class List:
    elements: tuple[Element, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Sum:
    terms: tuple[Expression, ...]
    where: Where


Expression = Literal | Name | List | Sum


@dataclass(frozen=True, slots=True)
class Assign:
    """`name = value`, with `operator` one of `=`, `+=` and `:=`."""

    name: str
    operator: str
    value: Expression
    where: Where


@dataclass(frozen=True, slots=True)
class Include:
    """`include` (`is_shell` False) or `include_shell`."""

    source: Expression
    is_shell: bool
    where: Where


@dataclass(frozen=True, slots=True)
class Branch:
    """One arm of a conditional; the last arm may have no condition (`variable` "")."""

    variable: str
    operator: Operator
    operand: Expression | None
    body: tuple[Statement, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Chain:
    """A conditional with its `else` arms."""

    branches: tuple[Branch, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Global:
    """`global { ... }`: statements that belong to no conditional, wherever they stand."""

    body: tuple[Statement, ...]
    where: Where


Statement = Assign | Include | Chain | Global
