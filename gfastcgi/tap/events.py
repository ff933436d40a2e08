"""What happens on a connection that is tapped, in the order in which it happened."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Event", "Side", "What"]

Side: TypeAlias = Literal["front", "backend"]
"""Where bytes come from: the web server, or the FastCGI program."""

What: TypeAlias = Literal["open", "front", "backend", "front-end", "backend-end", "lost", "close"]
"""A connection is accepted; bytes from a side; a side says no more; what follows is not known; it is over."""


class Event(NamedTuple):
    """`at` is seconds since the tap began; `connection` counts from 1; `text` says from where, or why."""

    at: float
    connection: int
    what: What
    data: bytes = b""
    text: str = ""
