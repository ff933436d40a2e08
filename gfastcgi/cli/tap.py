"""`gfastcgi tap`: between a web server and its FastCGI program, forwarding, and telling what they say.

Contract: exit status 0 after a signal, 1 when something was not told or not saved, 255 when it could not start.
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import gevent
from gevent.event import Event

from gfastcgi.cli.console import print_fault
from gfastcgi.cli.site import parse_address
from gfastcgi.errors import InvalidValue
from gfastcgi.net.listeners import SocketFile, address_of, listen
from gfastcgi.tap.journal import Journal
from gfastcgi.tap.recording import Recorder
from gfastcgi.tap.relay import Relay

__all__ = ["parser", "run"]

_SECONDS = 10.0
"""Seconds that connections, and then what is not told yet, may take once it is to end."""

_EPILOG = """examples:
  gfastcgi tap --listen unix:/run/tap.sock --to unix:/run/php/php-fpm.sock
  gfastcgi tap --listen 127.0.0.1:9001 --to tcp://127.0.0.1:9000 --save day.tap -q
  gfastcgi replay day.tap --to tcp://127.0.0.1:9002

Cookies, passwords, tokens and bodies are told by their lengths. A recording (--save) holds all of them as they
came: its file is for its owner only.

signals: SIGINT and SIGTERM end it when the connections are over and all is told, a second one at once
exit status: 0 ended by a signal; 1 something was not told or not saved; 255 it could not start"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi tap`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi tap",
        description="Forward FastCGI connections, byte for byte, and tell the records in them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--listen", required=True, metavar="ADDRESS", help="where the web server connects: unix:PATH or HOST:PORT")
    add("--to", required=True, metavar="ADDRESS", help="the FastCGI program: unix:PATH or tcp://HOST:PORT")
    add("--socket-mode", type=_mode, metavar="MODE", help="the unix socket's mode, in octal, such as 0660")
    add("--save", metavar="FILE", help="save all that is said, for gfastcgi replay")
    add("--show-secrets", action="store_true", help="tell cookies, passwords and bodies too")
    add("-q", action="store_true", dest="is_quiet", help="tell nothing, only save")
    return parser


def _mode(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or set(text) & {"8", "9"} or int(text, 8) > 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no mode like 0660")
    return int(text, 8)


def run(options: argparse.Namespace) -> int:
    """Forwards until a signal ends it. Raises `InvalidValue`, `ListenError`."""
    address = replace(parse_address(options.listen, "--listen"), mode=options.socket_mode)
    target = parse_address(options.to, "--to")
    recorder = _recorder(options)
    listener = listen(address)
    file = SocketFile(address)
    try:
        out = None if options.is_quiet else sys.stdout.fileno()
        journal = Journal(out=out, recorder=recorder, tell_fault=print_fault, shows_secrets=options.show_secrets)
        relay = Relay(listener, target, journal.put)
        relay.start()
        bound = options.listen if address.path else f"tcp://{address_of(listener)}"
        print(f"gfastcgi tap: listening on {bound}, forwarding to {options.to}", file=sys.stderr, flush=True)
        _wait_for_the_end(relay, journal)
    finally:
        file.remove()
    return 0 if journal.is_whole else 1


def _recorder(options: argparse.Namespace) -> Recorder | None:
    if options.save is None:
        return None
    try:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Recorder(options.save, {"time": now, "to": options.to})
    except OSError as error:
        raise InvalidValue(f"--save: {options.save!r}: {error.strerror}") from error


def _wait_for_the_end(relay: Relay, journal: Journal) -> None:
    first, second = Event(), Event()

    def ask() -> None:
        (second if first.is_set() else first).set()

    watchers = [gevent.signal_handler(number, ask) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        first.wait()
        relay.close()
        waiting = gevent.spawn(relay.wait, _SECONDS)
        either: list[Any] = [waiting, second]
        gevent.wait(either, count=1)
        waiting.kill()
        relay.cut()
        journal.close(_SECONDS, hurry=second)
    finally:
        for watcher in watchers:
            watcher.cancel()
