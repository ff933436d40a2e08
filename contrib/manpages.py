"""Writes the manual pages, from the parsers that `--help` prints: python contrib/manpages.py [FOLDER]

Contract: a page depends on nothing but the parsers, neither on the day nor on the version of Python, so that the pages
of contrib/man, which wheels carry, can be compared. man(7), in the subset that groff and mandoc share.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from gfastcgi.cli import command
from gfastcgi.cli.commands import COMMANDS

FOLDER = Path(__file__).parent / "man"

_SUMMARY = "access-control gateway for FastCGI"
_ORDER = ("COMMANDS", "EXAMPLES", "KEYS", "SIGNALS", "EXIT STATUS", "NOTES")
_HEADING = re.compile(r"(commands|example|examples|keys|signals|exit status)(?: \(.*\))?: *(.*)")
_LISTED = re.compile(r"  (\d+|gfastcgi \w+) {2,}(.*)")
_SPECIAL = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})


def main(arguments: Sequence[str]) -> int:
    """Writes all pages into the folder; the value is the exit status."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
    return 0


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    found = {"gfastcgi.1": page(command.parser(), _SUMMARY, [f"gfastcgi-{name}" for name in COMMANDS])}
    for name, each in COMMANDS.items():
        found[f"gfastcgi-{name}.1"] = page(each.parser(), each.summary, ["gfastcgi"])
    return found


def page(parser: argparse.ArgumentParser, summary: str, others: Iterable[str]) -> str:
    """The page of one parser; `others` are the pages that it refers to."""
    name = parser.prog.replace(" ", "-")
    lines = [f'.TH {escape(name.upper())} 1 "" gfastcgi "User Commands"']
    lines += [".SH NAME", f"{escape(name)} \\- {escape(summary)}"]
    lines += [".SH SYNOPSIS", *_synopsis(parser)]
    lines += [".SH DESCRIPTION", *_filled([parser.description or ""])]
    lines += [line for group in parser._action_groups for line in _group(group)]
    sections = _sections(parser.epilog or "")
    for title in filter(sections.__contains__, _ORDER):
        body = list(_body(sections[title]))
        # A section is a paragraph already.
        lines += [f".SH {title}", *(body[1:] if body[0] == ".PP" else body)]
    *first, last = others
    lines += [".SH SEE ALSO", *(f".BR {escape(other)} (1)," for other in first), f".BR {escape(last)} (1)"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` as roff prints it to the letter, within a line."""
    return text.translate(_SPECIAL)


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".B {escape(parser.prog)}"
    if parser.usage:
        yield escape(parser.usage.removeprefix(parser.prog).strip())
        return
    told: set[argparse.Action] = set()
    options = [action for action in parser._actions if action.option_strings]
    for action in [*options, *(action for action in parser._actions if not action.option_strings)]:
        if action in told or action.help == argparse.SUPPRESS:
            continue
        together = [group for group in parser._mutually_exclusive_groups if action in group._group_actions]
        actions = together[0]._group_actions if together else [action]
        told.update(actions)
        is_required = together[0].required if together else action.required
        text = " | ".join(map(_usage, actions))
        opening, closing = ("(", ")") if together else ("", "")
        yield f"{opening}{text}{closing}" if is_required else f"[{text}]"


def _usage(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return {"*": f"[{value} ...]", "+": f"{value} [{value} ...]", argparse.REMAINDER: f"{value} ..."}.get(
            str(action.nargs), value
        )
    flag = f"\\fB{escape(action.option_strings[0])}\\fR"
    return flag if action.nargs == 0 else f"{flag} {value}"


def _value(action: argparse.Action) -> str:
    """The name of its value."""
    if action.metavar is None and action.choices is not None:
        return "|".join(f"\\fB{escape(str(choice))}\\fR" for choice in action.choices)
    return f"\\fI{escape(str(action.metavar or action.dest.upper()))}\\fR"


def _group(group: argparse._ArgumentGroup) -> Iterator[str]:
    actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
    if not actions:
        return
    title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "")
    yield f".SH {escape(title.upper())}"
    for action in actions:
        flags = [f"\\fB{escape(flag)}\\fR" for flag in action.option_strings]
        value = [] if action.nargs == 0 else [_value(action)]
        yield ".TP"
        yield " ".join([*([", ".join(flags)] if flags else []), *value])
        yield from _filled([argparse.HelpFormatter("")._expand_help(action)])


def _sections(epilog: str) -> dict[str, list[str]]:
    """The lines of an epilog under the headings of a manual page; what has none of its own is a note."""
    sections: dict[str, list[str]] = {}
    title, is_new = "NOTES", True
    for line in epilog.splitlines():
        found = _HEADING.fullmatch(line)
        if found is not None:
            title = found[1].upper().replace("EXAMPLES", "EXAMPLE").replace("EXAMPLE", "EXAMPLES")
            line = found[2]
        elif is_new and line and not line.startswith(" ") and not line.endswith(":"):
            title = "NOTES"
        sections.setdefault(title, []).append(line)
        is_new = not line
    return sections


def _body(lines: Sequence[str]) -> Iterator[str]:
    """Indented lines stay as they are, numbered ones are a list, others are filled paragraphs."""
    text: list[str] = []
    was_code = False
    for line in [*lines, ""]:
        listed = _LISTED.fullmatch(line)
        is_code = line.startswith(" ") and listed is None
        if text and (is_code or listed or not line):
            yield from _paragraph(text)
            text = []
        if is_code != was_code and (line or was_code):
            yield from (".PP", ".RS 4", ".EX") if is_code else (".EE", ".RE")
            was_code = is_code
        if is_code:
            yield _guard(escape(line.removeprefix("  ")))
        elif listed:
            yield from (".TP", rf"\fB{escape(listed[1])}\fR", *_filled([listed[2]]))
        elif line:
            text.append(line)


def _paragraph(lines: Sequence[str]) -> Iterator[str]:
    """Prose, or a list where it is one: "0 this; 1 that"."""
    items = re.split(r"; (?=\d+ )", " ".join(lines))
    if not re.match(r"\d+ ", items[0]):
        yield from (".PP", *_filled(lines))
        return
    for item in items:
        number, _, text = item.partition(" ")
        yield from (".TP", rf"\fB{number}\fR", *_filled([text]))


def _filled(lines: Iterable[str]) -> Iterator[str]:
    """Prose; a new sentence begins a new line. What stands between backticks is bold."""
    for sentence in re.split(r"(?<=[.;]) ", " ".join(" ".join(lines).split())):
        parts = re.split(r"`([^`]+)`", sentence)
        text = "".join(rf"\fB{escape(part)}\fR" if place % 2 else escape(part) for place, part in enumerate(parts))
        yield from map(_guard, wrap(text, 79, break_long_words=False, break_on_hyphens=False))


def _guard(line: str) -> str:
    """A line that is no request, whatever it begins with."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
