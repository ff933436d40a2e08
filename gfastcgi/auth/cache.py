"""Decisions that are kept for a while: bounded, the least recently used go first, all times by one clock.

Contract: only a whole yes is kept for the ttl, a 401 or 403 for the negative ttl, nothing else. A yes is given for its
time and no longer; `stale` gives it beyond that, for an outage. What was asked before a purge is not kept after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeAlias, TypeVar

import webob

from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.auth.freshness import max_age, vary
from gfastcgi.config import CacheConfig

__all__ = ["DecisionCache", "Kept", "KeptDeny"]

T = TypeVar("T")

_LARGEST_KEPT = 65536
_KEPT_DENIALS = (401, 403)
_NOTHING: tuple[float, None, float] = (0.0, None, 0.0)


class KeptDeny:
    """A denial that is given more than once: each time as a response of its own."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: str, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.fields, self.body = status, fields, body

    def __repr__(self) -> str:
        return f"<KeptDeny {self.status}>"

    @classmethod
    def of(cls, response: webob.Response) -> KeptDeny | None:
        """What is kept of `response`; None when it is of no size to keep."""
        body = response.app_iter
        if not isinstance(body, (list, tuple)) or sum(map(len, body)) > _LARGEST_KEPT:
            return None
        return cls(response.status, list(response.headerlist), b"".join(body))

    def decision(self) -> Deny:
        """The denial."""
        return Deny(webob.Response(status=self.status, headerlist=list(self.fields), app_iter=[self.body]))


Kept: TypeAlias = "Allow | KeptDeny"


class DecisionCache:
    """The decisions of one authorizer. `vary` are the fields that its keys look at, `clock` is seconds (monotonic)."""

    __slots__ = (
        "_allowed", "_clock", "_config", "_denied", "_refused", "_refused_all", "_stale_seconds", "_vary", "generation",
    )  # fmt: skip

    def __init__(
        self, config: CacheConfig, *, vary: frozenset[bytes], stale_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._vary = vary
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._allowed: OrderedDict[Hashable, tuple[float, Allow, float]] = OrderedDict()
        # Of their own, so that a flood of bad credentials drives out nobody's yes.
        self._denied: OrderedDict[Hashable, tuple[float, KeptDeny]] = OrderedDict()
        self._refused: OrderedDict[Hashable, float] = OrderedDict()
        self._refused_all = float("-inf")
        self.generation = 0
        """Counts the purges."""

    def __repr__(self) -> str:
        return f"<DecisionCache of {len(self._allowed)} allowed, {len(self._denied)} denied>"

    def __len__(self) -> int:
        return len(self._allowed) + len(self._denied)

    def find(self, key: Hashable) -> Decision | None:
        """What is kept under `key`, while it holds."""
        allowed = self._allowed.get(key)
        if allowed is not None and allowed[0] > self._clock():
            self._allowed.move_to_end(key)
            return allowed[1]
        denied = self._denied.get(key) if self._denied else None
        if denied is not None and denied[0] > self._clock():
            self._denied.move_to_end(key)
            return denied[1].decision()
        return None

    def find_stale(self, key: Hashable, who: Hashable) -> Allow | None:
        """The last yes under `key`, until `stale_seconds` after its end, unless `who` was refused anything since."""
        end, allow, since = self._allowed.get(key, _NOTHING)
        if allow is None or not self._stale_seconds or end + self._stale_seconds <= self._clock():
            return None
        return allow if since > max(self._refused.get(who, since - 1), self._refused_all) else None

    def refuse(self, who: Hashable) -> None:
        """Notes that `who` was denied something just now: no earlier yes of theirs outlives its time."""
        now = self._clock()
        _put(self._refused, who, now, self._config.size + 1)
        if len(self._refused) > self._config.size:
            # No room to tell them apart: whatever was said before counts as refused since.
            self._refused.clear()
            self._refused_all = now

    def was_refused(self, who: Hashable, since: float) -> bool:
        """Whether `who` was denied anything since then."""
        return max(self._refused.get(who, since - 1), self._refused_all) >= since

    def keep(self, key: Hashable, decision: Decision, generation: int) -> tuple[Kept, float] | None:
        """Keeps `decision` as far as it may be; what was kept under `key` is gone in any case.

        `generation` is the one in which it was asked for. Returns what is kept, and for how many seconds.
        """
        if generation != self.generation:
            return None
        self.forget(key)
        kept, seconds = self._measure(decision)
        if kept is None:
            return None
        self.put(key, kept, seconds)
        return (kept, seconds) if seconds > 0 else None

    def put(self, key: Hashable, kept: Kept, seconds: float) -> None:
        """Keeps `kept` for `seconds`, never longer than is configured."""
        now = self._clock()
        if isinstance(kept, Allow):
            _put(self._allowed, key, (now + min(seconds, self._config.ttl), kept, now), self._config.size)
        else:
            _put(self._denied, key, (now + min(seconds, self._config.negative_ttl), kept), self._config.size)

    def _measure(self, decision: Decision) -> tuple[Kept | None, float]:
        """What may be kept of `decision`, for how many seconds. A yes of 0 seconds is kept for an outage alone."""
        if isinstance(decision, Allow):
            if decision.response_headers or decision.max_age == 0 or not self._vary.issuperset(decision.vary):
                return None, 0
            seconds = _least(self._config.ttl, decision.max_age)
            return (decision if seconds > 0 or self._stale_seconds else None), seconds
        fields = decision.response.headerlist
        seconds = _least(self._config.negative_ttl, max_age(fields))
        if seconds <= 0 or decision.response.status_int not in _KEPT_DENIALS or not self._vary.issuperset(vary(fields)):
            return None, 0
        if any(name.lower() == "set-cookie" for name, _ in fields):
            return None, 0
        return KeptDeny.of(decision.response), seconds

    def forget(self, key: Hashable) -> None:
        """Drops what is kept under `key`, a yes for an outage too."""
        self._allowed.pop(key, None)
        self._denied.pop(key, None)

    def purge(self) -> None:
        """Drops everything, and what is being asked for at the moment is not kept either."""
        self.generation += 1
        self._allowed.clear()
        self._denied.clear()
        self._refused.clear()


def _least(configured: float, told: float | None) -> float:
    return configured if told is None else min(configured, told)


def _put(entries: OrderedDict[Hashable, T], key: Hashable, entry: T, size: int) -> None:
    entries[key] = entry
    entries.move_to_end(key)
    if len(entries) > size:
        entries.popitem(last=False)
