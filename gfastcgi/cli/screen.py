"""A terminal whose whole screen is drawn again and again, and the keys that are typed there. ANSI (ECMA-48), no curses.

Contract: whatever ends the block, the terminal is as it was before. Lines are cut at the terminal's size of the moment.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from gevent import select

from gfastcgi.cli.console import paint
from gfastcgi.cli.top_table import Line

__all__ = ["draw", "is_screen", "keys", "whole_screen"]

# Another screen without cursor and wrapping, and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


def is_screen() -> bool:
    """Whether the standard output is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def whole_screen() -> Iterator[None]:
    """The standard output is a screen of its own; what is typed on the standard input comes at once, and unseen."""
    saved = _read_keys_at_once()
    try:
        _write(_ENTER)
        yield
    finally:
        # A terminal that is gone needs neither.
        with suppress(OSError):
            _write(_LEAVE)
        with suppress(termios.error):
            if saved is not None:
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, saved)


def draw(lines: Sequence[Line]) -> None:
    """Puts `lines` on the screen, as many as there is room for. Raises OSError when the terminal is gone."""
    size = os.get_terminal_size(sys.stdout.fileno())
    # Serial lines say 0.
    width, height = size.columns or 80, size.lines or 24
    shown = list(lines[:height])
    if len(lines) > height:
        shown[-1] = Line(f"... {len(lines) - height + 1} more lines", "dim")
    text = "\x1b[K\n".join(paint(line.text[:width], line.style, sys.stdout) for line in shown)
    _write(f"\x1b[H{text}\x1b[J")


def keys() -> Iterator[str]:
    """The keys typed, as they come, until the terminal is gone; none where the standard input is no terminal."""
    fd = sys.stdin.fileno()
    while os.isatty(fd):
        select.select([fd], [], [])
        try:
            typed = os.read(fd, 64)
        except OSError:
            return
        if not typed:
            return
        yield from typed.decode("ascii", "replace")


def _read_keys_at_once() -> list[Any] | None:
    if not sys.stdin.isatty():
        return None
    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[3] &= ~(termios.ICANON | termios.ECHO)
    # Ctrl-Z would leave a screen behind that is not the shell's.
    mode[6][termios.VSUSP] = os.fpathconf(fd, "PC_VDISABLE").to_bytes(1, "big")
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    return saved


def _write(text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
