"""One gate, three ways to ask: FastCGI, HTTP and Python answer alike, and everything that is no answer denies alike."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from peers.backend import Reply, ScriptedBackend, answer
from peers.service import HTTPService, http
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from peers.gateway import Gateway

SECRET = b"SECRET-FILE"

SITE = """
server.document-root = "{root}"
accesslog.filename = "{root}/access.log"
accesslog.format = "%m %U %s user=%u"
mimetype.assign = ( ".txt" => "text/plain" )
var.gate = ( "mode" => "authorizer", "read-timeout" => 1, "connect-timeout" => 1, "disable-time" => 0 )
fastcgi.server = (
  "/secret" => (( {entry} ) + gate ),
  "/app" => (( {entry} ) + gate ),
  "/in" => (( {entry}, "login" => "https://login.example/?rd={{url}}", "preflight" => "allow" ) + gate ),
)
fastcgi.server += ( "/app/run" => (( {app}, "check-local" => "disable" )) )
"""

# The authorizer in Python does as the file beside it says, and writes down what it was asked.
PROGRAM = """
import json, pathlib
import gevent, webob, webob.exc
from gfastcgi import Allow, authorizer

HERE = pathlib.Path(__file__).parent

def check(request):
    says = json.loads((HERE / "says.json").read_text())
    asked = {"method": request.method, "uri": request.path_qs, "fields": dict(request.headers)}
    asked["body"] = request.body.decode()
    with (HERE / "asked.jsonl").open("a") as file:
        file.write(json.dumps(asked) + "\\n")
    kind = says["kind"]
    if kind == "raise":
        raise {"key": KeyError("x"), "os": OSError("x"), "own": ConnectionResetError("x")}[says["what"]]
    if kind == "sleep":
        gevent.sleep(30)
    if kind == "return":
        return says["what"]
    if kind == "allow":
        cookies = tuple(("Set-Cookie", value) for value in says["cookies"])
        return Allow(says["variables"], cookies)
    response = webob.Response(status=says["status"], headerlist=says["fields"], body=says["body"].encode())
    if kind == "raised":
        raise webob.exc.HTTPForbidden("raised")
    return response
"""


@dataclass
class Says:
    """What an authorizer is to say."""

    status: int = 200
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    cookies: list[str] = field(default_factory=list)


@dataclass
class Question:
    """What it was asked, in the words that its transport has for it. Names of fields are in lower case."""

    method: str
    uri: str
    fields: dict[str, str]


class FastCGI:
    def __init__(self, folder: Path) -> None:
        self.peer = ScriptedBackend(str(folder / "gate.sock"))
        self.entry = self.peer.option

    def says(self, says: Says) -> None:
        fields = [f"Variable-{name}: {value}" for name, value in says.variables.items()]
        fields += [f"Set-Cookie: {value}" for value in says.cookies]
        fields += [f"{name}: {value}" for name, value in says.fields]
        reply = answer("\r\n".join([f"Status: {says.status}", *fields, "", says.body]))
        self.peer.script = lambda seen: reply

    def asked(self) -> Question:
        seen = self.peer.last
        fields = {
            name[5:].lower().replace("_", "-"): value.decode("latin-1")
            for name, value in seen.params.items()
            if name.startswith("HTTP_")
        }
        assert seen.stdin == b""
        assert "CONTENT_LENGTH" not in seen.params
        return Question(seen.text("REQUEST_METHOD") or "", seen.text("REQUEST_URI") or "", fields)

    def count(self) -> int:
        return self.peer.begun

    def stop(self) -> None:
        self.peer.stop()


class Forward:
    def __init__(self, folder: Path) -> None:
        self.peer = HTTPService()
        self.entry = f'"url" => "{self.peer.url("/auth?a=b")}"'

    def says(self, says: Says) -> None:
        names = {"REMOTE_USER": "Remote-User", "REMOTE_GROUPS": "Remote-Groups"}
        fields = [(names.get(name, f"Variable-{name}"), value) for name, value in says.variables.items()]
        fields += [("Set-Cookie", value) for value in says.cookies] + says.fields
        # oauth2-proxy says 202.
        status = 202 if says.status == 200 else says.status
        reply = http(status, *fields, body=says.body.encode())
        self.peer.script = lambda asked: reply

    def asked(self) -> Question:
        asked = self.peer.last
        assert (asked.method, asked.target, asked.get("host")) == ("GET", "/auth?a=b", f"127.0.0.1:{self.peer.port}")
        assert asked.get("x-forwarded-for") == "127.0.0.1"
        assert asked.get("x-original-url") == "http://localhost" + (asked.get("x-forwarded-uri") or "")
        assert asked.get("x-original-method") == asked.get("x-forwarded-method")
        fields = {name: value for name, value in asked.fields if not name.startswith(("x-forwarded-", "x-original-"))}
        return Question(asked.get("x-forwarded-method") or "", asked.get("x-original-uri") or "", fields)

    def count(self) -> int:
        return len(self.peer.requests)

    def stop(self) -> None:
        self.peer.stop()


class Python:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = f"gate_{folder.name.replace('-', '_')}"
        (folder / f"{self.module}.py").write_text(PROGRAM)
        (folder / "asked.jsonl").touch()
        self.entry = f'"python" => "{self.module}:check"'

    def write(self, **says: Any) -> None:
        (self.folder / "next.json").write_text(json.dumps(says))
        (self.folder / "next.json").rename(self.folder / "says.json")

    def says(self, says: Says) -> None:
        kind = "allow" if says.status == 200 else "deny"
        self.write(kind=kind, **{**says.__dict__, "fields": [*says.fields, *(("Set-Cookie", c) for c in says.cookies)]})

    def asked(self) -> Question:
        asked = json.loads((self.folder / "asked.jsonl").read_text().splitlines()[-1])
        assert asked["body"] == ""
        return Question(asked["method"], asked["uri"], {name.lower(): value for name, value in asked["fields"].items()})

    def count(self) -> int:
        return len((self.folder / "asked.jsonl").read_text().splitlines())

    def stop(self) -> None:
        pass


TRANSPORTS = {"fastcgi": FastCGI, "url": Forward, "python": Python}


class Gate:
    """A gateway behind one transport: files under /secret, a responder at /app/run, a login page for /in."""

    def __init__(self, site: Gateway, transport: Any, app: ScriptedBackend, root: Path) -> None:
        self.site, self.transport, self.app, self.root = site, transport, app, root

    def says(self, status: int = 200, *fields: tuple[str, str], **more: Any) -> None:
        self.transport.says(Says(status, list(fields), **more))


@pytest.fixture(scope="module", params=TRANSPORTS)
def gate(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> Iterator[Gate]:
    root = tmp_path_factory.mktemp("site")
    for path in ("secret.txt", "in/page.html"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(SECRET)
    transport = TRANSPORTS[request.param](tmp_path_factory.mktemp("gate"))
    app = module_backend()
    folder = transport.folder if isinstance(transport, Python) else root
    text = SITE.format(root=root, entry=transport.entry, app=app.option)
    yield Gate(module_gateway(text, env={"PYTHONPATH": str(folder)}), transport, app, root)
    transport.stop()


def test_a_yes_lets_through(gate: Gate) -> None:
    gate.says()
    assert gate.site.get("/secret.txt").body == SECRET
    assert gate.site.request("HEAD", "/secret.txt").get("Content-Length") == str(len(SECRET))
    got = gate.site.get("/secret.txt", Range="bytes=0-5")
    assert (got.status, got.body) == (206, SECRET[:6])
    asked = gate.transport.asked()
    assert (asked.method, asked.uri) == ("GET", "/secret.txt")
    assert not {"range", "content-length", "if-none-match"} & asked.fields.keys()


def test_what_a_yes_says_reaches_responder_client_and_log(gate: Gate) -> None:
    gate.says(variables={"REMOTE_USER": "ann", "REMOTE_GROUPS": "a,b", "LEVEL": "2"}, cookies=["s=1; Path=/", "t=2"])
    got = gate.site.request("POST", "/app/run?x=1", b"body", Cookie="a=b", Authorization="Bearer x")
    assert (got.status, got.get_all("Set-Cookie")) == (200, ["s=1; Path=/", "t=2"])
    params = json.loads(got.body)["params"]
    assert {name: params[name] for name in ("REMOTE_USER", "REMOTE_GROUPS", "LEVEL")} == {
        "REMOTE_USER": "ann", "REMOTE_GROUPS": "a,b", "LEVEL": "2",
    }  # fmt: skip
    assert gate.app.last.stdin == b"body"
    asked = gate.transport.asked()
    assert (asked.method, asked.uri) == ("POST", "/app/run?x=1")
    assert (asked.fields["cookie"], asked.fields["authorization"]) == ("a=b", "Bearer x")
    log = gate.root / "access.log"
    wait_until(lambda: "POST /app/run 200 user=ann" in log.read_text(), "the user in the access log")


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("path", ["/secret.txt", "/app/run"])
def test_a_no_goes_to_the_client_whole(gate: Gate, status: int, path: str) -> None:
    fields = [("WWW-Authenticate", "Custom"), ("Location", "https://login.example/?a"), ("Retry-After", "7")]
    gate.says(status, *fields, ("X-Sendfile", "/etc/passwd"), body="no, because", cookies=["a=1", "b=2"])
    called = gate.app.begun
    got = gate.site.get(path)
    assert (got.status, got.body, got.get_all("Set-Cookie")) == (status, b"no, because", ["a=1", "b=2"])
    assert set(fields) <= set(got.fields)
    assert got.get("X-Sendfile") is None
    assert gate.app.begun == called
    assert gate.site.request("HEAD", path).status == status
    assert gate.site.request("POST", path, b"x" * 100_000).status == status
    assert gate.app.begun == called


@pytest.mark.parametrize(
    "name", ["Remote-User", "Remote_User", "REMOTE-USER", "remote_USER", "Remote.User", "Auth-Type"]
)
def test_no_client_says_who_it_is(gate: Gate, name: str) -> None:
    gate.says()
    with gate.site.connect() as connection:
        connection.send(f"GET /app/run HTTP/1.1\r\nHost: localhost\r\n{name}: root\r\nX-A: 1\r\n\r\n".encode())
        got = connection.read_answer()
    params = json.loads(got.body)["params"]
    assert "root" not in params.values()
    assert params["HTTP_X_A"] == "1"
    assert "root" not in gate.transport.asked().fields.values()


def test_a_name_that_an_authorizer_gave_once_is_no_clients_any_more(gate: Gate) -> None:
    gate.says(variables={"TEAM": "blue"})
    params = json.loads(gate.site.get("/app/run", Team="red").body)["params"]
    assert (params["TEAM"], "HTTP_TEAM" in params) == ("blue", False)
    gate.says()
    params = json.loads(gate.site.get("/app/run", Team="red").body)["params"]
    assert ("TEAM" in params, "HTTP_TEAM" in params) == (False, False)
    assert "team" not in gate.transport.asked().fields
    gate.site.wait_for_log("sent the field 'team', which names an identity: it was dropped")


def test_four_clients_four_outcomes(gate: Gate) -> None:
    """A browser that navigates, one before Fetch Metadata, a script, and a preflight."""
    gate.says(401, body="who are you")
    back = "https://login.example/?rd=http%3A%2F%2Flocalhost%2Fin%2Fpage.html%3Fa%3D1%26b%3D2"
    target = "/in/page.html?a=1&b=2"
    got = gate.site.get(target, Sec_Fetch_Mode="navigate", Accept="*/*")
    assert (got.status, got.get("Location"), got.get("Cache-Control")) == (302, back, "no-store")
    got = gate.site.get(target, Accept="text/html,application/xhtml+xml;q=0.9")
    assert (got.status, got.get("Location")) == (302, back)
    assert gate.site.request("POST", target, b"", Sec_Fetch_Mode="navigate").status == 303
    for fields in (
        {"Sec_Fetch_Mode": "cors", "Accept": "text/html"}, {"Accept": "application/json"}, {},
        {"X_Requested_With": "XMLHttpRequest", "Accept": "text/html"}, {"Sec_Fetch_Mode": "no-cors"},
    ):  # fmt: skip
        got = gate.site.get(target, **fields)
        assert (got.status, got.body) == (401, b"who are you")
    got = gate.site.request("OPTIONS", target, Origin="https://a", Access_Control_Request_Method="PUT")
    assert (got.status, SECRET in got.body) == (200, False)
    missing = gate.site.request("OPTIONS", "/in/none", Origin="https://a", Access_Control_Request_Method="PUT")
    assert [field for field in missing.fields if field[0] != "Date"] == [
        field for field in got.fields if field[0] != "Date"
    ], "whether there is a file is nobody's business who was not asked about"
    assert gate.site.request("OPTIONS", target, Origin="https://a").status == 401
    got = gate.site.get(target, Origin="https://a", Access_Control_Request_Method="PUT")
    assert got.status == 401


def test_a_script_is_not_sent_to_a_login_page(gate: Gate) -> None:
    gate.says(302, ("Location", "https://idp.example/"), cookies=["csrf=1"])
    got = gate.site.get("/in/page.html", Sec_Fetch_Mode="cors")
    assert (got.status, got.get("Location"), got.get("Set-Cookie")) == (401, "https://idp.example/", "csrf=1")
    got = gate.site.get("/in/page.html", Sec_Fetch_Mode="navigate")
    assert (got.status, got.get("Location")) == (302, "https://idp.example/")
    gate.says(403, body="not you")
    assert gate.site.get("/in/page.html", Sec_Fetch_Mode="navigate").body == b"not you"


WHOLE = http(200, ("Remote-User", "ann"), body=b"ok")
FAILURES: dict[str, list[tuple[str, Any, int]]] = {
    "fastcgi": [
        ("closes", Reply(b"", "close"), 502),
        ("ends inside its head", Reply(answer("Status: 200 OK\r\n\r\n")[:-20], "close"), 502),
        ("hangs", Reply(b"", "hang"), 504),
    ],
    "url": [
        ("closes", Reply(b"", "close"), 502),
        ("hangs", Reply(b"", "hang"), 504),
        ("hangs in its head", Reply(WHOLE[:40], "hang"), 504),
        ("hangs in its body", Reply(WHOLE[:-1], "hang"), 504),
        ("breaks off in its body", Reply(WHOLE[:-1], "close"), 502),
        ("breaks off in its head", Reply(WHOLE[:-5], "close"), 502),
        ("garbage", Reply(b"220 mail.example ESMTP\r\n", "close"), 502),
        ("breaks off in a chunk", Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "close"), 502),
        ("no last chunk", Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "close"), 502),
        ("two lengths", Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\na", "close"), 502),
        ("two users", Reply(http(200, ("Remote-User", "a"), ("Remote-User", "root"))), 502),
        ("a variable of ours", Reply(http(200, ("Variable-SCRIPT_FILENAME", "/etc/passwd"))), 502),
        ("only an interim answer", Reply(b"HTTP/1.1 103 Early Hints\r\n\r\n", "close"), 502),
        ("too large", Reply(http(403, body=b"x" * (1 << 20) + b"x"), "close"), 502),
    ],
    "python": [
        ("raises", {"kind": "raise", "what": "key"}, 500),
        ("raises OSError", {"kind": "raise", "what": "os"}, 500),
        ("raises what a gone client does", {"kind": "raise", "what": "own"}, 500),
        ("answers 1", {"kind": "return", "what": 1}, 500),
        ("answers a list", {"kind": "return", "what": ["ann"]}, 500),
        ("answers False", {"kind": "return", "what": False}, 403),
        ("answers None", {"kind": "return", "what": None}, 403),
        ("answers nobody", {"kind": "return", "what": ""}, 403),
        ("a line end in a name", {"kind": "return", "what": "ann\nX: y"}, 500),
        ("a variable of ours", {"kind": "allow", "variables": {"PATH_INFO": "x"}, "cookies": []}, 502),
        ("sleeps", {"kind": "sleep"}, 504),
        ("is not there", {"kind": "gone"}, 500),
    ],
}


def test_everything_else_denies(gate: Gate) -> None:
    name = next(name for name, kind in TRANSPORTS.items() if isinstance(gate.transport, kind))
    called = gate.app.begun
    for what, reply, status in FAILURES[name]:
        if isinstance(reply, dict):
            gate.transport.write(**reply)
        else:
            gate.transport.peer.script = lambda seen, reply=reply: reply
        got = gate.site.get("/secret.txt")
        assert (got.status, SECRET in got.body) == (status, False), what
        assert gate.site.get("/app/run").status == status, what
    assert gate.app.begun == called
    if name == "python":
        gate.site.wait_for_log("KeyError: 'x'")
        gate.site.may_trace = True
    gate.says()
    wait_until(lambda: gate.site.get("/secret.txt").body == SECRET, "the gate to open again", 3)


def test_nobody_there(gate: Gate) -> None:
    """The last test of a transport: its peer is gone afterwards."""
    if isinstance(gate.transport, Python):
        gate.transport.write(kind="return", what=True)
        assert gate.site.get("/secret.txt").body == SECRET
        gate.transport.write(kind="return", what="bob")
        assert json.loads(gate.site.get("/app/run").body)["params"]["REMOTE_USER"] == "bob"
        gate.transport.write(kind="raised", status=200, fields=[], body="")
        assert (gate.site.get("/secret.txt").status, b"raised" in gate.site.get("/secret.txt").body) == (403, True)
        return
    gate.transport.stop()
    got = gate.site.get("/secret.txt")
    assert (got.status, SECRET in got.body) == (503, False)
    assert re.search(rb"connect_refused|no_backend", got.body)
