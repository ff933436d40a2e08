"""`gfastcgi conformance authorizer`: what a gateway makes of everything that an authorizer may answer, row by row.

Contract: exit status 0 when every row went as it has to, 1 when one did not, 2 when the gateway did not start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby

from gfastcgi.cli.console import paint, print_fault
from gfastcgi.conformance.bench import BUILT_IN, DOORS, Bench, GatewayError, Result
from gfastcgi.conformance.rows import Row

__all__ = ["markdown", "parser", "run"]


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi conformance`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi conformance",
        description="Puts a gateway between clients and an authorizer that answers rightly and wrongly, and tells who "
        "was let through. The gateway gets a lighttpd.conf with one door for each row.",
        epilog='example:\n  gfastcgi conformance authorizer --gateway "lighttpd -D -f {config}"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", choices=["authorizer"], help="what is tested")
    parser.add_argument(
        "--gateway", metavar="COMMAND", default=BUILT_IN,
        help="the command of the gateway, in the foreground; {config} is its configuration file, {port} the port of "
        "127.0.0.1 where it has to listen (default: gfastcgi itself)",
    )  # fmt: skip
    parser.add_argument(
        "--door", action="append", choices=DOORS,
        help="what stands behind the gate: a file of the document root, of the authorizer's docroot, a responder; may "
        "be repeated (default: all)",
    )  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="print the outcomes as a table for a page")
    return parser


def run(options: argparse.Namespace) -> int:
    """Runs every row and prints the table."""
    doors = [door for door in DOORS if door in (options.door or DOORS)]
    progress = _Progress()
    try:
        with Bench(options.gateway) as bench:
            results = bench.run(doors, progress)
    except (GatewayError, KeyError, ValueError) as error:
        progress.end()
        print_fault(error if isinstance(error, GatewayError) else f"--gateway: {options.gateway!r}: {error}")
        return 2
    progress.end()
    print(markdown(results) if options.markdown else _table(results), end="")
    return 1 if any(result.fault for result in results) else 0


class _Progress:
    """Counts on a terminal's standard error, in one line that goes away."""

    def __init__(self) -> None:
        self._count = 0
        self._is_shown = sys.stderr.isatty()

    def __call__(self, result: Result) -> None:
        self._count += 1
        if self._is_shown:
            print(f"\r{self._count} answered", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def markdown(results: Sequence[Result]) -> str:
    """The outcomes as the table of docs/authorizers.md."""
    lines = ["| the authorizer answers | what follows |", "|---|---|"]
    for row, group in _by_row(results):
        lines.append(f"| {row.answers} | {row.outcome if not _faults(group) else f'**{_got(group)}**'} |")
    return "\n".join([*lines, ""])


def _table(results: Sequence[Result]) -> str:
    rows = [(row.name, row.outcome, _got(group), _faults(group), group) for row, group in _by_row(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for name, expected, got, faults, group in rows:
        is_open = any(result.is_open for result in group)
        verdict = paint("OPEN", "red", sys.stdout) if is_open else paint("no", "yellow", sys.stdout)
        line = f"{name:{widths[0]}}  {expected:{widths[1]}}  {got:{widths[2]}}  "
        lines.append(line + (f"{verdict}  {faults}" if faults else paint("ok", "green", sys.stdout)))
    failed = sum(bool(row[3]) for row in rows)
    opened = sum(any(result.is_open for result in row[4]) for row in rows)
    lines.append(f"{len(rows)} rows: {len(rows) - failed} ok, {failed} not, {opened} of these let somebody through")
    return "\n".join([*lines, ""])


def _by_row(results: Sequence[Result]) -> list[tuple[Row, list[Result]]]:
    return [(row, list(group)) for row, group in groupby(results, key=lambda result: result.row)]


def _got(group: Sequence[Result]) -> str:
    """What came, once where it was the same at every door."""
    if len({result.got for result in group}) == 1:
        return group[0].got
    return ", ".join(f"{result.door} {result.got}" for result in group)


def _faults(group: Sequence[Result]) -> str:
    if len({result.fault for result in group}) == 1:
        return group[0].fault
    return ", ".join(f"{result.door}: {result.fault}" for result in group if result.fault)
