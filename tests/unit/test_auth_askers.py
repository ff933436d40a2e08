"""A client that sends one head again is known by it: never for what it sends otherwise, nor anybody else."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import pytest
from filerig import ask as request_for

from gfastcgi.auth.base import Allow
from gfastcgi.auth.keeper import Keeper
from gfastcgi.config import CacheConfig

if TYPE_CHECKING:
    from gfastcgi.auth.base import Decision
    from gfastcgi.request import Request

SID = CacheConfig(key=(("cookie", "SID"), ("method", ""), ("address", "")))


class Rig:
    """A keeper, and how often its authorizer was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.keeper = Keeper("/", SID, self.check, clock=lambda: 1000.0)

    def check(self, request: Request, root: str) -> Decision:
        self.calls += 1
        return Allow()

    def is_asked(self, request: Request) -> bool:
        before = self.calls
        self.keeper.decide(request, "/www")
        return self.calls > before


def changed(request: Request, **changes: Any) -> Request:
    """The next request of the same connection, with the very same fields."""
    other = copy(request)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def test_the_same_again() -> None:
    rig, request = Rig(), request_for("/x", cookie="SID=a")
    assert rig.is_asked(request)
    assert not rig.is_asked(changed(request))
    assert not rig.is_asked(request_for("/y", cookie="SID=a"))
    assert len(request.peer.askers) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "HEAD"},
        {"authority": "other"},
        {"variables": {b"REMOTE_USER": b"bob"}},
        {"fields": [(b"cookie", b"SID=b")]},
        {"fields": []},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another(changes: dict[str, Any]) -> None:
    rig, request = Rig(), request_for("/x", cookie="SID=a")
    rig.is_asked(request)
    rig.is_asked(request)
    assert rig.is_asked(changed(request, **changes))
    assert not rig.is_asked(request)


def test_who_shows_nothing_is_nobody_each_time() -> None:
    rig, request = Rig(), request_for("/x")
    assert rig.is_asked(request)
    assert rig.is_asked(changed(request))


def test_authorizers_do_not_share_it() -> None:
    request = request_for("/x", cookie="SID=a; T=b")
    keepers = [
        Keeper("/", CacheConfig(key=(("cookie", name),)), lambda *_: Allow(), clock=lambda: 0.0)
        for name in ("SID", "T", "none")
    ]
    for _ in range(2):
        assert [keeper.outlook(request)[1] for keeper in keepers] == [True, True, False]
    assert len({asker.who for asker in request.peer.askers.values()}) == 3


def test_a_connection_remembers_few() -> None:
    request = request_for("/x", cookie="SID=a")
    for _ in range(100):
        Rig().is_asked(request)
    assert len(request.peer.askers) < 10
