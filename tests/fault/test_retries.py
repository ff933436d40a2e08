"""What becomes of a request when its backend fails: asked elsewhere, asked again, or not; and with which status.

reliability.md's rows F1, F3, F5 to F8 and facts.md's rules, over real sockets: the library's `Exchange`, no gateway.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import pytest
from peers.backend import (
    CANT_MPX_CONN,
    OVERLOADED,
    UNKNOWN_ROLE,
    BackendConnection,
    Reply,
    ScriptedBackend,
    Seen,
    answer,
    end,
    stdout,
)
from peers.processes import free_port

from gfastcgi.backend.backend import Host, make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.client import Exchange
from gfastcgi.client import exchange as client_exchange
from gfastcgi.config import HostConfig
from gfastcgi.errors import (
    BackendClosed,
    BackendTimeout,
    BadRecord,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    Overloaded,
    UnknownRole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

OK = "Content-Type: text/plain\r\n\r\nok"


class InOrder:
    """A balance that takes the first host that is up."""

    def select(self, candidates: Sequence[Host], request: object) -> Host:
        return candidates[0]


MUCH = bytes(1 << 22)
"""More than a socket holds."""


class Body:
    """A body in pieces; one that `can_rewind` is sent as often as need be, as spooled ones are."""

    def __init__(self, *pieces: bytes, can_rewind: bool = True) -> None:
        self.length = sum(map(len, pieces))
        self._pieces = pieces
        self._left = iter(pieces)
        self.is_closed = False
        if can_rewind:
            self.rewind = self._rewind

    def _rewind(self) -> None:
        self._left = iter(self._pieces)

    def read(self) -> bytes:
        return next(self._left, b"")

    def close(self) -> None:
        self.is_closed = True


def host(peer: ScriptedBackend | int | str, **options: Any) -> HostConfig:
    """The entry of a peer, of a port or of a socket's path."""
    if isinstance(peer, ScriptedBackend):
        assert isinstance(peer.address, str)
        peer = peer.address
    return (
        HostConfig(socket=peer, **options)
        if isinstance(peer, str)
        else HostConfig(host="127.0.0.1", port=peer, **options)
    )


pools: list[Pool] = []


def make_pool(*configs: HostConfig) -> Pool:
    pools.append(Pool(make_hosts(configs), InOrder(), clock=time.monotonic))
    return pools[-1]


@pytest.fixture(autouse=True)
def drained() -> Iterator[None]:
    yield
    while pools:
        for connection in pools.pop().drain():
            connection.close()


def ask(pool: Pool, method: str = "GET", *pieces: bytes, can_rewind: bool = True, params: bytes = b"") -> bytes:
    """The body of the answer. Whatever happens, nothing is held afterwards."""
    key = SimpleNamespace(method=method, authority="", path="/", remote_addr="", balance="fair")
    body = Body(*pieces, can_rewind=can_rewind)
    exchange = Exchange(pool, key, lambda _: params, body)
    try:
        exchange.start()
        return b"".join(exchange)
    finally:
        exchange.close()
        assert body.is_closed
        assert all(proc.load == 0 for each in pool.hosts for proc in each.procs)


# Nothing was sent


def test_five_refusals_are_no_failure(backend: Callable[..., ScriptedBackend]) -> None:
    peer = backend()
    pool = make_pool(*[host(free_port()) for _ in range(5)], host(peer))
    ask(pool, "POST", b"pay", b"once", can_rewind=False)
    assert [seen.stdin for seen in peer.requests] == [b"payonce"]
    assert [each.procs[0].state for each in pool.hosts] == [State.DISABLED] * 5 + [State.RUNNING]


def test_six_refusals_are_one(backend: Callable[..., ScriptedBackend]) -> None:
    peer = backend()
    pool = make_pool(*[host(free_port()) for _ in range(6)], host(peer))
    with pytest.raises(ConnectError) as caught:
        ask(pool)
    assert (caught.value.status_hint, caught.value.cause) == (503, "connect_refused")
    assert peer.begun == 0


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes sockets whose listen queue is full: nobody is refused, and nobody gets in."""
    with contextlib.ExitStack() as held:

        def make() -> str:
            path = str(tmp_path / f"full-{len(list(tmp_path.iterdir()))}")
            listener = held.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(0)
            while True:
                waiting = held.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                if waiting.connect_ex(path):
                    return path

        yield make


def test_one_connect_timeout_is_no_failure(full: Callable[[], str], backend: Callable[..., ScriptedBackend]) -> None:
    pool = make_pool(host(full(), connect_timeout=0.1), host(backend(lambda seen: answer(OK))))
    assert ask(pool, "POST", b"pay", can_rewind=False) == b"ok"
    assert pool.hosts[0].procs[0].state is State.DISABLED


def test_two_connect_timeouts_are_504(full: Callable[[], str], backend: Callable[..., ScriptedBackend]) -> None:
    peer = backend()
    pool = make_pool(host(full(), connect_timeout=0.1), host(full(), connect_timeout=0.1), host(peer))
    with pytest.raises(ConnectTimeout) as caught:
        ask(pool)
    assert (caught.value.status_hint, caught.value.cause) == (504, "connect_timeout")
    assert peer.begun == 0


# Something was sent


def closing(connection: BackendConnection) -> None:
    """Reads a request and hangs up."""
    connection.read_request()


def test_a_request_that_may_have_been_done_is_never_sent_twice(backend: Callable[..., ScriptedBackend]) -> None:
    first, other = backend(talk=closing), backend()
    with pytest.raises(BackendClosed) as caught:
        ask(make_pool(host(first), host(other)), "POST", b"pay")
    assert (caught.value.status_hint, caught.value.cause) == (502, "eof_before_headers")
    assert (first.begun, other.begun) == (1, 0)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "POST"])
def test_nor_is_one_without_a_body_that_changes_something(backend: Callable[..., ScriptedBackend], method: str) -> None:
    first, other = backend(talk=closing), backend()
    with pytest.raises(BackendClosed):
        ask(make_pool(host(first), host(other)), method)
    assert (first.begun, other.begun) == (1, 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_safe_request_is_asked_once_more(backend: Callable[..., ScriptedBackend], method: str) -> None:
    peer = backend(talk=closing)
    with pytest.raises(BackendClosed):
        ask(make_pool(host(peer)), method)
    assert peer.begun == 2


def test_a_safe_request_with_a_body_is_not(backend: Callable[..., ScriptedBackend]) -> None:
    peer = backend(talk=closing)
    with pytest.raises(BackendClosed):
        ask(make_pool(host(peer)), "GET", b"a query")
    assert peer.begun == 1


@pytest.mark.parametrize("said", [stdout(b"Status: 200"), stdout(OK.encode())])
def test_nor_is_what_was_answered_in_part(backend: Callable[..., ScriptedBackend], said: bytes) -> None:
    peer = backend(lambda seen: Reply(said, "close"))
    with pytest.raises(BackendClosed):
        ask(make_pool(host(peer)))
    assert peer.begun == 1


def test_garbage_is_no_reason_to_ask_again(backend: Callable[..., ScriptedBackend]) -> None:
    peer, other = backend(lambda seen: Reply(b"\x02\x06\0\x01\0\0\0\0", "close")), backend()
    with pytest.raises(BadRecord):
        ask(make_pool(host(peer), host(other)))
    assert (peer.begun, other.begun) == (1, 0)


# Silence


def test_read_timeout_is_504_and_the_end(backend: Callable[..., ScriptedBackend]) -> None:
    silent, other = backend(lambda seen: Reply(b"", "hang")), backend()
    with pytest.raises(BackendTimeout) as caught:
        ask(make_pool(host(silent, read_timeout=0.2), host(other)))
    assert (caught.value.status_hint, caught.value.cause) == (504, "read_timeout")
    assert (silent.begun, other.begun) == (1, 0)


def test_read_timeout_is_not_the_time_of_the_whole_answer(backend: Callable[..., ScriptedBackend]) -> None:
    def trickle(connection: BackendConnection) -> None:
        seen = connection.read_request()
        assert seen is not None
        for byte in OK:
            connection.sock.sendall(stdout(byte.encode()))
            connection.backend.ending.wait(0.02)
        connection.sock.sendall(end())

    assert ask(make_pool(host(backend(talk=trickle), read_timeout=0.4))) == b"ok"


def test_write_timeout_is_504_and_the_end(backend: Callable[..., ScriptedBackend]) -> None:
    over = threading.Event()
    deaf, other = backend(talk=lambda connection: over.wait(10)), backend()
    try:
        with pytest.raises(BackendTimeout) as caught:
            ask(make_pool(host(deaf, write_timeout=0.2), host(other)), "POST", *[b"x" * 65536] * 64)
    finally:
        over.set()
    assert (caught.value.status_hint, caught.value.cause) == (504, "write_timeout")
    assert str(caught.value) == f"{deaf.address} takes no more of the body"
    assert other.begun == 0


def test_an_answer_behind_the_time_limit_is_none(
    backend: Callable[..., ScriptedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes whole, before any timer notices."""
    now = [0.0]
    monkeypatch.setattr(client_exchange, "monotonic", lambda: now[0])

    def be_late(seen: object) -> bytes:
        now[0] = 61.0
        return answer(OK)

    key = SimpleNamespace(method="GET", authority="", path="/", remote_addr="", balance="fair")
    exchange = Exchange(make_pool(host(backend(be_late))), key, lambda _: b"", Body(), time_limit=60)
    with pytest.raises(BackendTimeout, match="took more than 60 s"):
        exchange.start()


def test_a_head_that_nobody_reads_is_504_and_the_end(backend: Callable[..., ScriptedBackend]) -> None:
    """It left without a wait; whoever waits for the answer learns that it never will."""
    over = threading.Event()
    deaf, other = backend(talk=lambda connection: over.wait(10)), backend()
    try:
        with pytest.raises(BackendTimeout) as caught:
            ask(make_pool(host(deaf, write_timeout=0.2), host(other)), params=MUCH)
    finally:
        over.set()
    assert (caught.value.status_hint, caught.value.cause, other.begun) == (504, "write_timeout", 0)
    assert str(caught.value) == f"{deaf.address} takes nothing of the request"


def test_an_answer_before_the_request_was_read_ends_the_connection(backend: Callable[..., ScriptedBackend]) -> None:
    """The rest of the request must not be taken for the next one."""
    over = threading.Event()

    def hurry(connection: BackendConnection) -> None:
        connection.sock.sendall(answer(OK))
        over.wait(10)

    pool = make_pool(host(backend(talk=hurry), max_connections=1))
    try:
        assert ask(pool, params=MUCH) == b"ok"
    finally:
        over.set()
    assert pool.hosts[0].procs[0].idle == []


# Refusals by END_REQUEST


@pytest.mark.parametrize("status", [OVERLOADED, CANT_MPX_CONN])
def test_a_refusal_is_tried_elsewhere_with_the_whole_body(backend: Callable[..., ScriptedBackend], status: int) -> None:
    busy, free = backend(lambda seen: end(protocol_status=status)), backend(lambda seen: answer(OK))
    pool = make_pool(host(busy), host(free))
    assert ask(pool, "POST", b"pay", b"once") == b"ok"
    assert free.last.stdin == b"payonce"
    assert pool.hosts[0].procs[0].state is State.OVERLOADED


def test_a_refusal_of_a_body_that_is_gone_is_503(backend: Callable[..., ScriptedBackend]) -> None:
    busy, free = backend(lambda seen: end(protocol_status=OVERLOADED)), backend()
    with pytest.raises(Overloaded) as caught:
        ask(make_pool(host(busy), host(free)), "POST", b"pay", can_rewind=False)
    assert caught.value.status_hint == 503
    assert free.begun == 0


def test_a_second_refusal_is_503(backend: Callable[..., ScriptedBackend]) -> None:
    peers = [backend(lambda seen: end(protocol_status=OVERLOADED)) for _ in range(3)]
    with pytest.raises(Overloaded):
        ask(make_pool(*map(host, peers)))
    assert [peer.begun for peer in peers] == [1, 1, 0]


def test_an_unknown_role_is_a_fault_of_the_configuration(backend: Callable[..., ScriptedBackend]) -> None:
    wrong, other = backend(lambda seen: end(protocol_status=UNKNOWN_ROLE)), backend()
    with pytest.raises(UnknownRole) as caught:
        ask(make_pool(host(wrong), host(other)))
    assert (caught.value.status_hint, other.begun) == (502, 0)


# Kept connections


def once(connection: BackendConnection) -> None:
    """Answers one request, and hangs up with the next before or after it has read it."""
    seen = connection.read_request()
    assert seen is not None
    connection.sock.sendall(answer(OK))


def twice(connection: BackendConnection) -> None:
    """Answers one request, reads another, and hangs up."""
    once(connection)
    connection.read_request()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_died_is_replaced_silently(backend: Callable[..., ScriptedBackend], method: str) -> None:
    peer = backend(talk=once)
    pool = make_pool(host(peer, max_connections=1))
    for number in range(1, 4):
        assert ask(pool, method, *([b"pay"] if method == "POST" else [])) == b"ok"
        peer.wait_for(lambda peer: not peer.open, "the backend to hang up")
        assert peer.connections == number


def test_one_that_hangs_up_on_a_request_that_it_read(backend: Callable[..., ScriptedBackend]) -> None:
    peer = backend(talk=twice)
    pool = make_pool(host(peer, max_connections=1))
    assert ask(pool) == b"ok"
    assert ask(pool) == b"ok", "a GET does no harm twice"
    with pytest.raises(BackendClosed):
        ask(pool, "POST", b"pay")
    assert (peer.begun, peer.connections) == (4, 2)


def test_where_the_capacity_is_unknown_every_request_has_its_own(backend: Callable[..., ScriptedBackend]) -> None:
    def script(seen: Seen) -> bytes:
        assert not seen.keep_conn
        return answer(OK)

    peer = backend(script)
    pool = make_pool(host(peer))
    assert [ask(pool) for _ in range(3)] == [b"ok"] * 3
    assert peer.connections == 3


def test_who_is_killed_while_it_gives_back_holds_nothing(backend: Callable[..., ScriptedBackend]) -> None:
    """The answer is whole, the body still comes, and the client leaves: the slot and the connection are free."""

    def answer_early(connection: BackendConnection) -> None:
        seen = connection.read_request(until="params")
        assert seen is not None
        connection.sock.sendall(answer(OK))
        connection.wait_for_end()

    peer = backend(talk=answer_early)
    pool = make_pool(host(peer, max_connections=1))
    body = Body(b"x")
    body.read = lambda: gevent.sleep(60) or b""  # type: ignore[method-assign, func-returns-value]
    key = SimpleNamespace(method="POST", authority="", path="/", remote_addr="", balance="fair")
    exchange = Exchange(pool, key, lambda _: b"", body)
    exchange.start()
    may_end = gevent.event.Event()
    ending = gevent.spawn(lambda: may_end.wait() and exchange.close())
    gevent.sleep(0)
    may_end.set()
    ending.kill(ClientClosed("the client left"))  # arrives while it waits for the end of who sends the body
    assert isinstance(ending.exception, ClientClosed)
    assert [proc.load for proc in pool.hosts[0].procs] == [0]
    peer.wait_for(lambda peer: not peer.open, "the connection to be closed")


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_body_that_cannot_be_read_back_ends_the_request(backend: Callable[..., ScriptedBackend], method: str) -> None:
    """A disk that fails is nobody's silence: the backend would wait for the rest, and we for the backend."""
    body = Body(MUCH, can_rewind=False)
    pieces = iter((bytes(1 << 16), b""))

    def read() -> bytes:
        if next(pieces):
            return bytes(1 << 16)
        raise OSError(errno.EIO, "Input/output error")

    body.read = read  # type: ignore[method-assign]
    key = SimpleNamespace(method=method, authority="", path="/", remote_addr="", balance="fair")
    exchange = Exchange(make_pool(host(backend())), key, lambda _: b"", body)
    with gevent.Timeout(20), pytest.raises(OSError, match="Input/output"):
        exchange.start()
    assert body.is_closed
