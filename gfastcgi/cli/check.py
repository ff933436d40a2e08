"""`gfastcgi check FILE`, which is `gfastcgi -t` as a command: every fault with its place, or `Syntax OK`."""

from __future__ import annotations

import argparse

from gfastcgi.cli.console import print_faults, print_warnings
from gfastcgi.config import Config
from gfastcgi.errors import ConfigError

__all__ = ["examine", "load", "parser", "require_places", "run"]


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi check`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi check",
        description="Check a lighttpd.conf; exit 0 or 1.",
        epilog="example:\n  gfastcgi check /etc/lighttpd/lighttpd.conf",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("filename", nargs="?", metavar="FILE", help="the configuration file")
    group.add_argument("-f", metavar="FILE", dest="named", help="the same, as other commands name it")
    parser.add_argument("-p", action="store_true", help="print what was understood instead of `Syntax OK`")
    parser.add_argument("--show-secrets", action="store_true", help="print secrets instead of their lengths")
    return parser


def run(options: argparse.Namespace) -> int:
    """Checks all that can be checked without starting anything."""
    return examine(options.filename or options.named, prints=options.p, shows_secrets=options.show_secrets)


def load(filename: str) -> Config:
    """The configuration of a file; warnings are told. Raises `ConfigError`."""
    from gfastcgi import lighttpd, plugins
    from gfastcgi.cli import places

    config, warnings = lighttpd.load(filename, find_balance=plugins.find_balance)
    print_warnings([*warnings, *places.doubts(config)])
    return config


def require_places(config: Config) -> None:
    """Raises `ConfigError`, with file and line, for a log without its folder, a program that is not there."""
    from gfastcgi.cli import places
    from gfastcgi.faults import Faults

    faults = Faults()
    places.find_faults(config, faults)
    faults.raise_all()


def examine(filename: str, *, prints: bool, shows_secrets: bool = False) -> int:
    """The exit status: 0 for a file that a server could start with, 1 for faults, which are told."""
    try:
        config = load(filename)
        from gfastcgi import assemble
        from gfastcgi.cli import places
        from gfastcgi.faults import Faults

        faults = Faults()
        with faults.caught():
            assemble.build(config)
        if not prints:
            places.find_faults(config, faults)
        faults.raise_all()
    except ConfigError as error:
        print_faults(error)
        return 1
    if prints:
        from gfastcgi import lighttpd

        print(lighttpd.render(config if shows_secrets else lighttpd.veiled(config)))
    else:
        print("Syntax OK")
    return 0
