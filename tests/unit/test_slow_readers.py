"""Clients that are slow to read their answers, or never do: nothing is cut short, and nobody is waited for for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest
import webob
from gevent import socket
from gevent.pool import Pool

from gfastcgi.config import Address
from gfastcgi.http.request import Limits
from gfastcgi.net.listeners import listen
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gfastcgi.request import Request

CONTENT = bytes(range(256)) * 240
"""Just small enough to be sent in one piece."""
REQUESTS = 8
"""More answers than a socket holds."""
SMALL = 16384
"""Bytes of a socket's buffer."""
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Rig:
    """A server of large answers on small sockets. `asked` counts the requests that were worked on."""

    def __init__(self, *, write_idle: float = 60, keep_alive_idle: float = 60) -> None:
        self.asked = 0
        service = Service(
            handler=self.answer, refuse=lambda error: webob.Response(status=400), server_tag="", limits=Limits(),
            timeouts=Timeouts(keep_alive_idle=keep_alive_idle, write_idle=write_idle),
        )  # fmt: skip
        listener = listen(Address("127.0.0.1", 0), 5)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        self.server = HTTPServer(listener=listener, service=service, clients=Pool(5))
        self.server.start()

    def answer(self, request: Request) -> webob.Response:
        self.asked += 1
        return webob.Response(body=CONTENT)

    def connect(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.settimeout(20)
        client.connect(("127.0.0.1", self.server.address.port))
        return client

    def wait_until_stuck(self) -> None:
        """Returns when the server gets no further: what it has sent nobody reads."""
        asked = -1
        while asked != self.asked or not asked:
            asked = self.asked
            gevent.sleep(0.1)


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**timeouts: float) -> Rig:
        made.append(Rig(**timeouts))
        return made[-1]

    yield make
    for rig in made:
        rig.server.close()
        rig.server.cut()
        assert rig.server.drained.wait(10)


def read_all(client: socket.socket) -> list[bytes]:
    """The contents of the answers, up to the end of the stream."""
    received = b""
    while piece := client.recv(65536):
        received += piece
    return [answer.partition(b"\r\n\r\n")[2] for answer in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]


def test_who_sends_many_requests_and_reads_late_gets_every_answer(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    client = rig.connect()
    client.sendall(REQUEST * REQUESTS)
    rig.wait_until_stuck()
    assert rig.asked < REQUESTS, "no more than the next answer is made before the last ones are read"
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == [CONTENT] * REQUESTS
    client.close()


@pytest.mark.parametrize("why", ["keep-alive ends", "the server stops"])
def test_the_end_of_an_idle_connection_cuts_no_answer_short(make_rig: Callable[..., Rig], why: str) -> None:
    rig = make_rig(keep_alive_idle=0.1 if why == "keep-alive ends" else 60)
    client = rig.connect()
    client.sendall(REQUEST)
    rig.wait_until_stuck()
    if why == "the server stops":
        rig.server.close()
    gevent.sleep(0.4)
    assert not rig.server.drained.is_set()
    assert read_all(client) == [CONTENT]
    client.close()


def test_who_never_reads_is_hung_up_on(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(write_idle=0.2)
    client = rig.connect()
    client.sendall(REQUEST * REQUESTS)
    with gevent.Timeout(20):
        while not rig.asked or rig.server.connections:
            gevent.sleep(0.05)
    client.close()
