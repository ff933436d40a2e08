"""Authorizers in Python as FastCGI applications of the role AUTHORIZER (FastCGI 1.0 section 6.3).

Contract: a function of a `webob.Request` that says yes or no, such as `@gfastcgi.authorizer` makes; what it does not
say clearly, or raises, is no yes: the web server gets a 500, which denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import gevent
import webob
from webob.exc import WSGIHTTPException

from gfastcgi.auth.answers import decision_of
from gfastcgi.auth.base import Allow, Decision, Deny

__all__ = ["Authorizer", "Decide"]

Decide = Callable[[webob.Request], Any]
"""An authorizer. It answers with

an `Allow`: its variables become meta-variables of the request; a `Deny`: its response goes to the client; `True`: yes;
a `str`: yes, and REMOTE_USER; `False`, `None` or "": a plain 403; a `webob.Response`: as the protocol has it, 200
without a body allows with the response's `Variable-NAME` fields, all else denies. A `webob.exc` exception is a denial,
and so is every response of what `@gfastcgi.authorizer` made, as in the gateway: with 200 it is a fault there.
"""


class Authorizer:
    """A function that decides, as a WSGI application. Its attribute `time_limit` is respected: seconds, 0: none."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        # The gateway has these as well, and takes each of their responses for a no.
        self._denies_by_response = hasattr(decide, "check")

    def __repr__(self) -> str:
        return f"<Authorizer {self._decide!r}>"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """PEP 3333's. Raises TypeError, ValueError for an answer that is none, `gevent.Timeout` past the limit."""
        limit = getattr(self._decide, "time_limit", 0) or None
        started = monotonic()
        with gevent.Timeout(limit) as timeout:
            try:
                answer = self._decide(webob.Request(environ))
            except WSGIHTTPException as error:
                answer = error
            if isinstance(answer, WSGIHTTPException) or (
                isinstance(answer, webob.Response) and self._denies_by_response
            ):
                answer = Deny(answer)
            response = _response(decision_of(answer, _forbidden))
            if limit and monotonic() - started > limit:
                raise timeout  # it computed all the while, or took this for an error of its own
        chunks: Iterable[bytes] = response(environ, start_response)
        return chunks


def _forbidden() -> webob.Response:
    return webob.Response("Forbidden\n", status=403, content_type="text/plain")


def _response(decision: Decision | webob.Response) -> webob.Response:
    if isinstance(decision, Allow):
        return _allowed(decision)
    if isinstance(decision, Deny):
        return _denied(decision.response)
    if decision.status_int == 200 and decision.body:
        raise ValueError("200 allows, and nobody sees its body: a page for the client has another status")
    return decision


def _allowed(allow: Allow) -> webob.Response:
    response = webob.Response(status=200, content_type="text/plain")
    for variable, data in allow.variables.items():
        response.headers.add(f"Variable-{variable.decode('latin-1')}", data.decode("latin-1"))
    for name, value in allow.response_headers:
        response.headers.add(name, value)
    if allow.max_age is not None:
        response.headers["Cache-Control"] = f"max-age={allow.max_age:.0f}" if allow.max_age >= 1 else "no-store"
    if allow.vary:
        response.headers["Vary"] = b", ".join(allow.vary).decode("latin-1")
    return response


def _denied(response: webob.Response) -> webob.Response:
    if response.status_int == 200:
        raise ValueError("a Deny with the status 200 would allow")
    return response
