"""The table of `gfastcgi top`: lines of text from an overview with rates. Pure.

Contract: a line never has a character that a terminal obeys, and with a width it is cut there, never wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["SORTS", "Line", "table"]

Record = dict[str, Any]

_COLUMNS = (
    "BACKEND", "STATE", "LOAD", "MAX", "KEPT", "QUEUE", "REQ/S", "REQUESTS", "CONNECTED", "DIED", "DOWN", "OVER", "PID",
    "ADDRESS",
)  # fmt: skip
_OF_GATES = ("AUTHORIZER", "HOW", "REQ/S", "ASKED FOR", "ALLOWED", "DENIED", "FAILED", "KEPT")
_LEFT = frozenset({"BACKEND", "STATE", "ADDRESS", "AUTHORIZER", "HOW"})
_STYLES = {
    "overloaded": "yellow",
    "unhealthy": "yellow",
    "disabled": "red",
    "died": "red",
    "unknown": "red",
    "unset": "dim",
    "killed": "dim",
}

SORTS: dict[str, Callable[[Record], Any]] = {
    "load": lambda record: record["load"],
    "rate": lambda record: record["per_second"] or 0.0,
    "requests": lambda record: record["requests"],
    "died": lambda record: record["died"],
}
"""What processes may be sorted by, the most first; else they stand as they are configured."""


class Line(NamedTuple):
    """One line, and its style (`console.paint`), "": none."""

    text: str
    style: str = ""


Row = tuple[tuple[object, ...], str]


def table(overview: Record, *, sort: str = "", width: int | None = None) -> list[Line]:
    """The lines of an overview that `with_rates` made; a `sort` of `SORTS`."""
    lines = [*_head(overview), Line("")]
    lines += _aligned(_COLUMNS, list(_backends(overview, SORTS.get(sort))))
    if overview["authorizers"]:
        lines += [Line(""), *_aligned(_OF_GATES, list(_gates(overview["authorizers"])))]
    return [Line(_plain(text)[:width], style) for text, style in lines]


def _head(told: Record) -> Iterator[Line]:
    yield Line(f"gfastcgi {told['version']}, pid {told['pid']}, up {_duration(told['seconds'])}", "bold")
    yield Line(f"requests {told['requests']} ({_rate(told)}/s), from {told['clients']} connected clients")
    failed = {cause: count for cause, count in told["failed"].items() if count}
    causes = ": " + ", ".join(f"{cause} {count}" for cause, count in sorted(failed.items())) if failed else ""
    yield Line(f"backends: {told['active']} at work, {told['waiting']} waiting, {told['backend_requests']} so far")
    yield Line(f"failed {sum(failed.values())}{causes}", "yellow" if failed else "")
    if told["authorizers"]:
        each = told["decisions"]
        counts = ", ".join(f"{name} {each[name]}" for name in ("allowed", "denied", "failed"))
        yield Line(f"decisions {each['requests']} ({_rate(each)}/s): {counts}; {each['kept']} without asking")


def _backends(told: Record, key: Callable[[Record], Any] | None) -> Iterator[Row]:
    for pool in told["pools"]:
        kind = "" if pool["mode"] == "responder" else f" ({pool['mode']})"
        name = (" ".join(pool["keys"]) or "-") + kind
        yield (name, "", "", "", "", pool["waiting"], _rate(pool), pool["requests"], *[""] * 6), "bold"
        rows = [
            (f"{host['name']}.{proc['id']}" if len(host["procs"]) > 1 else host["name"], proc)
            for host in pool["hosts"]
            for proc in host["procs"] or [_nobody(host)]
        ]
        if key is not None:
            rows.sort(key=lambda row: key(row[1]), reverse=True)
        for label, proc in rows:
            yield _proc(label, proc), _STYLES.get(proc["state"], "")


def _nobody(host: Record) -> Record:
    """The row of a host name that has no address."""
    zeros = dict.fromkeys(("load", "kept", "requests", "connected", "died", "disabled", "overloaded", "pid"), 0)
    return {**zeros, "state": "unknown", "capacity": None, "per_second": None, "address": "", "cause": host["cause"]}


def _proc(label: str, proc: Record) -> tuple[object, ...]:
    where = f"{proc['address']} ({proc['cause']})" if proc["cause"] else proc["address"]
    most = "-" if proc["capacity"] is None else proc["capacity"]
    counts = (proc[name] for name in ("requests", "connected", "died", "disabled", "overloaded"))
    now = (proc["state"], proc["load"], most, proc["kept"], "", _rate(proc))
    return f"  {label}", *now, *counts, proc["pid"] or "-", where


def _gates(gates: Sequence[Record]) -> Iterator[Row]:
    for gate in gates:
        counts = (gate[name] for name in ("requests", "allowed", "denied", "failed", "kept"))
        yield (gate["key"], gate["transport"] or "-", _rate(gate), *counts), "yellow" if gate["failed"] else ""


def _aligned(titles: Sequence[str], rows: Sequence[Row]) -> Iterator[Line]:
    cells = [(list(titles), "cyan"), *(([_plain(str(cell)) for cell in row], style) for row, style in rows)]
    widths = [max(len(row[place]) for row, _ in cells) for place in range(len(titles))]
    for row, style in cells:
        parts = (
            cell.ljust(width) if title in _LEFT else cell.rjust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        )
        yield Line(" ".join(parts).rstrip(), style)


def _rate(record: Record) -> str:
    rate = record["per_second"]
    return "-" if rate is None else f"{rate:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days}d " if days else "") + f"{hours}:{minutes:02}:{rest:02}"


def _plain(text: str) -> str:
    """Without what steers a terminal (CWE-150): names come from configurations, causes from programs."""
    return "".join(char if char.isprintable() else "?" for char in text)
