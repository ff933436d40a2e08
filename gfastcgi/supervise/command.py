"""What a spawned process is started with: its words, its folder, its environment, and how many it serves at once.

Contract: as lighttpd does it for `"bin-path"`, `"bin-environment"` and `"bin-copy-environment"`, but `"bin-path"` is
split like a shell does, so that quoted words may hold blanks.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from gfastcgi.config import HostConfig
from gfastcgi.errors import SpawnError

__all__ = ["Command", "make_command"]

CHILDREN = "PHP_FCGI_CHILDREN"


@dataclass(frozen=True)
class Command:
    """`capacity` is the most connections at once to one such process; `folder` None: it stays where we are."""

    words: tuple[str, ...]
    folder: str | None
    environment: Mapping[str, str]
    capacity: int

    def __str__(self) -> str:
        return shlex.join(self.words)


def make_command(config: HostConfig, environ: Mapping[str, str]) -> Command:
    """The command of a host; `environ` is our own environment. Raises `SpawnError` if `"bin-path"` makes no words."""
    try:
        words = shlex.split(config.bin_path)
    except ValueError as error:
        raise SpawnError(f"gw-backend failed to start: {config.bin_path}: {error}") from error
    if not words:
        raise SpawnError("gw-backend failed to start: the bin-path is empty")
    # The process starts in the program's folder, where a relative path would no longer lead to it.
    program = words[0] if "/" in words[0] else shutil.which(words[0], path=environ.get("PATH")) or words[0]
    program = os.path.abspath(program)
    folder = os.path.dirname(program) if "/" in words[0] else None
    environment = _make_environment(config, environ)
    capacity = config.max_connections or _count_children(environment[CHILDREN])
    return Command((program, *words[1:]), folder, environment, capacity)


def _make_environment(config: HostConfig, environ: Mapping[str, str]) -> dict[str, str]:
    if config.bin_copy_environment is None:
        environment = dict(environ)
    else:
        environment = {name: environ[name] for name in config.bin_copy_environment if name in environ}
    environment.update(config.bin_environment)
    environment.setdefault(CHILDREN, "1")
    return environment


def _count_children(number: str) -> int:
    # PHP_FCGI_CHILDREN=0: the process serves by itself, one at a time.
    return max(int(number), 1) if number.isascii() and number.isdigit() else 1
