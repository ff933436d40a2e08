"""`gfastcgi purge`: a running gateway forgets every decision of its authorizers."""

from __future__ import annotations

import argparse

from gfastcgi.cli.running import add_arguments, socket_of
from gfastcgi.control import command

__all__ = ["parser", "run"]

_EPILOG = """examples:
  gfastcgi purge -f /etc/gfastcgi/site.conf
  gfastcgi purge --socket /run/gfastcgi/control.sock

exit status: 0 done; 1 the configuration names no control socket, or nobody answers there; 2 the arguments make no
sense"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    found = argparse.ArgumentParser(
        prog="gfastcgi purge",
        description="Let a running gateway forget every decision and grant of its authorizers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(found)
    return found


def run(options: argparse.Namespace) -> int:
    """Purges. Raises `ConfigError`, `ControlError`."""
    gates = command(socket_of(options), "purge")["gates"]
    print(f"purged: {gates} authorizer{'' if gates == 1 else 's'} will be asked anew")
    return 0
