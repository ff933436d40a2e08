"""A client whose request is answered before its body has come: it has a moment to send the rest, and no more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import gevent
import pytest
import webob
from gevent import socket
from gevent.pool import Pool

from gfastcgi.config import Address
from gfastcgi.errors import StreamClosed
from gfastcgi.http.request import Limits
from gfastcgi.net.listeners import listen
from gfastcgi.server import connection
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service, Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A client of a server that denies everything, unread."""
    monkeypatch.setattr(connection, "_LINGER_SECONDS", 0.2)
    service = Service(
        handler=lambda request: webob.Response(status=403, body=b"no"), refuse=lambda error: webob.Response(status=400),
        server_tag="", limits=Limits(),
        timeouts=Timeouts(keep_alive_idle=60, keep_alive_requests=9, read_idle=60, write_idle=60),
    )  # fmt: skip
    server = HTTPServer(listener=listen(Address("127.0.0.1", 0), 5), service=service, clients=Pool(5))
    server.start()
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=10) as sock:
        yield sock
    server.close()
    server.cut()
    assert server.drained.wait(10)


@pytest.mark.parametrize("pause", [60, 0.02], ids=["silence", "a byte now and then"])
def test_a_body_that_drips_holds_no_connection(client: socket.socket, pause: float) -> None:
    """Each byte comes within `server.max-read-idle`; all that nobody wants any more have two seconds."""
    client.sendall(HEAD)

    def drip() -> None:
        with contextlib.suppress(OSError):
            while True:
                gevent.sleep(pause)
                client.sendall(b"x")

    dripping = gevent.spawn(drip)
    received = b""
    while piece := client.recv(4096):
        received += piece
    assert received.startswith(b"HTTP/1.1 403 ")
    dripping.kill()


def test_a_body_that_comes_in_time_is_read_for_the_next_request(client: socket.socket) -> None:
    client.sendall(HEAD + b"x" * 50000 + HEAD)
    received = b""
    while received.count(b"HTTP/1.1 403 ") < 2 and (piece := client.recv(4096)):
        received += piece
    assert received.count(b"HTTP/1.1 403 ") == 2


@pytest.mark.parametrize(("version", "is_reset"), [("1.0", True), ("1.1", False)])
def test_an_answer_that_breaks_off_never_looks_whole(version: str, is_reset: bool) -> None:
    """HTTP/1.0 knows an answer's end by the connection's; HTTP/1.1 misses the last chunk."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * 100
        raise StreamClosed("the backend died")

    service = Service(
        handler=lambda request: webob.Response(app_iter=pieces()), refuse=lambda error: webob.Response(status=400),
        server_tag="",
    )  # fmt: skip
    server = HTTPServer(listener=listen(Address("127.0.0.1", 0), 5), service=service, clients=Pool(5))
    server.start()
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", server.address.port), timeout=10) as client:
            client.sendall(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
            try:
                while piece := client.recv(4096):
                    received += piece
            except ConnectionResetError:
                assert is_reset
            else:
                assert not is_reset
    finally:
        server.close()
    assert not received.endswith(b"0\r\n\r\n")
