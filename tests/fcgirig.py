"""A FastCGI server in this process, clients on our own web server's end, and small applications."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gevent import socket
from gevent.event import Event

from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest, Stderr, Stdout, WebServer
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.server.fastcgi import FastCGIServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gfastcgi.fcgi.connection import Event as FCGIEvent

PARAMS = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/app", "PATH_INFO": "/x", "QUERY_STRING": "a=1", "SERVER_NAME": "host",
    "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
}  # fmt: skip


def params(**more: str) -> bytes:
    return encode_pairs((name.encode(), value.encode()) for name, value in {**PARAMS, **more}.items())


def post(size: int, **more: str) -> bytes:
    return params(REQUEST_METHOD="POST", CONTENT_LENGTH=str(size), **more)


@dataclass
class Answer:
    """What came for one request."""

    stdout: bytes = b""
    stderr: bytes = b""
    end: EndRequest | None = None

    @property
    def head(self) -> bytes:
        return self.stdout.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.stdout.partition(b"\r\n\r\n")[2]


@dataclass
class Client:
    """The web server's side of one connection."""

    sock: socket.socket
    core: WebServer = field(default_factory=WebServer)
    answers: dict[int, Answer] = field(default_factory=dict)
    others: list[FCGIEvent] = field(default_factory=list)
    is_closed: bool = False

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def begin(
        self, request_id: int = 1, *, role: int = c.RESPONDER, pairs: bytes | None = None, keep_conn: bool = True,
        stdin: bytes | None = b"",
    ) -> None:  # fmt: skip
        self.answers[request_id] = Answer()
        variables = params() if pairs is None else pairs
        self.send(self.core.begin_request(request_id, role, variables, keep_conn=keep_conn, stdin=stdin))

    def stdin(self, data: bytes, request_id: int = 1) -> None:
        self.send(self.core.send_stdin(request_id, data))

    def read(self, until: Callable[[], object]) -> None:
        while not until() and not self.is_closed:
            data = self.sock.recv(65536)
            self.is_closed = not data
            for event in self.core.receive_data(data):
                if isinstance(event, Stdout):
                    self.answers[event.request_id].stdout += event.data
                elif isinstance(event, Stderr):
                    self.answers[event.request_id].stderr += event.data
                elif isinstance(event, EndRequest):
                    self.answers[event.request_id].end = event
                else:
                    self.others.append(event)

    def answer(self, request_id: int = 1) -> Answer:
        """The whole answer of a request."""
        answer = self.answers[request_id]
        self.read(lambda: answer.end)
        assert answer.end is not None, "the connection was closed before END_REQUEST"
        return answer

    def request(self, request_id: int = 1, **options: Any) -> Answer:
        self.begin(request_id, **options)
        return self.answer(request_id)

    def read_end(self) -> None:
        """Reads until the server has closed the connection."""
        self.read(lambda: False)


class Rig:
    """A server on a unix socket, and its clients."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "app.sock")
        self.server: FastCGIServer | None = None
        self.clients: list[Client] = []

    def serve(self, app: Any = None, *, tcp: bool = False, **options: Any) -> Client:
        listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        listener.bind(("127.0.0.1", 0) if tcp else self.path)
        listener.listen()
        self.family, self.address = listener.family, listener.getsockname()
        self.server = FastCGIServer(listener, app, **options)
        self.server.start()
        return self.client()

    def client(self) -> Client:
        sock = socket.socket(self.family)
        sock.settimeout(20)
        self.clients.append(Client(sock))
        sock.connect(self.address)
        return self.clients[-1]

    @property
    def open_requests(self) -> int:
        assert self.server is not None
        return self.server._service.open_requests

    def stop(self) -> None:
        for client in self.clients:
            client.sock.close()
        if self.server is not None:
            self.server.stop(5)
            assert not self.open_requests
            assert not self.server._connections


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def fail(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise RuntimeError("it broke")


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with the size and hash of what it was sent."""
    digest, size = hashlib.sha256(), 0
    while data := environ["wsgi.input"].read(10_000):
        digest.update(data)
        size += len(data)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %s" % (size, digest.hexdigest().encode())]


def told(data: bytes) -> bytes:
    return b"%d %s" % (len(data), hashlib.sha256(data).hexdigest().encode())


class Watched:
    """An iterable that knows whether it was closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)
        self.taken = 0
        self.closed = Event()

    def __iter__(self) -> Watched:
        return self

    def __next__(self) -> bytes:
        piece = next(self.pieces)
        self.taken += 1
        return piece

    def close(self) -> None:
        self.closed.set()

    def app(self, environ: dict[str, Any], start_response: Any) -> Watched:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self
