"""Help and manual pages: one source, pages as they are checked in, and sound roff."""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
from peers.programs import find_peer

from gfastcgi.cli.command import parser
from gfastcgi.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
MANUAL: dict[str, Any] = runpy.run_path(str(ROOT / "contrib/manpages.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """That each has examples, and ones that are understood, see test_command_lines."""
    found = COMMANDS[name].parser()
    assert found.prog == f"gfastcgi {name}"
    assert found.description
    assert all(action.help for action in found._actions)


def test_the_help_prints_the_examples_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in COMMANDS.items():
        with pytest.raises(SystemExit) as stop:
            command.run(["--help"])
        assert stop.value.code == 0
        told = capsys.readouterr().out
        assert all(f"\n{line}\n" in f"{told}\n" for line in (command.parser().epilog or "").splitlines()), name


def test_the_pages_are_as_the_parsers_say() -> None:
    """Else: python contrib/manpages.py."""
    folder = ROOT / "contrib/man"
    assert {path.name: path.read_text() for path in folder.iterdir()} == MANUAL["pages"]()


def test_every_option_is_in_its_page() -> None:
    pages = MANUAL["pages"]()
    parsers = {"gfastcgi.1": parser(), **{f"gfastcgi-{name}.1": each.parser() for name, each in COMMANDS.items()}}
    for name, each in parsers.items():
        for action in each._actions:
            for flag in action.option_strings:
                assert rf"\fB{flag}\fR".replace("-", r"\-") in pages[name], flag


def test_they_are_written(tmp_path: Path) -> None:
    assert MANUAL["main"]([str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == MANUAL["pages"]().keys()


def lint(*files: Path) -> list[str]:
    """What mandoc finds. Pages have no date: they would not be the same tomorrow."""
    command = [find_peer("mandoc"), "-T", "lint", "-W", "warning", *files]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in (told.stdout + told.stderr).splitlines() if 'missing date, using "": TH' not in line]


def test_they_are_sound(tmp_path: Path) -> None:
    assert lint(*(ROOT / "contrib/man").iterdir()) == []
    bad = tmp_path / "bad.1"
    bad.write_text(".TH\n.XX\n")
    assert lint(bad)


def test_every_character_is_shown_as_it_is(tmp_path: Path) -> None:
    odd = argparse.ArgumentParser(
        prog="gfastcgi odd",
        description=r".SH no request, 'nor this: \fB a\b `code-x` 100%",
        epilog="examples:\n  .so /etc/passwd\n  'tis \\n \\(bu -x `date` ~ ^\n\n"
        "exit status: 0 done; 1 not: 'so'; or so\n\n.SH a note\n.TP of two lines",
    )
    odd.add_argument("-x", metavar="A.B", default=3, help="'.a' is %(default)s of 100%%")
    group = odd.add_mutually_exclusive_group(required=True)
    group.add_argument("--one", action="store_true", help="one")
    group.add_argument("--kind", choices=["a", "b"], help="kind")
    odd.add_argument("rest", nargs="*", metavar="FILE", help="files")
    page = tmp_path / "odd.1"
    page.write_text(MANUAL["page"](odd, "odd", ["gfastcgi"]))
    assert lint(page) == []
    shown = subprocess.run(
        [find_peer("mandoc"), "-T", "ascii", page], capture_output=True, text=True, check=True
    ).stdout
    text = " ".join(re.sub(".\b", "", shown).split())
    for expected in (
        "SYNOPSIS gfastcgi odd [-h] [-x A.B] (--one | --kind a|b) [FILE ...] DESCRIPTION",
        r".SH no request, 'nor this: \fB a\b code-x 100% ARGUMENTS",
        "-x A.B '.a' is 3 of 100%",
        r".so /etc/passwd 'tis \n \(bu -x `date` ~ ^ EXIT STATUS",
        "0 done 1 not: 'so'; or so NOTES .SH a note .TP of two lines SEE ALSO gfastcgi(1)",
    ):
        assert expected in text
