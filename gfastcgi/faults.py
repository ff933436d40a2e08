"""Faults that are found while live objects are built, gathered so that all of them can be told at once.

Contract: whoever builds one part after the other wraps each in `caught`, and `raise_all` ends it. A fault that several
sites have in common is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gfastcgi.errors import ConfigError, ConfigErrors

__all__ = ["Faults"]


class Faults:
    """The faults of a configuration found so far."""

    def __init__(self) -> None:
        self._found: dict[str, ConfigError] = {}

    def add(self, error: ConfigError) -> None:
        """Remembers one, or all of several."""
        for each in error.errors if isinstance(error, ConfigErrors) else [error]:
            self._found.setdefault(str(each), each)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Remembers the `ConfigError` that ends the block."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def raise_all(self) -> None:
        """Raises the only fault, or `ConfigErrors` with all, those of one file in the order of its lines."""
        found = list(self._found.values())
        if len(found) == 1:
            raise found[0]
        if found:
            files = {name: order for order, name in enumerate(dict.fromkeys(error.filename for error in found))}
            raise ConfigErrors(sorted(found, key=lambda error: (files[error.filename], error.lineno)))
