"""Asks the authorizers of a request one after the other: all must allow, the first denial is the answer.

Contract: only an `Allow` lets through. The variables of earlier authorizers are visible to later ones and, at the end,
to the responder; what the client sent under such a name is gone by then.
"""

from __future__ import annotations

from collections.abc import Iterable

import webob

from gfastcgi.auth.base import Deny
from gfastcgi.auth.gate import Gate
from gfastcgi.request import Request

__all__ = ["ask"]


def ask(gates: Iterable[Gate], request: Request, root: str) -> webob.Response | list[tuple[str, str]]:
    """The denial's response, or the header fields that the allowing authorizers add to the final answer.

    Raises what an authorizer raises: an answer that never came is for the gateway to refuse.
    """
    added: list[tuple[str, str]] = []
    for gate in gates:
        decision = gate.decide(request, root)
        if isinstance(decision, Deny):
            return decision.response
        request.variables.update(decision.variables)
        added += decision.response_headers
    user = request.variables.get(b"REMOTE_USER")
    if user is not None:
        request.user = user.decode("utf-8", "replace")
    return added
