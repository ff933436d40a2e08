"""The FastCGI authorizer and the chain: what a decision carries, and what is no decision."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import webob
from filerig import ask as request_for
from peers.backend import STDERR, Reply, answer, end, record, stdout

from gfastcgi.auth import chain
from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.auth.gate import Gate
from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import AsConfigured
from gfastcgi.client import exchange
from gfastcgi.config import HostConfig
from gfastcgi.errors import (
    AnswerStalled,
    BackendError,
    BackendTimeout,
    BadCGIResponse,
    GfastcgiError,
    UnexpectedStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import BackendConnection, ScriptedBackend

    from gfastcgi.request import Request


class Guard:
    """An authorizer in front of a scripted backend."""

    def __init__(self, backend: ScriptedBackend, on_stderr: Callable[[bytes], object] | None = None) -> None:
        self.backend = backend
        self.stderr: list[bytes] = []
        self.on_stderr = on_stderr or self.stderr.append

    def check(self, reply: bytes | Reply, **options: Any) -> Decision:
        self.backend.script = lambda seen: reply
        options = {"read_timeout": 0.5 if isinstance(reply, Reply) and reply.then == "hang" else 1, **options}
        host = HostConfig(socket=str(self.backend.address), mode="authorizer", **options)
        pool = Pool(make_hosts([host]), AsConfigured(random.Random(1)), clock=time.monotonic)
        guard = FastCGIAuthorizer("/x", pool, lambda request, data: self.on_stderr(data))
        try:
            return guard.check(request_for("/x/y"), "/www")
        finally:
            assert pool.hosts[0].load == 0, "the lease is not given back"
            for connection in pool.drain():
                connection.close()


@pytest.fixture
def guard(backend: Callable[..., ScriptedBackend]) -> Guard:
    return Guard(backend())


def test_allow(guard: Guard) -> None:
    fields = "Variable-REMOTE_USER: bob\r\nvariable-Auth-Level: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b\r\nX-Other: 1\r\n"
    decision = guard.check(answer(f"Status: 200 OK\r\n{fields}\r\nignored", stderr=b"note"))
    assert decision == Allow(
        {b"REMOTE_USER": b"bob", b"AUTH_LEVEL": b"2"}, (("Set-Cookie", "a=1"), ("Set-Cookie", "b"))
    )
    assert guard.stderr == [b"note"]
    with pytest.raises(TypeError, match="does not support"):
        decision.variables[b"REMOTE_USER"] = b"eve"  # type: ignore[index]  # others may be given the same object
    (seen,) = guard.backend.requests
    assert (seen.params["FCGI_ROLE"], seen.params["SCRIPT_FILENAME"]) == (b"AUTHORIZER", b"/www/x/y")


def test_php_without_a_script_has_decided_nothing(guard: Guard) -> None:
    """It ran, or printed, what SCRIPT_FILENAME names: the private file."""
    yes = answer("Status: 200\r\nX-Powered-By: PHP/8.2.1\r\n\r\nsecret")
    with pytest.raises(BadCGIResponse, match='"script" has to name the authorizer'):
        guard.check(yes)
    assert guard.check(yes, script="/srv/gate.php") == guard.check(yes, mode_compat="lighttpd") == Allow()
    assert guard.check(answer("Status: 200\r\nX-Powered-By: Perl\r\n\r\n")) == Allow()


def test_deny(guard: Guard) -> None:
    fields = "WWW-Authenticate: Basic\r\nVariable-A: 1\r\nX-Sendfile: /etc/passwd\r\nContent-Length: 9\r\n"
    decision = guard.check(answer(f"Status: 401 Who\r\n{fields}\r\nno"))
    assert isinstance(decision, Deny)
    response = decision.response
    assert (response.status, response.headerlist, response.body) == (
        "401 Who", [("WWW-Authenticate", "Basic")], b"no",
    )  # fmt: skip


def test_a_login_page_is_a_denial(guard: Guard) -> None:
    decision = guard.check(answer("Location: https://login.example/\r\n\r\n"))
    assert isinstance(decision, Deny)
    assert (decision.response.status, decision.response.location) == ("302 Found", "https://login.example/")


@pytest.mark.parametrize("require", [False, True])
def test_no_status(guard: Guard, require: bool) -> None:
    reply = answer("Content-Type: text/plain\r\n\r\n")
    if require:
        with pytest.raises(BadCGIResponse, match="the authorizer /x gave no Status"):
            guard.check(reply, require_status=True)
    else:
        assert guard.check(reply) == Allow()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (stdout(b"Status: 200 OK\r\n\r\n") + end(app_status=1), UnexpectedStatus),
        (Reply(stdout(b"Status: 200 OK\r\n\r\n"), "close"), BackendError),
        (Reply(b"", "hang"), BackendTimeout),
        (Reply(stdout(b"Status: 403 No\r\n\r\nno")[:1], "hang"), AnswerStalled),
        (Reply(stdout(b"Status: 2"), "hang"), AnswerStalled),
        (Reply(stdout(b"Status: 200 OK\r\n\r\n"), "hang"), AnswerStalled),
        (Reply(stdout(b"Status: 403 No\r\n\r\nno"), "hang"), AnswerStalled),
        (answer("Status: 200 OK\r\nVariable-A B: 1\r\n\r\n"), BadCGIResponse),
        (answer("Status: 200 OK\r\nVariable-: 1\r\n\r\n"), BadCGIResponse),
        (answer("Status: 200 OK\r\nVariable-1A: 1\r\n\r\n"), BadCGIResponse),
        (answer("Status: 200 OK\r\nVariable-PHP_VALUE: auto_prepend_file=/tmp/x\r\n\r\n"), BadCGIResponse),
        (answer("Status: 200 OK\r\nVariable-Php-Admin-Value: open_basedir=/\r\n\r\n"), BadCGIResponse),
        (answer("Status: 200 OK\r\nVariable-REDIRECT_URI: /x\r\n\r\n"), BadCGIResponse),
        (answer("Status: 403 No\r\n\r\n" + "x" * (1 << 20) + "x"), BadCGIResponse),
    ],
)
def test_what_is_no_answer(guard: Guard, reply: bytes | Reply, error: type[GfastcgiError]) -> None:
    with pytest.raises(error) as failure:
        guard.check(reply)
    assert (failure.type is AnswerStalled) == (error is AnswerStalled), "an outage has said nothing"


def test_a_fault_of_its_answer_names_it(guard: Guard) -> None:
    with pytest.raises(BadCGIResponse, match=r"^the authorizer /x set PHP_VALUE, which is not for it to say$"):
        guard.check(answer("Status: 200 OK\r\nVariable-PHP_VALUE: x\r\n\r\n"))


@pytest.mark.parametrize(
    "piece", [stdout(b"Status: 403 No\r\n\r\n"), record(STDERR, b"wait")], ids=["its answer", "words on STDERR"]
)
def test_an_answer_that_drips_has_an_end(backend: Callable[..., ScriptedBackend], piece: bytes) -> None:
    """Each byte comes within the read-timeout; all of them have the time of one decision (Slowloris, from behind)."""

    def drip(connection: BackendConnection) -> None:
        assert connection.read_request() is not None
        while not connection.backend.ending.wait(0.02):
            for byte in piece:
                connection.sock.sendall(bytes([byte]))
                connection.backend.ending.wait(0.02)

    guard = Guard(backend(talk=drip))
    with pytest.raises(AnswerStalled, match=r"took more than 0\.2 s") as failure:
        guard.check(b"", decision_timeout=0.2)
    assert (failure.value.status_hint, failure.value.cause) == (504, "read_timeout")


def test_a_yes_that_is_whole_too_late_is_none(
    backend: Callable[..., ScriptedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nobody ever waited for it: what pours has no more time than what drips."""
    now, told = [100.0], threading.Event()
    monkeypatch.setattr(exchange, "monotonic", lambda: now[0])

    def talk(connection: BackendConnection) -> None:
        assert connection.read_request() is not None
        connection.sock.sendall(record(STDERR, b"wait"))
        assert told.wait(10)
        connection.sock.sendall(answer("Status: 200 OK\r\n\r\n"))

    def is_told(_: bytes) -> None:
        now[0] += 38
        told.set()

    guard = Guard(backend(talk=talk), is_told)
    with pytest.raises(AnswerStalled, match="took more than 38 s"):
        guard.check(b"", decision_timeout=38)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 38), ({"read_timeout": 5}, 13), ({"connect_timeout": 0, "read_timeout": 5}, 5),
        ({"read_timeout": 60, "decision_timeout": 3}, 3),
    ],
)  # fmt: skip
def test_how_long_a_decision_takes_at_most(options: dict[str, float], seconds: float) -> None:
    assert HostConfig(mode="authorizer", **options).decision_seconds == seconds  # type: ignore[arg-type]


class Fixed:
    """An authorizer that always says the same, and keeps what it saw."""

    def __init__(self, decision: Any) -> None:
        self.decision = decision
        self.seen: list[dict[bytes, bytes]] = []

    def check(self, request: Request, root: str) -> Any:
        self.seen.append(dict(request.variables))
        if isinstance(self.decision, Exception):
            raise self.decision
        return self.decision


def gates(*authorizers: Fixed) -> list[Gate]:
    return [Gate("/", authorizer, None) for authorizer in authorizers]


def test_all_have_to_allow_in_order() -> None:
    one, two = Fixed(Allow({b"REMOTE_USER": b"a", b"X": b"1"}, (("A", "1"),))), Fixed(Allow({b"REMOTE_USER": b"b"}))
    request = request_for("/")
    assert chain.ask(gates(one, two), request, "/www") == Allow(response_headers=(("A", "1"),))
    assert two.seen == [{b"REMOTE_USER": b"a", b"X": b"1"}]
    assert (request.variables, request.user) == ({b"REMOTE_USER": b"b", b"X": b"1"}, "b")


def test_the_first_denial_ends_it() -> None:
    denial = webob.Response(status=403)
    last = Fixed(Allow())
    assert chain.ask(gates(Fixed(Allow()), Fixed(Deny(denial)), last), request_for("/"), "/www") == Deny(denial)
    assert last.seen == []


@pytest.mark.parametrize("decision", [None, True, "yes", [], {}, webob.Response(), BackendError("x"), ValueError("x")])
def test_nothing_else_lets_through(decision: Any) -> None:
    last = Fixed(Allow())
    with pytest.raises((TypeError, BackendError, ValueError)):
        chain.ask(gates(Fixed(decision), last), request_for("/"), "/www")
    assert last.seen == []


def test_nobody_asked() -> None:
    with pytest.raises(ValueError, match="would be open"):
        chain.ask([], request_for("/"), "/www")
