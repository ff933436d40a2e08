"""How the FastCGI server ends: gracefully, by a deadline, by a signal; what has come is served, what is owed sent."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from fcgirig import Client, Rig, hello, params
from gevent import socket
from gevent.event import Event

from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest

if TYPE_CHECKING:
    from pathlib import Path


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
    assert busy.request(2, pairs=params(QUERY_STRING="quick")).body == b"hello", "it cannot be told to go elsewhere"
    assert not serving.ready()
    release.set()
    assert busy.answer(1).body == b"hello"
    busy.read_end()
    stopping.get(timeout=5)
    serving.get(timeout=5)


def test_a_connection_that_is_never_idle_is_refused_more_requests(rig: Rig) -> None:
    release = Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        release.wait()
        return hello(environ, start_response)

    client = rig.serve(app)
    client.begin(1)
    while not rig.open_requests:
        gevent.sleep(0.001)
    assert rig.server is not None
    stopping = gevent.spawn(rig.server.stop, 10)
    gevent.sleep(0)
    rig.server._service.is_late = True  # as behind half of the time
    client.begin(2)
    assert client.answer(2).end == EndRequest(2, 0, c.OVERLOADED)
    release.set()
    assert client.answer(1).body == b"hello"
    client.read_end()
    stopping.get(timeout=5)


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
    assert rig.server._service.is_late


def test_a_stop_waits_for_what_is_not_sent_yet(rig: Rig) -> None:
    """The application has ended long ago; the web server reads slowly."""
    size = 400_000

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * size]

    client = rig.serve(app)
    client.begin(keep_conn=False)
    assert rig.server is not None
    while not rig.server._connections or rig.open_requests:
        gevent.sleep(0.001)
    stopping = gevent.spawn(rig.server.stop, 20)
    gevent.sleep(0.05)
    assert len(client.answer().body) == size
    stopping.get(timeout=5)


def test_a_stop_serves_what_has_come_already(rig: Rig) -> None:
    """A request that lies unread in the kernel when the connection seems to be idle."""
    client = rig.serve(hello)
    assert client.request().body == b"hello"
    assert rig.server is not None
    client.begin()  # the hub has no turn to read it in
    stopping = gevent.spawn(rig.server.stop, 5)
    assert client.answer().body == b"hello"
    client.read_end()
    stopping.get(timeout=5)


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
