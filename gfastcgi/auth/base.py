"""The contract of an authorizer: one question, two answers.

Plan: `Allow` carries what later rooms may know of the client; `Deny` carries the whole answer. Whatever else happens
(an error, a time-out, half an answer) is no answer, and raises. A `Verdict` is what became of one question, for logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import webob

from gfastcgi.request import Request

__all__ = ["Allow", "Audit", "Authorizer", "Decision", "Deny", "Outcome", "Question", "Source", "Verdict"]

_NONE: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, init=False)
class Allow:
    """Let through. `variables` become meta-variables; `response_headers` (Set-Cookie) join the final answer.

    `max_age` is how many seconds the decision may be kept where the site keeps decisions, 0: it may not, None: as long
    as the site says. `vary` are the request fields (lower-case) that it depends on, as the authorizer says.
    """

    variables: Mapping[bytes, bytes]
    response_headers: tuple[tuple[str, str], ...]
    max_age: float | None
    vary: tuple[bytes, ...]

    def __init__(
        self,
        variables: Mapping[str, str] | Mapping[bytes, bytes] = _NONE,
        response_headers: tuple[tuple[str, str], ...] = (),
        max_age: float | None = None,
        vary: tuple[bytes, ...] = (),
    ) -> None:
        """Variables may be given as text, which becomes UTF-8. Raises TypeError for what is neither text nor bytes."""
        # Many requests are given the same object.
        encoded = MappingProxyType({_encode(name): _encode(value) for name, value in variables.items()})
        for name, value in zip(self.__slots__, (encoded, response_headers, max_age, vary), strict=True):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class Deny:
    """Not let through: `response` goes to the client as it is. Its Cache-Control says whether it may be kept."""

    response: webob.Response


def _encode(word: Any) -> bytes:
    if isinstance(word, bytes):
        return word
    if isinstance(word, str):
        return word.encode()
    raise TypeError(f"a variable and its value are text or bytes, not {word!r}")


Decision = Allow | Deny


class Authorizer(Protocol):
    """Anything that can be asked."""

    def check(self, request: Request, root: str) -> Decision:
        """May `request`, for a file beneath `root`, be served? Anything raised counts as no. Leaves `request` alone.

        An authorizer that is out of reach raises `NoBackendAvailable`, `ConnectError`, `ConnectTimeout` or
        `BackendTimeout`; one that answers, but not soundly, any other `BackendError` or `ProtocolError`, and one that
        falls silent inside of its answer `AnswerStalled`.
        """


Outcome = Literal["allow", "deny", "error"]
Source = Literal["asked", "memory", "shared", "grant", "stale"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one authorizer decided about one request."""

    gate: str
    """The `fastcgi.server` key."""
    outcome: Outcome
    source: Source
    """Who said it: the authorizer, what is remembered of it, or an outage under `"stale-allow"`."""
    status: int
    """200, the status of the denial, or the one that the error leads to."""
    seconds: float
    cause: str = ""
    """The error's word of `errors.CAUSES`."""
    is_recheck: bool = False
    """True when the answer to the request was already on its way."""
    transport: str = ""
    """How it is asked: "fastcgi", "url", "python", "basic", "digest"; "": by means of its own."""


@dataclass(frozen=True, slots=True)
class Question:
    """What an authorizer would be asked about a request, for those who want to know without asking it."""

    to: tuple[str, ...]
    """Where: any one of these."""
    sends: tuple[tuple[bytes, bytes], ...] = ()
    """Meta-variables or fields."""
    requires: str = ""
    """Whom it lets through, where the configuration says so."""


Audit: TypeAlias = "Callable[[Request, Verdict], None]"
"""Gets each verdict as it is made."""
