"""A WSGI application in the gateway's own process: `wsgi.server`.

Contract: it runs in the request's greenlet, behind every gate; what it raises is a 500 with a traceback in the log, or,
once its answer has begun, an answer that breaks off. It sees the variables that a FastCGI program would be sent.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import webob

from gfastcgi.config import HostConfig, WSGIMount
from gfastcgi.errors import ApplicationError, ProtocolError, StreamClosed, StreamError
from gfastcgi.request import Request
from gfastcgi.routing import Route
from gfastcgi.server.wsgi import ErrorStream, PulledAnswer, WSGIApp, complete_environ, fixed_environ
from gfastcgi.variables import responder_variables

__all__ = ["Mounted"]

log = logging.getLogger("gfastcgi")

_OPTIONS = HostConfig()
_FIXED = fixed_environ("", is_multiprocess=False) | {"wsgi.input_terminated": True}
del _FIXED["FCGI_ROLE"]


class Mounted:
    """The application `app` for the paths that `mount` covers; `name` is what logs call it."""

    def __init__(self, mount: WSGIMount, app: WSGIApp, name: str) -> None:
        self.key = mount.key
        self.name = name
        self.fits = mount.covers
        self._app = app
        self._script_name = mount.key.rstrip("/")

    def __repr__(self) -> str:
        return f"<Mounted {self.key} {self.name}>"

    def route(self, path: str, root: str) -> Route:
        """SCRIPT_NAME is the key, PATH_INFO what follows it (PEP 3333); `root` is the document root."""
        path_info = path[len(self._script_name) :]
        return Route(self._script_name, path_info, root, root.rstrip("/") + path_info)

    def variables(self, request: Request, route: Route) -> list[tuple[bytes, bytes]]:
        """The meta-variables of a request."""
        length = request.body.length
        pairs = responder_variables(request, route, _OPTIONS, length or 0)
        return [pair for pair in pairs if length is not None or pair[0] != b"CONTENT_LENGTH"]

    def call(self, request: Request, route: Route, failed: Callable[[str], None]) -> webob.Response:
        """The application's answer; `failed` is told the cause when that breaks off.

        Raises `ApplicationError` for what the application raised; `ProtocolError`, `StreamError` of the client's body.
        """
        environ: dict[str, Any] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.variables(request, route)
        }
        complete_environ(environ, _FIXED, is_authorizer=False)
        content = _Content(request)
        environ["wsgi.input"] = io.BytesIO() if request.body.length == 0 else io.BufferedReader(content)
        errors = ErrorStream(lambda data: self._tell(request, data))
        environ["wsgi.errors"] = errors
        answer = PulledAnswer()
        try:
            whole = answer.begin(self._app, environ)
        except StreamError:
            raise
        except (Exception, gevent.Timeout, SystemExit) as error:
            if error is content.error:
                raise
            errors.flush()
            log.exception("request %s: the application %s failed", request.id, self.name)
            raise ApplicationError(f"the application {self.name} failed") from error
        body = _Body(self, request, answer, errors, failed) if whole is None else [whole]
        errors.flush()
        return webob.Response(status=answer.status, headerlist=answer.fields, app_iter=body)

    def _tell(self, request: Request, data: bytes) -> None:
        for line in data.decode("utf-8", "backslashreplace").splitlines():
            log.error("request %s: %s: %s", request.id, self.name, line)


class _Body:
    """What the application gives behind its head."""

    def __init__(
        self,
        mounted: Mounted,
        request: Request,
        answer: PulledAnswer,
        errors: ErrorStream,
        failed: Callable[[str], None],
    ) -> None:
        self._mounted = mounted
        self._request = request
        self._answer = answer
        self._errors = errors
        self._failed = failed

    def __repr__(self) -> str:
        return f"<Body of {self._mounted!r}>"

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer
        except StreamError:
            raise
        except (Exception, gevent.Timeout, SystemExit) as error:
            self._failed("internal")
            log.exception("request %s: the answer of %s broke off", self._request.id, self._mounted.name)
            raise StreamClosed(f"the answer of {self._mounted.name} broke off") from error

    def close(self) -> None:
        """Closes the application's iterable, whatever that raises."""
        try:
            self._answer.close()
        except Exception:
            log.exception("request %s: %s cannot be closed", self._request.id, self._mounted.name)
        self._errors.flush()


class _Content(io.RawIOBase):
    """The client's body as it comes."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._read = request.body.read
        self._left = b""
        self.error: ProtocolError | None = None
        """What was wrong with it: that is the client's fault, not the application's."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Waits for at least one byte; 0 at the end."""
        try:
            piece = self._left or self._read()
        except ProtocolError as error:
            self.error = error
            raise
        view = memoryview(buffer).cast("B")
        size = min(len(view), len(piece))
        view[:size] = piece[:size]
        self._left = piece[size:]
        return size
