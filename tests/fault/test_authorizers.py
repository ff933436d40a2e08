"""A gate that shuts whatever happens: nobody gets behind it but by a whole and clear yes of its authorizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.backend import OVERLOADED, UNKNOWN_ROLE, Reply, answer, end, record, stdout
from peers.cases import check_answer, load
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.cases import Case
    from peers.gateway import Gateway

CASES = load("fcgi/authorizers.json")
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


DOORS = ("/protected.txt", "/private/file.txt", "/app/run")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(gate: Gate, case: Case, door: str) -> None:
    gate.answers(Reply(case["bytes"].encode("latin-1"), case["then"]))
    expected, called = case["expected"], gate.app.begun
    served = expected["served"]
    got = gate.site.get(door)
    check_answer({**expected, "body_must_not": [] if served in (True, None) else [SECRET.decode()]}, got)
    if served:
        assert got.body == SECRET
    if not served and served is not None:
        assert SECRET not in got.body
        assert gate.app.begun == called, "the responder was asked although nobody said yes"
    gate.answers(YES)
    wait_until(lambda: gate.site.get(door).body == SECRET, "the gate to open again", 3)


@pytest.mark.parametrize("door", DOORS)
def test_cut_anywhere(gate: Gate, door: str) -> None:
    """A yes that breaks off after any byte of it is a no; only the whole one is a yes."""
    called = gate.app.begun
    for size in range(len(YES)):
        gate.answers(Reply(YES[:size], "close"))
        got = gate.site.get(door)
        assert (got.status in (502, 503), SECRET in got.body) == (True, False), f"after {size} bytes: {got}"
    assert gate.app.begun == called
    gate.answers(YES)
    wait_until(lambda: gate.site.get(door).body == SECRET, "the gate to open again", 3)


def test_a_yes_behind_an_interim_answer_is_none(gate: Gate) -> None:
    gate.answers(answer("Status: 103 Early Hints\r\nLink: </a>\r\n\r\nStatus: 200 OK\r\n\r\n"))
    for door in DOORS:
        got = gate.site.get(door)
        assert (got.status, SECRET in got.body) == (502, False)
    gate.answers(YES)
    wait_until(lambda: gate.site.get(DOORS[0]).body == SECRET, "the gate to open again", 3)


def test_control_fields_are_no_commands(gate: Gate) -> None:
    """X-Sendfile, X-Accel-Redirect and a local Location in an authorizer's answer are never obeyed."""
    for fields in (
        "X-Sendfile: /etc/passwd", "X-LIGHTTPD-send-file: /etc/passwd", "X-Sendfile2: /etc/passwd 0-",
        "X-Accel-Redirect: /protected.txt", "Location: /protected.txt", "Location: /app/run",
    ):  # fmt: skip
        for status in ("", "Status: 403\r\n", "Status: 302\r\n", "Status: 401\r\n"):
            if not status and not fields.startswith("Location"):
                continue
            gate.answers(answer(f"{status}{fields}\r\n\r\n"))
            got = gate.site.get("/private/file.txt")
            assert SECRET not in got.body
            assert b"root:" not in got.body
            assert got.status in (302, 401, 403, 502), got


def test_denials_reach_the_client_whole(gate: Gate) -> None:
    gate.answers(answer(
        'Status: 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n'
        "Content-Type: text/plain\r\n\r\nwho are you"
    ))  # fmt: skip
    got = gate.site.get("/protected.txt")
    assert (got.status, got.body, got.get("WWW-Authenticate")) == (401, b"who are you", 'Basic realm="x"')
    assert got.get_all("Set-Cookie") == ["a=1", "b=2"]
    gate.answers(answer("Location: http://login.example/?back\r\n\r\n"))
    got = gate.site.get("/protected.txt")
    assert (got.status, got.get("Location")) == (302, "http://login.example/?back")


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


def test_another_authorizer_after_a_refusal(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """OVERLOADED asks another one; UNKNOWN_ROLE denies, and is told apart in the log."""
    (tmp_path / "file.txt").write_bytes(SECRET)
    busy, ready = backend(lambda seen: end(protocol_status=OVERLOADED)), backend(lambda seen: YES)
    peers = (busy, ready)
    hosts = ", ".join(f'( {peer.option}, "mode" => "authorizer", "check-local" => "disable" )' for peer in peers)
    site = gateway(f'server.document-root = "{tmp_path}"\nfastcgi.server = ( "/" => ( {hosts} ) )\n')
    for _ in range(4):
        assert site.get("/file.txt").body == SECRET
    assert busy.begun >= 1
    for peer in peers:
        peer.script = lambda seen: end(protocol_status=UNKNOWN_ROLE)
    got = site.get("/file.txt")
    assert (got.status in (502, 503), SECRET in got.body) == (True, False)
    site.wait_for_log("(?i)unknown.role")


def test_more_bytes_after_a_yes(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """It holds, and its connection is never used again: what came behind it answers nobody else's request."""
    (tmp_path / "file.txt").write_bytes(SECRET)
    peer = backend(lambda seen: YES + stdout(b"Status: 200 OK\r\n\r\n") + end())
    site = gateway(
        f'server.document-root = "{tmp_path}"\nfastcgi.server = ( "/" => (( {peer.option},'
        ' "mode" => "authorizer", "check-local" => "disable", "max-connections" => 1 )) )\n'
    )
    assert site.get("/file.txt").body == SECRET
    peer.script = lambda seen: NO
    for _ in range(3):
        assert site.get("/file.txt").status == 403
    peer.script = lambda seen: record(6, b"Status: 200 OK\r\n\r\n", 2) + end(request_id=2)
    got = site.get("/file.txt")
    assert (got.status, SECRET in got.body) == (502, False)
