"""A gate: one authorizer in front of what its `fastcgi.server` key fits.

Contract: `decide` gives an `Allow` or a `Deny`, or raises; only an `Allow` lets through. The audit gets each verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import gevent

from gfastcgi.auth.base import Allow, Audit, Authorizer, Decision, Deny, Source, Verdict
from gfastcgi.auth.grants import without_grant
from gfastcgi.auth.keeper import Keeper, Shared
from gfastcgi.config import CacheConfig
from gfastcgi.errors import StreamError
from gfastcgi.request import Request
from gfastcgi.resolve import Resolver

__all__ = ["Counts", "Gate", "QuestionEnded"]


class QuestionEnded(gevent.GreenletExit):
    """Nobody waits for the answer of an authorizer any more: the greenlet that asks it ends."""


class Counts:
    """What a gate decided so far, rechecks of answers under way aside. Clients that left before count nowhere."""

    __slots__ = ("allowed", "denied", "failed", "kept")

    def __init__(self) -> None:
        self.allowed = self.denied = 0
        self.failed = 0
        """Nobody answered in time and soundly: not let through."""
        self.kept = 0
        """Those of `allowed` and `denied` for which nobody was asked."""

    def __repr__(self) -> str:
        return f"<Counts {self.allowed} allowed, {self.denied} denied, {self.failed} failed, {self.kept} kept>"

    def add(self, decision: Decision, source: Source) -> None:
        """Counts a decision."""
        if isinstance(decision, Allow):
            self.allowed += 1
        else:
            self.denied += 1
        if source != "asked":
            self.kept += 1


class Gate:
    """The authorizer of `key`. `resolver` looks up what it allows, where that is elsewhere than in the docroot.

    `is_independent`: its decision needs no variables of others. `recheck`: seconds after which it is asked again while
    an answer is sent, 0: never. `clock` is seconds (monotonic). The rest is for its `Keeper`.
    """

    login = ""
    """Where a browser is led that is told 401; "": nowhere."""

    __slots__ = ("_audit", "_clock", "authorizer", "counts", "is_independent", "keeper", "key", "recheck", "resolver")

    def __init__(
        self,
        key: str,
        authorizer: Authorizer,
        resolver: Resolver | None = None,
        *,
        is_independent: bool = False,
        recheck: int = 0,
        cache: CacheConfig | None = None,
        stale_seconds: float = 0,
        identity: bytes = b"",
        shared: Shared | None = None,
        audit: Audit | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.key = key
        self.authorizer = authorizer
        self.resolver = resolver
        self.is_independent = is_independent
        self.recheck = recheck
        self.counts = Counts()
        self._audit = audit
        self._clock = clock
        self.keeper: Keeper | None = None
        if cache is not None:
            self.keeper = Keeper(
                key, cache, self._check, clock=clock, stale_seconds=stale_seconds, identity=identity, shared=shared
            )

    def __repr__(self) -> str:
        return f"<Gate {self.key} {self.authorizer!r}>"

    @property
    def transport(self) -> str:
        """How the authorizer is asked."""
        return getattr(self.authorizer, "transport", "")

    def passes_unasked(self, request: Request) -> bool:
        """True for what the configuration lets through without a question."""
        return False

    def decide(self, request: Request, root: str) -> Decision:
        """May `request`, for what lies beneath `root`, pass? Raises what the authorizer raises: no answer came."""
        ask = self._ask if self.keeper is None else self.keeper.decide
        try:
            found = ask(request, root) if self._audit is None else self._tell(self._audit, ask, request, root)
        except StreamError:
            raise
        except Exception:
            self.counts.failed += 1
            raise
        decision, source = found
        self.counts.add(decision, source)
        return decision

    def decide_anew(self, request: Request, root: str) -> Decision:
        """As `decide`, without recourse to what is remembered: the answer to `request` is on its way."""
        ask = self._ask if self.keeper is None else self.keeper.ask_anew
        if self._audit is None:
            return ask(request, root)[0]
        return self._tell(self._audit, ask, request, root, is_recheck=True)[0]

    def recall(self, request: Request) -> bool:
        """True when `decide` has to ask nobody."""
        return self.keeper is not None and self.keeper.recall(request) is not None

    def purge(self) -> None:
        """Forgets every decision and grant."""
        if self.keeper is not None:
            self.keeper.purge()

    def _check(self, request: Request, root: str) -> Decision:
        # It may have written what is asked for.
        request.turn = 0
        decision = self.authorizer.check(request, root)
        if not isinstance(decision, (Allow, Deny)):
            raise TypeError(f"{self.authorizer!r} answered {decision!r}, neither Allow nor Deny")
        return decision

    def _ask(self, request: Request, root: str) -> tuple[Decision, Source]:
        decision = self._check(request, root)
        return without_grant(decision) if isinstance(decision, Allow) else decision, "asked"

    def _tell(
        self, audit: Audit, ask: _Ask, request: Request, root: str, *, is_recheck: bool = False
    ) -> tuple[Decision, Source]:
        """Asks, and tells the audit what came of it. A client that left gets no verdict."""
        started, transport = self._clock(), self.transport
        try:
            decision, source = ask(request, root)
        except StreamError:
            raise
        except Exception as error:
            status, cause = getattr(error, "status_hint", 500), getattr(error, "cause", "internal")
            seconds = self._clock() - started
            audit(request, Verdict(self.key, "error", "asked", status, seconds, cause, is_recheck, transport))
            raise
        if isinstance(decision, Allow):
            verdict = Verdict(self.key, "allow", source, 200, self._clock() - started, "", is_recheck, transport)
        else:
            status = decision.response.status_int
            verdict = Verdict(self.key, "deny", source, status, self._clock() - started, "", is_recheck, transport)
        audit(request, verdict)
        return decision, source


_Ask = Callable[[Request, str], "tuple[Decision, Source]"]
