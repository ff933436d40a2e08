"""What is remembered of one authorizer: decisions, grants, and who is asking at the moment.

Contract: `decide` answers from memory, from what gateways share, or asks; requests alike at the same time ask once. A
failure of whatever kind is nobody's yes. The one exception is asked for: `"stale-allow"`, during an outage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Protocol

from gevent.event import Event

from gfastcgi.auth.base import Allow, Decision, Deny, Source
from gfastcgi.auth.cache import DecisionCache, Kept
from gfastcgi.auth.grants import VARIABLE, Grants, parse_grant, without_grant
from gfastcgi.auth.keys import KeyMaker, Who, encode
from gfastcgi.config import CacheConfig
from gfastcgi.errors import (
    AnswerStalled,
    BackendTimeout,
    ConnectError,
    ConnectTimeout,
    NoBackendAvailable,
    StreamError,
)
from gfastcgi.request import Asker, Request

__all__ = ["Keeper", "Shared"]

log = logging.getLogger("gfastcgi")

# The authorizer is out of reach, and has said nothing.
_OUTAGES = (NoBackendAvailable, ConnectError, ConnectTimeout, BackendTimeout)

# What a connection remembers for each authorizer.
_MOST_ASKERS = 4

Check = Callable[[Request, str], Decision]


class Shared(Protocol):
    """Decisions that several gateways share. Its failures are its own: it finds nothing then, and keeps nothing."""

    def find(self, name: bytes) -> tuple[Kept, float] | None:
        """What is kept under `name`, and for how many seconds still."""

    def keep(self, name: bytes, kept: Kept, seconds: float) -> None:
        """Keeps `kept` for `seconds`."""

    def forget(self, name: bytes) -> None:
        """Drops what is kept under `name`."""


class _Flight:
    """A question on its way, and how it ended: with something for all who wait, an error for all, or neither."""

    __slots__ = ("error", "is_abandoned", "kept", "landed", "source")

    def __init__(self) -> None:
        self.landed = Event()
        self.is_abandoned = True
        """The one who asked went away before the answer."""
        self.kept: Kept | None = None
        self.source: Source = "memory"
        self.error: Exception | None = None


class Keeper:
    """The memory of the authorizer of `key`, that `check` asks. `identity` tells it from any other, and from itself
    under another configuration; `clock` is seconds (monotonic).
    """

    def __init__(
        self,
        key: str,
        config: CacheConfig,
        check: Check,
        *,
        clock: Callable[[], float],
        stale_seconds: float = 0,
        identity: bytes = b"",
        shared: Shared | None = None,
    ) -> None:
        self._key = key
        self._config = config
        self._check = check
        self._keys = KeyMaker(config)
        self._cache = DecisionCache(config, vary=self._keys.vary, stale_seconds=stale_seconds, clock=clock)
        self._grants = Grants(config.size, clock=clock)
        self._clock = clock
        self._identity = identity
        self._shared = shared
        self._flights: dict[Hashable, _Flight] = {}

    def __repr__(self) -> str:
        return f"<Keeper {self._key} {self._cache!r} {self._grants!r}>"

    @property
    def credentials(self) -> frozenset[bytes]:
        """The fields by which clients are known, as CGI spells them without HTTP_."""
        return self._keys.credentials

    def outlook(self, request: Request) -> tuple[CacheConfig, bool]:
        """What is kept of decisions, and whether that holds for `request`: it shows a credential."""
        return self._config, self._who(request) is not None

    def recall(self, request: Request) -> tuple[Decision, Source] | None:
        """What is remembered for `request`, without asking anybody."""
        who = self._who(request)
        return None if who is None else self._recall(who, self._key_of(who, request), request)

    def decide(self, request: Request, root: str) -> tuple[Decision, Source]:
        """The decision, by whoever has it. Raises what `check` raises."""
        who = self._who(request)
        if who is None:
            return _ungranted(self._check(request, root)), "asked"
        key = self._key_of(who, request)
        known = self._recall(who, key, request)
        if known is not None:
            return known
        while True:
            flight = self._flights.get(key)
            if flight is None:
                return self._lead(who, key, request, root)
            flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.kept is not None:
                return _decision(flight.kept), flight.source
            if not flight.is_abandoned:
                # What the other one was told is not for keeping, so it is not for this one.
                return self._ask(who, key, request, root)[:2]

    def ask_anew(self, request: Request, root: str) -> tuple[Decision, Source]:
        """As `decide`, but the authorizer is asked in any case; a no ends what was remembered."""
        who = self._who(request)
        if who is None:
            return _ungranted(self._check(request, root)), "asked"
        key = self._key_of(who, request)
        decision, source, _ = self._ask(who, key, request, root)
        if isinstance(decision, Deny) and self._shared is not None:
            self._shared.forget(self._name(key))
        return decision, source

    def purge(self) -> None:
        """Forgets everything; what is being asked at the moment is not remembered either."""
        self._cache.purge()
        self._grants.purge()
        self._flights = {}

    def _who(self, request: Request) -> Who | None:
        """Who asks: the client by its credentials; None when it shows none."""
        if request.variables:
            return self._keys.who(request)
        askers = request.peer.askers
        known = askers.get(self)
        if (
            known is not None
            and known.fields is request.fields
            and known.method == request.method
            and known.authority == request.authority
        ):
            return known.who
        who = self._keys.who(request)
        if len(askers) >= _MOST_ASKERS:
            askers.clear()
        askers[self] = Asker(who, request.fields, request.method, request.authority)
        return who

    def _recall(self, who: Who, key: Hashable, request: Request) -> tuple[Decision, Source] | None:
        decision = self._cache.find(key)
        if decision is not None:
            return decision, "memory"
        allow = self._grants.find(who, request.path)
        return None if allow is None else (allow, "grant")

    def _key_of(self, who: Who, request: Request) -> Hashable:
        return (who, self._keys.where(request)) if self._keys.has_where else who

    def _name(self, key: Hashable) -> bytes:
        return encode((self._identity, key))

    def _lead(self, who: Who, key: Hashable, request: Request, root: str) -> tuple[Decision, Source]:
        """Asks for all that ask the same meanwhile."""
        flight = self._flights[key] = _Flight()
        try:
            found = self._find_shared(who, key, request)
            if found is not None:
                flight.kept, flight.source = found, "shared"
                return _decision(found), "shared"
            decision, source, kept = self._ask(who, key, request, root)
            flight.kept = kept
            flight.source = source if source == "stale" else "memory"
            flight.is_abandoned = False
            return decision, source
        except StreamError:
            raise
        except Exception as error:
            flight.error = error
            raise
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed.set()

    def _find_shared(self, who: Who, key: Hashable, request: Request) -> Kept | None:
        if self._shared is None:
            return None
        generation = self._cache.generation
        found = self._shared.find(self._name(key))
        if found is None or generation != self._cache.generation:
            return None
        if not isinstance(found[0], Allow):
            self._note_denial(who, request)
        elif self._cache.was_refused(who, self._clock() - self._config.ttl):
            # The no may be the newer word: what was said when, gateways do not tell each other.
            return None
        self._cache.put(key, *found)
        return found[0]

    def _ask(self, who: Who, key: Hashable, request: Request, root: str) -> tuple[Decision, Source, Kept | None]:
        """Asks the authorizer; the last value is what others may be told."""
        generation, began = self._cache.generation, self._clock()
        try:
            decision = self._check(request, root)
        except AnswerStalled:
            # What it began to say may have been a no.
            self._cache.forget(key)
            raise
        except _OUTAGES as error:
            stale = self._cache.find_stale(key, who)
            if stale is None:
                raise
            log.warning("request %s: let in by an earlier yes of the authorizer %s: %s", request.id, self._key, error)
            return stale, "stale", stale
        except StreamError:
            raise
        except Exception:
            self._cache.forget(key)
            raise
        if isinstance(decision, Allow):
            if self._cache.was_refused(who, began):
                # A no has overtaken this yes: it may be the newer word.
                return without_grant(decision), "asked", None
            decision = self._take_grant(who, decision, generation)
        else:
            self._note_denial(who, request)
        kept = self._cache.keep(key, decision, generation)
        if kept is None:
            return decision, "asked", None
        if self._shared is not None:
            self._shared.keep(self._name(key), *kept)
        return decision, "asked", kept[0]

    def _note_denial(self, who: Who, request: Request) -> None:
        """A no ends the grants that cover `request`, and what an outage would be bridged with."""
        self._grants.take_back(who, request.path)
        self._cache.refuse(who)

    def _take_grant(self, who: Who, allow: Allow, generation: int) -> Allow:
        """Notes the grant that `allow` carries; it goes no further."""
        value = allow.variables.get(VARIABLE)
        if value is None:
            return allow
        allow = without_grant(allow)
        if generation == self._cache.generation and allow.max_age != 0 and self._keys.vary.issuperset(allow.vary):
            try:
                grant = parse_grant(value, self._key, self._config.grant_ttl)
            except ValueError as error:
                log.warning("the authorizer %s gave a grant that is passed over: %s", self._key, error)
            else:
                self._grants.give(who, grant, Allow(allow.variables))
        return allow


def _decision(kept: Kept) -> Decision:
    return kept if isinstance(kept, Allow) else kept.decision()


def _ungranted(decision: Decision) -> Decision:
    return without_grant(decision) if isinstance(decision, Allow) else decision
