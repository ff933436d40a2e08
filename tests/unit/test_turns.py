"""One look at a file serves all requests that were read before it, and none that may know of a later change."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import webob
from gevent import socket
from gevent.pool import Pool

from gfastcgi import Address, Config, HostConfig, ServerConfig, Settings, assemble
from gfastcgi.config import Extension
from gfastcgi.files import shelf
from gfastcgi.net.listeners import listen
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gfastcgi.request import Request

Start = "Callable[[Callable[[Request], webob.Response]], Callable[[], socket.socket]]"
GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def serve() -> Iterator[Start]:
    """Starts a server with a handler; what it gives connects clients."""
    started: list[Any] = []

    def start(handler: Callable[[Request], webob.Response]) -> Callable[[], socket.socket]:
        service = Service(handler=handler, refuse=lambda error: webob.Response(status=400), server_tag="")
        server = HTTPServer(listener=listen(Address("127.0.0.1", 0), 5), service=service, clients=Pool(5))
        server.start()
        started.append(server)

        def connect() -> socket.socket:
            client = socket.create_connection(("127.0.0.1", server.address.port), timeout=20)
            started.append(client)
            return client

        return connect

    yield start
    for each in started:
        each.close()


def read(client: socket.socket, answers: int = 1) -> bytes:
    """So many answers, each with a content that ends with a full stop."""
    received = b""
    while received.count(b".\n") < answers:
        received += client.recv(4096)
    return received


def test_requests_that_are_read_together_have_one_turn(serve: Start) -> None:
    turns: list[int] = []

    def note(request: Request) -> webob.Response:
        turns.append(request.turn)
        return webob.Response(body=b"done.\n")

    connect = serve(note)
    clients = [connect(), connect()]
    for _ in range(2):
        for client in clients:
            client.sendall(GET % b"/")
        for client in clients:
            read(client)
    first, second, third, fourth = turns
    assert first == second != third == fourth
    assert 0 not in turns


def test_pipelined_requests_have_none_but_the_first(serve: Start) -> None:
    """The first may have changed what the second one asks for."""
    turns: list[int] = []

    def note(request: Request) -> webob.Response:
        turns.append(request.turn)
        return webob.Response(body=b"done.\n")

    client = serve(note)()
    client.sendall(GET % b"/" * 3)
    read(client, 3)
    assert turns[0] != 0
    assert turns[1:] == [0, 0]


def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are looked at from now on."""
    names: list[str] = []
    stat = os.stat

    def note(name: Any, **options: Any) -> os.stat_result:
        names.append(str(name))
        return stat(name, **options)

    monkeypatch.setattr(shelf.os, "stat", note)
    return names


def gateway(root: Path, authorizer: Callable[[Any], Any] | None = None) -> Callable[[Request], webob.Response]:
    gates = () if authorizer is None else (Extension("/", (HostConfig(python=authorizer, mode="authorizer"),)),)
    settings = Settings(document_root=str(root), extensions=gates)
    return assemble.build(Config(server=ServerConfig(), settings=settings)).gateway.handle


def test_a_hot_file_is_looked_at_once_in_a_round(serve: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_SETTLED_SECONDS", -1)
    path = tmp_path / "a.txt"
    path.write_bytes(b"old.\n")
    connect = serve(gateway(tmp_path))
    clients = [connect() for _ in range(4)]
    clients[0].sendall(GET % b"/a.txt")
    read(clients[0])
    names = looked(monkeypatch)
    for client in clients:
        client.sendall(GET % b"/a.txt")
    for client in clients:
        assert b"old." in read(client)
    assert names == [str(path)]
    path.write_bytes(b"new.\n")
    for client in clients:
        client.sendall(GET % b"/a.txt")
    for client in clients:
        assert b"new." in read(client)


def test_who_is_asked_may_write_the_file(serve: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An authorizer in our own process writes what is asked for, between two clients of one round."""
    monkeypatch.setattr(shelf, "_SETTLED_SECONDS", -1)
    path = tmp_path / "a.txt"
    path.write_bytes(b"old.\n")

    def write(request: webob.Request) -> bool:
        if "new" in request.query_string:
            path.write_bytes(b"new.\n")
        return True

    connect = serve(gateway(tmp_path, write))
    before, writer, behind = clients = [connect() for _ in range(3)]
    before.sendall(GET % b"/a.txt")
    read(before)
    for client in clients:
        client.sendall(GET % (b"/a.txt?new" if client is writer else b"/a.txt"))
    assert b"new." in read(writer)
    # In whatever order they are served, one has looked before it was written.
    assert b"old." in read(before) + read(behind)
