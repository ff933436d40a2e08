"""Asks the authorizers of a request one after the other: all must allow, the first denial is the answer.

Contract: only an `Allow` lets through. The variables of earlier authorizers are visible to later ones and, at the end,
to the responder; what the client sent under such a name is gone by then.
"""

from __future__ import annotations

from collections.abc import Iterable

import webob

from gfastcgi.auth.base import Allow, Authorizer, Deny
from gfastcgi.request import Request

__all__ = ["ask"]


def ask(authorizers: Iterable[Authorizer], request: Request, root: str) -> webob.Response | list[tuple[str, str]]:
    """The denial's response, or the header fields that the allowing authorizers add to the final answer.

    Raises what an authorizer raises: an answer that never came is for the gateway to refuse.
    """
    added: list[tuple[str, str]] = []
    for authorizer in authorizers:
        decision = authorizer.check(request, root)
        if isinstance(decision, Deny):
            return decision.response
        if not isinstance(decision, Allow):
            raise TypeError(f"{authorizer!r} answered {decision!r}, neither Allow nor Deny")
        request.variables.update(decision.variables)
        added += decision.response_headers
    user = request.variables.get(b"REMOTE_USER")
    if user is not None:
        request.user = user.decode("utf-8", "replace")
    return added
