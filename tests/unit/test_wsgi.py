"""A WSGI environ as a request, the gate in front of applications, and the examples of docs/wsgi.md."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import webob

from gfastcgi import AuthorizerMiddleware, CacheConfig, HostConfig, PrivateFiles, authorizer_at
from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.cgi.metavars import field_variables
from gfastcgi.errors import BackendTimeout, BadRequest, InvalidValue
from gfastcgi.wsgi.environ import guarded_environ, request_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gfastcgi.request import Request

PAGE = Path(__file__).parents[2] / "docs" / "wsgi.md"


def environ_of(path: str = "/", **more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "here",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(b"body"), **more,
    }  # fmt: skip


class Fixed:
    def __init__(self, decision: Any) -> None:
        self.decision = decision

    def check(self, request: Request, root: str) -> Decision:
        if isinstance(self.decision, Exception):
            raise self.decision
        decision: Decision = self.decision
        return decision


def call(app: Any, environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    seen: list[Any] = []
    body: Iterable[bytes] = app(environ, lambda status, headers, exc_info=None: seen.extend((status, dict(headers))))
    content = b"".join(body)
    getattr(body, "close", lambda: None)()
    return seen[0], seen[1], content


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [repr(sorted(name for name in environ if name.isupper())).encode()]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/a//b/../c", "x=%2F", ("/a/c", b"/a/c?x=%2F")),
        ("/caf\xc3\xa9 x", "", ("/caf\u00e9 x", b"/caf%C3%A9%20x")),
        ("/\xff", "", ("/\udcff", b"/%FF")),
        ("/100%", "", ("/100%", b"/100%25")),
        ("", "", ("/", b"/")),
        ("/a?b#c", "", ("/a?b#c", b"/a%3Fb%23c")),
    ],
)
def test_the_path_has_one_form(path: str, query: str, expected: tuple[str, bytes]) -> None:
    request = request_of(environ_of(path, QUERY_STRING=query))
    assert (request.path, request.uri) == expected


@pytest.mark.parametrize(
    "environ",
    [
        environ_of("/a\nb"), environ_of("/a\0b"), environ_of("/a\\b"), environ_of("x"), environ_of("*"),
        environ_of("/../x", SCRIPT_NAME="/app"), environ_of("er/x", SCRIPT_NAME="/app"),
        environ_of(HTTP_HOST="a/b"), environ_of(QUERY_STRING="a\nb"),
    ],
)  # fmt: skip
def test_what_has_none(environ: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        request_of(environ)
    for app in (AuthorizerMiddleware(echo, [Fixed(Allow())]), PrivateFiles("/", [Fixed(Allow())])):
        assert call(app, environ)[0].startswith("400 ")


def test_what_the_request_knows() -> None:
    request = request_of(environ_of(
        "/x", SCRIPT_NAME="/app", HTTP_HOST="A:81", HTTP_X_B="1", CONTENT_TYPE="a/b", CONTENT_LENGTH="4",
        REMOTE_PORT="99", SERVER_PROTOCOL="HTTP/1.0", **{"wsgi.url_scheme": "https"},
    ))  # fmt: skip
    assert (request.path, request.authority, request.version, request.body.read()) == ("/app/x", "a:81", "1.0", b"")
    assert dict(request.fields) == {
        b"host": b"a:81", b"x-b": b"1", b"content-type": b"a/b", b"content-length": b"4",
    }  # fmt: skip
    peer = request.peer
    assert (peer.remote_addr, peer.remote_port, peer.server_addr, peer.server_port, peer.scheme) == (
        "192.0.2.1", 99, "here", 80, "https",
    )  # fmt: skip


def test_what_the_application_may_know() -> None:
    environ = environ_of(
        "/a/../b", HTTP_REMOTE_USER="eve", HTTP_AUTH_TYPE="x", HTTP_LEVEL="9", HTTP_PROXY="x", REMOTE_USER="server",
        HTTP_UPGRADE="websocket", HTTP_COOKIE="a=1", RAW_URI="/a/%2e./b",
    )  # fmt: skip
    request = request_of(environ)
    request.variables = {b"LEVEL": b"1", b"REMOTE_EMAIL": b"\xc3\xa9"}
    guarded = guarded_environ(environ, request)
    changed = {"PATH_INFO": "/b", "RAW_URI": "/b", "LEVEL": "1", "REMOTE_EMAIL": "\xc3\xa9"}
    gone = {"HTTP_REMOTE_USER", "HTTP_AUTH_TYPE", "HTTP_LEVEL", "HTTP_PROXY", "REMOTE_USER"}
    assert guarded == {name: value for name, value in {**environ, **changed}.items() if name not in gone}


@pytest.mark.parametrize(
    "fields",
    [{"HTTP_CONNECTION": "keep-alive, X-Impersonate", "HTTP_X_IMPERSONATE": "root"}, {"HTTP_X_IMPERSONATE": ""}],
)
def test_what_no_authorizer_is_told_no_application_is(fields: dict[str, str]) -> None:
    """RFC 9110 section 7.6.1: a client could hide a field from the one, and show it to the other."""
    environ = environ_of("/", HTTP_COOKIE="a=1", **fields)
    request = request_of(environ)
    assert b"HTTP_X_IMPERSONATE" not in field_variables(request.fields)
    guarded = guarded_environ(environ, request)
    assert "HTTP_X_IMPERSONATE" not in guarded
    assert guarded["HTTP_COOKIE"] == "a=1"


@pytest.mark.parametrize("host", ["Private.Example", "private.example.", "private.example:"])
def test_the_host_has_one_spelling(host: str) -> None:
    """What is decided about it is kept under that one, and no other is seen by whoever decides, or serves."""
    environ = environ_of("/", HTTP_HOST=host)
    request = request_of(environ)
    assert request.webob().host.partition(":")[0] == request.authority == "private.example"
    assert request.field(b"host") == b"private.example"
    assert guarded_environ(environ, request)["HTTP_HOST"] == "private.example"


class Known(Fixed):
    """An authorizer that tells by which names it speaks of a client."""

    identity_fields = (b"x-auth-request-user", b"REMOTE_USER")


def test_fields_that_name_an_identity_go_no_further(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[bytes, bytes]] = []

    class Asked(Known):
        def check(self, request: Request, root: str) -> Decision:
            seen.append(dict(request.fields))
            return super().check(request, root)

    forged = {
        "HTTP_X_AUTH_REQUEST_USER": "eve",
        "HTTP_X_TENANT": "other",
        "HTTP_REMOTE_GROUPS": "admin",
        "HTTP_COOKIE": "a=1",
    }
    app = AuthorizerMiddleware(echo, [Asked(Allow())], identity_fields=["X-Tenant"])
    told = call(app, environ_of(**forged))[2]
    assert b"HTTP_COOKIE" in told
    assert not [name for name in forged if name != "HTTP_COOKIE" and name.encode() in told]
    assert seen == [{b"cookie": b"a=1"}]
    assert len(caplog.messages) == 3
    assert all("which names an identity" in line for line in caplog.messages)


def test_a_name_that_an_authorizer_sets_is_no_clients_from_then_on() -> None:
    """Who is no tenant must not become one by a field."""

    def tenant_of_some(request: webob.Request) -> Any:
        return Allow({"TENANT": "a"}) if "a=1" in request.headers.get("Cookie", "") else True

    app = AuthorizerMiddleware(echo, [tenant_of_some])
    assert b"'TENANT'" in call(app, environ_of(HTTP_COOKIE="a=1"))[2]
    assert b"TENANT" not in call(app, environ_of(HTTP_TENANT="b"))[2]


def test_a_memory_for_authorizers_at_an_address() -> None:
    asked: list[bytes | None] = []

    class Counted(Fixed):
        config = HostConfig(cache=CacheConfig(key=(("cookie", "SID"),)), login="/login")

        def check(self, request: Request, root: str) -> Decision:
            asked.append(request.field(b"cookie"))
            return super().check(request, root)

    app = AuthorizerMiddleware(echo, [Counted(Allow())])
    files = PrivateFiles("/nowhere", [Counted(Allow())])
    for guarded in (app, files):
        asked.clear()
        for _ in range(3):
            call(guarded, environ_of(HTTP_COOKIE="SID=a"))
        assert asked == [b"SID=a"]
        guarded.purge()
        call(guarded, environ_of(HTTP_COOKIE="SID=a"))
        assert len(asked) == 2
    denied = AuthorizerMiddleware(echo, [Counted(Deny(webob.Response(status=401)))])
    browser = environ_of(HTTP_SEC_FETCH_MODE="navigate", HTTP_SEC_FETCH_DEST="document")
    assert call(denied, browser)[0].startswith("302 ")


@pytest.mark.parametrize("options", [{"recheck": 5}, {"cache": 60}, {"cache": {"ttl": 60}}])
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any]) -> None:
    for address in ("unix:/run/gate.sock", "http://127.0.0.1:1/"):
        with pytest.raises(InvalidValue, match=next(iter(options))):
            authorizer_at(address, **options)
    gate = authorizer_at("unix:/run/gate.sock", stale_allow=7)
    assert gate.config.stale_allow == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", ["x", b"x", 5, None])
def test_what_cannot_be_asked_is_no_authorizer(given: Any) -> None:
    with pytest.raises(TypeError, match="an authorizer is a function"):
        AuthorizerMiddleware(echo, [given])


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        (BackendTimeout("x"), "504 "), (BadRequest("x"), "500 "), (OSError("x"), "500 "), (None, "500 "),
        (True, "500 "), ("yes", "500 "),
    ],
)  # fmt: skip
def test_nothing_but_a_yes_lets_through(decision: Any, status: str) -> None:
    for app in (AuthorizerMiddleware(echo, [Fixed(decision)]), PrivateFiles("/", [Fixed(decision)])):
        got = call(app, environ_of("/etc/passwd"))
        assert got[0].startswith(status)
        assert b"root:" not in got[2]
        assert b"PATH_INFO" not in got[2]


def test_a_gate_needs_somebody() -> None:
    with pytest.raises(ValueError, match="would be open"):
        AuthorizerMiddleware(echo, [])
    with pytest.raises(ValueError, match="would be open"):
        PrivateFiles("/", [])


@pytest.mark.parametrize("address", ["/run/x", "unix:", "tcp://", "tcp://a", "tcp://a:", "tcp://a:x", "::1:9"])
def test_no_address(address: str) -> None:
    with pytest.raises(InvalidValue, match=r"neither unix:PATH nor HOST:PORT|names no path|needs brackets"):
        authorizer_at(address)


def test_the_page(tmp_path: Path) -> None:
    """Its examples run, and answer."""
    source = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    (tmp_path / "a.tile").write_bytes(b"tile")
    names: dict[str, Any] = {}
    exec(source.replace("/srv/private", str(tmp_path)), names)
    cookie = {"HTTP_COOKIE": "SID=0123456789abcdef"}
    assert call(names["application"], environ_of(**cookie))[::2] == ("200 OK", b"hello bob")
    assert call(names["application"], environ_of())[0] == "403 Forbidden"
    assert call(names["guarded_by_two"], environ_of(**cookie))[0].startswith("503 ")
    status, headers, body = call(names["files"], environ_of("/a.tile", **cookie))
    assert (status, headers["Content-Type"], body) == ("200 OK", "image/png", b"tile")
    assert call(names["files"], environ_of("/a.tile"))[0] == "403 Forbidden"
