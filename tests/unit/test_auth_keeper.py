"""A gate that remembers: who is asked how often, what others are told, and that no failure is anybody's yes."""

from __future__ import annotations

import logging
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from filerig import ask as request_for
from gevent.event import Event

from gfastcgi.auth.base import Allow, Deny, Verdict
from gfastcgi.auth.gate import Gate
from gfastcgi.config import CacheConfig
from gfastcgi.errors import (
    AnswerStalled,
    BackendClosed,
    BackendTimeout,
    BadCGIResponse,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    GfastcgiError,
    NoBackendAvailable,
    Overloaded,
)

if TYPE_CHECKING:
    from gfastcgi.auth.base import Decision
    from gfastcgi.auth.cache import Kept
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


class Rig:
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


# Remembering


def test_asked_once() -> None:
    rig = Rig()
    for _ in range(1000):
        assert rig.decide() is YES
    assert rig.asked.calls == 1
    assert rig.decide(cookie="SID=b") is YES
    assert rig.asked.calls == 2
    rig.clock.now += 60
    rig.decide()
    assert rig.asked.calls == 3
    assert [verdict.source for verdict in rig.told[:2]] == ["asked", "memory"]


def test_without_a_cache_or_a_credential_always_asked() -> None:
    for rig, fields in ((Rig(config=None), {}), (Rig(), {"x": "1"})):
        for count in (1, 2, 3):
            assert rig.decide(**fields) == YES
            assert (rig.asked.calls, rig.told[-1].source) == (count, "asked")
        assert not rig.gate.recall(request_for("/x", x="1"))


@pytest.mark.parametrize(("config", "fields"), [(None, {}), (SID, {"x": "1"}), (SID, {"cookie": "SID=a"})])
def test_a_no_is_a_no_with_and_without_a_memory(config: CacheConfig | None, fields: dict[str, str]) -> None:
    decision = Rig(no, config).decide(**fields)
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 403


def test_the_path_counts_where_it_is_named() -> None:
    rig = Rig(config=CacheConfig(key=(("cookie", "SID"), ("path", ""))))
    for target in ("/a", "/b", "/a", "/b"):
        rig.decide(target)
    assert rig.asked.calls == 2


def test_denials_are_remembered_on_request() -> None:
    rig = Rig(no)
    decisions = [rig.decide() for _ in range(3)]
    assert rig.asked.calls == 1
    assert [
        (type(each), each.response.status_int, each.response.body) for each in decisions if isinstance(each, Deny)
    ] == [(Deny, 403, b"no")] * 3
    rig.clock.now += 10
    rig.decide()
    assert rig.asked.calls == 2


@pytest.mark.parametrize("says", [no(404), no(500), Allow(max_age=0), Allow(response_headers=(("Set-Cookie", "a"),))])
def test_the_rest_is_not(says: Any) -> None:
    rig = Rig(says)
    rig.decide()
    rig.decide()
    assert rig.asked.calls == 2


@pytest.mark.parametrize("error", [BackendClosed("x"), NoBackendAvailable("x"), BadCGIResponse("x"), ValueError("x")])
def test_a_failure_is_remembered_by_nobody(error: Exception) -> None:
    rig = Rig(error)
    for count in (1, 2):
        with pytest.raises(type(error)):
            rig.decide()
        assert rig.asked.calls == count
    rig.asked.says = YES
    assert rig.decide() is YES


@pytest.mark.parametrize("decision", [None, True, "yes", {}, webob.Response(), 200])
@pytest.mark.parametrize("config", [None, SID])
def test_only_an_allow_is_a_yes(decision: Any, config: CacheConfig | None) -> None:
    rig = Rig(decision, config)
    for _ in range(2):
        with pytest.raises(TypeError, match="neither Allow nor Deny"):
            rig.decide()


def test_purge() -> None:
    rig = Rig(Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"}))
    rig.decide("/m/1")
    assert rig.gate.recall(request_for("/m/2", cookie="SID=a"))
    rig.gate.purge()
    assert not rig.gate.recall(request_for("/m/2", cookie="SID=a"))
    rig.decide("/m/1")
    assert rig.asked.calls == 2
    Rig(config=None).gate.purge()


# One question for all


def test_requests_alike_ask_once() -> None:
    rig = Rig()
    greenlets = rig.spawn(100)
    assert rig.answers(greenlets) == [YES] * 100
    assert rig.asked.calls == 1


def test_other_credentials_do_not_wait() -> None:
    rig = Rig()
    greenlets = rig.spawn(2) + rig.spawn(2, cookie="SID=b") + rig.spawn(2, x="1")
    assert rig.asked.calls == 4
    rig.answers(greenlets)
    assert rig.asked.calls == 4


def test_a_denial_that_is_kept_is_everybodys() -> None:
    rig = Rig(no)
    found = rig.answers(rig.spawn(10))
    assert rig.asked.calls == 1
    assert len({id(each.response) for each in found}) == 10
    assert all(each.response.status_int == 403 for each in found)


@pytest.mark.parametrize("says", [no(404), Allow(max_age=0), Allow(response_headers=(("Set-Cookie", "secret"),))])
def test_what_is_not_kept_is_nobody_elses(says: Any) -> None:
    rig = Rig(says)
    assert len(rig.answers(rig.spawn(10))) == 10
    assert rig.asked.calls == 10


def test_those_who_were_told_nothing_ask_at_once() -> None:
    """They waited for the first; they do not wait for each other as well."""
    rig = Rig()

    def answer_one() -> Deny:
        rig.asked.may_answer.clear()
        return no(404)

    rig.asked.says = answer_one
    greenlets = rig.spawn(10)
    rig.asked.may_answer.set()
    gevent.idle()
    assert rig.asked.calls == 10
    rig.asked.says = YES
    while not all(greenlet.ready() for greenlet in greenlets):
        rig.asked.may_answer.set()
        gevent.idle()


@pytest.mark.parametrize("error", [BackendTimeout("x"), BadCGIResponse("x"), NoBackendAvailable("x")])
def test_a_failure_is_everybodys(error: GfastcgiError) -> None:
    rig = Rig(error)
    found = rig.answers(rig.spawn(10))
    assert {type(each) for each in found} == {type(error)}
    assert rig.asked.calls == 1


@pytest.mark.parametrize("end", [gevent.GreenletExit, ClientClosed("the client left")])
def test_another_asks_when_the_first_goes_away(end: Any) -> None:
    rig = Rig()
    greenlets = rig.spawn(10)
    greenlets[0].kill(end)
    gevent.idle()
    assert rig.answers(greenlets)[1:] == [YES] * 9
    assert rig.asked.calls == 2


def test_a_waiter_may_leave() -> None:
    rig = Rig()
    greenlets = rig.spawn(10)
    greenlets[5].kill()
    found = rig.answers(greenlets)
    assert found.count(YES) == 9
    assert rig.asked.calls == 1


@pytest.mark.parametrize("says", [YES, no])
def test_a_purge_overtakes_a_question(says: Any) -> None:
    """What was asked before is not kept, and who comes after it asks anew."""
    rig = Rig(says)
    early = rig.spawn(3)
    rig.gate.purge()
    rig.asked.came.clear()
    late = rig.spawn(2)
    assert rig.asked.calls == 2
    rig.answers(early)
    rig.answers(late)
    assert rig.asked.calls == 4, "those who came before asked for themselves, those behind once"
    assert rig.gate.recall(request_for("/x", cookie="SID=a"))


def test_a_purge_overtakes_a_grant() -> None:
    rig = Rig(Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"}, max_age=None, vary=(b"x",)))
    (greenlet,) = rig.spawn(1)
    rig.gate.purge()
    rig.answers([greenlet])
    rig.decide("/m/1")
    assert rig.asked.calls == 2


# Grants


def test_tiles_ask_once() -> None:
    config = CacheConfig(key=(("cookie", "SID"), ("path", "")))
    rig = Rig(Allow({b"GFASTCGI_GRANT": b"path=/maps/12/; ttl=300", b"REMOTE_USER": b"bob"}), config, "/maps/")
    for number in range(500):
        decision = rig.decide(f"/maps/12/{number}.png")
        assert decision == YES, "the user stays, the grant goes no further"
    assert rig.asked.calls == 1
    assert rig.told[-1].source == "grant"
    for target, fields in (("/maps/13/0.png", {}), ("/maps/12", {}), ("/maps/12/0.png", {"cookie": "SID=b"})):
        rig.decide(target, **fields)
    assert rig.asked.calls == 4
    rig.clock.now += 300
    rig.decide("/maps/12/1.png")
    assert rig.asked.calls == 5


@pytest.mark.parametrize(
    "allow",
    [
        Allow({b"GFASTCGI_GRANT": b"path=/; ttl=300"}, vary=(b"x",)),
        Allow({b"GFASTCGI_GRANT": b"path=/maps/; ttl=soon"}, vary=(b"x",)),
        Allow({b"GFASTCGI_GRANT": b"path=/maps/; ttl=300"}, max_age=0),
        Allow({b"GFASTCGI_GRANT": b"path=/maps/; ttl=300"}, vary=(b"x",)),
    ],
)
def test_a_grant_that_is_none(allow: Allow) -> None:
    rig = Rig(allow, key="/maps/")
    for count in (1, 2):
        decision = rig.decide("/maps/1")
        assert isinstance(decision, Allow)
        assert (rig.asked.calls, decision.variables) == (count, {})


@pytest.mark.parametrize(("config", "fields"), [(None, {"cookie": "SID=a"}), (SID, {"x": "1"})])
def test_a_grant_needs_credentials(config: CacheConfig | None, fields: dict[str, str]) -> None:
    rig = Rig(Allow({b"GFASTCGI_GRANT": b"path=/; ttl=300", b"A": b"1"}), config)
    for count in (1, 2):
        assert rig.decide("/m", **fields) == Allow({b"A": b"1"})
        assert rig.asked.calls == count


# During an outage


@pytest.mark.parametrize(
    "error", [NoBackendAvailable("x"), ConnectError("x"), ConnectTimeout("x"), BackendTimeout("x")]
)
def test_stale_allow(error: GfastcgiError, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(stale_seconds=100)
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
    rig = Rig(stale_seconds=100)
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
    rig = Rig(stale_seconds=100)
    rig.decide()
    rig.clock.now += 60
    for says in (error, NoBackendAvailable("x")):
        rig.asked.says = says
        with pytest.raises(type(says)):
            rig.decide()


@pytest.mark.parametrize("target", ["/x", "/elsewhere"])
def test_no_stale_allow_after_a_denial(target: str) -> None:
    rig = Rig(config=CacheConfig(key=(("cookie", "SID"), ("path", ""))), stale_seconds=100)
    rig.decide("/x")
    rig.clock.now += 60
    rig.asked.says = no(404)
    rig.decide(target)
    rig.asked.says = NoBackendAvailable("x")
    with pytest.raises(NoBackendAvailable):
        rig.decide("/x")


def test_no_stale_allow_unless_asked_for() -> None:
    rig = Rig()
    rig.decide()
    rig.clock.now += 60
    rig.asked.says = NoBackendAvailable("x")
    with pytest.raises(NoBackendAvailable):
        rig.decide()


# Asked anew


def test_asked_anew() -> None:
    rig = Rig(Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"}))
    request = request_for("/m/1", cookie="SID=a")
    rig.decide("/m/1")
    assert rig.gate.decide_anew(request, "/www") == Allow()
    assert (rig.asked.calls, rig.told[-1].is_recheck) == (2, True)
    rig.asked.says = no(404)
    assert isinstance(rig.gate.decide_anew(request, "/www"), Deny)
    assert not rig.gate.recall(request), "neither the yes nor the grant is left"
    rig.asked.says = BackendClosed("x")
    with pytest.raises(BackendClosed):
        rig.gate.decide_anew(request, "/www")


@pytest.mark.parametrize(("stale", "is_let"), [(0, False), (100, True)])
def test_asked_anew_in_an_outage_a_kept_yes_is_of_use_under_stale_allow_alone(stale: int, is_let: bool) -> None:
    rig = Rig(stale_seconds=stale)
    rig.decide()
    rig.asked.says = BackendTimeout("silent")
    try:
        decision: Any = rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www")
    except BackendTimeout as error:
        decision = error
    assert decision is (YES if is_let else rig.asked.says)


@pytest.mark.parametrize(("config", "fields"), [(None, {}), (SID, {"x": "1"})])
def test_asked_anew_without_memory(config: CacheConfig | None, fields: dict[str, str]) -> None:
    rig = Rig(Allow({b"GFASTCGI_GRANT": b"path=/; ttl=100"}), config)
    assert rig.gate.decide_anew(request_for("/", **fields), "/www") == Allow()
    assert config is None or "of 0 allowed, 0 denied> <Grants of 0 clients>" in repr(rig.gate.keeper)
    rig.asked.says = no(404)
    assert isinstance(rig.gate.decide_anew(request_for("/", **fields), "/www"), Deny)


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
    one, two, other = (Rig(says, shared=shared, identity=identity) for identity in (b"1", b"1", b"2"))
    for rig in (one, two, two, other):
        assert isinstance(rig.decide(), (Allow, Deny))
    assert [rig.asked.calls for rig in (one, two, other)] == [1, 0, 1]
    assert [verdict.source for verdict in two.told] == ["shared", "memory"]
    assert [seconds for _, seconds in shared.kept.values()] == [10.0 if says is no else 60] * 2


def test_what_is_shared_ends_with_a_no() -> None:
    shared = SharedMemory()
    rig = Rig(shared=shared)
    rig.decide()
    rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www")
    assert len(shared.kept) == 1
    rig.asked.says = no(404)
    rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www")
    assert shared.kept == {}


def test_no_stale_allow_after_a_denial_that_another_gateway_was_given() -> None:
    config = CacheConfig(key=(("cookie", "SID"),), negative_ttl=10)
    shared = SharedMemory()
    one, two = (Rig(config=config, stale_seconds=100, shared=shared) for _ in range(2))
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
    Rig(shared=shared).decide()
    rig = Rig(shared=shared)
    shared.on_find = rig.gate.purge
    rig.decide()
    assert rig.asked.calls == 1


# The audit


def test_verdicts() -> None:
    rig = Rig()

    def answer() -> Allow:
        rig.clock.now += 2
        return YES

    rig.asked.says = answer
    rig.decide()
    rig.asked.says = no(401)
    rig.decide(cookie="SID=b")
    rig.asked.says = BackendTimeout("x")
    with pytest.raises(BackendTimeout):
        rig.decide(cookie="SID=c")
    rig.asked.says = ValueError("x")
    with pytest.raises(ValueError, match="x"):
        rig.decide(cookie="SID=d")
    rig.asked.says = ClientClosed("x")
    with pytest.raises(ClientClosed):
        rig.decide(cookie="SID=e")
    assert rig.told == [
        Verdict("/", "allow", "asked", 200, 2.0),
        Verdict("/", "deny", "asked", 401, 0.0),
        Verdict("/", "error", "asked", 504, 0.0, "read_timeout"),
        Verdict("/", "error", "asked", 500, 0.0, "internal"),
    ]
