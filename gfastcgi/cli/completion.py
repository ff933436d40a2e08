"""`gfastcgi completion`: a script that lets a shell complete the commands, their options, choices and files.

Contract: the script is written by shtab (the extra "completion") from the parsers of every command, once; completing
runs nothing of ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from gfastcgi.cli import command
from gfastcgi.cli.commands import COMMANDS
from gfastcgi.errors import GfastcgiError

__all__ = ["MissingExtra", "parser", "run", "script"]

SHELLS = ("bash", "zsh", "fish")

_FILES = frozenset({"FILE", "PATH", "PROGRAM"})
_FOLDERS = frozenset({"DIR"})

_EPILOG = """examples:
  gfastcgi completion bash > ~/.local/share/bash-completion/completions/gfastcgi
  gfastcgi completion zsh > /usr/local/share/zsh/site-functions/_gfastcgi
  gfastcgi completion fish > ~/.config/fish/completions/gfastcgi.fish

The next shell completes. The package shtab writes the script: pip install ".[completion]".

exit status: 0 written; 1 shtab is not installed; 2 the arguments make no sense"""


class MissingExtra(GfastcgiError):
    """What it takes is not installed; the message says how to get it."""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi completion`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi completion",
        description="Print the script by which a shell completes gfastcgi's commands, options and files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def run(options: argparse.Namespace) -> int:
    """Prints it. Raises `MissingExtra`."""
    print(script(options.shell))
    return 0


def script(shell: str) -> str:
    """The script for one of `SHELLS`. Raises `MissingExtra`."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise MissingExtra('this needs the package shtab: pip install ".[completion]"') from error
    whole = _whole_parser({**dict.fromkeys(_FILES, shtab.FILE), **dict.fromkeys(_FOLDERS, shtab.DIRECTORY)})
    return shtab.complete(whole, shell=shell)


def _whole_parser(kinds: Mapping[object, object]) -> argparse.ArgumentParser:
    """The command line as one parser; `kinds` say how values are completed, by their names."""
    whole = command.parser()
    commands = whole.add_subparsers(metavar="COMMAND")
    parsers = [whole]
    for name, each in COMMANDS.items():
        parsers.append(commands.add_parser(name, help=each.summary, parents=[each.parser()], add_help=False))
    for parser in parsers:
        for action in parser._actions:
            # fish takes it for a wildcard.
            action.option_strings = [flag for flag in action.option_strings if flag != "-?"]
            if action.metavar in kinds:
                action.complete = kinds[action.metavar]  # type: ignore[attr-defined]  # where shtab looks
    return whole
