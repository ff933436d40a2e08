"""A gate: one authorizer in front of what its `fastcgi.server` key fits.

Contract: `decide` gives an `Allow` or a `Deny`, or raises; only an `Allow` lets through. The audit gets each verdict.
"""

from __future__ import annotations

from time import monotonic

from gfastcgi.auth.base import Allow, Audit, Authorizer, Decision, Deny, Outcome, Verdict
from gfastcgi.request import Request
from gfastcgi.resolve import Resolver

__all__ = ["Gate"]


class Gate:
    """The authorizer of `key`. `resolver` looks up what it allows, where that is elsewhere than in the docroot."""

    __slots__ = ("_audit", "authorizer", "key", "resolver")

    def __init__(self, key: str, authorizer: Authorizer, resolver: Resolver | None, *, audit: Audit | None = None):
        self.key = key
        self.authorizer = authorizer
        self.resolver = resolver
        self._audit = audit

    def __repr__(self) -> str:
        return f"<Gate {self.key} {self.authorizer!r}>"

    def decide(self, request: Request, root: str) -> Decision:
        """May `request` pass? Raises what the authorizer raises: an answer that never came."""
        started = monotonic()
        try:
            decision = self.authorizer.check(request, root)
            if not isinstance(decision, (Allow, Deny)):
                raise TypeError(f"{self.authorizer!r} answered {decision!r}, neither Allow nor Deny")
        except Exception as error:
            self._tell(request, "error", started, getattr(error, "status_hint", 500), error)
            raise
        if isinstance(decision, Allow):
            self._tell(request, "allow", started, 200)
        else:
            self._tell(request, "deny", started, decision.response.status_int)
        return decision

    def _tell(
        self, request: Request, outcome: Outcome, started: float, status: int, error: Exception | None = None
    ) -> None:
        if self._audit is not None:
            cause = "" if error is None else getattr(error, "cause", "internal")
            self._audit(request, Verdict(self.key, outcome, "asked", status, monotonic() - started, cause))
