"""`gfastcgi top`: what a running gateway is doing, as a table that follows it, as plain text, or as JSON.

Contract: the first look must succeed; later the gateway may go away and come back, which is said. Ended by `q` or a
signal the exit status is 0, and the terminal is as before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent
from gevent.event import Event

from gfastcgi.cli.arguments import seconds
from gfastcgi.cli.console import print_fault
from gfastcgi.cli.running import add_arguments, socket_of
from gfastcgi.cli.screen import draw, is_screen, keys, whole_screen
from gfastcgi.cli.top_table import SORTS, Line, table
from gfastcgi.control import ControlError, command
from gfastcgi.status.rates import with_rates

__all__ = ["Looks", "parser", "run"]

_EPILOG = """examples:
  gfastcgi top -f /etc/gfastcgi/site.conf
  gfastcgi top --socket /run/gfastcgi/control.sock --interval 5 --sort load
  gfastcgi top -f site.conf --once
  gfastcgi top -f site.conf --json | jq --unbuffered '{requests, per_second, waiting}'

keys: q ends it, s sorts by the next column

States: unset is not started yet, running gets requests, overloaded and disabled rest for "disable-time", unhealthy
fails its health check, died is started again, killed was ended since nobody needed it. DOWN counts how often a
process could not be reached, OVER how often it was overloaded, QUEUE the requests that wait for a free process.

exit status: 0 ended by q or a signal, or one table printed; 1 there is no gateway, or the configuration names no
control socket; 2 the arguments make no sense"""

_SORTS = ["", *SORTS]

Overview = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi top`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi top",
        description="Show what a running gateway is doing: backends, their processes, loads, queues, rates, decisions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    add = parser.add_argument
    add("--interval", type=seconds, default=2.0, metavar="S", help="seconds between two looks (default 2)")
    add("--once", action="store_true", help="print one table after two looks, as always when there is no terminal")
    add("--json", action="store_true", help="print a line of JSON for each look but the first, with --once only one")
    add("--sort", choices=list(SORTS), default="", help="the most first (default: as configured)")
    return parser


class Looks:
    """Looks at a gateway, each with the rates since the last one. `clock` is seconds (monotonic)."""

    def __init__(self, look: Callable[[], Overview], clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._before: Overview | None = None
        self._at = 0.0

    def take(self) -> Overview:
        """The next one. Raises what the look raises."""
        now, at = self._look(), self._clock()
        told = with_rates(now, self._before, at - self._at)
        self._before, self._at = now, at
        return told


def run(options: argparse.Namespace) -> int:
    """Shows it. Raises `ConfigError`; `ControlError` when there is no gateway."""
    path = socket_of(options)
    looks = Looks(lambda: command(path, "overview"), time.monotonic)
    over = Event()
    try:
        with _ended_by_signals(over):
            _until(over, lambda: _watch(looks, over, options))
    except BrokenPipeError:
        # Whoever read our output has left: as if the signal, which Python ignores, had ended us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def _until(over: Event, work: Callable[[], None]) -> None:
    """Works until it is `over`, whatever the work waits for then. Raises what it raises."""

    def attempt() -> Exception | None:
        try:
            work()
        except Exception as error:
            # Left to the greenlet it would be told as a traceback.
            return error
        return None

    working = gevent.spawn(attempt)
    either: list[Any] = [working, over]
    gevent.wait(either, count=1)
    working.kill()
    error = working.get()
    if isinstance(error, Exception):
        raise error


def _watch(looks: Looks, over: Event, options: argparse.Namespace) -> None:
    first = looks.take()
    if options.once or not (options.json or is_screen()):
        gevent.sleep(options.interval)
        _print(looks.take(), options)
    elif options.json:
        _follow(looks, options)
    else:
        _View(first, options).show(looks, over)


@contextmanager
def _ended_by_signals(over: Event) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    watchers = [gevent.signal_handler(number, over.set) for number in numbers]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()


def _print(told: Overview, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(told), flush=True)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(line.text for line in table(told, sort=options.sort, width=width)), flush=True)


def _follow(looks: Looks, options: argparse.Namespace) -> None:
    """A line for each look; an outage is said once."""
    is_away = False
    while True:
        gevent.sleep(options.interval)
        try:
            told = looks.take()
        except ControlError as error:
            if not is_away:
                print_fault(f"the gateway is gone, waiting for it: {error}")
            is_away = True
        else:
            if is_away:
                print_fault("the gateway is back")
            is_away = False
            _print(told, options)


class _View:
    """The table on the terminal's whole screen; it follows the gateway, and the keys."""

    def __init__(self, told: Overview, options: argparse.Namespace) -> None:
        self._told = told
        self._sort: str = options.sort
        self._interval: float = options.interval
        self._fault = ""

    def show(self, looks: Looks, over: Event) -> None:
        """Until it is `over`, by the key q too, or the terminal is gone."""
        with whole_screen(), suppress(OSError):
            reading = gevent.spawn(self._read_keys, over)
            try:
                self._draw()
                while not over.wait(self._interval):
                    self._look(looks)
                    self._draw()
            finally:
                reading.kill()

    def _look(self, looks: Looks) -> None:
        try:
            self._told, self._fault = looks.take(), ""
        except ControlError as error:
            self._fault = f"the gateway is gone, waiting for it: {error}"

    def _read_keys(self, over: Event) -> None:
        for key in keys():
            if key == "q":
                over.set()
            elif key == "s":
                self._sort = _SORTS[(_SORTS.index(self._sort) + 1) % len(_SORTS)]
                self._draw()

    def _draw(self) -> None:
        order = f"sorted by {self._sort}" if self._sort else "as configured"
        lines = table(self._told, sort=self._sort)
        lines.insert(1, Line(f"every {self._interval:g} s, {order}; keys: q ends, s sorts otherwise", "dim"))
        if self._fault:
            lines.insert(0, Line(self._fault, "red"))
        draw(lines)
