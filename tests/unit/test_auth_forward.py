"""The authorizer over HTTP: what is told, what is kept from it, how it is asked again, and TLS."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from filerig import ask
from peers.backend import Reply
from peers.programs import find_peer
from peers.service import Drip, HTTPService, http

from gfastcgi import AuthorizerMiddleware, authorizer_at
from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.forward import ForwardAuthorizer
from gfastcgi.client.http import Service
from gfastcgi.errors import (
    AnswerStalled,
    BackendClosed,
    BackendTimeout,
    BadCGIResponse,
    ConnectError,
    Overloaded,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gfastcgi.auth.base import Decision


class Rig:
    def __init__(self) -> None:
        self.peer = HTTPService()

    def guard(self, *variables: tuple[str, str], url: str = "", **options: Any) -> ForwardAuthorizer:
        limits: dict[str, Any] = {
            "connect_timeout": 2,
            "read_timeout": 2,
            "queue_timeout": 2,
            "time_limit": 4,
            "size": 4,
            "largest": 1000,
        }
        return ForwardAuthorizer("/x", Service(url or self.peer.url("/auth"), **{**limits, **options}), variables)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.peer.stop()


def in_thread(
    rig: Rig, guard: ForwardAuthorizer, target: str = "/a/b?c=%20d", method: str = "GET", **fields: str
) -> Decision:
    return guard.check(ask(target, method, **fields), "/www")


def test_what_it_is_told(rig: Rig) -> None:
    fields = {
        "cookie": "s=1", "authorization": "Bearer x", "user_agent": "me", "accept": "text/html", "x_custom": "1",
        "accept_encoding": "gzip", "sec_fetch_mode": "navigate",
    }  # fmt: skip
    guard = rig.guard()
    assert in_thread(rig, guard, "/a/b?c=%20d", "PUT", **fields) == Allow()
    asked = rig.peer.last
    assert (asked.method, asked.target) == ("GET", "/auth")
    assert dict(asked.fields) == {
        "host": f"127.0.0.1:{rig.peer.port}",
        "x-forwarded-method": "PUT", "x-forwarded-proto": "http", "x-forwarded-host": "127.0.0.1",
        "x-forwarded-uri": "/a/b?c=%20d", "x-forwarded-for": "127.0.0.1",
        "x-original-method": "PUT", "x-original-uri": "/a/b?c=%20d", "x-original-url": "http://127.0.0.1/a/b?c=%20d",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }  # fmt: skip
    guard.close()


@pytest.mark.parametrize(
    "name",
    [
        "x_forwarded_for", "x_forwarded_user", "x_forwarded_uri", "x_original_url", "x_original_uri", "forwarded",
        "x_real_ip", "x_rewrite_url", "remote_user", "remote_groups", "x_auth_request_user",
        "x_auth_request_access_token", "range", "te", "if_none_match", "if_modified_since", "if_match", "if_range",
        "expect", "content_length", "content_type", "upgrade", "transfer_encoding", "proxy_authorization", "proxy",
        "keep_alive", "trailer", "connection", "x_id", "variable_a", "x_hop",
    ],
)  # fmt: skip
def test_what_is_kept_from_it(rig: Rig, name: str) -> None:
    guard = rig.guard(("X-Id", "ID"))
    fields = {"connection": "close, X-Hop, Cookie", "cookie": "s=1", name: "forged"}
    in_thread(rig, guard, **fields)
    sent = dict(rig.peer.last.fields)
    assert "forged" not in sent.values()
    assert sent["cookie"] == "s=1"
    assert "connection" not in sent
    guard.close()


def test_odd_names_are_kept_from_it(rig: Rig) -> None:
    guard = rig.guard()
    request = ask("/")
    request.fields = [(b"x_under", b"1"), (b"x.dot", b"2"), (b"x-good", b"3")]
    guard.check(request, "/")
    names = {name for name, _ in rig.peer.last.fields}
    assert ("x-good" in names, "x_under" in names, "x.dot" in names) == (True, False, False)
    guard.close()


def test_what_earlier_authorizers_said(rig: Rig) -> None:
    guard = rig.guard()
    request = ask("/", team="forged")
    request.variables = {b"REMOTE_USER": b"ann", b"TEAM": b"blue", b"HTTP_X_ALLOWED": b"1", b"EMPTY": b""}
    guard.check(request, "/")
    sent = rig.peer.last
    assert (sent.get("remote-user"), sent.get("team"), sent.get("x-allowed")) == ("ann", "blue", "1")
    assert sent.get("empty") is None
    guard.close()


@pytest.mark.parametrize(("name", "value"), [(b"TEAM", b"a\r\nX-Evil: 1"), (b"TEAM: a\r\nX-Evil", b"1")])
def test_a_line_end_never_leaves(rig: Rig, name: bytes, value: bytes) -> None:
    guard = rig.guard()
    request = ask("/")
    request.variables = {name: value}
    with pytest.raises(BadCGIResponse, match="line end"):
        guard.check(request, "/")
    assert rig.peer.requests == []
    guard.close()


def test_the_variables_of_a_yes(rig: Rig) -> None:
    """Authelia's fields, oauth2-proxy's, the FastCGI way, and the site's own names."""
    guard = rig.guard(("X-Tenant", "TENANT"), ("Remote-Name", "HTTP_DISPLAY_NAME"))
    yes = http(
        202, ("Remote-User", "ann"), ("Remote-Groups", "a,b"), ("Remote-Name", "Ann \xc3\xa4"), ("Remote-Email", "a@b"),
        ("X-Auth-Request-User", "other"), ("X-Tenant", "t1"), ("Variable-Level", "2"), ("X-Other", "x"),
        ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Cache-Control", "max-age=5"), ("Vary", "Cookie"), body=b"ok",
    )  # fmt: skip
    rig.peer.script = lambda asked: yes
    assert in_thread(rig, guard) == Allow(
        {
            b"REMOTE_USER": b"ann", b"REMOTE_GROUPS": b"a,b", b"HTTP_DISPLAY_NAME": "Ann ä".encode(),
            b"REMOTE_EMAIL": b"a@b", b"TENANT": b"t1", b"LEVEL": b"2",
        },
        (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), 5, (b"cookie",),
    )  # fmt: skip
    rig.peer.script = lambda asked: http(
        202, ("X-Auth-Request-User", "bob"), ("X-Auth-Request-Preferred-Username", "Bob")
    )
    assert in_thread(rig, guard) == Allow({b"REMOTE_USER": b"bob", b"REMOTE_NAME": b"Bob"})
    guard.close()


def test_oauth2_proxy_sends_a_stranger_away(rig: Rig) -> None:
    """/oauth2/auth says 401; behind `auth_request` style set-ups the client is led to /oauth2/sign_in."""
    rig.peer.script = lambda asked: (
        http(401, ("Gap-Auth", ""), body=b"Unauthorized\n") if not asked.get("cookie") else http(202)
    )
    guard = rig.guard()
    decision = in_thread(rig, guard)
    assert isinstance(decision, Deny)
    assert (decision.response.status_int, decision.response.body) == (401, b"Unauthorized\n")
    assert isinstance(in_thread(rig, guard, cookie="_oauth2_proxy=x"), Allow)
    guard.close()


def test_authelia_redirects(rig: Rig) -> None:
    """/api/authz/forward-auth builds the way back of X-Forwarded-*; the gateway follows nothing."""

    def portal(asked: Any) -> bytes:
        back = f"{asked.get('x-forwarded-proto')}://{asked.get('x-forwarded-host')}{asked.get('x-forwarded-uri')}"
        return http(302, ("Location", f"https://auth.example.com/?rd={back}&rm={asked.get('x-forwarded-method')}"))

    rig.peer.script = portal
    guard = rig.guard()
    decision = in_thread(rig, guard)
    assert isinstance(decision, Deny)
    location = "https://auth.example.com/?rd=http://127.0.0.1/a/b?c=%20d&rm=GET"
    assert (decision.response.status_int, decision.response.headers["Location"]) == (302, location)
    assert len(rig.peer.requests) == 1
    guard.close()


def test_connections_are_kept_and_bounded(rig: Rig) -> None:
    guard = rig.guard(size=2)
    for _ in range(5):
        in_thread(rig, guard)
    assert rig.peer.connections == 1
    asking = [gevent.spawn(in_thread, rig, guard) for _ in range(10)]
    gevent.joinall(asking, raise_error=True)
    assert all(each.value == Allow() for each in asking)
    assert rig.peer.connections <= 2
    guard.close()


def test_a_connection_that_was_closed_meanwhile_costs_nobody_an_answer(rig: Rig) -> None:
    rig.peer.script = lambda asked: Reply(http(), "close")
    guard = rig.guard()
    for _ in range(5):
        assert in_thread(rig, guard) == Allow()
    guard.close()


def test_nobody_is_asked_three_times(rig: Rig) -> None:
    rig.peer.script = lambda asked: Reply(b"", "close")
    guard = rig.guard()
    with pytest.raises(BackendClosed):
        in_thread(rig, guard)
    assert len(rig.peer.requests) == 2
    guard.close()


YES = http(200, ("Remote-User", "ann"), body=b"ok")


def test_cut_anywhere(rig: Rig) -> None:
    """A yes that breaks off after any byte of it is none."""
    guard = rig.guard()
    for size in range(len(YES)):
        rig.peer.script = lambda asked, size=size: Reply(YES[:size], "close")  # type: ignore[misc]
        with pytest.raises((BackendClosed, BadCGIResponse)):
            in_thread(rig, guard)
    rig.peer.script = lambda asked: YES
    assert in_thread(rig, guard) == Allow({b"REMOTE_USER": b"ann"})
    guard.close()


def test_a_body_until_the_end_of_the_connection(rig: Rig) -> None:
    rig.peer.script = lambda asked: Reply(b"HTTP/1.1 403 No\r\n\r\nno, because", "close")
    guard = rig.guard()
    decision = in_thread(rig, guard)
    assert isinstance(decision, Deny)
    assert decision.response.body == b"no, because"
    guard.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(b"", "hang"), BackendTimeout),
        (Reply(YES[:1], "hang"), AnswerStalled),
        (Reply(YES[:30], "hang"), AnswerStalled),
        (Reply(YES[:-1], "hang"), AnswerStalled),
        (Reply(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), BadCGIResponse),
        (Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BadCGIResponse),
        (Reply(b"HTTP/1.1 2000 OK\r\n\r\n", "close"), BadCGIResponse),
        (Reply(b"SSH-2.0-x\r\n", "close"), BadCGIResponse),
        (Reply(http(200, body=b"x" * 1001)), BadCGIResponse),
        (Reply(http(401, body=b"no") + YES), BadCGIResponse),
        (Reply(http(401) + YES[:9]), BadCGIResponse),
        (Reply(http(204) + b"x"), BadCGIResponse),
        (Reply(YES + http(401)), BadCGIResponse),
        (Reply(http(200, ("Remote-User", "a"), ("REMOTE-USER", "b"))), BadCGIResponse),
        (Reply(http(200, ("Variable-A B", "a"))), BadCGIResponse),
        (Reply(http(200, ("Variable-REQUEST_URI", "/"))), BadCGIResponse),
    ],
)
def test_what_is_no_answer(rig: Rig, reply: Reply, error: type[Exception]) -> None:
    rig.peer.script = lambda asked: reply
    guard = rig.guard(read_timeout=0.2, size=1)
    for _ in range(3):  # and no connection is lost
        with pytest.raises(error) as failure:
            in_thread(rig, guard)
        assert failure.type is error
    rig.peer.script = lambda asked: http()
    assert in_thread(rig, guard) == Allow()
    guard.close()


def test_an_answer_that_drips_has_no_more_time(rig: Rig) -> None:
    guard = rig.guard(time_limit=0.2)
    rig.peer.script = lambda asked: Drip(YES)
    with pytest.raises(AnswerStalled, match=r"took more than 0\.2 s"):
        in_thread(rig, guard)
    guard.close()


@pytest.mark.parametrize(
    ("field", "told"),
    [(("Remote-User", "b"), "said remote-user more than once"), (("Variable-REQUEST_URI", "/"), "set request_uri")],
)
def test_a_fault_of_its_answer_names_it(rig: Rig, field: tuple[str, str], told: str) -> None:
    rig.peer.script = lambda asked: Reply(http(200, ("Remote-User", "a"), field))
    guard = rig.guard(read_timeout=0.2)
    with pytest.raises(BadCGIResponse, match=f"^the authorizer http://127[^ ]+ {told}"):
        in_thread(rig, guard)
    guard.close()


def test_what_it_is_called_holds_no_secret(rig: Rig) -> None:
    guard = rig.guard(url="http://127.0.0.1:1/auth?token=t0ken")
    with pytest.raises(ConnectError) as failure:
        in_thread(rig, guard)
    told = f"{failure.value} {guard!r} {guard._called} {guard.question(ask('/'), '/').to}"
    assert ("token=(5 bytes)" in told, "t0ken" in told) == (True, False)
    guard.close()


def test_nobody_there(rig: Rig) -> None:
    guard = rig.guard()
    rig.peer.stop()
    with pytest.raises(ConnectError) as failure:
        in_thread(rig, guard)
    assert failure.value.cause == "connect_refused"
    guard.close()


def test_what_cannot_be_sent_costs_no_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(
        rig.peer.url(), connect_timeout=1, read_timeout=1, queue_timeout=1, time_limit=2, size=1, largest=9
    )
    pool = service._pool

    class Torn:
        def sendall(self, data: bytes) -> None:
            raise BrokenPipeError

        def close(self) -> None:
            pass

    connect = pool._create_socket
    monkeypatch.setattr(pool, "_create_socket", Torn)
    for _ in range(3):
        with pytest.raises(BackendClosed):
            service.get(())
    monkeypatch.setattr(pool, "_create_socket", connect)
    assert service.get(()).status == 200
    service.close()


def test_a_full_house(rig: Rig) -> None:
    rig.peer.script = lambda asked: Reply(b"", "hang")
    guard = rig.guard(size=1, queue_timeout=0.1)
    first = gevent.spawn(in_thread, rig, guard)
    wait_until_here(lambda: rig.peer.requests)
    with pytest.raises(Overloaded):
        in_thread(rig, guard)
    # Who asked leaves: the connection is given back.
    first.kill()
    rig.peer.script = lambda asked: http()
    assert in_thread(rig, guard) == Allow()
    guard.close()


def test_limits_of_zero_are_none(rig: Rig) -> None:
    answered: list[Decision] = []
    rig.peer.script = lambda asked: http()
    guard = rig.guard(size=1, queue_timeout=0, connect_timeout=0)
    guard._service._room.acquire()
    asking = gevent.spawn(lambda: answered.append(in_thread(rig, guard)))
    gevent.idle()
    assert not asking.ready()
    guard._service._room.release()
    asking.join(10)
    assert answered == [Allow()]
    guard.close()


def wait_until_here(condition: Callable[[], object]) -> None:
    """As `wait_until`, letting the hub run."""
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


def test_in_front_of_a_wsgi_application(rig: Rig) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["REMOTE_USER"].encode()]

    gate = authorizer_at(rig.peer.url("/auth"), read_timeout=2)
    guarded = AuthorizerMiddleware(application, [gate])
    rig.peer.script = lambda asked: http(202, ("Remote-User", "ann")) if asked.get("cookie") else http(401, body=b"who")
    answer = webob.Request.blank("/a?b", headers={"Cookie": "a=1", "Remote-User": "root"}).get_response(guarded)
    assert (answer.status_int, answer.body) == (200, b"ann")
    assert rig.peer.last.get("x-forwarded-uri") == "/a?b"
    answer = webob.Request.blank("/").get_response(guarded)
    assert (answer.status_int, answer.body) == (401, b"who")
    gate.close()  # type: ignore[attr-defined]


INTERIM = b"HTTP/1.1 103 Early Hints\r\nRemote-User: nobody\r\n\r\n"


def test_interim_responses_are_passed_over(rig: Rig) -> None:
    guard = rig.guard()
    rig.peer.script = lambda asked: INTERIM + b"HTTP/1.1 100 Continue\r\n\r\n" + YES
    for _ in range(2):
        assert in_thread(rig, guard) == Allow({b"REMOTE_USER": b"ann"})
    rig.peer.script = lambda asked: INTERIM + http(401)
    assert isinstance(in_thread(rig, guard), Deny)
    assert rig.peer.connections == 1
    guard.close()


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    key, cert = str(folder / f"{name}.key"), str(folder / f"{name}.pem")
    subprocess.run(
        [
            find_peer("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-addext", f"subjectAltName={name}",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.mark.parametrize(
    ("name", "is_trusted", "passes"),
    [("IP:127.0.0.1", True, True), ("IP:127.0.0.1", False, False), ("DNS:other.example", True, False)],
)
def test_certificates_are_verified(tmp_path: Path, name: str, is_trusted: bool, passes: bool) -> None:
    key, cert = make_certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    peer = HTTPService(context=context)
    rig = Rig.__new__(Rig)
    rig.peer = peer
    guard = rig.guard(url=peer.url("/auth"), ca_file=cert if is_trusted else "", largest=5000)
    if passes:
        assert in_thread(rig, guard) == Allow()
        # A second response in the same TLS record as a first one that ends with what is read at once.
        no = http(401, body=b"x" * (4096 - len(http(401, body=b"x" * 1000)) + 1000))
        assert len(no) == 4096
        peer.script = lambda asked: no + YES
        for _ in range(2):
            assert isinstance(in_thread(rig, guard), Deny)
    else:
        with pytest.raises(ConnectError):
            in_thread(rig, guard)
        assert peer.requests == []
    guard.close()
    peer.stop()
