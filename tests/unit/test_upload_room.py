"""Uploads in memory: whatever becomes of a request, the room that its body took is there again afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import fcgirig
import gevent
import pytest
from gevent import socket
from gevent.pool import Pool

from gfastcgi import Address, Config, HostConfig, Settings, assemble
from gfastcgi.config import Extension
from gfastcgi.net.listeners import listen
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 300_000
BODY = bytes(range(256)) * (SIZE // 256) + b"x" * (SIZE % 256)


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Does what its script's name says."""
    name = environ["SCRIPT_NAME"]
    if name == "/fail.x":
        raise RuntimeError("it broke")
    if name == "/unread.x":
        return fcgirig.hello(environ, start_response)
    if name == "/file.x":
        environ["wsgi.input"].read()
        start_response("200 OK", [("X-Sendfile", f"{environ['DOCUMENT_ROOT']}/file.txt")])
        return [b""]
    if name == "/large.x":
        environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 3_000_000]
    return fcgirig.echo(environ, start_response)


class Lab:
    """A gateway in this process in front of `app`."""

    def __init__(self, folder: Path) -> None:
        self.backend = fcgirig.Rig(folder)
        self.backend.serve(app)
        (folder / "file.txt").write_bytes(b"a file")
        host = HostConfig(
            socket=self.backend.path, check_local=False, x_sendfile=True, x_sendfile_docroot=(str(folder),)
        )
        settings = Settings(document_root=str(folder), extensions=(Extension(".x", (host,)),))
        self.gateway = assemble.build(Config(settings=settings)).gateway
        service = Service(handler=self.gateway.handle, refuse=self.gateway.refuse, server_tag="")
        self.server = HTTPServer(listener=listen(Address("127.0.0.1", 0), 50), service=service, clients=Pool(50))
        self.server.start()

    def post(self, path: str, *, sent: int = SIZE, reads: bool = True) -> bytes:
        """The answer; a client that sends less, or does not read, leaves before it."""
        with socket.create_connection(("127.0.0.1", self.server.address.port), timeout=20) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n"
            client.sendall(head.encode() + BODY[:sent])
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while reads and sent == SIZE and (piece := client.recv(65536)):
                    received += piece
            return received

    def stop(self) -> None:
        self.server.close()
        assert self.server.drained.wait(20)
        self.backend.stop()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.server.cut()
    lab.stop()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/echo.x", fcgirig.told(BODY)),
        ("/file.x", b"a file"),
        ("/unread.x", b"hello"),
        ("/fail.x", b"500"),
        ("/large.x", b"x" * 1000),
    ],
)
def test_a_whole_upload(lab: Lab, path: str, content: bytes) -> None:
    assert content in lab.post(path)
    assert lab.gateway._room.left == lab.gateway._room.size


def test_uploads_that_end_otherwise(lab: Lab) -> None:
    paths = ("/echo.x", "/file.x", "/unread.x", "/fail.x", "/large.x")
    clients = [gevent.spawn(lab.post, path, sent=SIZE // 2) for path in paths]
    clients += [gevent.spawn(lab.post, path, reads=False) for path in paths]
    gevent.joinall(clients, timeout=20, raise_error=True)
    lab.server.close()
    assert lab.server.drained.wait(20)
    assert lab.gateway._room.left == lab.gateway._room.size


def test_a_backend_that_is_gone(lab: Lab) -> None:
    lab.backend.stop()
    assert b"503" in lab.post("/echo.x")
    assert lab.gateway._room.left == lab.gateway._room.size


def test_what_finds_no_room_goes_to_a_file(lab: Lab) -> None:
    room = lab.gateway._room
    room.left = SIZE * 2
    answers = [gevent.spawn(lab.post, "/echo.x") for _ in range(8)]
    gevent.joinall(answers, timeout=20, raise_error=True)
    assert all(fcgirig.told(BODY) in answer.value for answer in answers)
    assert room.left == SIZE * 2
