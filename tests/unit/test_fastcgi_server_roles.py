"""The roles of the FastCGI server: authorizers by decorator, filters, several applications, and who may play what."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob.exc
from fcgirig import Rig, echo, hello, params, told
from filerig import ask
from gevent import socket
from gevent.event import Event

from gfastcgi import authorizer
from gfastcgi.auth.base import Allow, Deny
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import EndRequest
from gfastcgi.server import authorizer as server_authorizer
from gfastcgi.server.fastcgi import FastCGIServer

if TYPE_CHECKING:
    from collections.abc import Callable


def refusal() -> webob.Response:
    return webob.Response("not you", status=403, content_type="text/plain")


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (True, []),
        ("ada", [b"Variable-REMOTE_USER: ada"]),
        ("ádá", ["Variable-REMOTE_USER: ádá".encode()]),
        (Allow({b"A": b"1", b"B_C": b"2"}), [b"Variable-A: 1", b"Variable-B_C: 2"]),
        (Allow({"REMOTE_USER": "ádá"}), ["Variable-REMOTE_USER: ádá".encode()]),
        (Allow({}, (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))), [b"Set-Cookie: a=1", b"Set-Cookie: b=2"]),
        (Allow(max_age=60.0, vary=(b"cookie",)), [b"Cache-Control: max-age=60", b"Vary: cookie"]),
        (Allow(max_age=0), [b"Cache-Control: no-store"]),
        (webob.Response(headerlist=[("Variable-X", "y")]), [b"Variable-X: y"]),
    ],
)  # fmt: skip
def test_a_yes(rig: Rig, answer: Any, fields: list[bytes]) -> None:
    found = rig.serve(authorizer=lambda request: answer).request(role=c.AUTHORIZER)
    head = found.head.split(b"\r\n")
    assert (head[0], found.body, found.end) == (b"Status: 200 OK", b"", EndRequest(1, 0, 0))
    assert [line for line in head if line in fields] == fields


@pytest.mark.parametrize("answer", [False, None, "", Deny(refusal()), refusal()])
def test_a_no(rig: Rig, answer: Any) -> None:
    found = rig.serve(authorizer=lambda request: answer).request(role=c.AUTHORIZER)
    assert found.head.startswith(b"Status: 403 Forbidden\r\n")
    assert found.body


@pytest.mark.parametrize(("answer", "status"), [(webob.exc.HTTPForbidden(), 403), (webob.exc.HTTPOk(), 500)])
def test_what_is_raised_is_no_yes(rig: Rig, answer: Exception, status: int) -> None:
    def decide(request: webob.Request) -> bool:
        raise answer

    found = rig.serve(authorizer=decide).request(role=c.AUTHORIZER)
    assert found.head.startswith(b"Status: %d " % status)


@pytest.mark.parametrize(
    "answer",
    [
        1, 0, b"ada", "a\r\nb", [], Deny(webob.Response("open")), Allow({b"A": b"1\r\nStatus: 200"}),
        webob.Response("please log in"), webob.Response(app_iter=iter([b"please log in"])), webob.exc.HTTPOk("please"),
    ],
)  # fmt: skip
def test_what_is_no_answer_denies(rig: Rig, answer: Any) -> None:
    found = rig.serve(authorizer=lambda request: answer).request(role=c.AUTHORIZER)
    assert found.head.startswith(b"Status: 500 ")
    assert found.end == EndRequest(1, 1, 0)


def test_the_decorator_and_its_time_limit(rig: Rig) -> None:
    @authorizer(time_limit=0.05)
    def guard(request: webob.Request) -> str:
        if request.method == "POST":
            Event().wait()
        return str(request.method)

    client = rig.serve(authorizer=guard)
    assert b"Variable-REMOTE_USER: GET" in client.request(role=c.AUTHORIZER).head
    assert client.request(role=c.AUTHORIZER, pairs=params(REQUEST_METHOD="POST")).head.startswith(b"Status: 500 ")
    assert client.request(role=c.RESPONDER).end == EndRequest(1, 0, c.UNKNOWN_ROLE)


def test_a_late_yes_is_none(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(server_authorizer, "monotonic", lambda: now[0])

    @authorizer(time_limit=5)
    def guard(request: webob.Request) -> bool:
        now[0] += 6 if request.method == "POST" else 5
        return True

    client = rig.serve(authorizer=guard)
    assert client.request(role=c.AUTHORIZER).head.startswith(b"Status: 200 ")
    assert client.request(role=c.AUTHORIZER, pairs=params(REQUEST_METHOD="POST")).head.startswith(b"Status: 500 ")


@pytest.mark.parametrize(("status", "answered"), [(403, 403), (302, 302), (200, 500)])
def test_what_is_a_no_in_the_gateway_is_no_yes_here(rig: Rig, status: int, answered: int) -> None:
    """There every response of such a function goes to the client: a page to log in may have 200."""

    @authorizer
    def guard(request: webob.Request) -> webob.Response:
        return webob.Response(status=status)

    assert isinstance(guard.check(ask("/"), "/"), Deny)
    found = rig.serve(authorizer=guard).request(role=c.AUTHORIZER)
    assert found.head.startswith(b"Status: %d " % answered)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, Allow()),
        ("ádá", Allow({b"REMOTE_USER": "ádá".encode()})),
        (Allow({"REMOTE_USER": "ádá", "GROUP": "staff"}), Allow({b"REMOTE_USER": "ádá".encode(), b"GROUP": b"staff"})),
        (False, 403),
        (Deny(refusal()), 403),
        (refusal(), 403),
    ],
)
def test_one_function_answers_alike_here_and_in_the_gateway(rig: Rig, answer: Any, expected: Allow | int) -> None:
    guard = authorizer(lambda request: answer)
    decision = guard.check(ask("/"), "/")
    head = rig.serve(authorizer=guard).request(role=c.AUTHORIZER).head
    if isinstance(expected, Allow):
        assert decision == expected
        assert head.startswith(b"Status: 200 ")
        assert all(b"Variable-%b: %b" % pair in head for pair in expected.variables.items())
    else:
        assert isinstance(decision, Deny)
        assert decision.response.status_int == expected
        assert head.startswith(b"Status: %d " % expected)


def test_an_application_in_several_roles(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-Role", environ["FCGI_ROLE"])])
        return []

    client = rig.serve(app, roles=["responder", "authorizer"])
    assert client.request(role=c.RESPONDER).head == b"Status: 200 OK\r\nX-Role: RESPONDER"
    assert client.request(role=c.AUTHORIZER).head == b"Status: 200 OK\r\nX-Role: AUTHORIZER"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roles": ["waiter"]}, "the roles are responder, authorizer, filter, not 'waiter'"),
        ({"roles": ["responder", "filter"], "filter": hello}, "two are to play the role filter"),
        ({"roles": ["authorizer"], "authorizer": lambda request: True}, "two are to play the role authorizer"),
    ],
)
def test_roles_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener, pytest.raises(ValueError, match=words):
        FastCGIServer(listener, hello, **options)


def test_more_for_the_environ(rig: Rig) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [repr(environ["my.thing"]).encode()]

    assert rig.serve(app, environ={"my.thing": [1]}).request().body == b"[1]"


# Filters


def upper(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with what it was told of the file, the file in capitals, and the content."""
    file = environ["fastcgi.data"].read()
    told = (environ["FCGI_ROLE"], environ["FCGI_DATA_LAST_MOD"], environ["FCGI_DATA_LENGTH"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(told).encode(), file.upper(), environ["wsgi.input"].read()]


def asked(data: bytes) -> bytes:
    return params(FCGI_DATA_LAST_MOD="1", FCGI_DATA_LENGTH=str(len(data)))


def test_a_filter(rig: Rig) -> None:
    client = rig.serve(hello, filter=upper)
    client.begin(role=c.FILTER, pairs=asked(b"the file"), stdin=None)
    for piece in (b"content", b""):
        client.stdin(piece)
    for piece in (b"the ", b"file", b""):
        client.send(client.core.send_data(1, piece))
    assert client.answer().body == b"('FILTER', '1', '8')THE FILEcontent"
    assert client.request().body == b"hello"


@pytest.mark.parametrize("keep_conn", [True, False])
def test_a_filter_may_read_the_file_before_a_large_content(rig: Rig, keep_conn: bool) -> None:
    content, file = os.urandom(500_000), b"f" * 300_000

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        size = len(environ["fastcgi.data"].read())
        return [b"%d " % size, *echo(environ, start_response)]

    client = rig.serve(filter=app)
    client.begin(role=c.FILTER, pairs=asked(file), stdin=None, keep_conn=keep_conn)
    sending = gevent.spawn(lambda: [client.stdin(content), client.stdin(b""), *_file(client.core, client.send, file)])
    assert client.answer().body == b"300000 " + told(content)
    sending.get()


def _file(core: Any, send: Callable[[bytes], None], data: bytes) -> list[None]:
    return [send(core.send_data(1, data)), send(core.send_data(1, b""))]


def test_a_filter_is_aborted(rig: Rig) -> None:
    entered, left = Event(), Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        entered.set()
        try:
            environ["fastcgi.data"].read()
        finally:
            left.set()
        return []

    client = rig.serve(filter=app)
    client.begin(role=c.FILTER, stdin=b"")
    entered.wait()
    client.send(client.core.abort_request(1))
    assert client.answer().end == EndRequest(1, 1, 0)
    assert left.is_set()
