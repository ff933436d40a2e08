"""`AuthorizerMiddleware`: any WSGI application behind authorizers; and the gate that it shares with `PrivateFiles`.

Contract: the application is called only when every authorizer allowed; a denial goes to the client whole, and whatever
goes wrong is an error of the gate's own (5xx), never a way in. Needs a server that runs on gevent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

from gfastcgi.auth import chain
from gfastcgi.auth.base import Allow, Authorizer, Decision, Deny
from gfastcgi.auth.denial import make_gate
from gfastcgi.auth.hygiene import Hygiene
from gfastcgi.auth.python import Check, PythonAuthorizer
from gfastcgi.config import HostConfig
from gfastcgi.errors import BackendError, ProtocolError
from gfastcgi.pages import error_page
from gfastcgi.request import Request
from gfastcgi.server.wsgi import WSGIApp
from gfastcgi.wsgi.environ import guarded_environ, request_of
from gfastcgi.wsgi.hosting import StartResponse, send

__all__ = ["AuthorizerMiddleware", "Guard"]

log = logging.getLogger("gfastcgi")


class Guard:
    """All of `authorizers`, asked in their order; a callable among them is asked with a `webob.Request`."""

    def __init__(self, authorizers: Sequence[Authorizer | Check], identity_fields: Iterable[str] = ()) -> None:
        if not authorizers:
            raise ValueError("a gate without an authorizer would be open")
        asked = [_authorizer(each) for each in authorizers]
        # `authorizer_at` knows the options of its host.
        self._gates = [make_gate(repr(each), each, getattr(each, "config", None) or HostConfig()) for each in asked]
        names = [name.encode() for name in identity_fields]
        for each in asked:
            names += getattr(each, "identity_fields", ())
        self._hygiene = Hygiene(names, (), clock=monotonic, tell=log.warning)

    def purge(self) -> None:
        """Forgets every decision that is remembered."""
        for gate in self._gates:
            gate.purge()

    def __repr__(self) -> str:
        return f"<Guard of {len(self._gates)} authorizers>"

    def ask(self, request: Request, root: str = "/") -> Decision:
        """What the authorizers say together; a failure of theirs is a denial with its status.

        What the client sent under the name of an identity is taken away from `request`.
        """
        try:
            self._hygiene.apply(request)
            decision = chain.ask(self._gates, request, root)
            self._hygiene.learn(request.variables.keys())
            return decision
        except (ProtocolError, BackendError) as error:
            uri = request.uri.decode("latin-1")
            log.error("request %s: %s %s: %s (%s)", request.id, request.method, uri, error, error.cause)
            return Deny(error_page(max(error.status_hint, 500), cause=error.cause, request_id=request.id))
        except Exception:
            uri = request.uri.decode("latin-1")
            log.exception("request %s: %s %s failed inside the gate", request.id, request.method, uri)
            return Deny(error_page(500, cause="internal", request_id=request.id))


def _authorizer(given: Authorizer | Check) -> Authorizer:
    if hasattr(given, "check"):
        return given
    if not callable(given):
        raise TypeError(f"an authorizer is a function of a webob.Request, or has a method `check`, not {given!r}")
    return PythonAuthorizer(given)


class AuthorizerMiddleware:
    """The WSGI application `app`, for whom all of `authorizers` allow.

    `app` finds what they said of the client in its environ (REMOTE_USER, AUTH_TYPE, ...); what the client itself sent
    under such names is gone, and logged: those by which programs know their user, those that the authorizers set or
    are known to set, and `identity_fields` (such as "X-Tenant"). PATH_INFO is normalised: it is what was authorised.
    The body is not read before. Raises TypeError, ValueError for what is no authorizer.
    """

    def __init__(
        self, app: WSGIApp, authorizers: Sequence[Authorizer | Check], *, identity_fields: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._guard = Guard(authorizers, identity_fields)

    def __repr__(self) -> str:
        return f"<AuthorizerMiddleware {self._guard!r}>"

    def purge(self) -> None:
        """Forgets every decision of the authorizers that remember theirs (`cache`)."""
        self._guard.purge()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        try:
            request = request_of(environ)
        except ProtocolError as error:
            return send(error_page(error.status_hint, cause=error.cause), environ, start_response)
        decision = self._guard.ask(request)
        if not isinstance(decision, Allow):
            return send(decision.response, environ, start_response)
        added = decision.response_headers

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, *added], *exc_info)

        return self._app(guarded_environ(environ, request), start)
