"""The FastCGI server in this process, asked by our own web server's end over real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import gevent
import pytest
import webob
from gevent import socket
from gevent.event import Event

from gfastcgi.errors import StreamClosed
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest, Stderr, Stdout, UnknownType, Values, WebServer
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.fcgi.records import encode_record
from gfastcgi.server import stdin
from gfastcgi.server.fastcgi import FastCGIServer, listener_from_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.stop()


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


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


# WSGI


def test_an_answer_leaves_in_records_that_end(rig: Rig) -> None:
    answer = rig.serve(hello).request()
    assert answer.stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"
    assert (answer.stderr, answer.end) == (b"", EndRequest(1, 0, 0))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_wsgiref_finds_no_fault(rig: Rig, method: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        data = environ["wsgi.input"].read(5) + environ["wsgi.input"].readline() + environ["wsgi.input"].read(1000)
        print("a line", file=environ["wsgi.errors"])
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        return iter([b"got ", data])

    client = rig.serve(validator(app))
    answer = client.request(pairs=params(REQUEST_METHOD=method, CONTENT_LENGTH="13"), stdin=b"12345 line\n67")
    assert answer.stderr == b"a line\n"
    assert answer.body == b"written got 12345 line\n67"


def test_the_environ(rig: Rig) -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        return hello(environ, start_response)

    more = {"HTTPS": "on", "HTTP_PROXY": "http://evil/", "HTTP_CONTENT_LENGTH": "9", "HTTP_X": "ü", "FCGI_ROLE": "x"}
    rig.serve(app).request(pairs=params(**more))
    assert {name: seen[name] for name in PARAMS} == PARAMS
    assert seen["HTTP_X"] == "ü".encode().decode("latin-1")
    assert seen["FCGI_ROLE"] == "RESPONDER"
    assert not {"HTTP_PROXY", "HTTP_CONTENT_LENGTH"} & set(seen)
    assert (seen["wsgi.version"], seen["wsgi.url_scheme"]) == ((1, 0), "https")
    assert (seen["wsgi.multithread"], seen["wsgi.multiprocess"], seen["wsgi.run_once"]) == (False, False, False)


@pytest.mark.parametrize(
    ("sent", "script_name", "path_info"),
    [
        ({"SCRIPT_NAME": "/app", "PATH_INFO": "/x"}, "/app", "/x"),
        ({"SCRIPT_NAME": "/app", "PATH_INFO": ""}, "/app", ""),
        ({"SCRIPT_NAME": "/", "PATH_INFO": ""}, "", "/"),
        ({"SCRIPT_NAME": "", "PATH_INFO": "/x"}, "", "/x"),
    ],
)
def test_script_name_and_path_info(rig: Rig, sent: dict[str, str], script_name: str, path_info: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)
        return hello(environ, start_response)

    assert rig.serve(validator(app)).request(pairs=params(**sent)).stderr == b""


def test_content_streams_in_as_it_comes(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        while data := environ["wsgi.input"].read1(100):
            yield b"[" + data + b"]"

    client = rig.serve(app)
    client.begin(pairs=post(6), stdin=None)
    answer = client.answers[1]
    for data, so_far in ((b"one", b"[one]"), (b"two", b"[one][two]")):
        client.stdin(data)
        client.read(lambda so_far=so_far: answer.body == so_far)
        assert answer.body == so_far
    client.stdin(b"")
    assert client.answer().end == EndRequest(1, 0, 0)


def test_reading_lines_while_they_come(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        lines = list(environ["wsgi.input"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr(lines).encode()]

    client = rig.serve(app)
    client.begin(pairs=post(9), stdin=None)
    for data in (b"on", b"e\ntwo\nth", b"r", b""):
        client.stdin(data)
        gevent.sleep(0)
    assert client.answer().body == repr([b"one\n", b"two\n", b"thr"]).encode()


def test_an_unread_upload_waits_outside(rig: Rig) -> None:
    release, data = Event(), os.urandom(3_000_000)
    inputs: list[stdin.StdinBuffer] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        inputs.append(environ["wsgi.input"].raw._buffer)
        release.wait()
        return echo(environ, start_response)

    client = rig.serve(app)
    client.begin(pairs=post(len(data)), stdin=None)
    sender = gevent.spawn(client.stdin, data)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.3):
        sender.get()
    assert inputs[0]._size <= stdin.LIMIT + 2 * 65536
    assert inputs[0]._file is None
    release.set()
    sender.get()
    client.stdin(b"")
    assert client.answer().body == told(data)


def test_an_unread_answer_is_not_made(rig: Rig) -> None:
    watched = Watched(b"x" * 65536 for _ in range(100))
    client = rig.serve(watched.app)
    client.begin()
    while watched.taken < 2:
        gevent.sleep(0.01)
    gevent.sleep(0.2)
    assert watched.taken < 50
    assert len(client.answer().body) == 100 * 65536
    assert watched.closed.is_set()


def test_a_huge_piece(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"a" * 3_000_000] if environ["QUERY_STRING"] == "list" else iter([b"a" * 3_000_000, b"", b"b"])

    client = rig.serve(app)
    assert client.request(pairs=params(QUERY_STRING="list")).body == b"a" * 3_000_000
    assert client.request(pairs=params(QUERY_STRING="iterator")).body == b"a" * 3_000_000 + b"b"


def test_a_file_wrapper_is_closed(rig: Rig) -> None:
    file = io.BytesIO(b"y" * 100_000)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](file, 1000)

    assert rig.serve(app).request().body == b"y" * 100_000
    assert file.closed


def test_errors_are_sent_by_lines_and_at_the_end(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.errors"].writelines(["one", " line\nand ", "the rest \udc80"])
        return hello(environ, start_response)

    assert rig.serve(app).request().stderr == b"one line\nand the rest \\udc80"


# Errors


def fail(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise RuntimeError("it broke")


def lose_a_stream(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise StreamClosed("a connection of the application's own")


def forget(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return [b"no head"]


def start_twice(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def inject(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-A", "b\r\nSet-Cookie: evil=1")])
    return []


def inject_name(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-A: b\r\nX-B", "c")])
    return []


def inject_status(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK\r\nX-A: b", [])
    return []


def fail_to_close(environ: dict[str, Any], start_response: Any) -> Any:
    class Result(Watched):
        def close(self) -> None:
            raise RuntimeError("cannot close")

    start_response("200 OK", [])
    return Result([])


@pytest.mark.parametrize(
    "app", [fail, lose_a_stream, forget, start_twice, inject, inject_name, inject_status, fail_to_close]
)
def test_an_error_before_the_answer_is_a_500(rig: Rig, app: Any) -> None:
    client = rig.serve(app)
    for _ in range(2):
        answer = client.request()
        assert answer.head.startswith(b"Status: 500 Internal Server Error\r\n")
        assert b"evil" not in answer.stdout
        assert answer.stderr.startswith(b"Traceback (most recent call last)")
        assert answer.end == EndRequest(1, 1, c.REQUEST_COMPLETE)


def test_an_error_inside_the_answer_never_looks_whole(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"half"
        raise RuntimeError("it broke")

    client = rig.serve(app)
    client.begin()
    client.read_end()
    answer = client.answers[1]
    assert answer.body == b"half"
    assert b"it broke" in answer.stderr
    assert answer.end is None


def test_an_error_inside_an_answer_on_a_shared_connection(rig: Rig) -> None:
    release = Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"half"
        release.wait()
        if environ["QUERY_STRING"] == "bad":
            raise RuntimeError("it broke")

    client = rig.serve(app)
    client.begin(1, pairs=params(QUERY_STRING="bad"))
    client.begin(2)
    client.read(lambda: client.answers[1].body and client.answers[2].body)
    release.set()
    assert client.answer(1).end == EndRequest(1, 1, 0)
    assert client.answer(2).end == EndRequest(2, 0, 0)


def test_exc_info(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [("X-First", "1")])
        if environ["QUERY_STRING"] == "late":
            write(b"too late")
        try:
            raise RuntimeError("it broke")
        except RuntimeError:
            start_response("503 Busy", [("X-Second", "2")], sys.exc_info())
        yield b"busy"

    client = rig.serve(app)
    assert client.request(pairs=params(QUERY_STRING="early")).stdout == b"Status: 503 Busy\r\nX-Second: 2\r\n\r\nbusy"
    client.begin(pairs=params(QUERY_STRING="late"))
    client.read_end()
    assert client.answers[1].end is None
    assert client.answers[1].body == b"too late"


# Connections


def test_a_connection_is_kept_when_asked(rig: Rig) -> None:
    client = rig.serve(hello)
    for _ in range(5):
        assert client.request(keep_conn=True).body == b"hello"
    assert client.request(keep_conn=False).body == b"hello"
    client.read_end()
    assert client.is_closed


def test_an_answer_before_the_content_is_read_arrives_whole(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("413 Too Large", [("Content-Type", "text/plain")])
        return [b"n" * 100_000]

    client = rig.serve(app)
    client.begin(pairs=post(5_000_000), keep_conn=False, stdin=None)

    def upload() -> None:
        with contextlib.suppress(OSError):
            for _ in range(50):
                client.stdin(b"u" * 100_000)

    uploading = gevent.spawn(upload)
    assert client.answer().body == b"n" * 100_000
    client.read_end()
    uploading.get()


def test_many_requests_on_one_connection_are_not_mixed_up(rig: Rig) -> None:
    client = rig.serve(echo)
    bodies = {request_id: os.urandom(1000 * request_id) for request_id in range(1, 101)}
    reader = gevent.spawn(client.read, lambda: sum(answer.end is not None for answer in client.answers.values()) == 100)
    for request_id in bodies:
        client.begin(request_id, pairs=post(0), stdin=None)
    for at in range(0, 100_000, 1700):
        for request_id, body in bodies.items():
            if at < len(body):
                client.stdin(body[at : at + 1700], request_id)
    for request_id in bodies:
        client.stdin(b"", request_id)
    reader.get()
    assert {request_id: answer.body for request_id, answer in client.answers.items()} == {
        request_id: told(body) for request_id, body in bodies.items()
    }


def test_a_slow_reader_on_a_shared_connection_stalls_only_itself(rig: Rig) -> None:
    release, data = Event(), os.urandom(2_000_000)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"] == "slow":
            release.wait()
        return echo(environ, start_response)

    client = rig.serve(app)
    client.begin(1, pairs=post(len(data), QUERY_STRING="slow"), stdin=None)
    client.begin(2, pairs=post(0), stdin=None)
    client.stdin(data, 1)
    client.stdin(b"quick", 2)
    client.stdin(b"", 2)
    assert client.answer(2).body == told(b"quick")
    release.set()
    client.stdin(data, 1)
    client.stdin(b"", 1)
    assert client.answer(1).body == told(data + data)


def test_get_values_and_unknown_management_records(rig: Rig) -> None:
    client = rig.serve(hello, max_connections=10, max_requests=20)
    client.send(client.core.get_values([c.MAX_CONNS, c.MAX_REQS, c.MPXS_CONNS, b"OTHER"]))
    client.read(lambda: client.others)
    assert client.others == [Values({c.MAX_CONNS: b"10", c.MAX_REQS: b"20", c.MPXS_CONNS: b"1"})]
    client.core.get_values([])
    client.send(encode_record(42, 0, b"?"))
    client.read(lambda: len(client.others) == 2)
    assert client.others[1] == UnknownType(42)


def test_a_role_that_nobody_plays(rig: Rig) -> None:
    client = rig.serve(hello)
    for role in (c.AUTHORIZER, c.FILTER, 77):
        assert client.request(role=role).end == EndRequest(1, 0, c.UNKNOWN_ROLE)
        client = rig.client()  # its STDIN was not waited for, so that our end trusts it no more
    assert client.request().body == b"hello"


def test_more_requests_than_allowed_are_overload(rig: Rig) -> None:
    release = Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        release.wait()
        return hello(environ, start_response)

    client = rig.serve(app, max_requests=2)
    client.begin(1)
    client.begin(2)
    client.begin(3)
    assert client.answer(3).end == EndRequest(3, 0, c.OVERLOADED)
    release.set()
    assert client.answer(1).body == client.answer(2).body == b"hello"


def test_connections_beyond_the_most_wait(rig: Rig) -> None:
    first = rig.serve(hello, max_connections=1)
    assert first.request().body == b"hello"
    second = rig.client()
    second.begin()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
        second.answer()
    first.sock.close()
    assert second.answer().body == b"hello"


@pytest.mark.parametrize("record", [b"GET / HTTP/1.1\r\n\r\n", encode_record(c.STDOUT, 1, b"x")])
def test_a_broken_record_ends_the_connection_and_its_requests(rig: Rig, record: bytes) -> None:
    def forever() -> Iterator[bytes]:
        yield b"first"
        Event().wait()

    watched = Watched(forever())
    client = rig.serve(watched.app)
    client.begin()
    client.read(lambda: client.answers[1].body)
    client.send(record)
    with contextlib.suppress(ConnectionResetError):
        client.read_end()
    assert watched.closed.wait(5)
    assert not rig.open_requests


# Aborts


def test_an_abort_closes_the_iterable_and_the_connection_lives(rig: Rig) -> None:
    def forever() -> Iterator[bytes]:
        yield b"first"
        Event().wait()

    watched = Watched(forever())
    client = rig.serve(lambda *arguments: watched.app(*arguments) if watched.taken == 0 else hello(*arguments))
    client.begin()
    client.read(lambda: client.answers[1].body)
    client.send(client.core.abort_request(1))
    assert client.answer().end == EndRequest(1, 1, c.REQUEST_COMPLETE)
    assert watched.closed.is_set()
    client.core = WebServer()
    assert client.request().body == b"hello"


def test_an_abort_before_the_params_are_complete(rig: Rig) -> None:
    client = rig.serve(hello)
    client.answers[1] = Answer()
    client.core.begin_request(1, c.RESPONDER, b"", keep_conn=True)
    client.send(encode_record(c.BEGIN_REQUEST, 1, b"\0\1\1\0\0\0\0\0") + encode_record(c.ABORT_REQUEST, 1, b""))
    assert client.answer().end == EndRequest(1, 1, 0)


def test_an_abort_in_one_piece_with_its_request(rig: Rig) -> None:
    client = rig.serve(fail)
    client.answers[1] = Answer()
    core = client.core
    client.send(core.begin_request(1, c.RESPONDER, params(), keep_conn=True) + core.abort_request(1))
    answer = client.answer()
    assert (answer.stdout, answer.stderr, answer.end) == (b"", b"", EndRequest(1, 1, 0))


def test_an_abort_never_leaves_half_a_record(rig: Rig) -> None:
    watched = Watched(b"z" * 60_000 for _ in range(100))
    client = rig.serve(watched.app)
    client.begin()
    while watched.taken < 3:
        gevent.sleep(0.01)
    client.send(client.core.abort_request(1))
    assert watched.closed.wait(5)
    assert client.answer().end == EndRequest(1, 1, 0)


def test_the_end_of_the_connection_is_an_abort(rig: Rig) -> None:
    entered, left = Event(), Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        entered.set()
        try:
            Event().wait()
        finally:
            left.set()
        return []

    client = rig.serve(app)
    client.begin()
    entered.wait()
    client.sock.close()
    assert left.wait(5)


# Authorizers


def authorize(request: webob.Request) -> webob.Response:
    if request.path == "/fail":
        raise RuntimeError("it broke")
    if request.headers.get("Cookie") != "let me in":
        return webob.Response("no", status=403, content_type="text/plain")
    response = webob.Response(status=200)
    response.headers["Variable-REMOTE_USER"] = request.path
    return response


def az(path: str, **more: str) -> bytes:
    sent = {"REQUEST_METHOD": "POST", "REQUEST_URI": path, "SERVER_NAME": "h", "SERVER_PORT": "80", **more}
    return encode_pairs((name.encode(), value.encode()) for name, value in sent.items())


def test_an_authorizer(rig: Rig) -> None:
    client = rig.serve(hello, authorizer=authorize)
    allowed = client.request(role=c.AUTHORIZER, pairs=az("/a", HTTP_COOKIE="let me in"))
    assert allowed.head.startswith(b"Status: 200 OK\r\n")
    assert b"\r\nVariable-REMOTE_USER: /a" in allowed.head
    assert allowed.end == EndRequest(1, 0, 0)
    denied = client.request(role=c.AUTHORIZER, pairs=az("/a"))
    assert denied.head.startswith(b"Status: 403 Forbidden\r\n")
    assert denied.body == b"no"
    broken = client.request(role=c.AUTHORIZER, pairs=az("/fail"))
    assert broken.head.startswith(b"Status: 500 ")
    assert broken.end == EndRequest(1, 1, 0)
    assert client.request().body == b"hello"


def test_an_authorizer_starts_without_stdin_and_never_waits_for_it(rig: Rig) -> None:
    def reading(request: webob.Request) -> webob.Response:
        assert request.body == b""
        assert "CONTENT_LENGTH" not in request.environ
        assert request.environ["FCGI_ROLE"] == "AUTHORIZER"
        return webob.Response(status=200)

    client = rig.serve(authorizer=reading)
    answer = client.request(role=c.AUTHORIZER, pairs=az("/", CONTENT_LENGTH="5", HTTP_CONTENT_LENGTH="5"), stdin=None)
    assert answer.head.startswith(b"Status: 200 OK\r\n"), answer


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"DOCUMENT_ROOT": "/srv/", "SCRIPT_FILENAME": "/srv/private/x"}, "/private/x"),
        ({"DOCUMENT_ROOT": "/srv", "SCRIPT_FILENAME": "/srvother/x"}, "/a/b c"),
        ({}, "/a/b c"),
        ({"REQUEST_URI": "//a/%2e%2e/b/?q"}, "/b/"),
        ({"REQUEST_URI": "/../.."}, "/"),
    ],
)
def test_an_authorizer_decides_by_the_path_that_will_be_opened(rig: Rig, more: dict[str, str], path: str) -> None:
    seen = []

    def look(request: webob.Request) -> webob.Response:
        seen.append(request.path_info)
        return webob.Response(status=200)

    rig.serve(authorizer=look).request(role=c.AUTHORIZER, pairs=az("/a/./b%20c?q=1", **more))
    assert seen == [path]


# Who may connect, and the end


@pytest.mark.parametrize(
    ("allowed", "is_served"),
    [
        ("127.0.0.1", True),
        ("10.0.0.1, ::ffff:127.0.0.1", True),
        ("", True),
        ("10.0.0.1", False),
        ("nonsense", False),
    ],
)
def test_web_server_addrs(rig: Rig, monkeypatch: pytest.MonkeyPatch, allowed: str, is_served: bool) -> None:
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", allowed)
    client = rig.serve(hello, tcp=True)
    if is_served:
        assert client.request().body == b"hello"
    else:
        with contextlib.suppress(ConnectionError):
            client.begin()
            client.read_end()
        assert client.answers[1].stdout == b""


def test_unix_peers_are_no_addresses(rig: Rig) -> None:
    assert rig.serve(hello, allowed_addresses=["10.0.0.1"]).request().body == b"hello"


def test_a_graceful_stop(rig: Rig) -> None:
    entered, release = Event(), Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"] != "quick":
            entered.set()
            release.wait()
        return hello(environ, start_response)

    busy = rig.serve(app)
    idle = rig.client()
    busy.begin()
    idle.begin(keep_conn=True, pairs=params(QUERY_STRING="quick"))
    assert idle.answer().body == b"hello"
    entered.wait()
    assert rig.server is not None
    serving = gevent.spawn(rig.server.serve_forever)
    stopping = gevent.spawn(rig.server.stop, 10)
    idle.read_end()
    with pytest.raises(OSError, match="refused"):
        rig.client()
    busy.begin(2)
    assert busy.answer(2).end == EndRequest(2, 0, c.OVERLOADED)
    assert not serving.ready()
    release.set()
    assert busy.answer(1).body == b"hello"
    busy.read_end()
    stopping.get(timeout=5)
    serving.get(timeout=5)


def test_a_stop_has_its_deadline(rig: Rig) -> None:
    left = Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            Event().wait()
        finally:
            left.set()
        return []

    client = rig.serve(app)
    client.begin()
    while not rig.open_requests:
        gevent.sleep(0.01)
    assert rig.server is not None
    rig.server.stop(0.1)
    assert left.is_set()


PROGRAM = """
from gfastcgi.server.fastcgi import run
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ["wsgi.multiprocess"]).encode()]
run(app)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_spawned_program_serves_descriptor_0_until_a_signal(tmp_path: Path, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "app.sock"))
        listener.listen()
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=listener.fileno())
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(tmp_path / "app.sock"))
            assert Client(sock).request().body == b"True"
            process.send_signal(number)
            assert process.wait(10) == 0
            assert sock.recv(1) == b""
    finally:
        process.kill()
        process.wait()


def test_descriptors_without_a_listener(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="not a listening socket"):
        listener_from_fd(file.fileno())
    with socket.socket() as sock, pytest.raises(OSError, match="does not listen"):
        listener_from_fd(sock.fileno())
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="does not listen"):
        listener_from_fd(ours.fileno())


def test_repr(rig: Rig) -> None:
    rig.serve(hello).request()
    assert repr(rig.server) == "<FastCGIServer 1 connections, 0 requests>"
