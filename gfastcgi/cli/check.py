"""`gfastcgi check FILE`, which is `gfastcgi -t` as a command: every fault with its place, or `Syntax OK`."""

from __future__ import annotations

import argparse

from gfastcgi.cli.console import print_faults, print_warnings
from gfastcgi.config import Config
from gfastcgi.errors import ConfigError

__all__ = ["examine", "load", "parser", "run"]


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi check`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi check",
        description="Check a lighttpd.conf; exit 0 or 1.",
        epilog="example:\n  gfastcgi check /etc/lighttpd/lighttpd.conf",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("filename", metavar="FILE", help="the configuration file")
    parser.add_argument("-p", action="store_true", help="print what was understood instead of `Syntax OK`")
    parser.add_argument("--show-secrets", action="store_true", help="print secrets instead of their lengths")
    return parser


def run(options: argparse.Namespace) -> int:
    """Checks all that can be checked without starting anything."""
    return examine(options.filename, prints=options.p, builds=True, shows_secrets=options.show_secrets)


def load(filename: str) -> Config:
    """The configuration of a file; warnings are told. Raises `ConfigError`."""
    from gfastcgi import lighttpd, plugins

    config, warnings = lighttpd.load(filename, find_balance=plugins.find_balance)
    print_warnings(warnings)
    return config


def examine(filename: str, *, prints: bool, builds: bool, shows_secrets: bool = False) -> int:
    """The exit status: 0 for a sound file, 1 for faults, which are told. `builds`: as a start would."""
    try:
        config = load(filename)
        # What a configuration names in Python has to be there: that is seen by importing it.
        if builds or _names_python(config):
            from gfastcgi import assemble

            assemble.build(config)
    except ConfigError as error:
        print_faults(error)
        return 1
    if prints:
        from gfastcgi import lighttpd

        print(lighttpd.render(config if shows_secrets else lighttpd.veiled(config)))
    else:
        print("Syntax OK")
    return 0


def _names_python(config: Config) -> bool:
    overrides = [block.overrides for block in config.blocks]
    if config.settings.wsgi_server or any(each.get("wsgi_server") for each in overrides):
        return True
    settings = [config.settings.extensions, *(each.get("extensions", ()) for each in overrides)]
    return any(host.python for extensions in settings for extension in extensions for host in extension.hosts)
