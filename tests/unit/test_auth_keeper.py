"""A gate that remembers: who is asked how often, what others are told, and that no failure is anybody's yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from filerig import ask as request_for
from gaterig import SID, YES, GateRig, no

from gfastcgi.auth.base import Allow, Deny, Verdict
from gfastcgi.config import CacheConfig
from gfastcgi.errors import (
    BackendClosed,
    BackendTimeout,
    BadCGIResponse,
    ClientClosed,
    GfastcgiError,
    NoBackendAvailable,
)

if TYPE_CHECKING:
    pass

# Remembering


def test_asked_once() -> None:
    rig = GateRig()
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
    for rig, fields in ((GateRig(config=None), {}), (GateRig(), {"x": "1"})):
        for count in (1, 2, 3):
            assert rig.decide(**fields) == YES
            assert (rig.asked.calls, rig.told[-1].source) == (count, "asked")
        assert not rig.gate.recall(request_for("/x", x="1"))


@pytest.mark.parametrize(("config", "fields"), [(None, {}), (SID, {"x": "1"}), (SID, {"cookie": "SID=a"})])
def test_a_no_is_a_no_with_and_without_a_memory(config: CacheConfig | None, fields: dict[str, str]) -> None:
    decision = GateRig(no, config).decide(**fields)
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 403


def test_the_path_counts_where_it_is_named() -> None:
    rig = GateRig(config=CacheConfig(key=(("cookie", "SID"), ("path", ""))))
    for target in ("/a", "/b", "/a", "/b"):
        rig.decide(target)
    assert rig.asked.calls == 2


def test_denials_are_remembered_on_request() -> None:
    rig = GateRig(no)
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
    rig = GateRig(says)
    rig.decide()
    rig.decide()
    assert rig.asked.calls == 2


@pytest.mark.parametrize("error", [BackendClosed("x"), NoBackendAvailable("x"), BadCGIResponse("x"), ValueError("x")])
def test_a_failure_is_remembered_by_nobody(error: Exception) -> None:
    rig = GateRig(error)
    for count in (1, 2):
        with pytest.raises(type(error)):
            rig.decide()
        assert rig.asked.calls == count
    rig.asked.says = YES
    assert rig.decide() is YES


@pytest.mark.parametrize("decision", [None, True, "yes", {}, webob.Response(), 200])
@pytest.mark.parametrize("config", [None, SID])
def test_only_an_allow_is_a_yes(decision: Any, config: CacheConfig | None) -> None:
    rig = GateRig(decision, config)
    for _ in range(2):
        with pytest.raises(TypeError, match="neither Allow nor Deny"):
            rig.decide()


def test_purge() -> None:
    rig = GateRig(Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"}))
    rig.decide("/m/1")
    assert rig.gate.recall(request_for("/m/2", cookie="SID=a"))
    rig.gate.purge()
    assert not rig.gate.recall(request_for("/m/2", cookie="SID=a"))
    rig.decide("/m/1")
    assert rig.asked.calls == 2
    GateRig(config=None).gate.purge()


# One question for all


def test_requests_alike_ask_once() -> None:
    rig = GateRig()
    greenlets = rig.spawn(100)
    assert rig.answers(greenlets) == [YES] * 100
    assert rig.asked.calls == 1


def test_other_credentials_do_not_wait() -> None:
    rig = GateRig()
    greenlets = rig.spawn(2) + rig.spawn(2, cookie="SID=b") + rig.spawn(2, x="1")
    assert rig.asked.calls == 4
    rig.answers(greenlets)
    assert rig.asked.calls == 4


def test_a_denial_that_is_kept_is_everybodys() -> None:
    rig = GateRig(no)
    found = rig.answers(rig.spawn(10))
    assert rig.asked.calls == 1
    assert len({id(each.response) for each in found}) == 10
    assert all(each.response.status_int == 403 for each in found)


@pytest.mark.parametrize("says", [no(404), Allow(max_age=0), Allow(response_headers=(("Set-Cookie", "secret"),))])
def test_what_is_not_kept_is_nobody_elses(says: Any) -> None:
    rig = GateRig(says)
    assert len(rig.answers(rig.spawn(10))) == 10
    assert rig.asked.calls == 10


def test_those_who_were_told_nothing_ask_at_once() -> None:
    """They waited for the first; they do not wait for each other as well."""
    rig = GateRig()

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
    rig = GateRig(error)
    found = rig.answers(rig.spawn(10))
    assert {type(each) for each in found} == {type(error)}
    assert rig.asked.calls == 1


@pytest.mark.parametrize("end", [gevent.GreenletExit, ClientClosed("the client left")])
def test_another_asks_when_the_first_goes_away(end: Any) -> None:
    rig = GateRig()
    greenlets = rig.spawn(10)
    greenlets[0].kill(end)
    gevent.idle()
    assert rig.answers(greenlets)[1:] == [YES] * 9
    assert rig.asked.calls == 2


def test_a_waiter_may_leave() -> None:
    rig = GateRig()
    greenlets = rig.spawn(10)
    greenlets[5].kill()
    found = rig.answers(greenlets)
    assert found.count(YES) == 9
    assert rig.asked.calls == 1


@pytest.mark.parametrize("says", [YES, no])
def test_a_purge_overtakes_a_question(says: Any) -> None:
    """What was asked before is not kept, and who comes after it asks anew."""
    rig = GateRig(says)
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
    rig = GateRig(Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"}, max_age=None, vary=(b"x",)))
    (greenlet,) = rig.spawn(1)
    rig.gate.purge()
    rig.answers([greenlet])
    rig.decide("/m/1")
    assert rig.asked.calls == 2


# Grants


def test_tiles_ask_once() -> None:
    config = CacheConfig(key=(("cookie", "SID"), ("path", "")))
    rig = GateRig(Allow({b"GFASTCGI_GRANT": b"path=/maps/12/; ttl=300", b"REMOTE_USER": b"bob"}), config, "/maps/")
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
    rig = GateRig(allow, key="/maps/")
    for count in (1, 2):
        decision = rig.decide("/maps/1")
        assert isinstance(decision, Allow)
        assert (rig.asked.calls, decision.variables) == (count, {})


@pytest.mark.parametrize(("config", "fields"), [(None, {"cookie": "SID=a"}), (SID, {"x": "1"})])
def test_a_grant_needs_credentials(config: CacheConfig | None, fields: dict[str, str]) -> None:
    rig = GateRig(Allow({b"GFASTCGI_GRANT": b"path=/; ttl=300", b"A": b"1"}), config)
    for count in (1, 2):
        assert rig.decide("/m", **fields) == Allow({b"A": b"1"})
        assert rig.asked.calls == count


# Asked anew


def test_asked_anew() -> None:
    rig = GateRig(Allow({b"GFASTCGI_GRANT": b"path=/m/; ttl=100"}))
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
    rig = GateRig(stale_seconds=stale)
    rig.decide()
    rig.asked.says = BackendTimeout("silent")
    try:
        decision: Any = rig.gate.decide_anew(request_for("/x", cookie="SID=a"), "/www")
    except BackendTimeout as error:
        decision = error
    assert decision is (YES if is_let else rig.asked.says)


@pytest.mark.parametrize(("config", "fields"), [(None, {}), (SID, {"x": "1"})])
def test_asked_anew_without_memory(config: CacheConfig | None, fields: dict[str, str]) -> None:
    rig = GateRig(Allow({b"GFASTCGI_GRANT": b"path=/; ttl=100"}), config)
    assert rig.gate.decide_anew(request_for("/", **fields), "/www") == Allow()
    assert config is None or "of 0 allowed, 0 denied> <Grants of 0 clients>" in repr(rig.gate.keeper)
    rig.asked.says = no(404)
    assert isinstance(rig.gate.decide_anew(request_for("/", **fields), "/www"), Deny)


# The audit


def test_verdicts() -> None:
    rig = GateRig()

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
