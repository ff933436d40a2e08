"""`gfastcgi ping`: whether a FastCGI program is well, by FCGI_GET_VALUES or by a page that it serves.

Contract: exit status 0 well, 1 unwell (somebody is there, and is slow or wrong), 2 nobody is there, or arguments that
make no sense. One line says so.
"""

from __future__ import annotations

import argparse
from time import monotonic

from gfastcgi.cli.arguments import seconds
from gfastcgi.cli.console import print_fault
from gfastcgi.cli.question import AWAY, add_arguments, connected, make_params, status_of
from gfastcgi.client.probing import converse
from gfastcgi.errors import BackendClosed, BackendError, InvalidValue, NoBackendAvailable, ProtocolError
from gfastcgi.fcgi.connection import UnknownType, Values, WebServer
from gfastcgi.fcgi.constants import MAX_CONNS, MAX_REQS, MPXS_CONNS
from gfastcgi.library.client import Client

__all__ = ["parser", "run"]

_EPILOG = """examples:
  gfastcgi ping unix:/run/php/php-fpm.sock
  gfastcgi ping tcp://127.0.0.1:9000 --path /ping --expect pong --timeout 1
  gfastcgi ping unix:/run/php/php-fpm.sock --path /health.php --root /srv/www -q

  HEALTHCHECK --interval=10s CMD gfastcgi ping -q tcp://127.0.0.1:9000 --path /ping || exit 1

exit status: 0 it is well; 1 it is not: no answer in time, or a wrong one; 2 nobody is there, or the arguments
make no sense"""

UNWELL, DEAD = 1, 2


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi ping`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi ping",
        description="Ask a FastCGI program whether it is well: for its limits (FCGI_GET_VALUES), which takes a free "
        "process of it and no script, or for a page.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("address", metavar="ADDRESS", help="the program: unix:PATH or tcp://HOST:PORT")
    add("--path", metavar="URI", help="ask for this page; 2xx and 3xx are well")
    add("--expect", metavar="TEXT", help="with --path: its answer has to hold this text")
    add_arguments(parser)
    add("--timeout", type=seconds, default=3.0, metavar="S", help="seconds for all of it (default 3)")
    add("-q", action="store_true", dest="is_quiet", help="say nothing when it is well")
    return parser


def run(options: argparse.Namespace) -> int:
    """Asks, and says how it is."""
    if options.path is None and options.expect is not None:
        raise InvalidValue("--expect needs a page: --path names it")
    start = monotonic()
    try:
        with connected(options.address, options.timeout) as client:
            said = _limits(client, options.timeout) if options.path is None else _page(client, options)
    except (BackendError, ProtocolError) as error:
        print_fault(f"{error} ({error.cause})")
        return DEAD if status_of(error) == AWAY else UNWELL
    if not options.is_quiet:
        print(f"{options.address} is well, after {(monotonic() - start) * 1000:.1f} ms: {said}")
    return 0


def _limits(client: Client, limit: float) -> str:
    """What it tells of its limits; that it knows no such question is an answer as well."""
    host = client.backend.hosts[0]
    if not host.procs:
        raise NoBackendAvailable(f"{host.name} has no address")
    core = WebServer()
    question = core.get_values([MAX_CONNS, MAX_REQS, MPXS_CONNS])
    for event in converse(host.procs[0].address, core, question, seconds=limit):
        if isinstance(event, Values):
            pairs = ", ".join(
                f"{name.decode('latin-1')}={value.decode('latin-1')}" for name, value in event.values.items()
            )
            return pairs or "it tells no limits"
        if isinstance(event, UnknownType):
            return "it does not know FCGI_GET_VALUES"
    raise BackendClosed(f"{host.name} closed the connection without an answer")


def _page(client: Client, options: argparse.Namespace) -> str:
    with client.request(make_params(options, options.path, "GET")) as response:
        body = response.body
    if not 200 <= response.status_int < 400:
        raise BackendError(f"{options.path} answered {response.status}", cause="app_status")
    if options.expect is not None and options.expect.encode("utf-8", "surrogateescape") not in body:
        raise BackendError(f"{options.path} answered without {options.expect!r}: {body[:80]!r}", cause="app_status")
    return f"{options.path} answered {response.status}"
