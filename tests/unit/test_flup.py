"""flup's WSGIServer: its example, its options, and a program that blocks."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fcgirig import Client, params
from gevent import socket
from peers.waiting import wait_until

from gfastcgi.compat.flup import FCGI_RESPONDER, WSGIServer, _Lenient
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

# As lighttpd's page on mod_fastcgi has it, but for the name of the module.
EXAMPLE = """
def myapp(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return ['Hello World!\\n']

if __name__ == '__main__':
    from gfastcgi.compat.flup import WSGIServer
    WSGIServer(myapp).run()
"""

OPTIONS = """
import sys, threading, time
from gfastcgi.compat.flup import FCGI_AUTHORIZER, FCGI_RESPONDER, WSGIServer
both = threading.Event()
def app(environ, start_response):
    query = environ["QUERY_STRING"]
    if query == "wait":
        both.wait(20)
    if query == "fail":
        raise RuntimeError("it <broke>")
    both.set()
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write("written ")
    return iter(["as text ", environ["my.name"], " ", str(environ["wsgi.multithread"])])
again = WSGIServer(app, {options}).run()
print("again" if again else "ended")
"""


class Program:
    """A running program, and clients to its socket."""

    def __init__(self, folder: Path, text: str, *, env: dict[str, str] | None = None, spawned: bool = True) -> None:
        self.path = str(folder / "app.sock")
        (folder / "program.py").write_text(textwrap.dedent(text))
        listener = socket.socket(socket.AF_UNIX)
        if spawned:
            listener.bind(self.path)
            listener.listen()
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "program.py")], stdin=listener.fileno() if spawned else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})},
        )  # fmt: skip
        listener.close()
        self.clients: list[Client] = []
        if not spawned:
            wait_until(lambda: os.path.exists(self.path), "the socket")

    def client(self) -> Client:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self.path)
        self.clients.append(Client(sock))
        return self.clients[-1]

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Ends it by a signal; returns what it wrote."""
        for client in self.clients:
            client.sock.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            out, _ = self.process.communicate(timeout=20)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, out
        return out


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Any]:
    started: list[Program] = []

    def start(text: str, **options: Any) -> Program:
        started.append(Program(tmp_path, text, **options))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


def test_the_example_spawned(programs: Any) -> None:
    program = programs(EXAMPLE)
    assert program.client().request().body == b"Hello World!\n"
    assert program.stop() == ""


@pytest.mark.parametrize("env", [{}, {"FCGI_FORCE_CGI": "Y"}])
def test_the_example_as_a_cgi_program(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "test.py").write_text(EXAMPLE)
    asked = {"REQUEST_METHOD": "GET", "SERVER_NAME": "a", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.0", **env}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "test.py")], env={**os.environ, **asked}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert re.fullmatch(r"Status: 200 OK\n(.+\n)+\nHello World!\n", done.stdout.replace("\r", "")), done


def test_options(programs: Any, tmp_path: Path) -> None:
    options = (
        'environ={"my.name": "here"}, bindAddress=sys.argv[0].replace("program.py", "app.sock"), umask=0o117, '
        "multithreaded=True, multiprocess=True, multiplexed=True, debug=True, roles=(FCGI_RESPONDER, FCGI_AUTHORIZER), "
        "minSpare=1, maxSpare=5, maxThreads=10"
    )
    program = programs(OPTIONS.replace("{options}", options), spawned=False)
    assert (tmp_path / "app.sock").stat().st_mode & 0o777 == 0o660
    client = program.client()
    client.begin(1, pairs=params(QUERY_STRING="wait"))
    client.begin(2)
    assert client.answer(2).body == client.answer(1).body == b"written as text here True"
    assert client.request(role=c.AUTHORIZER).body == b"written as text here True"
    assert client.request(role=c.FILTER).end == EndRequest(1, 0, c.UNKNOWN_ROLE)
    failed = program.client().request(pairs=params(QUERY_STRING="fail"))
    assert failed.head.startswith(b"Status: 500 ")
    assert b"it <broke>" in failed.body
    assert b"it <broke>" in failed.stderr
    said = program.stop()
    assert said.startswith("Traceback ")
    assert said.endswith("RuntimeError: it <broke>\nended\n")
    assert not (tmp_path / "app.sock").exists()


def test_a_hangup_asks_for_another_run(programs: Any) -> None:
    program = programs(OPTIONS.replace("{options}", '{"my.name": "x"}, multithreaded=False'))
    client = program.client()
    assert client.request().body == b"written as text x False"
    failed = client.request(pairs=params(QUERY_STRING="fail"))
    assert failed.head.startswith(b"Status: 500 ")
    assert b"broke" not in failed.body
    assert program.stop(signal.SIGHUP) == "again\n"


@pytest.mark.parametrize(
    ("sent", "path", "query"),
    [
        ({"SCRIPT_NAME": "/app", "REQUEST_URI": "/app/a%20b/c?d=e"}, "/a b/c", "d=e"),
        ({"SCRIPT_NAME": "/app", "REQUEST_URI": "/app?d=e", "PATH_INFO": ""}, "", "d=e"),
        ({"SCRIPT_NAME": "/app", "REQUEST_URI": "/app/x?d=e", "PATH_INFO": "/y", "QUERY_STRING": "z"}, "/y", "z"),
        ({"SCRIPT_NAME": "/app", "REQUEST_URI": "/apple?d=e"}, None, "d=e"),
        ({"SCRIPT_NAME": "/app", "REQUEST_URI": "/app/x", "FCGI_ROLE": "AUTHORIZER"}, None, None),
        ({}, None, ""),
    ],
)
def test_what_a_web_server_left_out_is_in_its_uri(sent: dict[str, Any], path: str | None, query: str | None) -> None:
    found: dict[str, Any] = {}
    app = _Lenient(lambda environ, start_response: found.update(environ) or [], {}, debug=False, tees=False)
    app(sent, lambda *arguments: lambda data: None)
    assert (found.get("PATH_INFO"), found.get("QUERY_STRING")) == (path, query)


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        (("127.0.0.1", 0), "127.0.0.1"), (("localhost", 0), "127.0.0.1"), (("", 0), "0.0.0.0"),
        (("::1", 0, 0, 0), "::1"), (("", 0, 0, 0), "::"),
    ],
)  # fmt: skip
def test_addresses(bind: tuple[Any, ...], host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    def serve(self: WSGIServer, app: object, listener: socket.socket) -> bool:
        found.append(listener.getsockname())
        listener.close()
        return False

    monkeypatch.setattr(WSGIServer, "_serve", serve)
    assert not WSGIServer(lambda environ, start_response: [], bindAddress=bind).run()
    assert (found[0][0], len(found[0])) == (host, len(bind))


def test_the_options_are_those_of_flup() -> None:
    """Of flup 1.0.3, in their order, since programs may give them by place; behind them those of its thread pool."""
    parameters = inspect.signature(WSGIServer).parameters.values()
    assert [(each.name, each.default) for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD] == [
        ("application", inspect.Parameter.empty), ("environ", None), ("multithreaded", True), ("multiprocess", False),
        ("bindAddress", None), ("umask", None), ("multiplexed", False), ("debug", False), ("roles", (FCGI_RESPONDER,)),
        ("forceCGI", False),
    ]  # fmt: skip
    others = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    assert others == ["minSpare", "maxSpare", "maxThreads"]
