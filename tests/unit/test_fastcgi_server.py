"""The FastCGI server in this process: connections, aborts and authorizers, asked over real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket as plain_socket
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from fcgirig import Answer, Client, Rig, Watched, echo, fail, hello, params, post, told
from gevent import socket
from gevent.event import Event

from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest, UnknownType, Values, WebServer
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.fcgi.records import encode_record
from gfastcgi.server.fastcgi import FastCGIServer, listener_from_fd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


@pytest.mark.parametrize(("descriptors", "told"), [(256, 192), (10, 1), (4096, 1024), (resource.RLIM_INFINITY, 1024)])
def test_no_more_connections_are_promised_than_there_are_descriptors(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, descriptors: int, told: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (descriptors, descriptors))
    client = rig.serve(hello)
    client.send(client.core.get_values([c.MAX_CONNS]))
    client.read(lambda: client.others)
    assert client.others == [Values({c.MAX_CONNS: b"%d" % told})]


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


class Exhausted:
    """A listener that has no descriptor for anybody until it is `well`."""

    def __init__(self, sock: Any) -> None:
        self.sock, self.well, self.tries = sock, False, 0

    def _accept(self) -> Any:
        self.tries += 1
        if self.well:
            return self.sock._accept()
        raise OSError(errno.EMFILE, "Too many open files")

    def close(self) -> None:
        self.sock.close()


def test_out_of_descriptors_it_tries_again_after_a_moment(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.serve(hello).request()
    assert rig.server is not None
    exhausted: Any = Exhausted(rig.server._listener)
    rig.server._listener = exhausted
    client = rig.client()
    client.begin()
    while exhausted.tries < 3:
        gevent.sleep(0.01)
    turns = 0
    while exhausted.tries < 4:
        turns += 1
        gevent.sleep(0)
    assert turns > 10, "it tries in every turn of the hub"
    assert "no connection accepted: [Errno 24] Too many open files" in caplog.text
    exhausted.well = True
    assert client.answer().body == b"hello"


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


def test_descriptors_without_a_listener(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="not a listening socket"):
        listener_from_fd(file.fileno())
    with socket.socket() as sock, pytest.raises(OSError, match="does not listen"):
        listener_from_fd(sock.fileno())
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="does not listen"):
        listener_from_fd(ours.fileno())


def test_a_listener_of_the_standard_library(rig: Rig) -> None:
    with plain_socket.create_server(("127.0.0.1", 0)) as listener:
        server = FastCGIServer(listener, hello)
        assert listener.fileno() == -1, "the server has it now"
    server.start()
    with socket.create_connection(server.address) as sock:
        assert Client(sock).request().body == b"hello"
    server.stop(1)


def test_repr(rig: Rig) -> None:
    rig.serve(hello).request()
    assert repr(rig.server) == "<FastCGIServer 1 connections, 0 requests>"
