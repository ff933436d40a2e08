"""Applications that block, in native threads of the FastCGI server."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import gevent
import pytest
from fcgirig import Rig, echo, fail, hello, params, post, told

from gfastcgi.errors import StreamClosed
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest
from gfastcgi.server.threads import Threaded

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_one_that_blocks_stops_nobody(rig: Rig) -> None:
    release = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"] == "block":
            assert release.wait(20)
        else:
            release.set()
        return hello(environ, start_response)

    client = rig.serve(Threaded(app, 2))
    client.begin(1, pairs=params(QUERY_STRING="block"))
    client.begin(2)
    assert client.answer(2).body == client.answer(1).body == b"hello"


@pytest.mark.parametrize(("threads", "is_many"), [(1, False), (4, True)])
def test_as_many_at_once_as_there_are_threads(rig: Rig, threads: int, is_many: bool) -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(threads)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal running, most
        assert environ["wsgi.multithread"] is is_many
        with lock:
            running += 1
            most = max(most, running)
        together.wait(20)
        with lock:
            running -= 1
        return hello(environ, start_response)

    client = rig.serve(Threaded(app, threads))
    for n in range(1, 9):
        client.begin(n)
    assert [client.answer(n).body for n in range(1, 9)] == [b"hello"] * 8
    assert most <= threads
    assert repr(Threaded(hello, 1)).startswith("<Threaded <function hello")


def test_content_streams_in(rig: Rig) -> None:
    data = os.urandom(2_000_000)
    client = rig.serve(Threaded(validator(validated_echo), 2))
    client.begin(pairs=post(len(data)), stdin=None)
    for at in range(0, len(data), 100_000):
        client.stdin(data[at : at + 100_000])
        gevent.sleep(0)
    client.stdin(b"")
    assert client.answer().body == told(data)
    assert client.request(pairs=post(3), stdin=b"abc").body == told(b"abc")


def validated_echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    print("an error line", file=environ["wsgi.errors"])
    return echo(environ, start_response)


def test_error_text_arrives(rig: Rig) -> None:
    assert rig.serve(Threaded(validated_echo, 1)).request().stderr == b"an error line\n"


def test_answers_stream_out(rig: Rig) -> None:
    seen, closed = threading.Event(), threading.Event()

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            yield b"first"
            assert seen.wait(20)
            yield b""
            yield b"second" * 100_000

        def close(self) -> None:
            closed.set()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])(b"zeroth ")
        return Pieces()

    client = rig.serve(Threaded(app, 1))
    client.begin()
    client.read(lambda: client.answers[1].body == b"zeroth first")
    seen.set()
    assert client.answer().body == b"zeroth first" + b"second" * 100_000
    assert closed.is_set()


def forget(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    yield b"no head"


@pytest.mark.parametrize("app", [fail, forget])
def test_errors(rig: Rig, app: Any) -> None:
    client = rig.serve(Threaded(app, 1))
    for _ in range(2):
        answer = client.request()
        assert answer.head.startswith(b"Status: 500 ")
        assert answer.stderr.startswith(b"Traceback")
        assert answer.end == EndRequest(1, 1, c.REQUEST_COMPLETE)


@pytest.mark.parametrize("is_asking", [True, False])
def test_an_abort_is_told_to_the_thread(rig: Rig, is_asking: bool) -> None:
    entered, aborted, errors = threading.Event(), threading.Event(), []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        entered.set()
        if not is_asking:
            assert aborted.wait(20)
        try:
            environ["wsgi.input"].read()
        except StreamClosed as error:
            errors.append(error)
        return hello(environ, start_response)

    client = rig.serve(Threaded(app, 1))
    client.begin(pairs=post(5), stdin=None)
    while not entered.is_set():
        gevent.sleep(0.001)
    client.send(client.core.abort_request(1))
    assert client.answer().end == EndRequest(1, 1, 0)
    aborted.set()
    while not errors:
        gevent.sleep(0.001)
    assert rig.client().request(stdin=b"").body == b"hello"
