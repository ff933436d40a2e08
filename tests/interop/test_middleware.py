"""Authorizers in front of WSGI, under gevent's own server and under gunicorn's gevent worker."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from peers.backend import Reply, Seen, answer, end, stdout
from peers.http import Connection
from peers.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.http import Answer
    from peers.processes import Processes

APP = """
import json, sys
from gfastcgi import AuthorizerMiddleware, PrivateFiles, authorizer_at

gate = authorizer_at("unix:{gate}", read_timeout=1, disable_time=0)
called = 0

def echo(environ, start_response):
    global called
    called += 1
    told = {{name: value for name, value in environ.items() if isinstance(value, str)}}
    told["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Set-Cookie", "app=1")])
    return [json.dumps(told).encode()]

def count(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(called).encode()]

guarded = AuthorizerMiddleware(echo, [gate])
files = PrivateFiles("{root}", [gate], mimetypes={{".tile": "image/tile"}})

def named(request):
    if request.GET.get("raise"):
        raise ValueError("no answer")
    return request.GET.get("name")

both = AuthorizerMiddleware(echo, [named, gate])

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/count":
        return count(environ, start_response)
    if path.startswith("/files/"):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/files", path[len("/files"):]
        return files(environ, start_response)
    return (both if path == "/both" else guarded)(environ, start_response)

if __name__ == "__main__":
    from gevent.pywsgi import WSGIServer
    WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
"""
COMMANDS = {
    "pywsgi": "{python} app.py {port}",
    "gunicorn": "{python} -m gunicorn -k gevent -w 1 --no-control-socket -b 127.0.0.1:{port} app:app",
}
COOKIES = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
YES = f"Status: 200 OK\r\nVariable-REMOTE_USER: bob\r\nVariable-Auth-Level: 2\r\n{COOKIES}\r\n"
NO = f"Status: 401 Who\r\nWWW-Authenticate: Basic\r\n{COOKIES}\r\nwho are you"
SECRET = b"SECRET-FILE"
BIG = hashlib.sha256(b"big").digest() * (5 << 15)  # 5 MiB


@dataclass
class Site:
    gate: ScriptedBackend
    port: int

    def answers(self, reply: str | bytes | Reply) -> None:
        self.gate.script = lambda seen: answer(reply) if isinstance(reply, str) else reply

    def get(self, target: str, method: str = "GET", body: bytes | None = None, **fields: str) -> Answer:
        with Connection(("127.0.0.1", self.port)) as connection:
            return connection.request(method, target, body, Connection="close", **fields)

    def called(self) -> int:
        return int(self.get("/count").body)


@pytest.fixture(scope="module", params=COMMANDS)
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_processes: Processes,
) -> Site:
    folder: Path = tmp_path_factory.mktemp("wsgi")
    root = folder / "private"
    (root / "dir").mkdir(parents=True)
    (root / "a.txt").write_bytes(SECRET)
    (root / "dir" / "index.html").write_bytes(SECRET)
    (root / "map.tile").write_bytes(BIG)
    (folder / "outside.txt").write_bytes(SECRET)
    (root / "link.txt").symlink_to("../outside.txt")
    gate, port = module_backend(), free_port()
    (folder / "app.py").write_text(APP.format(gate=gate.address, root=root))
    command = COMMANDS[request.param].format(python=sys.executable, port=port).split()
    module_processes.start(command, until=("127.0.0.1", port), cwd=folder, stderr=subprocess.DEVNULL)
    return Site(gate, port)


def test_a_yes_reaches_the_application(site: Site) -> None:
    site.answers(YES)
    got = site.get("/app?x=1", Remote_User="mallory", Auth_Level="9", X_Kept="1", Proxy="http://evil/")
    told: dict[str, Any] = got.json()
    assert (got.status, told["REMOTE_USER"], told["AUTH_LEVEL"], told["HTTP_X_KEPT"]) == (200, "bob", "2", "1")
    assert not {"HTTP_REMOTE_USER", "HTTP_AUTH_LEVEL", "HTTP_PROXY"} & told.keys()
    assert got.get_all("Set-Cookie") == ["app=1", "a=1", "b=2"]
    asked = site.gate.last
    assert (asked.role, asked.text("REQUEST_URI"), asked.text("FCGI_ROLE")) == (2, "/app?x=1", "AUTHORIZER")
    assert asked.text("REMOTE_ADDR") == "127.0.0.1"
    assert not {"HTTP_REMOTE_USER", "CONTENT_LENGTH", "SCRIPT_NAME"} & asked.params.keys()


@pytest.mark.parametrize("target", ["/app", "/files/a.txt", "/files/none.txt", "/files/dir", "/files/../../etc/passwd"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
def test_a_no_is_passed_on_whole(site: Site, method: str, target: str) -> None:
    site.answers(NO)
    called = site.called()
    got = site.get(target, method)
    if ".." in target:
        assert got.status == 400
    else:
        assert (got.status, got.get("WWW-Authenticate")) == (401, "Basic")
        assert got.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert got.body == (b"" if method == "HEAD" else b"who are you")
    assert site.called() == called


@pytest.mark.parametrize("target", ["/app", "/files/a.txt"])
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(stdout(b"Status: 200 OK\r\n\r\n"), "close"), 502),
        (Reply(b"", "reset"), 502),
        (Reply(b"x" * 64, "close"), 502),
        (end(), 502),
        (end(protocol_status=3), 502),
        (Reply(stdout(b"Status: 200 OK\r\n\r\n"), "hang"), 504),
        (end(protocol_status=2), 503),
    ],
)
def test_what_is_no_answer_is_a_no(site: Site, reply: bytes | Reply, status: int, target: str) -> None:
    site.answers(reply)
    called = site.called()
    got = site.get(target)
    assert (got.status, SECRET in got.body, site.called()) == (status, False, called)


def test_asked_before_the_body(site: Site) -> None:
    site.answers(NO)
    with Connection(("127.0.0.1", site.port)) as connection:
        connection.send(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        assert connection.read_answer().status == 401
    site.answers(YES)
    assert site.get("/app", "POST", b"hello").json()["body"] == "hello"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a//b/./c/../d?q", "/a/b/d"),
        ("/%61%2e/x", "/a./x"),
        ("/a/%2e%2e/b", "/b"),
        ("/caf%C3%A9", "/caf\u00c3\u00a9"),
        ("/a%2fb", "/a/b"),  # WSGI servers decode it before anybody can tell
    ],
)
def test_what_is_authorised_is_what_the_application_sees(site: Site, target: str, path: str) -> None:
    asked: list[Seen] = []
    site.gate.script = lambda seen: asked.append(seen) or answer(YES)
    told = site.get(target).json()
    assert told["PATH_INFO"] == path
    assert asked[0].params["SCRIPT_FILENAME"] == path.encode("latin-1")


@pytest.mark.parametrize("target", ["/a%0d%0ab", "/a%00b", "/a%5cb"])
def test_a_path_without_a_canonical_form(site: Site, target: str) -> None:
    site.answers(YES)
    called = site.called()
    assert (site.get(target).status, site.called()) == (400, called)


def test_files(site: Site) -> None:
    site.answers(YES)
    got = site.get("/files/a.txt")
    assert (got.status, got.body, got.get("Content-Type"), got.get("Accept-Ranges")) == (
        200, SECRET, "text/plain", "bytes",
    )  # fmt: skip
    assert site.gate.last.text("REQUEST_URI") == "/files/a.txt"
    etag = got.get("ETag") or ""
    assert got.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert site.get("/files/a.txt", "HEAD").get("Content-Length") == str(len(SECRET))
    got = site.get("/files/a.txt", If_None_Match=etag)
    assert (got.status, got.body) == (304, b"")
    got = site.get("/files/a.txt", Range="bytes=7-")
    assert (got.status, got.body, got.get("Content-Range")) == (206, b"FILE", f"bytes 7-10/{len(SECRET)}")
    assert site.get("/files/a.txt", Range="bytes=99-").status == 416
    got = site.get("/files/map.tile")
    assert (got.body == BIG, got.get("Content-Type")) == (True, "image/tile")
    assert site.get("/files/map.tile", Range=f"bytes=100-{len(BIG) - 2}").body == BIG[100:-1]
    assert site.get("/files/dir/").body == SECRET
    got = site.get("/files/dir")
    assert (got.status, (got.get("Location") or "").endswith("/files/dir/")) == (301, True)
    assert site.get("/files/link.txt").status == 403
    assert site.get("/files/none").status == 404
    assert site.get("/files/a.txt/more").status == 404


def test_functions_are_authorizers(site: Site) -> None:
    """In their order; the later one sees what the earlier one said."""
    site.answers("Status: 200 OK\r\n\r\n")
    asked, called = site.gate.begun, site.called()
    assert site.get("/both").status == 403
    assert site.get("/both?raise=1").status == 500
    assert (site.gate.begun, site.called()) == (asked, called)
    assert site.get("/both?name=eve", Remote_User="mallory").json()["REMOTE_USER"] == "eve"
    assert site.gate.last.text("REMOTE_USER") == "eve"
    site.answers(NO)
    assert site.get("/both?name=eve").status == 401
