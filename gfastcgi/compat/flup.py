"""`flup.server.fcgi` under its own names: `from gfastcgi.compat.flup import WSGIServer; WSGIServer(app).run()`.

Contract: flup's options mean what they meant. Where flup ran threads there are threads (`maxThreads`, at most 100), so
that programs which block need no change; `minSpare` and `maxSpare` are taken and not needed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.handlers import CGIHandler

from gevent import socket

from gfastcgi.config import Address
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.constants import ROLE_NAMES
from gfastcgi.http.response import close_body
from gfastcgi.net.listeners import SocketFile, listen
from gfastcgi.server.fastcgi import listener_from_fd, run
from gfastcgi.server.threads import Threaded
from gfastcgi.server.wsgi import WSGIApp

__all__ = ["FCGI_AUTHORIZER", "FCGI_FILTER", "FCGI_RESPONDER", "WSGIServer"]

FCGI_RESPONDER = constants.RESPONDER
FCGI_AUTHORIZER = constants.AUTHORIZER
FCGI_FILTER = constants.FILTER

MOST_THREADS = 100
"""Native threads at most; flup has no bound of its own, and ends connections where it can have no more."""


class WSGIServer:
    """flup's server. `bindAddress`: a path, (host, port), or (host, port, 0, 0) for IPv6; None: descriptor 0, or
    CGI where that is no socket.

    `umask` is that of the unix socket. `environ` joins every request's. `multithreaded` False: one request at a time.
    `multiplexed` is always so, `debug` shows tracebacks to the client, `forceCGI` is for one request by CGI.
    """

    def __init__(
        self,
        application: WSGIApp,
        environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True,
        multiprocess: bool = False,
        bindAddress: str | tuple[Any, ...] | None = None,  # noqa: N803 - flup's names
        umask: int | None = None,
        multiplexed: bool = False,
        debug: bool = False,
        roles: Sequence[int] = (FCGI_RESPONDER,),
        forceCGI: bool = False,  # noqa: N803
        *,
        minSpare: int = 1,  # noqa: N803
        maxSpare: int = 5,  # noqa: N803
        maxThreads: int = MOST_THREADS,  # noqa: N803
    ) -> None:
        self.application = application
        self.environ = dict(environ or {})
        self.multithreaded = multithreaded
        self.multiprocess = multiprocess
        self.multiplexed = multiplexed
        self.debug = debug
        self.roles = roles
        self.forceCGI = forceCGI
        self._bind_address = bindAddress
        self._umask = umask
        self._threads = max(1, min(maxThreads, MOST_THREADS))

    def run(self) -> bool:
        """Serves until SIGHUP, SIGINT or SIGTERM; returns True for SIGHUP. As a CGI program it ends the process."""
        # A spawner has our standard error as well; who listens by himself wants to see what is said.
        app = _Lenient(self.application, self.environ, debug=self.debug, tees=self._bind_address is not None)
        if self._bind_address is None:
            listener = self._spawned_socket()
            if listener is None:
                CGIHandler().run(app)
                sys.exit(0)
            return self._serve(app, listener)
        address = self._address(self._bind_address)
        listener = listen(address)
        file = SocketFile(address)
        try:
            return self._serve(app, listener)
        finally:
            file.remove()

    def _spawned_socket(self) -> socket.socket | None:
        if self.forceCGI or os.environ.get("FCGI_FORCE_CGI", "N").upper().startswith("Y"):
            return None
        try:
            return listener_from_fd()
        except OSError:
            return None

    def _address(self, bind: str | tuple[Any, ...]) -> Address:
        if isinstance(bind, str):
            return Address(path=bind, mode=None if self._umask is None else 0o777 & ~self._umask)
        # As flup: who gives more than two has an address of IPv6.
        family = socket.AF_INET if len(bind) == 2 else socket.AF_INET6
        found = socket.getaddrinfo(bind[0] or None, bind[1], family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return Address(host=str(found[0][4][0]), port=bind[1])

    def _serve(self, app: WSGIApp, listener: socket.socket) -> bool:
        ended_by = run(
            Threaded(app, self._threads if self.multithreaded else 1),
            listener=listener,
            roles=[ROLE_NAMES[role].lower() for role in self.roles],
            is_multiprocess=self.multiprocess,
        )
        return ended_by == signal.SIGHUP


class _Lenient:
    """An application as flup takes it: its pieces may be text, its errors be shown, and its environ incomplete."""

    def __init__(self, app: WSGIApp, environ: Mapping[str, Any], *, debug: bool, tees: bool) -> None:
        self._app = app
        self._environ = environ
        self._debug = debug
        self._tees = tees

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_begun = False
        environ.update(self._environ)
        if environ.get("FCGI_ROLE") != "AUTHORIZER":
            _complete(environ)
        if self._tees:
            environ["wsgi.errors"] = _Both(environ["wsgi.errors"], sys.stderr)

        def start(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Callable[[Any], None]:
            nonlocal is_begun
            write = start_response(status, fields, exc_info)
            is_begun = True
            return lambda data: write(_bytes(data))

        try:
            result = self._app(environ, start)
            if type(result) in (list, tuple):
                return [_bytes(piece) for piece in result]
            return _Pieces(result)
        except Exception:
            if not self._debug or is_begun:
                raise
            text = traceback.format_exc()
            environ["wsgi.errors"].write(text)
            start_response("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
            return [text.encode("utf-8", "backslashreplace")]


def _complete(environ: dict[str, Any]) -> None:
    """Takes from REQUEST_URI what the web server's configuration left out."""
    uri, _, query = environ.get("REQUEST_URI", "").partition("?")
    path = unquote_to_bytes(uri.encode("latin-1")).decode("latin-1")
    mount = environ.get("SCRIPT_NAME", "")
    if not environ.get("PATH_INFO") and path.startswith(f"{mount}/"):
        environ["PATH_INFO"] = path[len(mount) :]
    environ["QUERY_STRING"] = environ.get("QUERY_STRING") or query


class _Both:
    """Error text for the web server, and for the standard error."""

    def __init__(self, *streams: Any) -> None:
        self._streams = streams

    def write(self, text: str) -> None:
        """A file's."""
        for stream in self._streams:
            stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """A file's."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """A file's."""
        for stream in self._streams:
            stream.flush()


class _Pieces:
    def __init__(self, result: Iterable[Any]) -> None:
        self._result = result

    def __iter__(self) -> Iterator[bytes]:
        return map(_bytes, self._result)

    def close(self) -> None:
        """Closes what the application gave."""
        close_body(self._result)


def _bytes(piece: Any) -> bytes:
    return piece.encode("latin-1") if isinstance(piece, str) else bytes(piece)
