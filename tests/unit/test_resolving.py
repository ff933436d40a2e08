"""Host names as backends: addresses that come and go, lookups that fail."""

from __future__ import annotations

import random
import socket
import time
from typing import Any

import gevent
import pytest
from gevent import queue

from gfastcgi.backend.backend import Proc, make_hosts, make_proc, needs_lookup
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.balance import POLICIES
from gfastcgi.client.resolving import Resolving
from gfastcgi.config import HostConfig
from gfastcgi.errors import NoBackendAvailable
from gfastcgi.net.dns import LookupFailed, look_up

REQUEST: Any = None


class Rig:
    """A pool of one host name; `answers` are what the lookups say, in turn."""

    def __init__(self, *answers: list[str] | LookupFailed, **options: Any) -> None:
        config = HostConfig(host="php.example", port=9000, **options)
        (self.host,) = make_hosts([config])
        self.pool = Pool([self.host], POLICIES["fair"](random.Random(1)), clock=time.monotonic)
        self.forgotten: list[Proc] = []
        self.answers: queue.Queue[list[str] | LookupFailed] = queue.Queue()
        for answer in answers:
            self.answers.put(answer)
        self.lookups: queue.Queue[str] = queue.Queue()
        self.resolving = Resolving(self.host, make_proc, self.forgotten.append, lookup=self._lookup)

    def _lookup(self, name: str) -> list[str]:
        self.lookups.put(name)
        answer = self.answers.get()
        if isinstance(answer, LookupFailed):
            raise answer
        return answer

    def refresh(self, times: int = 1) -> list[str]:
        for _ in range(times):
            self.resolving.refresh()
        return [proc.name for proc in self.host.procs]


@pytest.mark.parametrize(
    ("options", "is_needed"),
    [
        ({"host": "php.example", "port": 9000}, True),
        ({"host": "localhost", "port": 9000}, True),
        ({"host": "127.0.0.1", "port": 9000}, False),
        ({"host": "::1", "port": 9000}, False),
        ({"host": "", "port": 9000}, False),
        ({"socket": "/run/s"}, False),
        ({"host": "localhost", "port": 9000, "bin_path": "/bin/app"}, False),
    ],
)
def test_what_is_a_name(options: dict[str, Any], is_needed: bool) -> None:
    assert needs_lookup(HostConfig(**options)) is is_needed


def test_all_addresses_are_procs_of_the_host_that_is_named_as_configured() -> None:
    rig = Rig(["192.0.2.1", "2001:db8::1", "192.0.2.2"])
    assert rig.host.name == "php.example:9000"
    assert rig.refresh() == ["192.0.2.1:9000", "[2001:db8::1]:9000", "192.0.2.2:9000"]
    assert [proc.id for proc in rig.host.procs] == [0, 1, 2]
    assert {rig.pool.acquire(REQUEST).proc.name for _ in range(3)} == {proc.name for proc in rig.host.procs}


def test_before_the_first_lookup_the_host_is_down() -> None:
    rig = Rig()
    with pytest.raises(NoBackendAvailable, match=r"php\.example:9000 has no address \(not looked up yet\)"):
        rig.pool.acquire(REQUEST)


def test_a_name_that_is_not_found_is_logged_once_and_down_until_it_is(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(LookupFailed("Name or service not known"), LookupFailed("Name or service not known"), ["192.0.2.1"])
    assert rig.refresh(2) == []
    assert [record.message for record in caplog.records] == [
        "the backend php.example is not found: Name or service not known"
    ]
    with pytest.raises(NoBackendAvailable, match="Name or service not known"):
        rig.pool.acquire(REQUEST)
    assert rig.refresh() == ["192.0.2.1:9000"]
    assert rig.pool.acquire(REQUEST) is not None


@pytest.mark.parametrize("answer", [LookupFailed("no answer within 5 s"), []])
def test_a_lookup_that_fails_keeps_the_addresses(answer: Any) -> None:
    rig = Rig(["192.0.2.1"], answer)
    assert rig.refresh(2) == ["192.0.2.1:9000"]
    assert rig.pool.acquire(REQUEST) is not None


def test_an_address_that_is_gone_is_given_up() -> None:
    rig = Rig(["192.0.2.1", "192.0.2.2"], ["192.0.2.3", "192.0.2.2"], max_connections=2)
    rig.refresh()
    old, stays = rig.host.procs
    lease = next(lease for lease in (rig.pool.acquire(REQUEST), rig.pool.acquire(REQUEST)) if lease.proc is old)
    closed: list[str] = []
    idle = type("Kept", (), {"close": lambda _: closed.append("closed")})()
    old.idle.append(idle)
    assert rig.refresh() == ["192.0.2.2:9000", "192.0.2.3:9000"]
    assert rig.host.procs[0] is stays
    assert [proc.id for proc in rig.host.procs] == [1, 2]
    assert closed == ["closed"]
    assert rig.forgotten == [old]
    assert list(rig.pool.release(lease, keep="late")) == ["late"]


def test_the_order_of_the_answer_changes_nothing() -> None:
    rig = Rig(["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.1"])
    rig.refresh()
    before = list(rig.host.procs)
    rig.refresh()
    assert rig.host.procs == before


def test_the_first_lookup_is_waited_for_and_a_failing_proc_brings_the_next() -> None:
    rig = Rig(["192.0.2.1"], resolve=3600)
    rig.resolving.start().join(5)
    try:
        assert rig.lookups.qsize() == 1
        assert rig.host.procs[0].state is State.RUNNING
        rig.resolving.hurry()
        rig.answers.put(["192.0.2.2"])
        for _ in range(2):
            rig.lookups.get(timeout=5)
        gevent.idle()
        assert [proc.name for proc in rig.host.procs] == ["192.0.2.2:9000"]
    finally:
        rig.resolving.stop()


# The resolver


class FakeResolver:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def getaddrinfo(self, *arguments: Any) -> Any:
        assert arguments[0] == "php.example"
        return self._answer()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(answer: Any) -> None:
        monkeypatch.setattr(gevent.get_hub(), "resolver", FakeResolver(answer))

    hub = gevent.get_hub()
    known = hub.resolver
    yield use
    monkeypatch.undo()
    hub.resolver = known


def found(family: int, address: str) -> tuple[Any, ...]:
    return family, socket.SOCK_STREAM, 6, "", (address, 0)


def test_look_up_gives_each_address_once(resolver: Any) -> None:
    resolver(
        lambda: [
            found(socket.AF_INET6, "2001:db8::1"),
            found(socket.AF_INET, "192.0.2.1"),
            found(socket.AF_INET, "192.0.2.1"),
            found(socket.AF_UNIX, "what is this"),
        ]
    )
    assert look_up("php.example") == ["2001:db8::1", "192.0.2.1"]


def test_look_up_says_why_it_failed(resolver: Any) -> None:
    def fail() -> None:
        raise socket.gaierror(-2, "Name or service not known")

    resolver(fail)
    with pytest.raises(LookupFailed, match="Name or service not known"):
        look_up("php.example")


@pytest.mark.parametrize("name", ["a..b", "x" * 70 + ".example"])
def test_what_is_no_name_is_not_looked_up(resolver: Any, name: str) -> None:
    resolver(lambda: pytest.fail("it was looked up"))
    with pytest.raises(LookupFailed, match="idna"):
        look_up(name)


def test_look_up_waits_no_longer_than_told_and_the_hub_runs_on(resolver: Any) -> None:
    resolver(lambda: gevent.sleep(60))
    with pytest.raises(LookupFailed, match="no answer within"):
        look_up("php.example", seconds=0.05)


def test_localhost_is_found() -> None:
    assert "127.0.0.1" in look_up("localhost")
