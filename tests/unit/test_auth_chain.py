"""Several authorizers on one path: all or any, in order or side by side."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from filerig import ask as request_for
from gevent.event import Event
from peers.backend import Reply

from gfastcgi.auth import chain
from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.auth.gate import Gate
from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import AsConfigured
from gfastcgi.config import CacheConfig, HostConfig
from gfastcgi.errors import BackendTimeout, ClientClosed, NoBackendAvailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend

    from gfastcgi.request import Request


class Says:
    """An authorizer that says `decision` (or raises it) once `after` has answered, and notes what it saw."""

    def __init__(self, decision: Any, after: Says | None = None) -> None:
        self.decision = decision
        self.after = after
        self.seen: list[dict[bytes, bytes]] = []
        self.has_answered = Event()
        self.was_killed = False

    def check(self, request: Request, root: str) -> Any:
        self.seen.append(dict(request.variables))
        if self.after is not None:
            try:
                self.after.has_answered.wait()
            except gevent.GreenletExit:
                self.was_killed = True
                raise
        self.has_answered.set()
        if isinstance(self.decision, BaseException):
            raise self.decision
        return self.decision


NEVER = Says(None)
"""Never answers: whoever waits for it has to be killed."""


def named(**variables: str) -> Allow:
    return Allow({name.encode(): value.encode() for name, value in variables.items()})


def no(status: int = 403) -> Deny:
    return Deny(webob.Response(status=status))


def ask(*said: Says, need: str = "all", independent: bool = False, request: Request | None = None) -> Any:
    gates = [Gate("/", each, is_independent=independent) for each in said]
    answer = chain.ask(gates, request or request_for("/"), "/www", need=need)
    return answer.response.status_int if isinstance(answer, Deny) else [*answer.response_headers]


# Side by side


def test_independent_authorizers_run_at_once() -> None:
    """The first waits for the second, which one after the other would be for ever; merged is in their order."""
    second = Says(Allow({b"A": b"2", b"B": b"2"}, (("Set-Cookie", "2"),)))
    first = Says(Allow({b"A": b"1", b"C": b"1"}, (("Set-Cookie", "1"),)), after=second)
    request = request_for("/")
    assert ask(first, second, independent=True, request=request) == [("Set-Cookie", "1"), ("Set-Cookie", "2")]
    assert request.variables == {b"A": b"2", b"B": b"2", b"C": b"1"}
    assert (first.seen, second.seen) == ([{}], [{}])


def test_the_first_denial_ends_the_others() -> None:
    slow, denies = Says(Allow(), after=NEVER), Says(no(401))
    assert ask(slow, denies, independent=True) == 401
    assert slow.was_killed


def test_the_first_failure_ends_the_others() -> None:
    slow, fails = Says(Allow(), after=NEVER), Says(BackendTimeout("x"))
    with pytest.raises(BackendTimeout):
        ask(slow, fails, independent=True)
    assert slow.was_killed


def test_a_late_denial_denies() -> None:
    quick = Says(named(A="1"))
    request = request_for("/")
    assert ask(quick, Says(no(), after=quick), independent=True, request=request) == 403
    assert request.variables == {}


def test_who_leaves_ends_them_all() -> None:
    slow = [Says(Allow(), after=NEVER) for _ in range(3)]
    client = gevent.spawn(ask, *slow, independent=True)
    gevent.idle()
    client.kill(ClientClosed("left"))
    assert all(each.was_killed for each in slow)


def test_neighbours_alone_are_side_by_side() -> None:
    """In order: a, then b beside c, then d; each sees the variables of those before it."""
    z, a, c, d = Says(named(Z="1")), Says(named(A="1")), Says(named(C="1")), Says(named(D="1"))
    b = Says(named(B="1"), after=c)
    side_by_side = [Gate("/", each, is_independent=True) for each in (a, b, c)]
    gates = [Gate("/", z), *side_by_side, Gate("/", d)]
    request = request_for("/")
    assert chain.ask(gates, request, "/www") == Allow()
    assert a.seen == b.seen == c.seen == [{b"Z": b"1"}]
    assert d.seen == [{b"Z": b"1", b"A": b"1", b"B": b"1", b"C": b"1"}]
    assert set(request.variables) == {b"Z", b"A", b"B", b"C", b"D"}


def test_what_is_remembered_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CacheConfig(key=(("cookie", "SID"),))
    said = [Says(named(A="1")), Says(named(B="1")), Says(named(C="1"))]
    gates = [Gate("/", each, is_independent=True, cache=cache if each is not said[1] else None) for each in said]
    chain.ask(gates, request_for("/", cookie="SID=a"), "/www")
    monkeypatch.delattr(gevent, "spawn")
    request = request_for("/", cookie="SID=a")
    chain.ask(gates, request, "/www")
    assert set(request.variables) == {b"A", b"B", b"C"}
    assert [len(each.seen) for each in said] == [1, 2, 1]


def test_a_killed_authorizer_gives_its_lease_back(backend: Callable[..., ScriptedBackend]) -> None:
    silent = backend(lambda seen: Reply(b"", "hang"))
    host = HostConfig(socket=str(silent.address), mode="authorizer")
    pool = Pool(make_hosts([host]), AsConfigured(random.Random(1)), clock=time.monotonic)
    slow = FastCGIAuthorizer("/x", pool, lambda request, data: None)

    class Denies:
        def check(self, request: Request, root: str) -> Any:
            while not silent.requests:
                gevent.sleep(0.001)
            return no(401)

    gates = [Gate("/", slow, is_independent=True), Gate("/", Denies(), is_independent=True)]
    decision = chain.ask(gates, request_for("/x"), "/www")
    assert isinstance(decision, Deny)
    assert (decision.response.status_int, pool.hosts[0].load) == (401, 0)


# Any


@pytest.mark.parametrize("independent", [False, True])
def test_one_yes_is_enough(independent: bool) -> None:
    request = request_for("/")
    assert ask(Says(no()), Says(named(A="1")), need="any", independent=independent, request=request) == []
    assert request.variables == {b"A": b"1"}
    assert ask(Says(NoBackendAvailable("x")), Says(Allow()), need="any", independent=independent) == []


def test_the_first_yes_ends_the_questions() -> None:
    last = Says(Allow())
    assert ask(Says(Allow()), last, need="any") == []
    assert last.seen == []
    slow = Says(Allow(), after=NEVER)
    assert ask(slow, Says(named(A="1")), need="any", independent=True) == []
    assert slow.was_killed


@pytest.mark.parametrize("independent", [False, True])
def test_no_yes_is_a_no(independent: bool) -> None:
    """The first denial in their order; where nobody denies, the first failure."""
    late = Says(no(403))
    first = Says(no(401), after=late if independent else None)
    assert ask(Says(ValueError("x")), first, late, need="any", independent=independent) == 401
    with pytest.raises(BackendTimeout):
        ask(Says(BackendTimeout("x")), Says(ValueError("x")), need="any", independent=independent)


@pytest.mark.parametrize("decision", [None, True, "yes", [], 200])
@pytest.mark.parametrize("need", ["all", "any"])
@pytest.mark.parametrize("independent", [False, True])
def test_nothing_else_is_a_yes(decision: Any, need: str, independent: bool) -> None:
    for others in ((), (Says(no()),), (Says(ValueError("x")),)):
        try:
            result = ask(Says(decision), *others, need=need, independent=independent)
        except (TypeError, ValueError):
            continue
        assert result == 403


def test_any_of_one_is_that_one() -> None:
    assert ask(Says(no(401)), need="any") == 401
    assert ask(Says(Allow()), need="any") == []


@pytest.mark.parametrize("need", ["all", "any"])
def test_without_an_authorizer_nobody_passes(need: str) -> None:
    with pytest.raises(ValueError, match="would be open"):
        ask(need=need)


@pytest.mark.parametrize("need", ["all", "any"])
def test_who_is_ended_has_said_nothing(need: str) -> None:
    """gevent gives GreenletExit as the value of a greenlet that ends by it."""
    ended = [Says(gevent.GreenletExit()), Says(gevent.GreenletExit())]
    with pytest.raises(RuntimeError, match="ended before its answer"):
        ask(*ended, need=need, independent=True)
    assert ask(Says(gevent.GreenletExit()), Says(no(401), after=ended[0]), need="any", independent=True) == 401


def test_a_client_that_leaves_is_no_failure_of_one() -> None:
    last = Says(Allow())
    with pytest.raises(ClientClosed):
        ask(Says(ClientClosed("left")), last, need="any")
    assert last.seen == []


# Asked anew


def test_still_allowed() -> None:
    request = request_for("/")
    request.variables, request.user = {b"REMOTE_USER": b"bob", b"B": b"2"}, "bob"
    second = Says(named(B="2"))
    gates = [Gate("/", Says(named(REMOTE_USER="eve"))), Gate("/", second)]
    before = {b"HTTP_X": b"1"}
    assert isinstance(chain.ask_anew(gates, request, "/www", before), Allow)
    assert second.seen == [{b"HTTP_X": b"1", b"REMOTE_USER": b"eve"}], (
        "each sees what is said now by those before it, and nothing else"
    )
    assert (request.variables, request.user) == ({b"REMOTE_USER": b"bob", b"B": b"2"}, "bob")
    second.decision = no()
    assert isinstance(chain.ask_anew(gates, request, "/www", {}), Deny)
    assert isinstance(chain.ask_anew(gates, request, "/www", {}, need="any"), Allow)
    second.decision = BackendTimeout("x")
    with pytest.raises(BackendTimeout):
        chain.ask_anew(gates, request, "/www", {})


def test_a_gate_may_have_its_own_way() -> None:
    """A kind of gate that tells a denial otherwise is asked like any other."""

    class Polite(Gate):
        def decide(self, request: Request, root: str) -> Any:
            assert isinstance(super().decide(request, root), Deny)
            return no(401)

        decide_anew = decide

    gates = [Polite("/", Says(no(403)))]
    denied = chain.ask(gates, request_for("/"), "/www")
    assert isinstance(denied, Deny)
    assert denied.response.status_int == 401
    assert isinstance(chain.ask_anew(gates, request_for("/"), "/www", {}), Deny)
