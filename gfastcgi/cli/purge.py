"""`gfastcgi purge`: a running gateway forgets every decision of its authorizers."""

from __future__ import annotations

import argparse

from gfastcgi.control import command
from gfastcgi.errors import InvalidValue

__all__ = ["parser", "run"]


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    found = argparse.ArgumentParser(
        prog="gfastcgi purge", description="Let a running gateway forget every decision and grant of its authorizers."
    )
    group = found.add_mutually_exclusive_group(required=True)
    group.add_argument("-f", metavar="FILE", dest="filename", help="its configuration, for server.control-socket")
    group.add_argument("--socket", metavar="PATH", help="its control socket")
    return found


def run(options: argparse.Namespace) -> int:
    """Purges. Raises `ConfigError`, `ControlError`."""
    path = options.socket or _socket_of(options.filename)
    gates = command(path, "purge")["gates"]
    print(f"purged: {gates} authorizer{'' if gates == 1 else 's'} will be asked anew")
    return 0


def _socket_of(filename: str) -> str:
    from gfastcgi import lighttpd, plugins

    config, _ = lighttpd.load(filename, find_balance=plugins.find_balance)
    if not config.server.control_socket:
        raise InvalidValue("server.control-socket is not set", filename)
    return config.server.control_socket
