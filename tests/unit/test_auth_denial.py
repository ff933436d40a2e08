"""Denials that fit the client: who is led to the login page, with which way back, and what is remembered of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import webob
from filerig import ask

from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.auth.denial import ClientAwareGate, is_navigation, is_preflight
from gfastcgi.config import CacheConfig
from gfastcgi.errors import ConnectError

if TYPE_CHECKING:
    from gfastcgi.request import Request

BROWSER = {"sec_fetch_mode": "navigate"}
SCRIPT = {"sec_fetch_mode": "cors"}
PREFLIGHT = {"origin": "https://a.example", "access_control_request_method": "PUT"}


class Guard:
    """Lets the cookie s=1 pass; else 401."""

    def __init__(self, status: str = "401 Unauthorized", *fields: tuple[str, str]) -> None:
        self.response = webob.Response(status=status, headerlist=list(fields), body=b"no")
        self.asked = 0

    def check(self, request: Request, root: str) -> Decision:
        self.asked += 1
        return Allow() if request.field(b"cookie") == b"s=1" else Deny(self.response)


def gate(guard: Any, login: str = "https://login.example/in?rd={url}&x=1", **options: Any) -> ClientAwareGate:
    return ClientAwareGate("/x", guard, None, login=login, **options)


def location(decision: Decision) -> str:
    assert isinstance(decision, Deny)
    assert decision.response.status_int in (302, 303)
    return decision.response.headers["Location"]


@pytest.mark.parametrize(
    "target",
    [
        "/", "/a?b=c&d=e", "/a%20b?c=%26x%3D2", "/a?rd=https://evil.example/", "/@evil.example", "/.evil.example",
        "/a?%0d%0aX-Evil:1", "/ä", "/a?'\"<script>", "/;a=b:c", "/a?b&x=2#".rstrip("#"), "/%E2%80%8B",
    ],
)  # fmt: skip
def test_the_way_back_is_one_parameter(target: str) -> None:
    request = ask(target, **BROWSER)
    where = urlsplit(location(gate(Guard()).decide(request, "/")))
    assert (where.scheme, where.netloc, where.path) == ("https", "login.example", "/in")
    back = "http://127.0.0.1" + request.original_uri.decode("latin-1")
    assert parse_qs(where.query, encoding="latin-1") == {"rd": [back], "x": ["1"]}


def test_a_login_page_of_the_same_site() -> None:
    found = location(gate(Guard(), "/login?back={uri}").decide(ask("/a?b=c", **BROWSER), "/"))
    assert found == "/login?back=%2Fa%3Fb%3Dc"
    assert location(gate(Guard(), "/login").decide(ask("/a", **BROWSER), "/")) == "/login"


def test_the_way_back_is_what_was_asked_for_before_any_rewrite() -> None:
    request = ask("/asked", **BROWSER)
    request.uri = b"/rewritten"
    assert location(gate(Guard(), "/login?{uri}").decide(request, "/")) == "/login?%2Fasked"


def test_what_is_kept_of_the_denial() -> None:
    guard = Guard("401 Unauthorized", ("Set-Cookie", "csrf=1"), ("Set-Cookie", "b=2"), ("WWW-Authenticate", "x"))
    decision = gate(guard).decide(ask("/", **BROWSER), "/")
    assert isinstance(decision, Deny)
    assert [field for field in decision.response.headerlist if field[0] != "Location"] == [
        ("Content-Length", "0"), ("Cache-Control", "no-store"), ("Set-Cookie", "csrf=1"), ("Set-Cookie", "b=2"),
    ]  # fmt: skip
    assert gate(guard).decide(ask("/", **SCRIPT), "/") == Deny(guard.response)


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
)
def test_scripts_are_not_redirected(status: str) -> None:
    guard = Guard(status, ("Location", "https://idp.example/"), ("Set-Cookie", "csrf=1"))
    decision = gate(guard).decide(ask("/", **SCRIPT), "/")
    assert isinstance(decision, Deny)
    response = decision.response
    assert (response.status_int, response.headers["Location"], response.headers["Set-Cookie"]) == (
        401, "https://idp.example/", "csrf=1",
    )  # fmt: skip
    assert gate(guard).decide(ask("/", **BROWSER), "/") == Deny(guard.response)


@pytest.mark.parametrize(
    "status", ["400 Bad", "403 Forbidden", "404 Not Found", "429 Slow", "500 Broken", "200 OK", "304 N"]
)
def test_other_denials_stay(status: str) -> None:
    guard = Guard(status)
    for fields in (BROWSER, SCRIPT):
        assert gate(guard).decide(ask("/", **fields), "/") == Deny(guard.response)


def test_without_a_login_page_nothing_changes() -> None:
    for status in ("401 Who", "302 Found"):
        guard = Guard(status)
        for fields in (BROWSER, SCRIPT):
            assert gate(guard, "").decide(ask("/", **fields), "/") == Deny(guard.response)


def test_a_failure_stays_a_failure() -> None:
    class Broken:
        def check(self, request: Request, root: str) -> Decision:
            raise ConnectError("gone")

    for passes in (False, True):
        with pytest.raises(ConnectError):
            gate(Broken(), passes_preflight=passes).decide(ask("/", **BROWSER), "/")


CACHE = CacheConfig(key=(("cookie", "s"),), ttl=60, negative_ttl=60)


def test_a_preflight_passes_alone() -> None:
    """What passed unasked is remembered for nobody: without a credential, or with one that is denied."""
    guard = Guard()
    door = gate(guard, passes_preflight=True, cache=CACHE)
    for cookie in ({}, {"cookie": "s=2"}):
        preflight = ask("/", "OPTIONS", **PREFLIGHT, **cookie)
        assert is_preflight(preflight)
        assert door.decide(preflight, "/") == door.decide_anew(preflight, "/") == Allow()
        assert guard.asked == 0
        decision = door.decide(ask("/", **SCRIPT, **cookie), "/")
        assert decision == Deny(guard.response)
        guard.asked = 0
    for method in ("GET", "POST", "HEAD"):
        assert isinstance(door.decide(ask("/", method, **PREFLIGHT), "/"), Deny)
    for name in PREFLIGHT:
        assert isinstance(door.decide(ask("/", "OPTIONS", **{name: PREFLIGHT[name]}), "/"), Deny)
    assert isinstance(gate(guard).decide(ask("/", "OPTIONS", **PREFLIGHT), "/"), Deny)


def test_one_remembered_no_is_told_in_two_ways() -> None:
    guard = Guard()
    door = gate(guard, cache=CACHE)
    for _ in range(2):
        assert location(door.decide(ask("/", cookie="s=2", **BROWSER), "/"))
        assert door.decide(ask("/", cookie="s=2", **SCRIPT), "/").response.status_int == 401  # type: ignore[union-attr]
    assert guard.asked == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sec_fetch_mode": "navigate"}, True),
        ({"sec_fetch_mode": "navigate", "accept": "application/json"}, True),
        ({"accept": "text/html,*/*;q=0.8"}, True),
        ({"accept": "TEXT/HTML"}, True),
        ({"accept": "*/*"}, False),
        ({}, False),
        ({"accept": "text/html", "sec_fetch_mode": "no-cors"}, False),
        ({"accept": "text/html", "sec_fetch_mode": "websocket"}, False),
        ({"accept": "text/html", "x_requested_with": "XMLHttpRequest"}, False),
    ],
)
def test_navigations(fields: dict[str, str], expected: bool) -> None:
    assert is_navigation(ask("/", **fields)) is expected
