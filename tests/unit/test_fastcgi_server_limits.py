"""What one request, or one web server, can do to the others of a FastCGI server: little."""

from __future__ import annotations

import hashlib
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from fcgirig import Rig, Watched, echo, fail, hello, params, post, told
from gevent.event import Event

from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest
from gfastcgi.fcgi.records import encode_record
from gfastcgi.server import stdin as stdin_module
from gfastcgi.server import workers as workers_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fcgirig import Client


class Slow:
    """An application that reads its content when it is allowed to."""

    def __init__(self) -> None:
        self.release = Event()
        self.entered = Event()

    def app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"] == "slow":
            self.entered.set()
            self.release.wait()
        return echo(environ, start_response)


def upload(client: Client, data: bytes, request_id: int = 1, **options: Any) -> None:
    client.begin(request_id, pairs=post(len(data), QUERY_STRING="slow"), stdin=None, **options)
    client.stdin(data, request_id)
    client.stdin(b"", request_id)


def test_what_is_not_read_on_a_kept_connection_stalls_nobody_who_comes_later(rig: Rig) -> None:
    slow, data = Slow(), os.urandom(3_000_000)
    client = rig.serve(slow.app)
    upload(client, data)
    client.begin(2, stdin=b"")
    assert client.answer(2).body == told(b"")
    slow.release.set()
    assert client.answer(1).body == told(data)


def test_a_connection_that_nobody_shares_waits_at_the_limit(rig: Rig) -> None:
    slow, data = Slow(), os.urandom(2_000_000)
    client = rig.serve(slow.app, max_spooled=200_000)
    sending = gevent.spawn(upload, client, data)
    slow.entered.wait()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.3):
        sending.get()
    slow.release.set()
    sending.get()
    assert client.answer().body == told(data)


def test_beyond_the_limit_a_shared_connection_gives_the_request_up(rig: Rig) -> None:
    slow = Slow()
    client = rig.serve(slow.app, max_spooled=200_000)
    client.begin(2, pairs=post(3, QUERY_STRING="slow"), stdin=None)
    upload(client, os.urandom(2_000_000))
    assert client.answer(1).end == EndRequest(1, 1, 0)
    assert client.answers[1].stdout == b""
    slow.release.set()
    client.stdin(b"abc", 2)
    client.stdin(b"", 2)
    assert client.answer(2).body == told(b"abc")


def test_a_full_disk_ends_the_request_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(**options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stdin_module.tempfile, "TemporaryFile", no_file)
    slow = Slow()
    client = rig.serve(slow.app)
    upload(client, os.urandom(500_000))
    assert client.answer(1).end == EndRequest(1, 1, 0)
    slow.release.set()
    client = rig.client()
    assert client.request().body == told(b"")


def test_a_flood_of_questions_is_not_answered_without_end(rig: Rig) -> None:
    client = rig.serve(hello)
    question = encode_record(c.GET_VALUES, 0, b"\x0e\x00FCGI_MAX_CONNS") * 1000

    def ask() -> None:
        for _ in range(2000):
            client.send(question)

    asking = gevent.spawn(ask)
    with pytest.raises(gevent.Timeout), gevent.Timeout(1.0):
        asking.get()
    assert rig.server is not None
    [connection] = rig.server._connections
    assert connection._duplex._unsent_size < 4_000_000
    asking.kill()


def test_a_web_server_that_reads_nothing_is_cut_off(rig: Rig) -> None:
    watched = Watched(b"x" * 65536 for _ in range(1000))
    client = rig.serve(watched.app, write_timeout=0.2)
    client.begin()
    assert watched.closed.wait(10)
    client.read_end()
    assert client.answers[1].end is None
    assert not rig.open_requests


# What applications do to their greenlet


def exit_program(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    sys.exit("enough")


def time_out(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    with gevent.Timeout(0.01):
        Event().wait()
    return []


@pytest.mark.parametrize("app", [exit_program, time_out, fail])
def test_no_error_ends_more_than_its_request(rig: Rig, app: Any) -> None:
    client = rig.serve(app)
    for _ in range(3):
        answer = client.request()
        assert answer.head.startswith(b"Status: 500 ")
        assert answer.end == EndRequest(1, 1, 0)


def test_requests_do_not_see_each_other_s_context(rig: Rig) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="clean")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found = variable.get()
        variable.set("dirty")
        start_response("200 OK", [])
        return [found.encode()]

    client = rig.serve(app)
    assert [client.request().body for _ in range(3)] == [b"clean"] * 3


def test_a_forgotten_time_out_hits_nobody_else(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["QUERY_STRING"] == "forget":
            gevent.Timeout.start_new(0.05)
        return hello(environ, start_response)

    client = rig.serve(app)
    assert client.request(pairs=params(QUERY_STRING="forget")).body == b"hello"
    gevent.sleep(0.1)
    assert client.request().body == b"hello"
    capfd.readouterr()  # the hub tells of the time-out


def test_greenlets_are_kept_up_to_a_number(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "MOST_IDLE", 2)
    release = Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        release.wait()
        return hello(environ, start_response)

    client = rig.serve(app)
    for request_id in range(1, 11):
        client.begin(request_id)
    while rig.open_requests < 10:
        gevent.sleep(0.001)
    release.set()
    assert [client.answer(request_id).body for request_id in range(1, 11)] == [b"hello"] * 10
    assert rig.server is not None
    assert repr(rig.server._service.workers) == "<Workers 2 idle>"


# Many requests, one connection


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def send_back(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    while data := environ["wsgi.input"].read(40_000):
        yield data


def test_a_thousand_requests_on_one_connection(rig: Rig) -> None:
    """Most are small, some have up to 10 MB, and answers have as much; all are interleaved, every answer is its own."""
    sizes = {n: 10_000_000 if n % 500 == 0 else 1_000_000 if n % 100 == 50 else n * 7 for n in range(1, 1001)}
    bodies = {n: hashlib.shake_128(b"%d" % n).digest(size) for n, size in sizes.items()}
    client = rig.serve(send_back, max_requests=1000)
    done = gevent.spawn(client.read, lambda: sum(a.end is not None for a in client.answers.values()) == 1000)
    for n in bodies:
        client.begin(n, pairs=post(sizes[n]), stdin=None)
        client.answers[n].stdout = bytearray()  # which grows without being copied
    left = dict.fromkeys(bodies, 0)
    while left:
        for n, at in list(left.items()):
            piece = bodies[n][at : at + 60_000]
            client.stdin(piece, n)
            if piece:
                left[n] += len(piece)
            else:
                del left[n]
    done.get(timeout=50)
    assert {n: hash_of(answer.body) for n, answer in client.answers.items()} == {
        n: hash_of(body) for n, body in bodies.items()
    }


def test_large_answers_interleave(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(40):
            yield environ["QUERY_STRING"].encode() * 5000

    client = rig.serve(app)
    for n in range(1, 51):
        client.begin(n, pairs=params(QUERY_STRING=f"{n:04}"))
    for n in range(1, 51):
        assert client.answer(n).body == b"%04d" % n * 200_000
