"""`gfastcgi call`: one request to a FastCGI program; what it answers, streamed to the standard output.

Contract: the exit status says what happened, by the table of `--help`. An answer that breaks off never ends with 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from gfastcgi.cli.arguments import seconds
from gfastcgi.cli.console import print_fault
from gfastcgi.cli.question import add_arguments, connected, make_params, status_of
from gfastcgi.errors import BackendError, InvalidValue, ProtocolError
from gfastcgi.library.client import Client
from gfastcgi.library.response import Response

__all__ = ["parser", "run"]

_EPILOG = """examples:
  gfastcgi call unix:/run/php/php-fpm.sock /status?full
  gfastcgi call -i unix:/run/php/php-fpm.sock /info.php --root /srv/www
  gfastcgi call tcp://127.0.0.1:9000 /upload.php --root /srv/www -d 'name=ada' -H 'Cookie: SID=1'
  gfastcgi call unix:/run/app.sock /page?x=1 --mount / --body form.bin -X PUT
  gfastcgi call -i unix:/run/auth.sock /private/ --role authorizer -H 'Authorization: Basic YTpi' --fail

exit status:
  0  the program answered, and its own exit status (app_status) is 0
  1  its exit status is another; with --fail also: the answer is 4xx or 5xx, or an authorizer did not allow
  2  the arguments make no sense
  3  nobody is there: no socket, nobody listens, no such host
  4  it took longer than --timeout
  5  what came is no whole answer: it broke off, or is no FastCGI or no CGI
  6  the program does not take the request: overloaded, or not its role"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi call`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi call",
        description="Send one request to a FastCGI program and print its answer, its STDERR on the standard error.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("address", metavar="ADDRESS", help="the program: unix:PATH or tcp://HOST:PORT")
    add("uri", metavar="URI", nargs="?", default="/", help="REQUEST_URI: the path and the query (default /)")
    add("-X", metavar="METHOD", dest="method", help="REQUEST_METHOD (default GET, with a body POST)")
    add_arguments(parser)
    body = parser.add_mutually_exclusive_group()
    body.add_argument("-d", metavar="TEXT", dest="text", help="the body, a form unless a field says otherwise")
    body.add_argument("--body", metavar="FILE", help="the body, from a file; - is the standard input")
    add("--role", choices=["responder", "authorizer", "filter"], default="responder", help="the role (responder)")
    add("--data", metavar="FILE", help="the file for a filter (FCGI_DATA)")
    add("-i", action="store_true", dest="head", help="print the head of the answer too")
    add("--fail", action="store_true", help="exit with 1 for an answer of 4xx or 5xx, and for what does not allow")
    add("--timeout", type=seconds, default=60.0, metavar="S", help="seconds for all of it (default 60)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Asks, prints, and judges. Raises `InvalidValue` for arguments that make no sense."""
    if options.data is not None and options.role != "filter":
        raise InvalidValue("--data: only a filter gets FCGI_DATA; --role filter asks for one")
    try:
        with ExitStack() as stack:
            client = stack.enter_context(connected(options.address, options.timeout))
            response = stack.enter_context(_ask(client, options))
            return _print(response, options)
    except (BackendError, ProtocolError) as error:
        sys.stdout.flush()
        print_fault(f"{error} ({error.cause})")
        return status_of(error)
    except BrokenPipeError:
        # Whoever read our output has left: as if the signal, which Python ignores, had ended us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


@contextmanager
def _ask(client: Client, options: argparse.Namespace) -> Iterator[Response]:
    """The answer, while the files that are sent are open."""
    params = make_params(options, options.uri, options.method)
    with ExitStack() as stack:
        body: BinaryIO | bytes | None = None
        if options.text is not None:
            body = options.text.encode("utf-8", "surrogateescape")
            params.setdefault("CONTENT_TYPE", "application/x-www-form-urlencoded")
        elif options.body is not None:
            body = sys.stdin.buffer if options.body == "-" else stack.enter_context(_open(options.body, "--body"))
        data = None if options.data is None else stack.enter_context(_open(options.data, "--data"))
        yield stack.enter_context(client.request(params, body, role=options.role, data=data))


def _open(filename: str, option: str) -> BinaryIO:
    try:
        return open(filename, "rb")
    except OSError as error:
        raise InvalidValue(f"{option}: {filename!r}: {error.strerror}") from error


def _print(response: Response, options: argparse.Namespace) -> int:
    """The exit status for an answer that came whole."""
    out, told = sys.stdout.buffer, 0
    if options.head:
        lines = [f"Status: {response.status}", *(f"{name}: {value}" for name, value in response.headerlist), "", ""]
        out.write("\n".join(lines).encode("latin-1"))
    for piece in response.app_iter:
        told = _print_stderr(response, told)
        out.write(piece)
        out.flush()
    if _print_stderr(response, told) and not response.stderr.endswith(b"\n"):
        print(file=sys.stderr)
    out.flush()
    return 1 if response.app_status or (options.fail and _is_failure(response, options.role)) else 0


def _print_stderr(response: Response, told: int) -> int:
    """Prints what is new of it; the value is how much there is."""
    text = response.stderr
    if len(text) > told:
        sys.stderr.buffer.write(text[told:])
        sys.stderr.flush()
    return len(text)


def _is_failure(response: Response, role: str) -> bool:
    """FastCGI 1.0 section 6.3: an authorizer allows by 200, and by nothing else."""
    return response.status_int != 200 if role == "authorizer" else response.status_int >= 400
