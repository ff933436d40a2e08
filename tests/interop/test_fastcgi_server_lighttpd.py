"""Our FastCGI server behind lighttpd, which spawns it by `bin-path`: as responder, as authorizer, and as both."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.http import Connection
from peers.processes import children, descendants
from peers.programs import start_lighttpd
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.processes import Processes

PROGRAM = """
import hashlib, json, os
from wsgiref.validate import validator
import webob
from gfastcgi.server.fastcgi import run

def responder(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    if path == "/app/fail":
        raise RuntimeError("the application broke")
    start_response("200 OK", [("Content-Type", "application/json")])
    if path == "/app/large":
        return iter([b"l" * 100_000] * 50)
    digest, size = hashlib.sha256(), 0
    while data := environ["wsgi.input"].read(50_000):
        digest.update(data)
        size += len(data)
    told = {name: value for name, value in environ.items() if isinstance(value, (str, bool))}
    return [json.dumps({"environ": told, "size": size, "sha256": digest.hexdigest(), "pid": os.getpid()}).encode()]

def authorizer(request):
    if request.path == "/private/broken":
        raise RuntimeError("the authorizer broke")
    if request.cookies.get("SID") != "good":
        return webob.Response("log in first", status=403, content_type="text/plain")
    response = webob.Response(status=200)
    response.headers["Variable-REMOTE_USER"] = "ada"
    return response

run(validator(responder), authorizer=authorizer)
"""

CONFIG = """
server.document-root = "{root}"
fastcgi.server = (
  "/private/" => ((
    "mode" => "authorizer", "socket" => "{folder}/authorizer.sock", "bin-path" => "{python} {folder}/program.py",
    "max-procs" => 1, "check-local" => "disable", "docroot" => "{root}",
    "bin-environment" => ( "PYTHONPATH" => "{package}" ) )),
  "/app/members/" => ((
    "mode" => "authorizer", "socket" => "{folder}/members.sock", "bin-path" => "{python} {folder}/program.py",
    "max-procs" => 1, "check-local" => "disable", "bin-environment" => ( "PYTHONPATH" => "{package}" ) )),
  "/app/" => ((
    "socket" => "{folder}/responder.sock", "bin-path" => "{python} {folder}/program.py", "max-procs" => 2,
    "check-local" => "disable", "bin-environment" => ( "PYTHONPATH" => "{package}" ) ))
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lighttpd")
    (folder / "program.py").write_text(PROGRAM)
    private = folder / "root" / "private"
    private.mkdir(parents=True)
    (private / "file.txt").write_text("the private file")
    (private / "broken").write_text("never to be seen")
    return folder


def start(processes: Processes, folder: Path) -> int:
    """Starts lighttpd; a port that somebody took meanwhile is tried again."""
    config = CONFIG.format(
        root=folder / "root", folder=folder, python=sys.executable, package=Path(__file__).parents[2]
    )
    for _ in range(4):
        try:
            return start_lighttpd(processes, folder, config, "mod_fastcgi")
        except AssertionError:
            continue
    raise AssertionError("lighttpd does not start: " + (folder / "lighttpd.log").read_text())


@pytest.fixture(scope="module")
def port(module_processes: Processes, folder: Path) -> int:
    return start(module_processes, folder)


@pytest.fixture
def client(port: int) -> Iterator[Connection]:
    with Connection(("127.0.0.1", port)) as connection:
        yield connection


def test_a_responder(client: Connection) -> None:
    answer = client.request("GET", "/app/x%20y?a=1", Host="site.example:8080")
    assert (answer.status, answer.get("Content-Type")) == (200, "application/json")
    environ = answer.json()["environ"]
    assert environ["SCRIPT_NAME"] + environ["PATH_INFO"] == "/app/x y"
    assert (environ["QUERY_STRING"], environ["HTTP_HOST"]) == ("a=1", "site.example:8080")
    assert (environ["wsgi.multiprocess"], environ["wsgi.multithread"]) == (True, False)


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_content_goes_through_whole(client: Connection, size: int) -> None:
    body = os.urandom(size)
    told = client.request("POST", "/app/upload", body, Host="a").json()
    assert (told["size"], told["sha256"]) == (size, hashlib.sha256(body).hexdigest())


def test_a_large_answer(client: Connection) -> None:
    assert client.request("GET", "/app/large", Host="a").body == b"l" * 5_000_000
    assert client.request("HEAD", "/app/large", Host="a").body == b""


def test_many_requests_reach_all_processes(port: int) -> None:
    connections = [Connection(("127.0.0.1", port)) for _ in range(8)]
    pids = set()
    for _ in range(5):
        for connection in connections:
            connection.send(b"GET /app/ HTTP/1.1\r\nHost: a\r\n\r\n")
        pids |= {connection.read_answer("GET").json()["pid"] for connection in connections}
    for connection in connections:
        connection.__exit__(None, None, None)
    assert len(pids) == 2


def test_an_error_is_a_500_and_a_traceback_in_the_error_log(client: Connection, folder: Path) -> None:
    answer = client.request("GET", "/app/fail", Host="a")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    wait_until(lambda: "RuntimeError: the application broke" in (folder / "lighttpd.log").read_text(), "the traceback")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_an_authorizer_denies(client: Connection, method: str) -> None:
    answer = client.request(method, "/private/file.txt", b"x" * 100_000 if method == "POST" else None, Host="a")
    assert answer.status == 403
    assert answer.body == (b"" if method == "HEAD" else b"log in first")


def test_an_authorizer_allows(client: Connection) -> None:
    answer = client.request("GET", "/private/file.txt", Host="a", Cookie="SID=good")
    assert (answer.status, answer.body) == (200, b"the private file")
    assert answer.get("Variable-REMOTE_USER") is None


def test_an_authorizer_names_the_user_for_the_responder(client: Connection) -> None:
    answer = client.request("GET", "/app/members/list", Host="a", Cookie="SID=good", Remote_User="mallory")
    assert answer.json()["environ"]["REMOTE_USER"] == "ada"
    assert client.request("GET", "/app/members/list", Host="a").status == 403


def test_a_broken_authorizer_denies(client: Connection) -> None:
    answer = client.request("GET", "/private/broken", Host="a", Cookie="SID=good")
    assert answer.status == 500
    assert b"never to be seen" not in answer.body


def test_programs_end_with_lighttpd(processes: Processes, folder: Path, tmp_path: Path) -> None:
    for name in ("program.py", "root"):
        (tmp_path / name).symlink_to(folder / name)
    port = start(processes, tmp_path)
    with Connection(("127.0.0.1", port)) as connection:
        json.loads(connection.request("GET", "/app/", Host="a").body)
    [lighttpd] = [process for process in processes._running if process.poll() is None]
    programs = descendants(lighttpd.pid)
    assert len(programs) == 4
    lighttpd.send_signal(signal.SIGTERM)
    lighttpd.wait(10)
    wait_until(lambda: not programs & children(os.getpid()), "the programs to end by themselves")
