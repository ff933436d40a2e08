"""Faults and remarks about one configuration, gathered so that all of them can be told at once.

Contract: whoever finds a fault adds it and goes on at the next statement; `raise_errors` ends it all.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from gfastcgi.config import Where
from gfastcgi.errors import ConfigError, ConfigErrors

__all__ = ["ConfigWarning", "Report", "nearest", "nearest_name"]


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something that works, but hardly as its author means it."""

    message: str
    where: Where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where.filename else self.message


@dataclass(slots=True)
class Report:
    """Every error and warning found so far."""

    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[ConfigWarning] = field(default_factory=list)

    def error(self, kind: type[ConfigError], message: str, where: Where) -> None:
        self.errors.append(kind(message, where.filename, where.lineno))

    def warn(self, message: str, where: Where) -> None:
        warning = ConfigWarning(message, where)
        if warning not in self.warnings:
            self.warnings.append(warning)

    def raise_errors(self) -> None:
        """Raises `ConfigErrors` with every error, those of one file in the order of its lines."""
        if self.errors:
            files = {name: order for order, name in enumerate(dict.fromkeys(error.filename for error in self.errors))}
            ordered = sorted(self.errors, key=lambda error: (files[error.filename], error.lineno))
            raise ConfigErrors(ordered, self.warnings)


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The one of `known` that `name` may stand for, or "" when nothing comes near."""
    matches = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), 1)
    return matches[0] if matches else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; the nearest known is "..."`, or "" when nothing comes near."""
    found = nearest_name(name, known)
    return f'; the nearest known is "{found}"' if found else ""
