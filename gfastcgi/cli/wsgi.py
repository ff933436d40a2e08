"""`gfastcgi wsgi`: a WSGI application as a FastCGI server, in one process or several.

Contract: `run(options)` returns the exit status: 0 after a graceful stop, 255 when it could not start. With `--workers`
above 1, and with `--reload`, a master forks workers that load the application each for itself.
"""

from __future__ import annotations

import argparse
import grp
import importlib
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gevent
from gevent import get_hub, socket

from gfastcgi import log
from gfastcgi.auth.python import PythonAuthorizer
from gfastcgi.cli.console import print_fault
from gfastcgi.cli.site import parse_address
from gfastcgi.errors import GfastcgiError, InvalidValue
from gfastcgi.net.listeners import SocketFile, address_of, listen
from gfastcgi.server.fastcgi import FastCGIServer, listener_from_fd
from gfastcgi.server.fastcgi import run as serve
from gfastcgi.server.threads import Threaded
from gfastcgi.supervise.prefork import EXIT_START, Prefork, Worker

__all__ = ["parser", "run"]

logger = logging.getLogger("gfastcgi")

_EPILOG = """examples:
  gfastcgi wsgi mysite.wsgi:application --bind unix:/run/mysite.sock --socket-mode 0660 --workers 2
  gfastcgi wsgi app:app --bind 127.0.0.1:9000 --reload
  gfastcgi wsgi app:app --authorizer app:may_enter --bind unix:/run/app.sock

  in lighttpd.conf, which spawns it:
  fastcgi.server = ( "/" => (( "socket" => "/run/app.sock", "bin-path" => "/usr/bin/gfastcgi wsgi app:app",
                               "check-local" => "disable", "fix-root-scriptname" => "enable" )) )

signals: SIGTERM, SIGINT and SIGUSR1 stop gracefully (a second one at once); SIGHUP reloads the application, once
there is more than one process, and stops a single one"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi wsgi`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi wsgi",
        description="Serve a WSGI application over FastCGI.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("app", metavar="MODULE:APP", help="the application, or an authorizer; APP is `application` when left out")
    add("--bind", default="fd:0", metavar="ADDRESS", help="unix:PATH, HOST:PORT or fd:N (default fd:0, as spawners do)")
    add("--socket-mode", type=_mode, metavar="MODE", help="the unix socket's mode, in octal, such as 0660")
    add("--socket-owner", metavar="USER[:GROUP]", help="the unix socket's owner, by names or numbers")
    add("--workers", type=_count, default=1, metavar="N", help="processes that share the socket (default 1)")
    add("--threads", type=_count, metavar="N", help="call the application in native threads, for one that blocks")
    add("--reload", action="store_true", help="load the application anew when a file of it has changed")
    add("--authorizer", metavar="MODULE:NAME", help="a function of a webob.Request that plays the role AUTHORIZER")
    add("--filter", metavar="MODULE:APP", help="a WSGI application that plays the role FILTER")
    add("--chdir", default=".", metavar="DIR", help="work there, and find modules there (default: here)")
    add("--max-connections", type=_count, default=1024, metavar="N", help="web server connections a process (1024)")
    add("--max-requests", type=_count, default=1024, metavar="N", help="requests at once a process (1024)")
    add("--stop-timeout", type=float, default=30.0, metavar="S", help="seconds for requests under way (30)")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no mode like 0660")
    return mode


def run(options: argparse.Namespace) -> int:
    """Serves until a signal ends it. Raises `InvalidValue` for arguments that make no sense."""
    log.setup()
    os.chdir(options.chdir)
    sys.path.insert(0, os.getcwd())
    listener, file = _listener(options)
    is_alone = options.workers == 1 and not options.reload
    try:
        if is_alone:
            return _serve(options, listener, None)
        prefork = Prefork(
            lambda worker: _serve(options, listener, worker), options.workers, stop_timeout=options.stop_timeout + 2.0
        )
        return prefork.run()
    finally:
        if file is not None:
            file.remove()


def _listener(options: argparse.Namespace) -> tuple[socket.socket, SocketFile | None]:
    """The socket, and its file when that is ours to remove."""
    if options.bind.startswith("fd:"):
        number = options.bind.removeprefix("fd:")
        if not (number.isascii() and number.isdigit()):
            raise InvalidValue(f"--bind: {options.bind!r} names no descriptor")
        try:
            return listener_from_fd(int(number)), None
        except OSError as error:
            raise InvalidValue(f"--bind: {error.strerror or error}; --bind ADDRESS opens a socket") from error
    address = replace(parse_address(options.bind, "--bind"), mode=options.socket_mode)
    listener = listen(address, owner=_owner(options.socket_owner))
    bound = address_of(listener)
    logger.info("listening on %s", f"unix:{bound.path}" if bound.path else f"tcp://{bound}")
    return listener, SocketFile(address) if address.path else None


def _owner(text: str | None) -> tuple[int, int] | None:
    """The ids of USER[:GROUP], names or numbers; -1: as it is. Raises `InvalidValue`."""
    if text is None:
        return None
    user, _, group = text.partition(":")
    try:
        return (
            _id_of(user, lambda name: pwd.getpwnam(name).pw_uid),
            _id_of(group, lambda name: grp.getgrnam(name).gr_gid),
        )
    except KeyError as error:
        raise InvalidValue(f"--socket-owner: {text!r}: there is no such user or group") from error


def _id_of(text: str, find: Callable[[str], int]) -> int:
    """Raises KeyError. What is above four bytes is no number of anybody's, and looked for as a name."""
    if not text:
        return -1
    is_number = text.isascii() and text.isdigit() and int(text) < 2**32 - 1
    return int(text) if is_number else find(text)


def _serve(options: argparse.Namespace, listener: socket.socket, worker: Worker | None) -> int:
    """The life of the one process, or of a worker."""
    try:
        app = _load(options.app, "application")
        authorizer = _load(options.authorizer, "authorizer") if options.authorizer else None
        filter = _load(options.filter, "application") if options.filter else None
        if isinstance(app, PythonAuthorizer):
            app, authorizer = None, authorizer or app
    except GfastcgiError as error:
        print_fault(error)
        return EXIT_START

    def on_start(server: FastCGIServer) -> None:
        if worker is not None:
            _follow_master(worker, server, options.stop_timeout)
            if options.reload and worker.seat == 0:
                gevent.spawn(_watch_files, worker)
            worker.ready()

    serve(
        Threaded(app, options.threads) if app is not None and options.threads else app,
        listener=listener, authorizer=authorizer, filter=filter, stop_timeout=options.stop_timeout,
        max_connections=options.max_connections, max_requests=options.max_requests,
        is_multiprocess=options.workers > 1 or options.bind.startswith("fd:"), on_start=on_start,
    )  # fmt: skip
    return 0


def _load(name: str, default: str) -> Any:
    """What `MODULE:NAME` names. Raises `InvalidValue`."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in (path or default).split("."):
            found = getattr(found, part)
    except (AttributeError, ValueError) as error:
        raise InvalidValue(f"{name!r}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise InvalidValue(f"{name!r}: there is no module {error.name}") from error
    if not callable(found):
        raise InvalidValue(f"{name!r} cannot be called")
    return found


def _follow_master(worker: Worker, server: FastCGIServer, timeout: float) -> None:
    """Stops with the master, however that ends."""

    def stop() -> None:
        watcher.stop()
        gevent.spawn(server.stop, timeout)

    watcher = get_hub().loop.io(worker.life, 1)
    watcher.start(stop)


def _watch_files(worker: Worker) -> None:
    """Asks the master for a reload whenever a file of a loaded module has changed."""
    seen = _mtimes()
    while True:
        gevent.sleep(0.5)
        now = _mtimes()
        changed = [file for file, mtime in now.items() if seen.get(file, mtime) != mtime]
        seen = now
        if changed:
            logger.info("%s has changed", changed[0])
            os.kill(worker.master, signal.SIGHUP)


def _mtimes() -> dict[str, float]:
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file:
            try:
                found[file] = os.stat(file).st_mtime
            except OSError:
                found[file] = 0.0
    return found
