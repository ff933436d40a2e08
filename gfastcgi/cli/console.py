"""What the command line says to its user: faults on stderr, plain or, on a terminal, coloured (https://no-color.org)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from gfastcgi.errors import ConfigError, ConfigErrors

__all__ = ["paint", "print_fault", "print_faults", "print_warnings"]

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}


def paint(text: str, style: str, file: TextIO) -> str:
    """`text` in a style (a colour, bold, dim, "": none) when `file` is a terminal and NO_COLOR is not set."""
    if not style or os.environ.get("NO_COLOR") or not file.isatty():
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def print_fault(message: object) -> None:
    """One fault, on stderr."""
    print(f"{paint('gfastcgi:', 'red', sys.stderr)} {message}", file=sys.stderr)


def print_faults(error: ConfigError) -> None:
    """Every fault of a configuration, one line each, on stderr."""
    errors = error.errors if isinstance(error, ConfigErrors) else [error]
    if isinstance(error, ConfigErrors):
        print_warnings(error.warnings)
    for fault in errors:
        print_fault(fault)
    if len(errors) > 1:
        print_fault(f"{len(errors)} faults")


def print_warnings(warnings: Iterable[object]) -> None:
    """Every warning of a configuration, one line each, on stderr."""
    for warning in warnings:
        print(f"{paint('gfastcgi: warning:', 'yellow', sys.stderr)} {warning}", file=sys.stderr)
