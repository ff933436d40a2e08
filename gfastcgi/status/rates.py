"""Rates from two overviews of one gateway.

Contract: pure; the time between them is an argument. Where nothing can be said (a first look, a gateway or a process
that started anew) the rate is None, never a number that was not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

__all__ = ["with_rates"]

Record = dict[str, Any]


def with_rates(now: Record, before: Record | None, seconds: float) -> Record:
    """`now` with "per_second" beside each "requests"; `before` was told `seconds` earlier, None: never."""
    told = deepcopy(now)
    known: dict[tuple[object, ...], Record] = {}
    if before is not None and _is_same_life(before, now) and seconds > 0:
        known = dict(_records(before))
    for place, record in _records(told):
        record["per_second"] = _rate(known[place], record, seconds) if place in known else None
    return told


def _is_same_life(before: Record, now: Record) -> bool:
    return bool(before["pid"] == now["pid"] and before["seconds"] <= now["seconds"])


def _rate(before: Record, now: Record, seconds: float) -> float | None:
    grown = now["requests"] - before["requests"]
    return None if grown < 0 else round(grown / seconds, 2)


def _records(overview: Record) -> Iterator[tuple[tuple[object, ...], Record]]:
    """Every record that counts requests, each with what tells it from the others."""
    yield (), overview
    yield ("decisions",), overview["decisions"]
    for gate in overview["authorizers"]:
        yield ("authorizer", gate["key"], gate["transport"]), gate
    for number, pool in enumerate(overview["pools"]):
        yield ("pool", number), pool
        for host in pool["hosts"]:
            yield ("host", number, host["name"]), host
            for proc in host["procs"]:
                yield ("proc", number, host["name"], proc["address"]), proc
