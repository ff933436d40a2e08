"""`wsgi.server`: applications in the gateway's own process, behind its gates."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from peers.backend import answer
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

MODULE = """
import hashlib, json
from wsgiref.validate import validator
import gevent

closed = []

def text(start_response, body, status="200 OK"):
    start_response(status, [("Content-Type", "text/plain")])
    return [body if isinstance(body, bytes) else body.encode()]

def echo(environ, start_response):
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    told["gone"] = closed
    body = environ["wsgi.input"].read(4000000)
    told["size"], told["sha256"] = len(body), hashlib.sha256(body).hexdigest()
    return text(start_response, json.dumps(told))

class Pieces:
    def __init__(self, environ, start_response):
        self.kind, self.start, self.environ = environ["PATH_INFO"], start_response, environ
        self.query = environ["QUERY_STRING"]

    def __iter__(self):
        if self.kind == "/raise":
            raise ValueError("not even a head")
        write = self.start("200 OK", [("Content-Type", "text/plain"), ("X-Query", self.query)])
        for number in range(5):
            yield b"%d" % number
            if self.kind == "/break" and number == 2:
                raise KeyError("half")
            if self.kind == "/wait" and number == 2:
                gevent.sleep(100)
        if self.kind == "/lines":
            for line in self.environ["wsgi.input"]:
                yield line.upper()

    def close(self):
        closed.append(self.query or "pieces")

def site(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/write":
        write = start_response("201 Made", [("Content-Type", "text/plain")])
        write(b"a" * 100000)
        write(b"")
        write(b"b")
        return [b"c"]
    if path == "/exc-info":
        import sys
        start_response("200 OK", [])
        try:
            raise ValueError
        except ValueError:
            start_response("503 Not Now", [("X-Two", "2")], sys.exc_info())
        return [b"sorry"]
    if path == "/no-start":
        return [b"x"]
    if path == "/split":
        start_response("200 OK", [("X-A", "1\\r\\nX-B: 2")])
        return []
    if path == "/exit":
        raise SystemExit(3)
    if path == "/errors":
        environ["wsgi.errors"].write("a line for the log")
        return text(start_response, "logged")
    if path == "/sendfile":
        start_response("200 OK", [("X-Sendfile", "/etc/passwd"), ("X-Accel-Redirect", "/x"), ("X-Else", "1")])
        return [b"itself"]
    if path == "/swallow":
        try:
            environ["wsgi.input"].read(4000000)
        except Exception:
            pass
        return text(start_response, "whatever")
    return Pieces(environ, start_response)

checked = validator(echo)
"""
CONFIG = """
wsgi.server = ( "/echo" => "my_apps:echo", "/checked/" => "my_apps:checked", "/pieces" => "my_apps:site" )
server.max-request-size = 2048
fastcgi.server = (
    "/echo/private/" => (( "mode" => "authorizer", %s, "read-timeout" => 2 )),
    "/pieces/private/" => (( "mode" => "authorizer", "socket" => "/nowhere.sock" )),
    "/" => (( %s, "check-local" => "disable" )),
)
"""


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> tuple[Gateway, ScriptedBackend]:
    folder = tmp_path_factory.mktemp("apps")
    (folder / "my_apps.py").write_text(MODULE)
    gate = module_backend()
    other = module_backend(lambda seen: answer("Content-Type: text/plain\r\n\r\nfrom elsewhere"))
    running = module_gateway(
        CONFIG % (gate.option, other.option),
        env={"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
    )
    running.may_trace = True
    return running, gate


def test_the_application_answers_for_its_prefix(site: tuple[Gateway, ScriptedBackend]) -> None:
    told = site[0].get("/echo/a%20b/..//c?x=%20y", X_Own="1", Remote_User="mallory", Proxy="http://evil/").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["QUERY_STRING"]) == ("/echo", "/c", "x=%20y")
    assert (told["HTTP_X_OWN"], told["REQUEST_METHOD"], told["REMOTE_ADDR"]) == ("1", "GET", "127.0.0.1")
    assert (told["SERVER_PORT"], told["SERVER_PROTOCOL"]) == (str(site[0].port), "HTTP/1.1")
    assert not {"REMOTE_USER", "HTTP_REMOTE_USER", "HTTP_PROXY", "FCGI_ROLE"} & told.keys()
    assert site[0].get("/echo").json()["PATH_INFO"] == ""
    assert site[0].get("/checked/caf%C3%A9").json()["PATH_INFO"] == "/caf\u00c3\u00a9"
    for path in ("/echoes", "/checked", "/x"):
        assert site[0].get(path).body == b"from elsewhere"
    head = site[0].request("HEAD", "/echo")
    assert (head.status, head.body) == (200, b"")


def test_bodies(site: tuple[Gateway, ScriptedBackend]) -> None:
    for size in (0, 1, 65536, 1_000_000):
        body = os.urandom(size)
        for path in ("/echo", "/checked/"):
            told = site[0].request("POST", path, body, Content_Type="a/b").json()
            assert (told["size"], told["sha256"]) == (size, hashlib.sha256(body).hexdigest())
            assert (told["CONTENT_LENGTH"], told["CONTENT_TYPE"]) == (str(size), "a/b")
    with site[0].connect() as connection:
        told = connection.request(
            "POST", "/echo", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", Transfer_Encoding="chunked"
        ).json()
        assert (told["size"], "CONTENT_LENGTH" in told) == (11, False)
        assert connection.request("GET", "/echo").status == 200
    assert site[0].request("POST", "/pieces/lines", b"one\ntwo\n").body == b"01234ONE\nTWO\n"


def test_bodies_that_are_too_large_or_end_early(site: tuple[Gateway, ScriptedBackend]) -> None:
    assert site[0].request("POST", "/echo", bytes(3_000_000)).status == 413
    assert site[0].request("POST", "/pieces/swallow", bytes(3_000_000)).body == b"whatever"
    with site[0].connect() as connection:
        connection.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    assert site[0].get("/echo").status == 200


def test_answers(site: tuple[Gateway, ScriptedBackend]) -> None:
    got = site[0].get("/pieces/all?q")
    assert (got.body, got.get("X-Query"), got.get("Transfer-Encoding")) == (b"01234", "q", "chunked")
    got = site[0].get("/pieces/write")
    assert (got.status, got.body) == (201, b"a" * 100000 + b"bc")
    got = site[0].get("/pieces/exc-info")
    assert (got.status, got.get("X-Two"), got.body) == (503, "2", b"sorry")
    got = site[0].get("/pieces/sendfile")
    assert (got.body, got.get("X-Sendfile"), got.get("X-Accel-Redirect"), got.get("X-Else")) == (
        b"itself", None, None, "1",
    )  # fmt: skip
    assert site[0].get("/pieces/errors").body == b"logged"
    site[0].wait_for_log("my_apps:site: a line for the log")
    assert site[0].get("/echo").json()["gone"][-1] == "q"


@pytest.mark.parametrize("path", ["raise", "no-start", "split", "exit"])
def test_what_fails_is_a_500_with_its_traceback(site: tuple[Gateway, ScriptedBackend], path: str) -> None:
    got = site[0].get(f"/pieces/{path}")
    assert (got.status, got.get("X-B")) == (500, None)
    site[0].wait_for_log("the application my_apps:site failed")
    assert site[0].get("/echo").status == 200


def test_an_answer_that_breaks_off_never_looks_whole(site: tuple[Gateway, ScriptedBackend]) -> None:
    got = site[0].get("/pieces/break")
    assert (got.status, got.whole) == (200, False)
    site[0].wait_for_log("the answer of my_apps:site broke off")
    assert site[0].get("/echo").json()["gone"][-1] == "pieces"


def test_the_application_ends_when_its_client_leaves(site: tuple[Gateway, ScriptedBackend]) -> None:
    with site[0].connect() as connection:
        connection.send(b"GET /pieces/wait?left HTTP/1.1\r\nHost: a\r\n\r\n")
        head = connection.read_head()
        assert head is not None
        assert head.status == 200
    wait_until(lambda: "left" in site[0].get("/echo").json()["gone"], "the iterable to be closed")


def test_behind_gates(site: tuple[Gateway, ScriptedBackend]) -> None:
    gateway, gate = site
    gate.script = lambda seen: answer("Status: 401 Who\r\n\r\nno")
    got = gateway.get("/echo/private/x")
    assert (got.status, got.body) == (401, b"no")
    gate.script = lambda seen: answer("Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\nSet-Cookie: a=1\r\n\r\n")
    got = gateway.get("/echo/private/x", Remote_User="mallory")
    assert (got.json()["REMOTE_USER"], got.get("Set-Cookie")) == ("ada", "a=1")
    assert gateway.get("/pieces/private/all").status == 503


def test_explained(tmp_path: Path) -> None:
    (tmp_path / "my_apps.py").write_text(MODULE)
    (tmp_path / "site.conf").write_text('server.document-root = "/srv"\nwsgi.server = ( "/echo" => "my_apps:echo" )')
    done = subprocess.run(
        [sys.executable, "-m", "gfastcgi", "explain", "-f", "site.conf", "http://a/echo/x"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "application   /echo  my_apps:echo" in done.stdout
    assert "script        /echo + /x" in done.stdout


def test_checked_before_it_is_served(tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text('server.document-root = "/srv"\nwsgi.server = ( "/a" => "no_such:app" )\n')
    done = subprocess.run(
        [sys.executable, "-m", "gfastcgi", "-t", "-f", "site.conf"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert 'site.conf:2: wsgi.server: "/a" => "no_such:app": ModuleNotFoundError' in done.stderr
