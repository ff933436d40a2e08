"""The commands: one table, which the dispatcher, the help, the manual pages and the shell completion all read.

Contract: a command is a module of this room with `parser()`, its arguments, and `run(options)` -> exit status; `parse`
where its arguments need more than their parser. It is imported when it is wanted: naming the commands costs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from gfastcgi.cli.console import print_fault, print_faults
from gfastcgi.errors import ConfigError, GfastcgiError

__all__ = ["COMMANDS", "EXIT_CHECK", "EXIT_START", "EXIT_USAGE", "Command", "summaries"]

EXIT_CHECK = 1
EXIT_USAGE = 2
EXIT_START = 255


class Command(NamedTuple):
    """`module` is in this room; `failed` is the exit status for an error that the command does not judge itself."""

    module: str
    failed: int
    summary: str

    @property
    def _home(self) -> Any:
        return import_module(f"gfastcgi.cli.{self.module}")

    def parser(self) -> argparse.ArgumentParser:
        """Its arguments."""
        found: argparse.ArgumentParser = self._home.parser()
        return found

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """What they say. Raises SystemExit when they make no sense, and for --help."""
        parse = getattr(self._home, "parse", None) or self.parser().parse_args
        found: argparse.Namespace = parse(arguments)
        return found

    def run(self, arguments: Sequence[str]) -> int:
        """Runs it; faults are told on stderr."""
        options = self.parse(arguments)
        try:
            status: int = self._home.run(options)
        except ConfigError as error:
            print_faults(error)
        except GfastcgiError as error:
            print_fault(error)
        else:
            return status
        return self.failed


COMMANDS = {
    "serve": Command("site", EXIT_START, "a site without a file: a document root and FastCGI backends"),
    "check": Command("check", EXIT_CHECK, "check a configuration file: like -t"),
    "explain": Command("explain", EXIT_CHECK, "what would become of a request: authorizers, backend, file, and why"),
    "top": Command("top", EXIT_CHECK, "what a running gateway is doing: backends, loads, queues, rates, decisions"),
    "purge": Command("purge", EXIT_CHECK, "let a running gateway forget the decisions of its authorizers"),
    "wsgi": Command("wsgi", EXIT_START, "a WSGI application as a FastCGI server, in one process or several"),
    "spawn": Command("spawn", EXIT_START, "a FastCGI program on a socket, as spawn-fcgi starts it"),
    "call": Command("call", EXIT_USAGE, "one request to a FastCGI program, from the command line"),
    "ping": Command("ping", EXIT_USAGE, "whether a FastCGI program is well, for health checks"),
    "tap": Command("tap", EXIT_START, "forward FastCGI, and tell what is said"),
    "replay": Command("replay", EXIT_USAGE, "send what tap saved once more, and compare the answers"),
    "demo": Command("demo", EXIT_START, "see it all at work, without a configuration and without PHP"),
    "conformance": Command(
        "conformance", EXIT_CHECK, "what a gateway, ours or another, makes of every answer of an authorizer"
    ),
    "completion": Command("completion", EXIT_CHECK, "a script by which bash, zsh or fish completes all of this"),
}


def summaries() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    return "\n".join(f"  gfastcgi {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
