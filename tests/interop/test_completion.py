"""Completion in real shells, by the scripts that `gfastcgi completion` prints."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from peers.programs import find_peer
from peers.waiting import wait_until

from gfastcgi.cli.command import run
from gfastcgi.cli.commands import COMMANDS
from gfastcgi.cli.completion import SHELLS, script

# What is typed, the last word incomplete, and what it may become.
CASES = [
    ("pu", {"purge"}),
    ("call --ro", {"--root", "--role"}),
    ("call --role a", {"authorizer"}),
    ("top --sort r", {"rate", "requests"}),
    ("call --role filter --fa", {"--fail"}),
    ("check si", {"site.conf"}),
    ("-f si", {"site.conf"}),
    ("serve --root fol", {"folder"}),
    ("completion z", {"zsh"}),
]

BASH = """source "$1"
[[ $(complete -p gfastcgi) == *" -F "* ]] || exit 1
function=$(complete -p gfastcgi | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
while read -r line; do
    read -ra COMP_WORDS <<<"gfastcgi $line"
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )) COMPREPLY=()
    $function gfastcgi "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[*]}"
done
"""
FISH = 'source "$argv[1]"; while read -l line; echo (complete -C "gfastcgi $line" | string split -f 1 \\t); end'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site.conf").touch()
    (tmp_path / "folder").mkdir()
    for shell in SHELLS:
        (tmp_path / f"_{shell}").write_text(script(shell))
    return tmp_path


def ask(command: list[str], folder: Path) -> list[set[str]]:
    """What a shell answers to the cases, a line each."""
    lines = "".join(f"{typed}\n" for typed, _ in CASES)
    env = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=folder, env=env, check=True)
    assert done.stderr == ""
    return [{word.rstrip("/") for word in line.split()} for line in done.stdout.splitlines()]


def test_bash(folder: Path) -> None:
    told = ask([find_peer("bash"), "--norc", "-c", BASH, "bash", f"{folder}/_bash"], folder)
    assert told == [found for _, found in CASES]


def test_fish(folder: Path) -> None:
    told = ask([find_peer("fish"), "--no-config", "-c", FISH, f"{folder}/_fish"], folder)
    assert told == [found for _, found in CASES]


def test_zsh(folder: Path) -> None:
    """It completes on a terminal only."""
    (folder / "_gfastcgi").write_text((folder / "_zsh").read_text())
    fd, inside = os.openpty()
    env = {**os.environ, "TERM": "dumb", "PS1": "", "HOME": str(folder)}
    shell = subprocess.Popen(
        [find_peer("zsh"), "-f", "-i"], stdin=inside, stdout=inside, stderr=inside, cwd=folder, env=env,
        start_new_session=True,
    )  # fmt: skip
    seen = ""

    def reads(text: str) -> bool:
        nonlocal seen
        if select.select([fd], [], [], 0.05)[0]:
            seen += os.read(fd, 65536).decode()
        return text in seen

    try:
        os.write(fd, b"fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; echo re''ady\n")
        wait_until(lambda: reads("ready"), "zsh")
        for typed, whole in ((b"purg", "purge "), (b"call --role auth", "authorizer "), (b"check sit", "site.conf ")):
            os.write(fd, b"gfastcgi " + typed + b"\t")
            wait_until(lambda whole=whole: reads(whole), f"{whole!r} in {seen!r}")  # type: ignore[misc]
            os.write(fd, b"\x15")
    finally:
        shell.kill()
        shell.wait()
        os.close(fd)
        os.close(inside)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_name_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS)
    assert "-?" not in told


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert run(["completion", "bash"]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", 'gfastcgi: this needs the package shtab: pip install ".[completion]"\n')
