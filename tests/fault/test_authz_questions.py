"""What an authorizer is asked, and by whose word: no body, field or forwarded name of the client changes it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from peers.backend import answer
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend, Seen
    from peers.gateway import Gateway

SECRET = b"SECRET-STATIC"
YES = answer("Status: 200 OK\r\n\r\n")
NO = answer("Status: 403 Forbidden\r\n\r\nno")
SITE = """
server.document-root = "{root}"
server.stream-response-body = 1
var.gate = ( {guard}, "mode" => "authorizer", "check-local" => "disable" )
fastcgi.server = (
  "/mixed/" => ( ( {app}, "check-local" => "disable" ), gate ),
  "/ordered/" => (( {app}, "check-local" => "disable" )),
)
fastcgi.server += ( "/ordered/in" => (( {guard}, "mode" => "authorizer" )) )
fastcgi.server += ( "/open/" => (( {app}, "check-local" => "disable" )) )
"""


@dataclass
class Rig:
    site: Gateway
    guard: ScriptedBackend
    app: ScriptedBackend

    def ask(self, target: str, method: str = "GET", body: bytes | None = None, **fields: str) -> Seen:
        """How the authorizer is asked about a request that it allows."""
        self.guard.script = lambda seen: YES
        known = len(self.guard.requests)
        assert self.site.request(method, target, body, **fields).status == 200
        (seen,) = self.guard.requests[known:]
        return seen


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> Rig:
    root: Path = tmp_path_factory.mktemp("questions")
    guard, app = module_backend(), module_backend()
    site = module_gateway(SITE.format(root=root, guard=guard.option, app=app.option))
    return Rig(site, guard, app)


def test_no_body_and_no_length(rig: Rig) -> None:
    """FastCGI 1.0 section 6.3; the responder behind it gets every byte."""
    body = b"x" * 100_000
    asked = rig.ask("/mixed/a", "POST", body)
    assert (asked.stdin_size, asked.stdin_ended) == (0, True)
    assert not {"CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED"} & {*asked.names}
    assert rig.app.last.stdin_size == len(body)


def test_roles_are_told_by_host_not_by_place(rig: Rig) -> None:
    """The responder stands first in its list, and before its gate in the file: the gate is asked first all the same."""
    rig.guard.script = lambda seen: NO
    called = rig.app.begun
    for target in ("/mixed/a", "/mixed/a/b/c", "/ordered/in", "/ordered/in/deep"):
        assert rig.site.get(target).status == 403
    assert rig.app.begun == called
    assert rig.site.get("/open/a").status == 200
    assert rig.guard.last.role == 2


def test_forwarded_names_decide_nothing(rig: Rig) -> None:
    """CVE-2026-35051, CVE-2026-40575: the question is about our own reading of the request."""
    asked = rig.ask(
        "/mixed/real?q=1", X_Forwarded_Uri="/open/", X_Forwarded_Prefix="/open", X_Forwarded_Method="OPTIONS",
        X_Original_URI="/open/", X_Original_URL="/open/", X_Rewrite_URL="/open/", X_HTTP_Method_Override="OPTIONS",
        X_Forwarded_For="127.0.0.1", Forwarded="for=1.2.3.4", X_Real_IP="1.2.3.4",
    )  # fmt: skip
    said = {name: asked.text(name) for name in ("REQUEST_URI", "REQUEST_METHOD", "REMOTE_ADDR", "QUERY_STRING")}
    assert said == {
        "REQUEST_URI": "/mixed/real?q=1", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "127.0.0.1", "QUERY_STRING": "q=1",
    }  # fmt: skip
    rig.guard.script = lambda seen: NO
    for field in ("X-Forwarded-Uri", "X-Original-URL", "X-Rewrite-URL"):
        assert rig.site.get("/mixed/real", **{field.replace("-", "_"): "/open/a"}).status == 403


def test_repeated_fields_are_the_same_for_both(rig: Rig) -> None:
    """CVE-2021-32777: who decides reads what the application will read."""
    rig.guard.script = lambda seen: YES
    with rig.site.connect() as connection:
        fields = b"X-Role: user\r\nX-Role: admin\r\nCookie: a=1\r\nCookie: b\r\n"
        connection.send(b"GET /mixed/a HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
        assert connection.read_answer().status == 200
    for seen in (rig.guard.last, rig.app.last):
        assert (seen.text("HTTP_X_ROLE"), seen.text("HTTP_COOKIE")) == ("user, admin", "a=1; b")


@pytest.mark.parametrize("name", ["Remote-User", "Remote_User", "REMOTE-USER", "remote_user", "Remote.User"])
def test_nobody_names_himself(rig: Rig, name: str) -> None:
    """No spelling of an identity that a client sends reaches the authorizer, or the responder behind a silent one."""
    rig.guard.script = lambda seen: YES
    with rig.site.connect() as connection:
        connection.send(f"GET /mixed/a HTTP/1.1\r\nHost: a\r\n{name}: root\r\nAuth-Type: Basic\r\n\r\n".encode())
        assert connection.read_answer().status == 200
    for seen in (rig.guard.last, rig.app.last):
        assert not {"REMOTE_USER", "HTTP_REMOTE_USER", "AUTH_TYPE", "HTTP_AUTH_TYPE"} & {*seen.names}


@pytest.mark.parametrize("name", ["X-Level", "X_Level", "x-level", "X.Level", "HTTP-X-Level"])
def test_what_an_authorizer_says_wins_under_every_spelling(rig: Rig, name: str) -> None:
    rig.guard.script = lambda seen: answer("Status: 200\r\nVariable-X_LEVEL: 1\r\nVariable-REMOTE_USER: bob\r\n\r\n")
    with rig.site.connect() as connection:
        connection.send(f"GET /mixed/a HTTP/1.1\r\nHost: a\r\n{name}: 9\r\n\r\n".encode())
        assert connection.read_answer().status == 200
    seen = rig.app.last
    assert (seen.text("X_LEVEL"), seen.text("REMOTE_USER"), seen.text("HTTP_X_LEVEL")) == ("1", "bob", None)


@pytest.mark.parametrize("target", ["*", "a:80", ""])
def test_a_request_without_a_path(rig: Rig, target: str) -> None:
    """CVE-2026-73547: it neither skips a gate nor breaks it."""
    called = rig.app.begun
    for method in ("GET", "OPTIONS", "CONNECT"):
        with rig.site.connect() as connection:
            connection.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            got = connection.read_answer()
            assert got.status in (200, 400, 405, 501, 505)
    assert rig.app.begun == called


DYING = """
import os, sys
import webob
from gfastcgi.server.fastcgi import run
def check(request):
    if "die" in request.query_string:
        os._exit(3)
    return webob.Response()
run(authorizer=check)
"""


def test_a_spawned_authorizer_that_dies(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    """It lets nobody through with its last breath, and is there again for those who come after."""
    (tmp_path / "file.txt").write_bytes(SECRET)
    (tmp_path / "dying.py").write_text(DYING)
    site = gateway(
        f'server.document-root = "{tmp_path}"\nfastcgi.server = ( "/" => (( "mode" => "authorizer", "max-procs" => 1,'
        f' "socket" => "{tmp_path}/gate", "bin-path" => "{sys.executable} {tmp_path}/dying.py",'
        ' "check-local" => "disable" )) )\n'
    )
    wait_until(lambda: site.get("/file.txt").body == SECRET, "the authorizer to start")
    got = site.get("/file.txt?die")
    assert (got.status in (502, 503), SECRET in got.body) == (True, False)
    wait_until(lambda: site.get("/file.txt").body == SECRET, "the authorizer to be there again")
