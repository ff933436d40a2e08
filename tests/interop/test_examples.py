"""The examples of contrib/examples, each behind nginx as their first lines say."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from fcgirig import Client
from gevent import socket as sockets
from peers.fronts import FRONTS, ROOT, Site
from peers.http import Connection

from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.params import encode_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.processes import Processes

EXAMPLES = ROOT / "contrib/examples"
COMMANDS = {
    "flask": ["gfastcgi", "wsgi", "flask_site", "--authorizer", "flask_site:guard", "--workers", "2"],
    "django": ["gfastcgi", "wsgi", "django_site", "--workers", "2", "--threads", "8"],
    "bottle": None,
}


@pytest.fixture(scope="module", params=COMMANDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, module_processes: Processes) -> Site:
    folder: Path = tmp_path_factory.mktemp(request.param)
    socket = str(folder / "app.sock")
    options = {"cwd": EXAMPLES, "env": {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}}
    command = COMMANDS[request.param]
    if command is not None:
        module_processes.start([sys.executable, "-m", *command, "--bind", f"unix:{socket}"], until=socket, **options)
        return Site(module_processes, folder, socket)
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(socket)
        listener.listen()
        module_processes.start([sys.executable, "bottle_site.py"], until=socket, stdin=listener.fileno(), **options)
    return Site(module_processes, folder, socket)


@pytest.fixture(scope="module")
def port(site: Site) -> int:
    return FRONTS["nginx-keep"](site)


@pytest.fixture
def client(port: int) -> Iterator[Connection]:
    with Connection(("127.0.0.1", port)) as connection:
        yield connection


def test_it_knows_where_it_is(client: Connection) -> None:
    answer = client.request("GET", "/app/", Host="a")
    assert answer.status == 200
    assert b" at /app/, a greeting at " in answer.body


def test_a_greeting(client: Connection) -> None:
    assert client.request("GET", "/app/hello/w%C3%B6rld", Host="a").body == "hello wörld from nobody\n".encode()
    assert client.request("GET", "/app/nothing/here", Host="a").status == 404


def test_an_upload(client: Connection) -> None:
    assert client.request("POST", "/app/count", b"x" * 3_000_000, Host="a").json() == {"bytes": 3_000_000}


def test_a_stream(client: Connection) -> None:
    answer = client.request("GET", "/app/stream", Host="a")
    assert (answer.body, answer.get("Content-Length")) == (b"line 0\nline 1\nline 2\n", None)


def test_the_authorizer(site: Site) -> None:
    if "flask" not in str(site.folder):
        return
    with sockets.socket(sockets.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(site.socket)
        client = Client(sock)
        allowed = client.request(role=c.AUTHORIZER, pairs=encode_pairs([(b"HTTP_COOKIE", b"session=secret")]))
        assert b"Variable-REMOTE_USER: ada" in allowed.head
        assert client.request(role=c.AUTHORIZER).head.startswith(b"Status: 403 ")


def test_the_commands_are_those_that_the_examples_name() -> None:
    for name, command in COMMANDS.items():
        text = (EXAMPLES / f"{name}_site.py").read_text()
        if command is not None:
            assert all(word in text for word in command)
