"""An earlier yes during an outage, and decisions of other gateways: never against a later no."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from filerig import ask as request_for
from gaterig import YES, GateRig, no
from gevent.event import Event

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.config import CacheConfig
from gfastcgi.errors import (
    AnswerStalled,
    BackendClosed,
    BackendTimeout,
    BadCGIResponse,
    ConnectError,
    ConnectTimeout,
    GfastcgiError,
    NoBackendAvailable,
    Overloaded,
)

if TYPE_CHECKING:
    from gfastcgi.auth.cache import Kept

# During an outage


@pytest.mark.parametrize(
    "error", [NoBackendAvailable("x"), ConnectError("x"), ConnectTimeout("x"), BackendTimeout("x")]
)
def test_stale_allow(error: GfastcgiError, caplog: pytest.LogCaptureFixture) -> None:
    rig = GateRig(stale_seconds=100)
    rig.decide()
    rig.asked.says = error
    rig.clock.now += 159
    with caplog.at_level(logging.WARNING):
        assert rig.decide() is YES
    assert "let in by an earlier yes" in caplog.text
    assert rig.told[-1].source == "stale"
    with pytest.raises(type(error)):
        rig.decide(cookie="SID=b")
    rig.clock.now += 1
    with pytest.raises(type(error)):
        rig.decide()


def test_stale_allow_is_for_all_who_ask() -> None:
    rig = GateRig(stale_seconds=100)
    rig.decide()
    rig.asked.says = NoBackendAvailable("x")
    rig.clock.now += 60
    rig.asked.came.clear()
    assert rig.answers(rig.spawn(10)) == [YES] * 10
    assert rig.asked.calls == 2


@pytest.mark.parametrize(
    "error", [BackendClosed("x"), BadCGIResponse("x"), Overloaded("x"), ValueError("x"), AnswerStalled("x")]
)
def test_no_stale_allow_after_a_broken_answer(error: Exception) -> None:
    rig = GateRig(stale_seconds=100)
    rig.decide()
    rig.clock.now += 60
    for says in (error, NoBackendAvailable("x")):
        rig.asked.says = says
        with pytest.raises(type(says)):
            rig.decide()


@pytest.mark.parametrize("target", ["/x", "/elsewhere"])
def test_no_stale_allow_after_a_denial(target: str) -> None:
    rig = GateRig(config=CacheConfig(key=(("cookie", "SID"), ("path", ""))), stale_seconds=100)
    rig.decide("/x")
    rig.clock.now += 60
    rig.asked.says = no(404)
    rig.decide(target)
    rig.asked.says = NoBackendAvailable("x")
    with pytest.raises(NoBackendAvailable):
        rig.decide("/x")


def test_no_stale_allow_unless_asked_for() -> None:
    rig = GateRig()
    rig.decide()
    rig.clock.now += 60
    rig.asked.says = NoBackendAvailable("x")
    with pytest.raises(NoBackendAvailable):
        rig.decide()


# Shared


class SharedMemory:
    """What gateways share, as a dict."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[Kept, float]] = {}
        self.on_find = lambda: None

    def find(self, name: bytes) -> tuple[Kept, float] | None:
        self.on_find()
        return self.kept.get(name)

    def keep(self, name: bytes, kept: Kept, seconds: float) -> None:
        self.kept[name] = kept, seconds

    def forget(self, name: bytes) -> None:
        self.kept.pop(name, None)


@pytest.mark.parametrize("says", [YES, no])
def test_two_gateways_ask_once(says: Any) -> None:
    shared = SharedMemory()
    one, two, other = (GateRig(says, shared=shared, identity=identity) for identity in (b"1", b"1", b"2"))
    for rig in (one, two, two, other):
        assert isinstance(rig.decide(), (Allow, Deny))
    assert [rig.asked.calls for rig in (one, two, other)] == [1, 0, 1]
    assert [verdict.source for verdict in two.told] == ["shared", "memory"]
    assert [seconds for _, seconds in shared.kept.values()] == [10.0 if says is no else 60] * 2


def test_what_is_shared_ends_with_a_no() -> None:
    shared = SharedMemory()
    rig = GateRig(shared=shared)
    rig.decide()
    rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www")
    assert len(shared.kept) == 1
    rig.asked.says = no(404)
    rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www")
    assert shared.kept == {}


def test_no_stale_allow_after_a_denial_that_another_gateway_was_given() -> None:
    config = CacheConfig(key=(("cookie", "SID"),), negative_ttl=10)
    shared = SharedMemory()
    one, two = (GateRig(config=config, stale_seconds=100, shared=shared) for _ in range(2))
    one.decide()
    shared.kept.clear()
    two.asked.says = no
    two.decide()
    for rig in (one, two):
        rig.clock.now += 60
    assert isinstance(one.decide(), Deny)
    assert one.told[-1].source == "shared"
    one.clock.now += 10
    shared.kept.clear()
    one.asked.says = NoBackendAvailable("x")
    with pytest.raises(NoBackendAvailable):
        one.decide()


def test_a_purge_overtakes_what_is_shared() -> None:
    shared = SharedMemory()
    GateRig(shared=shared).decide()
    rig = GateRig(shared=shared)
    shared.on_find = rig.gate.purge
    rig.decide()
    assert rig.asked.calls == 1


@pytest.mark.parametrize("yes", [YES, Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"})], ids=["a yes", "a grant"])
def test_a_yes_that_a_no_has_overtaken_is_not_kept(yes: Allow) -> None:
    """The question was asked before the right was taken away; its answer comes behind that of a recheck."""
    rig = GateRig(yes, stale_seconds=60)
    (slow,) = rig.spawn(1)
    rig.clock.now += 1
    waits, rig.asked.may_answer = rig.asked.may_answer, Event()
    rig.asked.may_answer.set()
    rig.asked.says = no(404)
    assert isinstance(rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www"), Deny)
    waits.set()
    slow.join(10)
    assert isinstance(slow.value, Allow)
    calls = rig.asked.calls
    assert isinstance(rig.decide(), Deny)
    assert isinstance(rig.decide("/m/1"), Deny)
    assert rig.asked.calls == calls + 2
    rig.asked.says = NoBackendAvailable("x")
    with pytest.raises(NoBackendAvailable):
        rig.decide()
