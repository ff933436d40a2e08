"""How a command finds a running gateway: by its configuration, or by its control socket."""

from __future__ import annotations

import argparse

from gfastcgi.errors import InvalidValue

__all__ = ["add_arguments", "socket_of"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-f or --socket."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("-f", metavar="FILE", dest="filename", help="its configuration, for server.control-socket")
    group.add_argument("--socket", metavar="PATH", help="its control socket")


def socket_of(options: argparse.Namespace) -> str:
    """The path of its control socket. Raises `ConfigError`."""
    if options.socket:
        return str(options.socket)
    from gfastcgi import lighttpd, plugins

    config, _ = lighttpd.load(options.filename, find_balance=plugins.find_balance)
    if not config.server.control_socket:
        raise InvalidValue("server.control-socket is not set", options.filename)
    return config.server.control_socket
