"""One request to a FastCGI program from the command line: what `gfastcgi call` and `gfastcgi ping` have in common.

Contract: nothing is kept, asked twice or asked beside it: one connection, one request, within the time that was given.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import unquote_to_bytes

import gevent

from gfastcgi.errors import BackendError, BackendTimeout, InvalidValue, ProtocolError
from gfastcgi.library.client import Client

__all__ = ["AWAY", "REFUSED", "SLOW", "WRONG", "add_arguments", "connected", "make_params", "status_of"]

AWAY, SLOW, WRONG, REFUSED = 3, 4, 5, 6
"""Exit statuses: nobody is there, it takes too long, what comes is no answer, the program does not want the request."""

_STATUSES = {
    "connect_refused": AWAY, "connect_failed": AWAY, "no_backend": AWAY,
    "connect_timeout": SLOW, "read_timeout": SLOW, "write_timeout": SLOW, "queue_timeout": SLOW,
    "overloaded": REFUSED, "cant_multiplex": REFUSED, "unknown_role": REFUSED,
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What says which script is asked for, and with what."""
    add = parser.add_argument
    add("--root", metavar="DIR", help="DOCUMENT_ROOT; SCRIPT_FILENAME is the path in it (default: the path itself)")
    add("--script", metavar="FILE", help="SCRIPT_FILENAME")
    add("--mount", metavar="PREFIX", help="SCRIPT_NAME is this, and PATH_INFO the rest of the path, as for WSGI")
    add(
        "-H", metavar="FIELD", dest="fields", action="append", default=[],
        help="a header field, 'Name: value', as the variable that it becomes; may be repeated",
    )  # fmt: skip
    add(
        "-e", metavar="NAME=VALUE", dest="variables", action="append", default=[],
        help="a variable, before any other of its name; NAME alone takes it away; may be repeated",
    )  # fmt: skip


def make_params(options: argparse.Namespace, uri: str, method: str | None = None) -> dict[str, str | None]:
    """The meta-variables of RFC 3875 that the arguments ask for. Raises `InvalidValue`."""
    encoded, _, query = uri.partition("?")
    path = os.fsdecode(unquote_to_bytes(encoded))
    params: dict[str, str | None] = {
        "REQUEST_URI": uri,
        "SCRIPT_NAME": path,
        "QUERY_STRING": query,
        "SCRIPT_FILENAME": options.script or (options.root or "").rstrip("/") + path,
    }
    if options.root is not None:
        params["DOCUMENT_ROOT"] = options.root
    if options.mount is not None:
        prefix = options.mount.rstrip("/")
        if not path.startswith(prefix):
            raise InvalidValue(f"--mount: {path!r} is not below {options.mount!r}")
        params |= {"SCRIPT_NAME": prefix, "PATH_INFO": path[len(prefix) :]}
    if method is not None:
        params["REQUEST_METHOD"] = method
    params |= _of_fields(options.fields)
    for each in options.variables:
        name, equals, value = each.partition("=")
        if not name:
            raise InvalidValue(f"-e: {each!r} has no name")
        params[name] = value if equals else None
    return params


def _of_fields(fields: Sequence[str]) -> dict[str, str | None]:
    """RFC 3875 section 4.1.18."""
    found: dict[str, str | None] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name.strip():
            raise InvalidValue(f"-H: {field!r} is not 'Name: value'")
        variable = name.strip().upper().replace("-", "_")
        found[variable if variable == "CONTENT_TYPE" else f"HTTP_{variable}"] = value.strip()
    return found


@contextmanager
def connected(address: str, limit: float) -> Iterator[Client]:
    """A client of `address` for `limit` seconds. Raises `BackendTimeout` behind them, `InvalidValue` for no address."""
    waits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout", "queue_timeout"), limit)
    timer = gevent.Timeout(limit)
    try:
        with timer, Client(address, keep_alive=False, **waits) as client:
            yield client
    except gevent.Timeout as timeout:
        if timeout is not timer:
            raise
        raise BackendTimeout(f"{address}: the time is up, {limit:g} s") from timeout


def status_of(error: BackendError | ProtocolError) -> int:
    """The exit status for a request that failed."""
    return _STATUSES.get(error.cause, WRONG)
