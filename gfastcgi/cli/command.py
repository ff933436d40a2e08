"""The arguments: lighttpd's bare flags (`-f FILE -D -t -p -v -V`), and the commands of `cli.commands`.

Contract: `run(arguments)` -> exit status: 0 done, 1 a check that failed, 2 arguments that make no sense, 255 a server
that could not start; commands have others of their own. What is needed is imported when it runs, so that `-v` and `-t`
answer fast.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from gfastcgi._version import __version__
from gfastcgi.cli.commands import COMMANDS, EXIT_START, EXIT_USAGE, summaries
from gfastcgi.cli.console import print_fault, print_faults
from gfastcgi.errors import ConfigError

__all__ = ["parser", "run"]

_VERSION_LINE = f"gfastcgi/{__version__} - an access-control gateway for FastCGI"

_EPILOG = f"""commands (each has its own --help):
{summaries()}

examples:
  gfastcgi -t -f /etc/gfastcgi/site.conf
  gfastcgi -D -f /etc/gfastcgi/site.conf
  gfastcgi demo

signals: SIGTERM, SIGINT and SIGQUIT stop gracefully (a second one at once); SIGHUP and SIGUSR1 reopen the logs

exit status: 0 done; 1 a check that failed; 2 the arguments make no sense; 255 the server could not start"""


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name); the value is the exit status."""
    first = arguments[0] if arguments else "-"
    if first in COMMANDS:
        return COMMANDS[first].run(arguments[1:])
    if not first.startswith("-"):
        print_fault(_no_command(first))
        return EXIT_USAGE
    return _lighttpd(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi` itself."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi",
        description="A web server and access-control gateway for FastCGI, configured by a lighttpd.conf.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("-f", metavar="FILE", dest="filename", help="the configuration file")
    parser.add_argument("-D", action="store_true", help="stay in the foreground (gfastcgi always does)")
    parser.add_argument(
        "-t", action="count", default=0, help="check the file, as a start does, and exit: 0 or 1 (-tt does the same)"
    )
    parser.add_argument("-p", action="store_true", help="print what was understood of the file and exit")
    parser.add_argument("--show-secrets", action="store_true", help="with -p: print secrets instead of their lengths")
    parser.add_argument("-v", "--version", action="store_true", dest="v", help="print the version and exit")
    parser.add_argument("-V", action="store_true", help="print the version and the features and exit")
    return parser


def _no_command(word: str) -> str:
    if os.path.isfile(word):
        return f"to serve {word}: gfastcgi -f {word}"
    from gfastcgi.lighttpd.report import nearest

    return f'unknown command "{word}"{nearest(word, COMMANDS)}; see `gfastcgi --help`'


def _lighttpd(options: argparse.Namespace) -> int:
    if options.v or options.V:
        return _version(with_features=options.V)
    if options.filename is None:
        print_fault("no configuration: name one with -f FILE, or try `gfastcgi demo` or `gfastcgi --help`")
        return EXIT_USAGE
    from gfastcgi.cli.check import examine, load, require_places

    if options.t or options.p:
        return examine(options.filename, prints=options.p, shows_secrets=options.show_secrets)
    from gfastcgi.cli.serve import serve

    try:
        config = load(options.filename)
        require_places(config)
        return serve(config)
    except ConfigError as error:
        print_faults(error)
    return EXIT_START


def _version(*, with_features: bool) -> int:
    print(_VERSION_LINE)
    if with_features:
        from gfastcgi.cli.features import features

        print(features(), end="")
    return 0
