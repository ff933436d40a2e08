"""No way around a gate: what was authorised is what is served, however it is asked for and whatever moves meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

SECRET = b"SECRET-STATIC"
YES = answer("Status: 200 OK\r\n\r\n")
NO = answer("Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nno")

SITE = """
server.document-root = "{root}"
mimetype.assign = ( ".txt" => "text/plain" )
var.guard = ( "mode" => "authorizer", "check-local" => "disable", "read-timeout" => 1, "disable-time" => 1 )
fastcgi.server = (
  "/protected" => (( {guard} ) + guard ),
  "/private" => (( {guard}, "docroot" => "{root}/behind", "x-sendfile" => "enable" ) + guard ),
  "/app" => (( {guard} ) + guard ),
)
fastcgi.server += ( "/app/run" => (( {app}, "check-local" => "disable" )) )
"""


class Gate:
    """A gateway whose every door asks one authorizer, and the responder behind one of them."""

    def __init__(self, site: Gateway, guard: ScriptedBackend, app: ScriptedBackend) -> None:
        self.site, self.guard, self.app = site, guard, app

    def answers(self, reply: bytes | Reply) -> None:
        self.guard.script = lambda seen: reply


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> Gate:
    root: Path = tmp_path_factory.mktemp("gate")
    for path in ("protected.txt", "protected/file.txt", "behind/private/file.txt", "app/x.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(SECRET)
    guard, app = module_backend(), module_backend(lambda seen: answer(b"Content-Type: a/b\r\n\r\n" + SECRET))
    return Gate(module_gateway(SITE.format(root=root, guard=guard.option, app=app.option)), guard, app)


def test_no_spelling_and_no_method_gets_past(gate: Gate) -> None:
    spelt = (
        "/protected.txt", "//protected.txt", "/./protected.txt", "/x/../protected.txt", "/%70rotected.txt",
        "/%2570rotected.txt", "/protected.txt/", "/protected.txt;x", "/PROTECTED.TXT", "/protected.txt?x",
        "/protected.txt%00", "/protected.txt%20", "/x%2f..%2fprotected.txt", "/x/%2e%2e/protected.txt",
        "http://a/protected.txt", "/protected/../protected.txt", "/\\protected.txt", "/protected.txt%3f",
        "/%2fprotected.txt",
        "/app/run", "//app//run", "/app/./run", "/app/x/../run", "/app/x.txt", "/behind/../app/run", "/%61pp/run",
    )  # fmt: skip
    gate.answers(NO)
    called = gate.app.begun
    for target in spelt:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "QUERY", "TRACE", "FOO"):
            with gate.site.connect() as connection:
                body = b"x" if method in ("POST", "PUT") else None
                got = connection.request(method, target, body, host="a")
                assert got.status in (301, 400, 403, 404, 405, 501), (method, target, got)
                assert SECRET not in got.body
    assert gate.app.begun == called


def test_conditional_fields_are_not_for_authorizers(gate: Gate) -> None:
    """A client's If-None-Match and Range ask about the file: they are kept from the authorizer, and then obeyed."""
    gate.answers(YES)
    got = gate.site.get("/protected.txt", Range="bytes=0-5", If_Range='"x"', If_Match="*")
    assert got.status in (200, 206)
    asked = {name for name in gate.guard.last.params if name.startswith(("HTTP_IF_", "HTTP_RANGE"))}
    assert not asked
    etag = gate.site.get("/protected.txt").get("ETag") or ""
    assert gate.site.get("/protected.txt", If_None_Match=etag).status == 304
    gate.answers(answer("Status: 304\r\n\r\n"))
    got = gate.site.get("/protected.txt", If_None_Match=etag)
    assert SECRET not in got.body
    assert got.status in (304, 403, 502)
