"""A gate with a memory: its authorizer answers as a test says, and when."""

from __future__ import annotations

from inspect import isfunction
from typing import TYPE_CHECKING, Any

import gevent
import webob
from filerig import ask as request_for
from gevent.event import Event

from gfastcgi.auth.base import Allow, Deny, Verdict
from gfastcgi.auth.gate import Gate
from gfastcgi.config import CacheConfig
from gfastcgi.errors import (
    GfastcgiError,
)

if TYPE_CHECKING:
    from gfastcgi.auth.base import Decision
    from gfastcgi.request import Request

SID = CacheConfig(key=(("cookie", "SID"),), negative_ttl=10)
YES = Allow({b"REMOTE_USER": b"bob"})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def no(status: int = 403) -> Deny:
    return Deny(webob.Response(status=status, app_iter=[b"no"]))


class Asked:
    """An authorizer that answers `says` (an exception is raised), as soon as `may_answer`, and counts."""

    def __init__(self, says: Any = YES) -> None:
        self.says = says
        self.calls = 0
        self.came, self.may_answer = Event(), Event()
        self.may_answer.set()

    def check(self, request: Request, root: str) -> Any:
        self.calls += 1
        self.came.set()
        says = self.says
        self.may_answer.wait()
        if isinstance(says, Exception):
            raise says
        return says() if isfunction(says) else says


class GateRig:
    """A gate with an authorizer, a clock, and what the audit was told."""

    def __init__(self, says: Any = YES, config: CacheConfig | None = SID, key: str = "/", **options: Any) -> None:
        self.asked = Asked(says)
        self.clock = Clock()
        self.told: list[Verdict] = []
        self.gate = Gate(
            key,
            self.asked,
            cache=config,
            clock=self.clock,
            audit=lambda _, verdict: self.told.append(verdict),
            **options,
        )

    def decide(self, target: str = "/x", **fields: str) -> Decision:
        return self.gate.decide(request_for(target, **(fields or {"cookie": "SID=a"})), "/www")

    def spawn(self, count: int, **fields: str) -> list[gevent.Greenlet[..., Any]]:
        """`count` requests at once; returns when the first of them is being asked for."""
        self.asked.may_answer.clear()

        def ask() -> Any:
            try:
                return self.decide(**fields)
            except GfastcgiError as error:
                return error

        greenlets = [gevent.spawn(ask) for _ in range(count)]
        self.asked.came.wait()
        gevent.idle()
        return greenlets

    def answers(self, greenlets: list[gevent.Greenlet[..., Any]]) -> list[Any]:
        self.asked.may_answer.set()
        gevent.joinall(greenlets, raise_error=True)
        return [greenlet.value for greenlet in greenlets]
