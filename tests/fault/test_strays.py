"""What a backend says behind the end of an answer: it answers nobody, least of all the next client."""

from __future__ import annotations

import random
import threading
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from filerig import ask
from peers.backend import BackendConnection, ScriptedBackend, answer

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance.round_robin import RoundRobin
from gfastcgi.client import Exchange
from gfastcgi.client.connection import Connection
from gfastcgi.config import HostConfig
from gfastcgi.errors import BadRecord
from gfastcgi.server.body import EMPTY, SpooledBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

YES = "Status: 200 OK\r\nVariable-REMOTE_USER: ann\r\n\r\n"
NO = "Status: 403 No\r\n\r\nno"
CONTENT = b"Content-Type: text/plain\r\n\r\n"


class Talker:
    """Answers what `says` gives for each request, and behind the first answer of a connection says `more` as well.

    It does so as soon as `is_kept` is set: when its connection rests, or waits for the next answer.
    """

    def __init__(self, says: Callable[[int], str | bytes], more: Callable[[int], bytes]) -> None:
        self.says, self.more = says, more
        self.asked = 0
        self.is_kept = threading.Event()
        self.has_said = threading.Event()

    def __call__(self, connection: BackendConnection) -> None:
        is_first = True
        while (request := connection.read_request()) is not None:
            number, self.asked = self.asked, self.asked + 1
            said = answer(self.says(number), request.request_id)
            if is_first and number == 0:
                connection.sock.sendall(said)
                assert self.is_kept.wait(10)
                connection.sock.sendall(self.more(request.request_id))
                self.has_said.set()
            else:
                connection.sock.sendall(said)
            is_first = False


@pytest.fixture
def pool_of() -> Iterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(peer: ScriptedBackend, **options: Any) -> Pool:
        made.append(
            Pool(
                make_hosts([HostConfig(socket=str(peer.address), max_connections=1, **options)]),
                RoundRobin(random.Random(1)),
                clock=time.monotonic,
            )
        )
        return made[-1]

    yield make
    for pool in made:
        assert all(proc.load == 0 for host in pool.hosts for proc in host.procs)
        for connection in pool.drain():
            connection.close()


def fetch(pool: Pool, method: str = "GET", body: bytes = b"") -> bytes:
    key = SimpleNamespace(method=method, authority="", path="/", remote_addr="", balance="fair")
    exchange = Exchange(pool, key, lambda _: b"", SpooledBody([body]) if body else EMPTY)
    try:
        exchange.start()
        return b"".join(exchange)
    finally:
        exchange.close()


def page(number: int) -> bytes:
    return CONTENT + b"page %d" % number


@pytest.mark.parametrize("is_early", [True, False], ids=["before the next question", "while it waits"])
def test_a_late_yes_lets_nobody_in(
    is_early: bool, backend: Callable[..., ScriptedBackend], pool_of: Callable[..., Pool], caplog: Any
) -> None:
    """The yes of one client comes twice: the second one must not be the next client's."""

    talker = Talker(lambda number: NO if number else YES, lambda request_id: answer(YES, request_id))
    pool = pool_of(backend(talk=talker), mode="authorizer", read_timeout=10)
    gate = FastCGIAuthorizer("/", pool, lambda request, data: None)
    assert isinstance(gate.check(ask("/"), "/"), Allow)
    talker.is_kept.set()
    if is_early:
        assert talker.has_said.wait(10)
    for _ in range(3):
        assert isinstance(gate.check(ask("/"), "/"), Deny)
    assert len([line for line in caplog.messages if "not kept any more" in line]) == 1


@pytest.mark.parametrize("ends", [True, False], ids=["a whole answer", "some of it"])
def test_pages_are_not_shifted(
    ends: bool, backend: Callable[..., ScriptedBackend], pool_of: Callable[..., Pool]
) -> None:
    talker = Talker(page, lambda request_id: answer(page(99), request_id)[: None if ends else -16])
    peer = backend(talk=talker)
    pool = pool_of(peer)
    assert fetch(pool) == b"page 0"
    talker.is_kept.set()
    assert talker.has_said.wait(10)
    # The first question over the kept connection is asked again, over another one.
    assert [fetch(pool) for _ in range(3)] in ([b"page 1", b"page 2", b"page 3"], [b"page 2", b"page 3", b"page 4"])
    assert not pool.hosts[0].procs[0].idle
    assert peer.connections == 4, "one for each that follows"


def test_what_must_not_be_asked_twice_fails(
    backend: Callable[..., ScriptedBackend], pool_of: Callable[..., Pool]
) -> None:
    """A POST looks before it takes a kept connection; what comes later than that ends it."""
    asked = threading.Event()

    def talk(connection: BackendConnection) -> None:
        first = connection.read_request()
        assert first is not None
        connection.sock.sendall(answer(page(0), first.request_id))
        if connection.read_request() is not None:
            asked.set()
            connection.sock.sendall(answer(page(99), first.request_id))

    pool = pool_of(backend(talk=talk))
    assert fetch(pool) == b"page 0"
    with pytest.raises(BadRecord, match="for the request 1, which is not open"):
        fetch(pool, "POST", b"pay")
    assert asked.is_set()


def test_more_than_one_read_takes_is_not_left_for_the_next(
    backend: Callable[..., ScriptedBackend], pool_of: Callable[..., Pool]
) -> None:
    """All of it comes at once, in many records: the answer, and behind its end another one."""
    large = CONTENT + b"x" * 200_000
    talker = Talker(lambda number: large if number == 0 else page(number), lambda request_id: b"")

    def talk(connection: BackendConnection) -> None:
        request = connection.read_request()
        assert request is not None
        number, talker.asked = talker.asked, talker.asked + 1
        said = answer(large if number == 0 else page(number), request.request_id)
        connection.sock.sendall(said + (answer(page(99), request.request_id) if number == 0 else b""))
        connection.read_request()

    pool = pool_of(backend(talk=talk))
    assert fetch(pool) == b"x" * 200_000
    assert fetch(pool) == b"page 1"


def test_ids_go_round() -> None:

    connection = Connection(SimpleNamespace())  # type: ignore[arg-type]
    ids = [connection.next_id() for _ in range(600)]
    assert ids[:3] == [1, 2, 3]
    assert set(ids) == set(range(1, 256))
    assert all(one != other for one, other in pairwise(ids))
