"""No way around a gate: what was authorised is what is served, however it is asked for and whatever moves meanwhile."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend, Seen
    from peers.gateway import Gateway
    from peers.http import Answer

SECRET = b"SECRET-STATIC"
INSIDE = b"for those who may"
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


SPELT = {
    "ap-plain": "/protected.txt", "ap-dslash": "//protected.txt", "ap-dot": "/./protected.txt",
    "ap-dotdot": "/x/../protected.txt", "ap-encoded": "/%70rotected.txt", "ap-twice-encoded": "/%2570rotected.txt",
    "ap-slash": "/protected.txt/", "ap-semi": "/protected.txt;x", "ap-upper": "/PROTECTED.TXT",
    "ap-query": "/protected.txt?x", "ap-nul": "/protected.txt%00", "ap-space": "/protected.txt%20",
    "ap-enc-slash": "/x%2f..%2fprotected.txt", "ap-enc-dotdot": "/x/%2e%2e/protected.txt",
    "ap-absolute": "http://a/protected.txt", "ap-out-and-in": "/protected/../protected.txt",
    "ap-backslash": "/\\protected.txt", "ap-enc-backslash": "/%5cprotected.txt", "ap-enc-mark": "/protected.txt%3f",
    "ap-leading-enc-slash": "/%2fprotected.txt", "ap-trailing-dot": "/protected.txt.",
    "ap-trailing-dots": "/protected.txt/...", "ap-data-stream": "/protected.txt::$DATA", "ap-tab": "/protected.txt%09",
    "ap-overlong": "/%c0%afprotected.txt", "ap-fullwidth": "/%ef%bd%90rotected.txt",
    "ap-path-info": "/protected.txt/x.jpg", "ap-no-path": "http://a", "ap-app": "/app/run",
    "ap-app-dslash": "//app//run",
    "ap-app-dot": "/app/./run", "ap-app-dotdot": "/app/x/../run", "ap-app-file": "/app/x.txt",
    "ap-app-behind": "/behind/../app/run", "ap-app-encoded": "/%61pp/run", "ap-app-path-info": "/app/run/x.css",
    "ap-docroot": "/private/file.txt", "ap-docroot-dotdot": "/private/../private/file.txt",
    "ap-docroot-path-info": "/private/file.txt/x.css",
}  # fmt: skip
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "QUERY", "TRACE", "CONNECT", "FOO")


@pytest.mark.parametrize("target", SPELT.values(), ids=SPELT)
def test_no_spelling_and_no_method_gets_past(gate: Gate, target: str) -> None:
    gate.answers(NO)
    called = gate.app.begun
    for method in METHODS:
        with gate.site.connect() as connection:
            body = b"x" if method in ("POST", "PUT") else None
            got = connection.request(method, target, body, host="a")
            assert got.status in (301, 400, 403, 404, 405, 501), (method, target, got)
            assert SECRET not in got.body
    assert gate.app.begun == called


@pytest.mark.parametrize("path", ["/protected.txt", "/private/file.txt", "/app/run"])
@pytest.mark.parametrize(
    "head",
    [
        "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET {path} HTTP/1.0\r\n\r\n",
        "GET http://a{path} HTTP/1.1\r\nHost: b\r\n\r\n",
        "HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS {path} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-3\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n",
        "GET {path} HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Sat, 01 Jan 2033 00:00:00 GMT\r\n\r\n",
        'GET {path} HTTP/1.1\r\nHost: a\r\nIf-Match: "none"\r\n\r\n',
        "GET {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_every_form_of_a_request_is_asked_about(gate: Gate, head: str, path: str) -> None:
    """The authorizer's 403 is the answer, not a 304, 412, 206, 405 or 100 that tells of what is behind it."""
    gate.answers(NO)
    asked = gate.guard.begun
    with gate.site.connect() as connection:
        connection.send(head.format(path=path).encode())
        got = connection.read_answer(head.partition(" ")[0])
        assert (got.status, got.interim, SECRET in got.body) == (403, [], False)
    assert gate.guard.begun == asked + 1


def test_pipelined_requests_are_asked_about_one_by_one(gate: Gate) -> None:
    gate.guard.script = lambda seen: YES if seen.text("QUERY_STRING") == "yes" else NO
    queries = ["yes", "no", "", "yes", "yes&no", "no"]
    with gate.site.connect() as connection:
        lines = (f"GET /private/file.txt?{query} HTTP/1.1\r\nHost: a\r\n\r\n" for query in queries)
        connection.send("".join(lines).encode())
        answers = [connection.read_answer() for _ in queries]
    assert [(got.status, got.body) for got in answers] == [
        (200, SECRET) if query == "yes" else (403, b"no") for query in queries
    ]


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


# What moves between the yes and the opening: the authorizer itself moves it.


class Moving:
    """A private folder, whose authorizer does something to it before it allows."""

    def __init__(self, top: Path, folder: Path, site: Gateway, guard: ScriptedBackend) -> None:
        self.top, self.folder, self.site, self.guard = top, folder, site, guard

    def get(self, path: str, moves: Callable[[], object] = lambda: None) -> Answer:
        def script(seen: Seen) -> bytes:
            moves()
            return YES

        self.guard.script = script
        return self.site.get(self.url(path))

    def url(self, path: str) -> str:
        return f"/private/{self.folder.name}/{path}"

    def swap(self, path: str, target: str) -> None:
        """Puts a link to `target`, outside, in the place of `path`, at once (rename(2))."""
        link = self.folder / "new-link"
        link.symlink_to(self.top / "outside" / target)
        link.rename(self.folder / path)


@pytest.fixture(scope="module")
def mover(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> Callable[[str], Moving]:
    top: Path = tmp_path_factory.mktemp("moving")

    def fill(folder: Path, content: bytes) -> Path:
        for path in ("file.txt", "dir/file.txt", "dir/index.html"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    fill(top / "outside", SECRET)
    guard = module_backend()
    site = module_gateway(
        f'server.document-root = "{top}/www"\nindex-file.names = ( "index.html" )\n'
        f'fastcgi.server = ( "/private/" => (( {guard.option}, "mode" => "authorizer", "docroot" => "{top}/behind",'
        ' "check-local" => "disable" )) )\n'
    )
    return lambda name: Moving(top, fill(top / "behind" / "private" / name, INSIDE), site, guard)


@pytest.fixture
def moving(mover: Callable[[str], Moving], tmp_path: Path) -> Moving:
    """A folder of the test's own: where paths led is remembered for a second."""
    return mover(tmp_path.name)


@pytest.mark.parametrize("is_known", [False, True], ids=["first", "remembered"])
@pytest.mark.parametrize(
    ("path", "moved", "target"),
    [
        ("file.txt", "file.txt", "file.txt"),
        ("dir/", "dir/index.html", "file.txt"),
        ("dir/file.txt", "dir/file.txt", "dir/file.txt"),
    ],
)
def test_a_file_becomes_a_link_out(moving: Moving, path: str, moved: str, target: str, is_known: bool) -> None:
    if is_known:
        assert moving.get(path).body == INSIDE
    got = moving.get(path, lambda: moving.swap(moved, target))
    assert (got.status, SECRET in got.body) == (403, False)
    assert moving.get(path).status == 403


@pytest.mark.parametrize("is_known", [False, True], ids=["first", "remembered"])
def test_a_folder_becomes_a_link_out(moving: Moving, is_known: bool) -> None:
    def move() -> None:
        (moving.folder / "dir").rename(moving.folder / "old")
        moving.swap("dir", "dir")

    if is_known:
        assert moving.get("dir/file.txt").body == INSIDE
    got = moving.get("dir/file.txt", move)
    assert (got.status, SECRET in got.body) == (403, False)


def test_the_docroot_moves(moving: Moving) -> None:
    """The root is the operator's to move; what is served is the path that was authorised, beneath what is there now."""
    behind, gone = moving.top / "behind", moving.top / "gone"
    try:
        assert moving.get("file.txt", lambda: behind.rename(gone)).status in (403, 404)
    finally:
        gone.rename(behind)


def test_a_file_becomes_something_else(moving: Moving) -> None:
    def fifo() -> None:
        (moving.folder / "file.txt").unlink()
        os.mkfifo(moving.folder / "file.txt")

    assert moving.get("file.txt", fifo).status == 403
    assert moving.get("dir/file.txt", lambda: (moving.folder / "dir/file.txt").unlink()).status == 404


def test_a_file_that_appears_meanwhile(moving: Moving) -> None:
    assert moving.get("late.txt", lambda: (moving.folder / "late.txt").write_bytes(b"late")).status == 404
    assert moving.get("late.txt").body == b"late"


def test_a_file_that_shrinks_never_looks_whole(moving: Moving) -> None:
    """The length is that of the opened file; one that is cut short while it leaves ends the connection."""
    (moving.folder / "big.bin").write_bytes(b"x" * (8 << 20))
    moving.guard.script = lambda seen: YES
    with moving.site.connect() as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.send(f"GET {moving.url('big.bin')} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = connection.read_head()
        assert head is not None
        assert head.get("Content-Length") == str(8 << 20)
        os.truncate(moving.folder / "big.bin", 1 << 20)
        connection._read_body(head, "GET")
        assert not head.whole


# Ways around: other keys, other names, other requests that end at the same place.

AROUND = """
server.document-root = "{root}/www"
index-file.names = ( "index.php" )
url.rewrite-once = ( "^/rewritten/(.*)" => "/protected/$1" )
alias.url = ( "/alias/" => "{root}/www/protected/" )
fastcgi.server = (
  "/protected/" => (( {guard}, "mode" => "authorizer", "check-local" => "disable" )),
  ".php" => (( {guard}, "mode" => "authorizer" ), ( {app} )),
)
fastcgi.server += ( "/jump" => (( {jump}, "check-local" => "disable", "x-sendfile" => "enable",
    "x-sendfile-docroot" => ( "{root}/www/public" ) )) )
fastcgi.map-extensions = ( ".phtml" => ".php" )
"""


@pytest.mark.parametrize(
    "target",
    [
        "/a.php", "/a.php/", "/a.php/x", "/a.php/protected.jpg", "/a.php;x", "/a.phtml", "/a.phtml/x.jpg", "/dir/",
        "/dir", "/a.php?x.jpg", "/a%2ephp", "/%61.php/%2e%2e/x.css", "/protected/none.php/x", "/protected/file.txt",
        "/rewritten/file.txt", "/rewritten/../protected/file.txt", "/jump?redirect", "/jump?redirect-encoded",
        "/jump?redirect-script", "/jump?sendfile", "/jump?accel",
    ],
)  # fmt: skip
def test_no_way_around(around: tuple[Gateway, ScriptedBackend, ScriptedBackend], target: str) -> None:
    site, guard, app = around
    guard.script = lambda seen: NO
    called = app.begun
    for method in ("GET", "HEAD", "POST"):
        got = site.request(method, target, b"" if method == "POST" else None)
        assert got.status in (301, 403, 404) or (got.status, got.body) == (200, b""), (method, got)
        assert SECRET not in got.body
    assert app.begun == called


@pytest.fixture(scope="module")
def around(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> tuple[Gateway, ScriptedBackend, ScriptedBackend]:
    root: Path = tmp_path_factory.mktemp("around")
    for path in ("a.php", "a.phtml", "dir/index.php", "protected/file.txt", "protected/x.php"):
        (root / "www" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "www" / path).write_bytes(SECRET)
    (root / "www" / "public").mkdir()
    jumps = {
        "redirect": "Location: /protected/file.txt", "redirect-encoded": "Location: /x/%2e%2e/protected/file.txt",
        "redirect-script": "Location: /a.php", "sendfile": f"X-Sendfile: {root}/www/protected/file.txt",
        "accel": "X-Accel-Redirect: /protected/file.txt",
    }  # fmt: skip
    guard, app = module_backend(), module_backend(lambda seen: answer(b"Content-Type: a/b\r\n\r\n" + SECRET))
    jump = module_backend(lambda seen: answer(jumps[seen.text("QUERY_STRING") or ""] + "\r\n\r\n"))
    config = AROUND.format(root=root, guard=guard.option, app=app.option, jump=jump.option)
    return module_gateway(config), guard, app
