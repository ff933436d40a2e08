"""What a backend is told of a request, and that nothing of one request stays for the next."""

from __future__ import annotations

from typing import Any

import pytest

from gfastcgi.auth.hygiene import Hygiene
from gfastcgi.config import HostConfig
from gfastcgi.fcgi.params import decode_pairs
from gfastcgi.http.request import RequestHead
from gfastcgi.http.target import parse_target
from gfastcgi.request import Peer, Request
from gfastcgi.routing import Route
from gfastcgi.server.body import EMPTY
from gfastcgi.variables import authorizer_params, authorizer_variables, responder_params, responder_variables

HOST = HostConfig()
FIELDS = {"host": "www.example:8080", "x-a": "1"}


def ask(target: str = "/app.php/info?q=1", peer: Peer | None = None, *, version: str = "1.1", **fields: str) -> Request:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in (FIELDS | fields).items() if value]
    head = RequestHead("GET", parse_target(target.encode()), version, pairs)
    head.authority = (FIELDS | fields)["host"]
    request = Request(head, peer or Peer(("192.0.2.1", 5555), ("192.0.2.9", 8080)), EMPTY, 0.0)
    request.server_tag = "tag/1"
    return request


def route() -> Route:
    return Route("/app.php", "/info", "/www", "/www/app.php")


def send(request: Request, to: Route | None = None, host: HostConfig = HOST, length: int = 0) -> dict[bytes, bytes]:
    """What goes over the wire, which is what is meant."""
    to = to or route()
    pairs = decode_pairs(responder_params(request, to, length, host))
    assert sorted(pairs) == sorted(responder_variables(request, to, host, length))
    assert len(dict(pairs)) == len(pairs), "a name is sent twice"
    return dict(pairs)


def test_all_of_them() -> None:
    assert send(ask(), length=5) == {
        b"SCRIPT_NAME": b"/app.php", b"SCRIPT_FILENAME": b"/www/app.php", b"DOCUMENT_ROOT": b"/www",
        b"PATH_INFO": b"/info", b"PATH_TRANSLATED": b"/www/info", b"QUERY_STRING": b"q=1",
        b"REQUEST_URI": b"/app.php/info?q=1", b"REQUEST_METHOD": b"GET", b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"REQUEST_SCHEME": b"http", b"SERVER_NAME": b"www.example", b"SERVER_PORT": b"8080",
        b"SERVER_ADDR": b"192.0.2.9", b"REMOTE_ADDR": b"192.0.2.1", b"REMOTE_PORT": b"5555",
        b"SERVER_SOFTWARE": b"tag/1", b"GATEWAY_INTERFACE": b"CGI/1.1", b"REDIRECT_STATUS": b"200",
        b"CONTENT_LENGTH": b"5", b"HTTP_HOST": b"www.example:8080", b"HTTP_X_A": b"1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"docroot": "/far/"}, b"SCRIPT_FILENAME", b"/far/app.php"),
        ({"docroot": "/far/"}, b"PATH_TRANSLATED", b"/far/info"),
        ({"docroot": "/far/"}, b"DOCUMENT_ROOT", b"/far/"),
        ({"broken_scriptfilename": True}, b"SCRIPT_FILENAME", b"/www/app.php/info"),
        ({"broken_scriptfilename": True, "docroot": "/far"}, b"SCRIPT_FILENAME", b"/far/app.php"),
        ({"strip_request_uri": "/app.php/"}, b"REQUEST_URI", b"/info?q=1"),
        ({"strip_request_uri": "/app"}, b"REQUEST_URI", b"/app.php/info?q=1"),
    ],
)
def test_options_of_the_host(options: dict[str, Any], name: bytes, value: bytes) -> None:
    assert send(ask(), host=HostConfig(**options))[name] == value


def test_hosts_of_one_route_do_not_mix() -> None:
    shared, far = route(), HostConfig(docroot="/far")
    for _ in range(2):
        assert send(ask(), shared)[b"DOCUMENT_ROOT"] == b"/www"
        assert send(ask(), shared, far)[b"DOCUMENT_ROOT"] == b"/far"


def test_requests_of_one_connection_do_not_mix() -> None:
    peer, shared = Peer(("192.0.2.1", 5555), ("192.0.2.9", 80)), route()
    assert send(ask(peer=peer), shared)[b"HTTP_X_A"] == b"1"
    assert send(ask("/app.php/info?other", peer, **{"x-a": "2"}), shared)[b"HTTP_X_A"] == b"2"
    assert b"HTTP_X_A" not in send(ask(peer=peer, **{"x-a": ""}), shared)
    other = ask("/app.php/info?z", peer, version="1.0", **{"x-a": "", "host": "b.example"})
    found = send(other, shared)
    assert (found[b"SERVER_NAME"], found[b"QUERY_STRING"], found[b"SERVER_PROTOCOL"]) == (
        b"b.example", b"z", b"HTTP/1.0",
    )  # fmt: skip


@pytest.mark.parametrize("authority", ["www.example:8080", "[::1]:80", ""])
def test_the_name_of_the_site_wins_also_on_a_connection_that_serves_two(authority: str) -> None:
    """lighttpd: server.name is SERVER_NAME where it is set."""
    peer = Peer(("192.0.2.1", 5555), ("192.0.2.9", 80))
    called = {"www.example:8080": b"www.example", "[::1]:80": b"[::1]", "": b"192.0.2.9"}[authority]
    for site, expected in (("", called), ("own.example", b"own.example"), ("", called)):
        request = ask(peer=peer, host=authority)
        request.server_name = site
        assert send(request)[b"SERVER_NAME"] == expected


def test_a_rewrite_is_told() -> None:
    request = ask("/old?x")
    assert b"REDIRECT_URI" not in send(request)
    request.rewrite(parse_target(b"/app.php/info?q=2"))
    found = send(request)
    assert (found[b"REQUEST_URI"], found[b"REDIRECT_URI"], found[b"QUERY_STRING"]) == (
        b"/old?x", b"/app.php/info?q=2", b"q=2",
    )  # fmt: skip


def test_https() -> None:
    found = send(ask(peer=Peer(("::1", 1), ("::1", 443), scheme="https")))
    assert (found[b"HTTPS"], found[b"REQUEST_SCHEME"], found[b"SERVER_ADDR"]) == (b"on", b"https", b"::1")


def test_what_an_authorizer_set_wins_over_the_client_under_every_name() -> None:
    request = ask(**{"x-user": "evil", "remote-user": "evil", "user": "evil"})
    request.variables = {b"REMOTE_USER": b"bob", b"HTTP_X_USER": b"bob", b"USER": b"bob", b"SERVER_NAME": b"set"}
    found = send(request)
    assert b"evil" not in found.values()
    assert [found[name] for name in request.variables] == [b"bob", b"bob", b"bob", b"set"]


def test_what_an_authorizer_is_told() -> None:
    hidden = {"range": "bytes=0-", "if-none-match": "x", "content-length": "5", "expect": "x"}
    request = ask("/private/x.txt?q", **hidden)
    request.variables = {b"REMOTE_USER": b"bob"}
    pairs = authorizer_variables(request, "/www", HOST)
    found = dict(pairs)
    assert len(found) == len(pairs)
    assert (found[b"FCGI_ROLE"], found[b"SCRIPT_FILENAME"], found[b"REMOTE_USER"], found[b"HTTP_X_A"]) == (
        b"AUTHORIZER", b"/www/private/x.txt", b"bob", b"1",
    )  # fmt: skip
    section_6_3 = {b"CONTENT_LENGTH", b"PATH_INFO", b"PATH_TRANSLATED", b"SCRIPT_NAME"}
    conditional = {b"HTTP_RANGE", b"HTTP_IF_NONE_MATCH", b"HTTP_CONTENT_LENGTH", b"HTTP_EXPECT"}
    assert not found.keys() & (section_6_3 | conditional)
    assert dict(authorizer_variables(request, "/www", HostConfig(docroot="/far")))[b"DOCUMENT_ROOT"] == b"/far"


def test_an_authorizer_is_told_the_file_that_would_be_served() -> None:
    """An alias stands for another folder, and a folder for its index."""
    request = ask("/al/private/")
    names = []
    for local in ("", "/private/", "/private/index.html"):
        request.local = local
        params = authorizer_params(request, "/www", HOST)
        found = dict(decode_pairs(params))
        assert found == dict(authorizer_variables(request, "/www", HOST))
        names.append(found[b"SCRIPT_FILENAME"])
    assert names == [b"/www/al/private/", b"/www/private/", b"/www/private/index.html"]


def test_behind_a_local_redirect_a_field_is_let_through_again() -> None:
    request = ask("/open", **{"x-custom": "a", "content-type": "text/plain", "remote-user": "eve"})
    site = Hygiene((), ("X-Custom",), clock=lambda: 0.0, tell=lambda *_: None)
    site.apply(request)
    request.redirect_locally(parse_target(b"/private/a"), EMPTY)
    site.apply(request)
    found = dict(authorizer_variables(request, "/www", HOST))
    assert found[b"HTTP_X_CUSTOM"] == b"a"
    assert {b"HTTP_REMOTE_USER", b"CONTENT_TYPE", b"HTTP_CONTENT_TYPE"}.isdisjoint(found)


def test_an_authorizer_judges_what_is_to_be_served() -> None:
    """The target behind a rewrite or a local redirect, whatever the client asked for (RFC 3875 section 6.2.2)."""
    request = ask("/open?x")
    request.redirect_locally(parse_target(b"/private/a%20b?y=1"), EMPTY)
    found = dict(authorizer_variables(request, "/www", HOST))
    assert (found[b"REQUEST_URI"], found[b"REDIRECT_URI"], found[b"QUERY_STRING"]) == (
        b"/private/a%20b?y=1", b"/private/a%20b?y=1", b"y=1",
    )  # fmt: skip
    assert found[b"SCRIPT_FILENAME"] == b"/www/private/a b"
    assert send(request)[b"REQUEST_URI"] == b"/open?x"


def test_an_authorizer_that_was_written_for_lighttpd() -> None:
    host = HostConfig(mode_compat="lighttpd")
    request = ask("/open?x", **{"range": "bytes=0-", "if-none-match": "x", "content-length": "5", "expect": "x"})
    request.rewrite(parse_target(b"/private/a"))
    found = dict(authorizer_variables(request, "/www", host))
    assert (found[b"REQUEST_URI"], found[b"REDIRECT_URI"]) == (b"/open?x", b"/private/a")
    assert (found[b"HTTP_RANGE"], found[b"HTTP_IF_NONE_MATCH"], found[b"HTTP_EXPECT"]) == (b"bytes=0-", b"x", b"x")
    assert not found.keys() & {b"CONTENT_LENGTH", b"HTTP_CONTENT_LENGTH"}


def test_what_was_sent_before_is_sent_again_only_for_the_same() -> None:
    request, to = ask(), route()
    first = send(request, to)
    assert send(request, to) == first
    assert send(request, to, length=3)[b"CONTENT_LENGTH"] == b"3"
    assert send(request, Route("/other.php", "", "/www", "/www/other.php"))[b"SCRIPT_NAME"] == b"/other.php"
    assert send(request, to, HostConfig(docroot="/far"))[b"DOCUMENT_ROOT"] == b"/far"
    send(request, to)
    request.server_name = "site"
    assert send(request, to)[b"SERVER_NAME"] == b"site"
    request.fields = [*request.fields, (b"x-b", b"2")]
    assert send(request, to)[b"HTTP_X_B"] == b"2"
    request.rewrite(parse_target(b"/app.php/new"))
    assert send(request, to)[b"REDIRECT_URI"] == b"/app.php/new"
    request.variables = {b"REMOTE_USER": b"ada"}
    assert send(request, to)[b"REMOTE_USER"] == b"ada"
    request.variables = {}
    assert b"REMOTE_USER" not in send(request, to)


def test_an_authorizer_is_told_what_is_asked_now() -> None:
    request = ask("/private/a")

    def told() -> dict[bytes, bytes]:
        pairs = decode_pairs(authorizer_params(request, "/www", HOST))
        assert pairs == authorizer_variables(request, "/www", HOST)
        return dict(pairs)

    assert told() == told()
    request.redirect_locally(parse_target(b"/private/b"), EMPTY)
    assert told()[b"REQUEST_URI"] == b"/private/b"
    other = ask("/private/c", request.peer)
    assert dict(decode_pairs(authorizer_params(other, "/www", HOST)))[b"REQUEST_URI"] == b"/private/c"
    assert dict(decode_pairs(authorizer_params(other, "/far", HOST)))[b"DOCUMENT_ROOT"] == b"/far"
