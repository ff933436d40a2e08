"""The contract of an authorizer: one question, two answers.

Plan: `Allow` carries what later rooms may know of the client; `Deny` carries the whole answer. Whatever else happens
(an error, a time-out, half an answer) is no answer, and the chain makes it a `Deny`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import webob

from gfastcgi.request import Request

__all__ = ["Allow", "Authorizer", "Decision", "Deny"]


@dataclass(frozen=True, slots=True)
class Allow:
    """Let through. `variables` become meta-variables; `response_headers` (Set-Cookie) join the final answer."""

    variables: Mapping[bytes, bytes] = field(default_factory=dict)
    response_headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Deny:
    """Not let through: `response` goes to the client as it is."""

    response: webob.Response


Decision = Allow | Deny


class Authorizer(Protocol):
    """Anything that can be asked."""

    def check(self, request: Request, root: str) -> Decision:
        """May `request`, for a file beneath `root`, be served? Anything raised counts as no."""
