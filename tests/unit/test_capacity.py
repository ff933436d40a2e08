"""FCGI_GET_VALUES: what backends say of their capacity, and when they are asked."""

from __future__ import annotations

import errno
import random
import struct
import time
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent import queue
from gevent.event import Event
from gevent.server import StreamServer

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.balance import LeastConnection
from gfastcgi.client.capacity import Census, ask_capacity
from gfastcgi.config import Address, HostConfig
from gfastcgi.errors import BackendError, BackendTimeout, BadRecord, ConnectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fcgirig import Rig

GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = 9, 10, 11


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("!BBHHBB", 1, kind, 0, len(content), 0, 0) + content


def pairs(**values: str) -> bytes:
    return b"".join(bytes([len(name), len(value)]) + name.encode() + value.encode() for name, value in values.items())


def told(**values: str) -> bytes:
    return record(GET_VALUES_RESULT, pairs(**values))


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], Address]]:
    """`serve(answer)`: a backend that reads a record and says `answer`; None: it stays silent."""
    servers: list[StreamServer] = []
    over = Event()

    def start(answer: bytes | None) -> Address:
        def handle(sock: Any, _: object) -> None:
            assert sock.recv(65536)[1] == GET_VALUES
            if answer is None:
                over.wait()
            else:
                sock.sendall(answer)

        servers.append(StreamServer(("127.0.0.1", 0), handle))
        servers[-1].start()
        return Address(*servers[-1].address)

    yield start
    over.set()
    for server in servers:
        server.stop()


@pytest.mark.parametrize(
    ("values", "capacity"),
    [
        ({"FCGI_MAX_CONNS": "4", "FCGI_MAX_REQS": "8", "FCGI_MPXS_CONNS": "0"}, 4),
        ({"FCGI_MAX_CONNS": "8", "FCGI_MAX_REQS": "3"}, 3),
        ({"FCGI_MAX_CONNS": "1"}, 1),
        ({"FCGI_MAX_CONNS": "99999999"}, 65535),
        ({"FCGI_MPXS_CONNS": "0"}, None),  # php-fpm
        ({}, None),
        ({"FCGI_MAX_CONNS": "0"}, None),
        ({"FCGI_MAX_CONNS": "-4"}, None),
        ({"FCGI_MAX_CONNS": "many"}, None),
        ({"FCGI_MAX_CONNS": ""}, None),
        ({"FCGI_MAX_CONNS": "4", "FCGI_MAX_REQS": "0"}, None),
        ({"FCGI_MAX_CONNS": "9" * 100}, None),
    ],
)
def test_what_a_backend_says(serve: Callable[[bytes], Address], values: dict[str, str], capacity: int | None) -> None:
    assert ask_capacity(serve(told(**values))) == capacity


def test_a_backend_that_does_not_know_the_question(serve: Callable[[bytes], Address]) -> None:
    assert ask_capacity(serve(record(UNKNOWN_TYPE, bytes([GET_VALUES, 0, 0, 0, 0, 0, 0, 0])))) is None


def test_a_backend_that_closes(serve: Callable[[bytes], Address]) -> None:
    assert ask_capacity(serve(b"")) is None


def test_a_backend_that_talks_nonsense(serve: Callable[[bytes], Address]) -> None:
    with pytest.raises(BadRecord):
        ask_capacity(serve(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def test_a_backend_that_says_nothing_is_waited_for_shortly(serve: Callable[[bytes | None], Address]) -> None:
    with pytest.raises(BackendTimeout):
        ask_capacity(serve(None), seconds=0.1)


def test_nobody_is_there() -> None:
    with pytest.raises(ConnectError):
        ask_capacity(Address(path="/nowhere/s"))


def test_our_own_server_says_what_it_serves(rig: Rig) -> None:
    rig.serve(lambda environ, start_response: [], max_connections=7)
    assert ask_capacity(Address(path=rig.path)) == 7


# When it is asked


class Asked:
    """Answers what the test puts in; `questions` are the addresses that were asked."""

    def __init__(self, *answers: int | Exception | None) -> None:
        self.questions: queue.Queue[Address] = queue.Queue()
        self.pauses: queue.Queue[float] = queue.Queue()
        self._answers: queue.Queue[int | Exception | None] = queue.Queue()
        for answer in answers:
            self._answers.put(answer)
        self.census = Census(ask=self._ask, sleep=self.pauses.put)

    def _ask(self, address: Address) -> int | None:
        self.questions.put(address)
        answer = self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def settle(self) -> None:
        gevent.joinall(list(self.census._asking.values()), timeout=5)


def make_pool(**options: Any) -> tuple[Pool, Proc]:
    capacity = options.pop("capacity", None)
    proc = Proc(Address("127.0.0.1", 9000), state=State.RUNNING, capacity=capacity, **options)
    return Pool([Host(HostConfig(), [proc])], LeastConnection(random.Random(1)), clock=time.monotonic), proc


REQUEST: Any = None


def test_a_capacity_is_learned_and_connections_are_kept_from_then_on() -> None:
    asked, (pool, proc) = Asked(3), make_pool()
    before = pool.acquire(REQUEST)
    asked.census.start([pool])
    asked.settle()
    assert (proc.capacity, proc.load) == (3, 1)
    assert before is not None
    assert pool.release(before, keep="kept") == ()
    asked.census.stop()


def test_the_question_counts_as_load() -> None:
    asked, (pool, proc) = Asked(), make_pool()
    asked.census.start([pool])
    asked.questions.get(timeout=5)
    assert proc.load == 1
    asked.census.stop()
    assert proc.load == 0


@pytest.mark.parametrize("answer", [None, BadRecord("garbage"), BackendError("cut off"), BackendTimeout("silent")])
def test_who_does_not_tell_stays_unknown_and_is_not_asked_again(answer: Exception | None) -> None:
    asked, (pool, proc) = Asked(answer), make_pool()
    asked.census.start([pool])
    asked.settle()
    asked.census.start([pool])
    assert (proc.capacity, proc.load, asked.questions.qsize()) == (None, 0, 1)


def test_who_cannot_be_reached_is_asked_again_with_growing_pauses() -> None:
    short = OSError(errno.EMFILE, "Too many open files")
    asked, (pool, proc) = Asked(*[ConnectError("refused")] * 8, short, 2), make_pool()
    asked.census.start([pool])
    asked.settle()
    assert [asked.pauses.get_nowait() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (proc.capacity, asked.questions.qsize()) == (2, 10)


@pytest.mark.parametrize("options", [{"capacity": 4}, {"keep_alive": False}])
def test_who_need_not_be_asked(options: dict[str, Any]) -> None:
    asked, (pool, _) = Asked(), make_pool(**options)
    asked.census.start([pool])
    assert not asked.census._asking


def test_a_learned_capacity_is_forgotten_with_a_failure_and_asked_for_anew() -> None:
    asked, (pool, proc) = Asked(3, 5), make_pool()
    pool.on_move = asked.census.consider
    asked.census.start([pool])
    asked.settle()
    lease = pool.acquire(REQUEST)
    assert lease is not None
    pool.failed(lease)
    pool.release(lease)
    assert (proc.state, proc.capacity) == (State.DISABLED, None)
    proc.disabled_until = 0.0
    assert pool.tick() is None
    asked.settle()
    assert proc.capacity == 5


def test_a_capacity_below_the_load_lets_it_fall_before_the_next_request() -> None:
    asked, (pool, _) = Asked(1), make_pool()
    first, second = pool.acquire(REQUEST), pool.acquire(REQUEST)
    asked.census.start([pool])
    asked.settle()
    assert pool.acquire(REQUEST) is None
    assert first is not None
    assert second is not None
    pool.release(first)
    assert pool.acquire(REQUEST) is None
    pool.release(second)
    assert pool.acquire(REQUEST) is not None


def test_connections_kept_by_the_word_of_a_backend_are_renewed() -> None:
    asked, (pool, proc) = Asked(3), make_pool()
    asked.census.start([pool])
    asked.settle()
    idle, busy = pool.acquire(REQUEST), pool.acquire(REQUEST)
    assert idle is not None
    assert busy is not None
    pool.release(idle, keep="idle")
    assert list(pool.renew()) == ["idle"]
    assert list(pool.release(busy, keep="busy")) == ["busy"]
    later = pool.acquire(REQUEST)
    assert later is not None
    assert pool.release(later, keep="later") == ()
    assert proc.idle == ["later"]
    asked.census.stop()


def test_those_of_a_configured_capacity_are_not() -> None:
    pool, proc = make_pool(capacity=2)
    lease = pool.acquire(REQUEST)
    assert lease is not None
    assert list(pool.renew()) == []
    assert pool.release(lease, keep="kept") == ()
    assert list(pool.renew()) == []
    assert proc.idle == ["kept"]
