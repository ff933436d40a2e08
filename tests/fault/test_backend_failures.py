"""Backends that are down, overloaded, cut off or silent, and clients that leave: who notices, and how soon."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

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
from peers.http import encode_request
from peers.processes import free_port
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

OK = "Content-Type: text/plain\r\n\r\nok"


def site_of(*hosts: str, options: str = "") -> str:
    entries = ", ".join(f'( {host}, "check-local" => "disable"{options} )' for host in hosts)
    return f'fastcgi.server = ( "/" => ( {entries} ) )\n'


@pytest.mark.parametrize("status", [OVERLOADED, CANT_MPX_CONN], ids=["overloaded", "cant-mpx-conn"])
def test_refusal_is_tried_elsewhere(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], status: int
) -> None:
    """The body goes along to the one that takes the request."""
    busy = backend(lambda seen: end(protocol_status=status))
    free = backend()
    site = gateway('fastcgi.balance = "round-robin"\n' + site_of(busy.option, free.option))
    for _ in range(6):
        assert site.request("POST", "/", b"the body").json()["size"] == 8
    assert len(busy.requests) >= 1
    assert len(free.requests) == 6


def test_all_overloaded(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    peers = [backend(lambda seen: end(protocol_status=OVERLOADED)) for _ in range(2)]
    site = gateway(site_of(*(peer.option for peer in peers)))
    got = site.get("/")
    assert got.status == 503
    assert sum(len(peer.requests) for peer in peers) <= 3
    for peer in peers:
        peer.script = lambda seen: answer(OK)
    wait_until(lambda: site.get("/").status == 200, "the backends to be tried again", 5)


def test_unknown_role(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    peer = backend(lambda seen: end(protocol_status=UNKNOWN_ROLE))
    site = gateway(site_of(peer.option))
    assert site.get("/").status == 502
    site.wait_for_log("(?i)unknown.role")


def test_app_status(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """A responder's exit status is logged, its answer stands."""
    peer = backend(lambda seen: stdout(OK.encode()) + end(app_status=3))
    site = gateway(site_of(peer.option))
    assert site.get("/").body == b"ok"
    site.wait_for_log("(?i)status.* 3")


def test_down_and_up_again(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    """Nobody listens: 503 at once, one line of log; somebody does again: served after `disable-time`."""
    path = str(tmp_path / "late.sock")
    site = gateway(site_of(f'"socket" => "{path}"', options=', "disable-time" => 1'))
    started = time.monotonic()
    for _ in range(20):
        assert site.get("/").status == 503
    assert time.monotonic() - started < 2
    assert site.log.count("\n") < 15
    late = ScriptedBackend(path)
    try:
        wait_until(lambda: site.get("/").status == 200, "the backend to be found", 5)
    finally:
        site.stop()
        late.stop()


def test_one_of_two_is_down(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """No client notices, not even the first."""
    up = backend()
    site = gateway(site_of(f'"host" => "127.0.0.1", "port" => {free_port()}', up.option))
    for number in range(10):
        assert site.request("POST", "/", b"x" * number).json()["size"] == number


def test_closed_before_an_answer(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """What was sent may have been done: a POST is never sent twice."""
    peer = backend(lambda seen: Reply(b"", "close"))
    site = gateway(site_of(peer.option))
    assert site.request("POST", "/", b"pay").status in (500, 502)
    assert peer.begun == 1


@pytest.mark.parametrize("then", ["close", "reset", "half"])
@pytest.mark.parametrize("length", ["", "Content-Length: 9999\r\n"], ids=["chunked", "length"])
def test_broken_answer_never_looks_whole(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], then: str, length: str
) -> None:
    peer = backend(lambda seen: Reply(stdout(f"Content-Type: a/b\r\n{length}\r\nhalf".encode()), then))
    site = gateway(site_of(peer.option))
    with site.connect() as connection:
        got = connection.request("GET", "/")
        assert got.status == 502 or not got.whole
        if got.status != 502:
            assert connection.is_closed()
    assert peer.begun == 1


def test_timeouts(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """`read-timeout` passes in silence: 504 before the answer, a cut inside it."""
    peer = backend(lambda seen: Reply(b"", "hang"))
    site = gateway(site_of(peer.option, options=', "read-timeout" => 1'))
    started = time.monotonic()
    assert site.get("/").status == 504
    assert 0.8 < time.monotonic() - started < 3
    peer.script = lambda seen: Reply(stdout(OK.encode()), "hang")
    with site.connect() as connection:
        assert not connection.request("GET", "/").whole
        assert connection.is_closed()


def test_client_leaves_before_the_answer(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """The backend is told by ABORT_REQUEST or by the end of its connection, within a second."""
    left = threading.Event()

    def talk(connection: BackendConnection) -> None:
        if connection.read_request() is not None:
            connection.read_record()
            left.set()

    peer = backend(talk=talk)
    site = gateway(site_of(peer.option))
    connection = site.connect()
    connection.send(encode_request("POST", "/", b"body"))
    peer.wait_for(lambda peer: peer.requests, "the request")
    connection.sock.close()
    assert left.wait(2), "the backend works on for nobody"
    peer.wait_for(lambda peer: not peer.open, "its connection to end", 2)


def test_client_leaves_during_the_answer(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(b"Content-Type: a/b\r\n\r\n"))
        while True:
            connection.sock.sendall(stdout(b"x" * 65535))

    peer = backend(talk=talk)
    site = gateway(site_of(peer.option))
    for _ in range(3):
        connection = site.connect()
        connection.send(encode_request("GET", "/"))
        connection.read_head()
        connection.reset()
    peer.wait_for(lambda peer: peer.connections == 3 and not peer.open, "the backend to be left", 3)
    spent = site.cpu_seconds()
    with pytest.raises(AssertionError):
        wait_until(lambda: site.cpu_seconds() > spent + 0.2, "a busy loop", 0.5)


def test_capacity_is_given_back(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """After every kind of failure the one place that a backend has is free again."""
    kinds: list[Callable[[Seen], bytes | Reply]] = [
        lambda seen: Reply(b"", "close"),
        lambda seen: Reply(b"", "reset"),
        lambda seen: Reply(b"garbage that is no record", "close"),
        lambda seen: Reply(stdout(b"no head"), "close"),
        lambda seen: Reply(stdout(OK.encode()), "reset"),
        lambda seen: Reply(b"", "hang"),
        lambda seen: end(protocol_status=OVERLOADED),
        lambda seen: end(protocol_status=UNKNOWN_ROLE),
    ]
    peer = backend()
    site = gateway(site_of(peer.option, options=', "max-connections" => 1, "read-timeout" => 1, "queue-timeout" => 2'))
    fds = site.fds()
    for kind in kinds:
        peer.script = kind
        got = site.get("/")
        assert got.status >= 500 or not got.whole, got
        peer.script = lambda seen: answer(OK)
        wait_until(lambda: site.get("/").body == b"ok", "the backend to serve again", 5)
    wait_until(lambda: site.fds() <= fds + 1, "its descriptors to be closed", 3)


def test_an_answer_that_nobody_wants(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """HEAD ends with the head, however long the body is: the backend's only connection is free again."""
    peer = backend(lambda seen: answer("Content-Type: text/plain\r\n\r\n" + "x" * 1_000_000))
    site = gateway(site_of(f'{peer.option}, "max-connections" => 1, "queue-timeout" => 2'))
    for _ in range(3):
        assert site.request("HEAD", "/").status == 200
    assert len(site.get("/").body) == 1_000_000
