"""One who sends as fast as it can, or all at once, gets its turn like everybody: no more."""

from __future__ import annotations

import random
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from gevent import socket
from gevent.pool import Pool
from peers.backend import answer, stderr

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool as BackendPool
from gfastcgi.balance.least_connection import LeastConnection
from gfastcgi.client import Exchange
from gfastcgi.config import Address, HostConfig
from gfastcgi.net.listeners import listen
from gfastcgi.server.body import EMPTY
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.backend import BackendConnection, ScriptedBackend

    from gfastcgi.request import Request

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
MANY = 200


class Lab:
    """A server in this process. `story` are the paths of its requests, and what the handler adds, in their order."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.then: Callable[[Request], Any] = lambda request: None
        service = Service(handler=self.answer, refuse=lambda error: webob.Response(status=400), server_tag="")
        self.server = HTTPServer(listener=listen(Address("127.0.0.1", 0), 5), service=service, clients=Pool(9))
        self.server.start()
        self.clients: list[socket.socket] = []
        self.at_end: Callable[[], None] = lambda: None

    def answer(self, request: Request) -> webob.Response:
        self.story.append(request.path)
        self.then(request)
        return webob.Response(body=b"done.\n")

    def connect(self, count: int) -> list[socket.socket]:
        """Clients that have had an answer already."""
        made = [socket.create_connection(("127.0.0.1", self.server.address.port), timeout=20) for _ in range(count)]
        self.clients += made
        for client in made:
            client.sendall(GET % b"/")
            read(client)
        self.story.clear()
        return made


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.at_end()
    for client in lab.clients:
        client.close()
    lab.server.close()
    lab.server.cut()


def read(client: socket.socket, answers: int = 1) -> bytes:
    received = b""
    while received.count(b"done.\n") < answers:
        data = client.recv(65536)
        assert data, "the connection was closed without an answer"
        received += data
    return received


def test_many_requests_at_once_come_one_after_the_other(lab: Lab) -> None:
    # So often gevent looks for what has come while greenlets give way to each other: 5 ms are not much.
    before = gevent.getswitchinterval()
    gevent.setswitchinterval(1e-6)
    lab.at_end = lambda: gevent.setswitchinterval(before)
    greedy, other = lab.connect(2)

    def come(request: Request) -> None:
        if len(lab.story) == 1:
            other.sendall(GET % b"/other")

    lab.then = come
    greedy.sendall(GET % b"/greedy" * MANY)
    read(greedy, MANY)
    read(other)
    assert lab.story.index("/other") < MANY / 2


def test_a_fast_upload_lets_others_through(lab: Lab) -> None:
    """All of it is there already: so many small chunks take long to look through."""

    def read_all(request: Request) -> None:
        while request.body.read():
            if request.body.received % 1000 == 0:  # type: ignore[attr-defined]
                lab.story.append("piece")

    lab.then = read_all
    before, greedy, behind = lab.connect(3)
    body = b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
    sending = gevent.spawn(
        greedy.sendall, b"POST /greedy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    )
    before.sendall(GET % b"/other")
    behind.sendall(GET % b"/other")
    for client in (greedy, before, behind):
        read(client)
    sending.get()
    last = len(lab.story) - 1 - lab.story[::-1].index("/other")
    assert lab.story[:last].count("piece") < 30
    assert lab.story.count("piece") == 60


def test_a_graceful_stop_breaks_nothing_that_has_come(lab: Lab) -> None:
    """Two requests are read together; while the first is worked on the server is told to end."""
    first = True

    def stop(request: Request) -> None:
        nonlocal first
        if first:
            first = False
            lab.server.close()
        gevent.sleep(0.02)

    clients = lab.connect(4)
    lab.then = stop
    for client in clients:
        client.sendall(GET % b"/x")
    for client in clients:
        assert b" 200 " in read(client)
        assert client.recv(100) == b""
    assert lab.server.drained.wait(10)


def test_a_backend_that_writes_fast_lets_others_through(backend: Callable[..., ScriptedBackend]) -> None:
    """All of it lies in the kernel's buffer: nothing else than our manners ends a turn."""
    written, turns = threading.Event(), [0]

    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for _ in range(7):
            connection.sock.sendall(stderr(b"x" * 40000))
        connection.sock.sendall(answer("Status: 200\r\n\r\nwhole"))
        written.set()

    def tick() -> None:
        while True:
            turns[0] += 1
            gevent.sleep(0)

    def hold(data: bytes) -> None:
        # The whole hub stands still until the backend has written all.
        assert written.wait(20)
        turns[0] = 0

    peer = backend(talk=talk)
    hosts = make_hosts([HostConfig(socket=str(peer.address))])
    key = SimpleNamespace(method="GET", authority="", path="/", remote_addr="", balance="fair")
    pool = BackendPool(hosts, LeastConnection(random.Random(1)), clock=time.monotonic)
    exchange = Exchange(pool, key, lambda _: b"", EMPTY, log_stderr=hold)
    ticking = gevent.spawn(tick)
    try:
        exchange.start()
        assert b"".join(exchange) == b"whole"
        assert turns[0] >= 1
    finally:
        ticking.kill()
        exchange.close()
