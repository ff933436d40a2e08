"""Every command line of ours that the pages and `--help` show is one that the command understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gfastcgi.cli import command
from gfastcgi.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
HELP = {f"{name} --help": COMMANDS[name].parser().epilog or "" for name in COMMANDS}
# What a shell does with it, and comments, are behind two spaces, a pipe, "||", or ">".
LINE = re.compile(r"^(?:    |\$ |  |  HEALTHCHECK .+ CMD )gfastcgi ([a-z-][^|#>\n]*)", re.MULTILINE)


def lines_of(text: str) -> list[str]:
    """Without those that show a form: they have brackets."""
    return [line.strip() for line in LINE.findall(text) if "[" not in line]


LINES = {line: f"{name}: {line}" for name, text in (PAGES | HELP).items() for line in lines_of(text)}


def test_every_command_has_an_example() -> None:
    assert [name for name, text in HELP.items() if not lines_of(text)] == []


@pytest.mark.parametrize("line", LINES, ids=LINES.values())
def test_it_is_understood(line: str) -> None:
    words = shlex.split(line)
    if words[0] not in COMMANDS:
        assert command.parser().parse_args(words)
        return
    assert COMMANDS[words[0]].parse(words[1:])
