"""The FastCGI server as a WSGI server: environ, content, answers and errors, asked over real sockets."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import gevent
import pytest
from fcgirig import PARAMS, Rig, Watched, echo, fail, hello, params, post, told
from gevent.event import Event

from gfastcgi.errors import StreamClosed
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest
from gfastcgi.server import stdin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
    assert answer.body == (b"" if method == "HEAD" else b"written got 12345 line\n67")


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
    client.begin(pairs=post(len(data)), keep_conn=False, stdin=None)
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
