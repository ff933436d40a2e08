"""Our FastCGI server behind other web servers, and behind our own: one suite for all of them."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.fronts import FRONTS, ROOT, WSGI, Site
from peers.http import Connection
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.processes import Processes

APPLICATION = """
import hashlib, json, os
from wsgiref.validate import validator
import gevent

def application(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    if path == "/app/fail":
        raise RuntimeError("the application broke")
    if path == "/app/stream":
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Accel-Buffering", "no")])
        return stream(environ["QUERY_STRING"])
    if path == "/app/forever":
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Accel-Buffering", "no")])
        return forever(environ["QUERY_STRING"])
    if path == "/app/head":
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Large", "x" * 3000), ("X-Other", "y" * 3000)])
        return [b"large"]
    digest, size = hashlib.sha256(), 0
    while data := environ["wsgi.input"].read(50_000):
        digest.update(data)
        size += len(data)
    start_response("200 OK", [("Content-Type", "application/json")])
    told = {name: value for name, value in environ.items() if isinstance(value, (str, bool))}
    return [json.dumps({"path": path, "environ": told, "size": size, "sha256": digest.hexdigest()}).encode()]

def stream(until):
    yield b"first"
    while not os.path.exists(until):
        gevent.sleep(0.01)
    yield b"second"

def forever(end):
    try:
        while True:
            yield b"x" * 1000
            gevent.sleep(0.01)
    finally:
        open(end, "w").close()

application = validator(application)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fronts")
    (folder / "www").mkdir()
    (folder / "frontapp.py").write_text(APPLICATION)
    return folder


def start_application(processes: Processes, folder: Path, socket: str) -> None:
    processes.start(
        [*WSGI, "--bind", f"unix:{socket}", "--socket-mode", "0600"],
        until=socket, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture(scope="module", params=FRONTS)
def port(request: pytest.FixtureRequest, folder: Path, module_processes: Processes) -> int:
    socket = str(folder / "app.sock")
    if not os.path.exists(socket):
        start_application(module_processes, folder, socket)
    return FRONTS[request.param](Site(module_processes, folder, socket))


@pytest.fixture
def client(port: int) -> Iterator[Connection]:
    with Connection(("127.0.0.1", port)) as connection:
        yield connection


def test_get(client: Connection) -> None:
    for _ in range(3):
        answer = client.request("GET", "/app/a/b%20c?d=e&f", Host="site.example")
        told = answer.json()
        assert (answer.status, told["path"], told["size"]) == (200, "/app/a/b c", 0)
        assert told["environ"]["QUERY_STRING"] == "d=e&f"
        assert told["environ"]["HTTP_HOST"] == "site.example"
        assert told["environ"]["REQUEST_METHOD"] == "GET"


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_content(client: Connection, size: int) -> None:
    body = os.urandom(size)
    told = client.request("POST", "/app/upload", body, Content_Type="application/octet-stream").json()
    assert (told["size"], told["sha256"]) == (size, hashlib.sha256(body).hexdigest())


def test_an_answer_streams(client: Connection, tmp_path: Path) -> None:
    client.send(f"GET /app/stream?{tmp_path}/go HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    seen = b""
    while b"first" not in seen:
        data = client.sock.recv(65536)
        assert data
        seen += data
    assert b"second" not in seen
    (tmp_path / "go").touch()
    client.buffer = seen
    answer = client.read_answer()
    assert (answer.status, answer.body, answer.whole) == (200, b"firstsecond", True)


def test_a_client_that_leaves_ends_the_application(port: int, tmp_path: Path) -> None:
    with Connection(("127.0.0.1", port)) as client:
        client.send(f"GET /app/forever?{tmp_path}/gone HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        while b"xxx" not in client.sock.recv(65536):
            pass
    wait_until((tmp_path / "gone").exists, "the iterable to be closed")


def test_head(client: Connection) -> None:
    answer = client.request("HEAD", "/app/x", Host="a")
    assert (answer.status, answer.get("Content-Type"), answer.body) == (200, "application/json", b"")
    assert client.request("GET", "/app/x", Host="a").json()["path"] == "/app/x"


def test_an_error(client: Connection) -> None:
    answer = client.request("GET", "/app/fail", Host="a")
    assert answer.status == 500
    assert b"broke" not in answer.body


def test_large_heads(client: Connection) -> None:
    answer = client.request("GET", "/app/head", Host="a")
    assert (answer.status, answer.get("X-Large"), answer.get("X-Other")) == (200, "x" * 3000, "y" * 3000)
    told = client.request("GET", "/app/x", Host="a", Cookie="c" * 6000).json()
    assert told["environ"]["HTTP_COOKIE"] == "c" * 6000


def test_many_at_once(port: int) -> None:
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        with Connection(("127.0.0.1", port), 30.0) as connection:
            body = b"%d" % number * (number * 100)
            told = connection.request("POST", f"/app/{number}", body).json()
            if told["sha256"] == hashlib.sha256(body).hexdigest():
                found[number] = told["path"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"/app/{number}" for number in range(50)}


def connections_to(socket: str) -> int:
    """Those that the application has accepted (proc(5), /proc/net/unix: state 3)."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[-1] == socket and line[5] == "03" for line in lines)


def test_haproxy_multiplexes(folder: Path, processes: Processes, tmp_path: Path) -> None:
    """It asks for the limits, and sends many requests over a few connections."""
    socket = str(tmp_path / "app.sock")
    start_application(processes, folder, socket)
    (tmp_path / "www").mkdir()
    port = FRONTS["haproxy"](Site(processes, tmp_path, socket))
    with ExitStack() as stack:
        clients = [stack.enter_context(Connection(("127.0.0.1", port), 30.0)) for _ in range(40)]
        for client in clients:
            client.send(f"GET /app/stream?{tmp_path}/go HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for client in clients:
            while b"first" not in client.buffer:
                client.buffer += client.sock.recv(65536)
        used = connections_to(socket)
        (tmp_path / "go").touch()
        for client in clients:
            answer = client.read_answer()
            assert (answer.status, answer.body, answer.whole) == (200, b"firstsecond", True)
    assert 0 < used <= 8
