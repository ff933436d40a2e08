"""docs/toolbox.md: every command is there, and the table has the columns that it shows."""

from __future__ import annotations

from pathlib import Path

from gfastcgi.cli.commands import COMMANDS
from gfastcgi.cli.top_table import table
from gfastcgi.status import authorizers_of, backends_of

PAGE = (Path(__file__).parents[2] / "docs/toolbox.md").read_text()


def test_the_columns_of_top() -> None:
    counts = type("Counts", (), {"allowed": 0, "denied": 0, "failed": 0, "kept": 0})()
    told = {"version": "", "pid": 1, "seconds": 0.0, "clients": 0, "requests": 0, "failed": {}, "per_second": None}
    told |= {**backends_of({}), **authorizers_of([("/", "url", counts)])}
    told["decisions"]["per_second"] = told["authorizers"][0]["per_second"] = None
    lines = [" ".join(line.text.split()) for line in table(told)]
    titles = [line for line in lines if line.startswith(("BACKEND", "AUTHORIZER"))]
    shown = [" ".join(line.split()) for line in PAGE.splitlines()]
    assert [line for line in shown if line.startswith(("BACKEND", "AUTHORIZER"))] == titles


def test_every_command_is_there() -> None:
    rows = "".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    missing = {name for name in COMMANDS if f"`gfastcgi {name}" not in rows and f"`{name}`" not in rows}
    assert missing == {"serve", "check", "demo"}, "those of the gateway itself are on other pages"
