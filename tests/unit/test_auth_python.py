"""The authorizer in Python: what a function may answer, how long it may take, and how it is found."""

from __future__ import annotations

import sys
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from filerig import ask
from webob.exc import HTTPFound, HTTPUnauthorized

from gfastcgi import Allow, authorizer
from gfastcgi.auth import python as auth_python
from gfastcgi.auth.base import Deny
from gfastcgi.auth.gate import QuestionEnded
from gfastcgi.auth.python import PythonAuthorizer, load
from gfastcgi.errors import AnswerStalled, ApplicationError, BackendTimeout, BadCGIResponse, ClientClosed, InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def decide(answer: Any) -> Any:
    return PythonAuthorizer(lambda request: answer).check(ask("/"), "/www")


@pytest.mark.parametrize(
    ("answer", "variables"),
    [
        (True, {}),
        ("ann", {b"REMOTE_USER": b"ann"}),
        ("änn", {b"REMOTE_USER": "änn".encode()}),
        (Allow(), {}),
        (Allow({b"TEAM": b"blue"}), {b"TEAM": b"blue"}),
        (Allow({"Auth-Level": "2"}), {b"AUTH_LEVEL": b"2"}),  # type: ignore[dict-item]
    ],
)
def test_a_yes(answer: Any, variables: dict[bytes, bytes]) -> None:
    assert decide(answer) == Allow(variables)


def test_a_yes_with_everything() -> None:
    answer = Allow({b"A": b"1"}, (("Set-Cookie", "a=1"),), 5, (b"cookie",))
    assert decide(answer) == answer


def test_all_fields_of_a_yes_are_for_the_client_but_those_of_the_connection() -> None:
    fields = (("X-Other", "y"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    taken = (("Content-Length", "3"), ("Transfer-Encoding", "chunked"), ("X-Sendfile", "/x"), ("X-Accel-Charset", "x"))
    assert decide(Allow({}, (*fields, *taken))) == Allow({}, fields)


@pytest.mark.parametrize("answer", [None, False, ""])
def test_a_plain_no(answer: Any) -> None:
    decision = decide(answer)
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 403


def test_an_answer_of_its_own() -> None:
    fields = [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Sendfile", "/etc/passwd"),
    ]
    decision = decide(webob.Response(status="401 Who", headerlist=fields, body=b"who"))
    response = decision.response
    assert (response.status, response.body, response.headerlist) == ("401 Who", b"who", fields[:3])
    assert decide(webob.Response(body=b"200 is no yes")).response.status_int == 200
    assert decide(Deny(webob.Response(status=402))).response.status_int == 402


def test_a_response_with_200_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is the yes of a FastCGI program, and a no here."""
    guard = PythonAuthorizer(lambda request: webob.Response("please log in"), name="site:check")
    for _ in range(2):
        assert isinstance(guard.check(ask("/"), "/"), Deny)
    (line,) = caplog.messages
    assert line.startswith("the authorizer site:check answers with a webob.Response of status 200, which denies: True")
    caplog.clear()
    decide(Deny(webob.Response("please log in")))
    decide(webob.Response(status=403))
    assert caplog.messages == []


def test_exceptions_that_are_answers() -> None:
    @authorizer
    def raising(request: webob.Request) -> Any:
        raise HTTPUnauthorized("say who", headers=[("WWW-Authenticate", "Custom")])

    response = raising.check(ask("/", accept="text/plain"), "/").response  # type: ignore[union-attr]
    assert (response.status_int, response.headers["WWW-Authenticate"], b"say who" in response.body) == (
        401,
        "Custom",
        True,
    )
    response = decide(HTTPFound(location="https://login.example/")).response
    assert (response.status_int, response.headers["Location"]) == (302, "https://login.example/")


@pytest.mark.parametrize(
    "answer",
    [
        1, 0, 2.5, [], ["ann"], {}, b"ann", object(), "a\nb", "a\0", (True for _ in "x"),
        lambda request: True,
        Allow({}, (("Set-Cookie", "a=1\r\nX-Evil: 1"),)), Allow({}, (("Set-Cookie: a\nX", "1"),)),
        webob.Response(headerlist=[("X-A", "a\r\nSet-Cookie: a=1")]), webob.Response(status="403 No\r\nX-Evil: 1"),
        webob.Response(status=101), webob.Response(status="103 Early Hints"),
        # A name in a Deny is nobody who may pass.
        Deny("go away"), Deny(True), Deny(Allow()), Deny(None),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_answer(answer: Any) -> None:
    with pytest.raises(ApplicationError, match=r"^the authorizer test_auth_python:<lambda> gave no answer: "):
        decide(answer)


@pytest.mark.parametrize("name", ["A B", "", "1A", "PATH_INFO", "SCRIPT_FILENAME"])
def test_variables_that_are_none(name: str) -> None:
    with pytest.raises(BadCGIResponse, match="the authorizer test_auth_python:<lambda> "):
        decide(Allow({name.encode(): b"x"}))


@pytest.mark.parametrize(
    "error", [KeyError("x"), OSError("x"), BackendTimeout("mine"), StopIteration(), AssertionError(), SystemExit(1)]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["by itself", "in the body of its answer"])
def test_what_it_raises_denies_under_a_name_of_our_own(error: BaseException, is_late: bool) -> None:
    def raising(request: webob.Request) -> Any:
        if is_late:
            return webob.Response(status=403, app_iter=body())
        raise error

    def body() -> Iterator[bytes]:
        yield b"no"
        # A generator turns this one into an error of its own.
        raise ValueError if isinstance(error, StopIteration) else error

    with pytest.raises(ApplicationError, match=r"^the authorizer site:check raised ") as failure:
        PythonAuthorizer(raising, name="site:check").check(ask("/"), "/")
    assert failure.value.__cause__ is error or isinstance(error, StopIteration)


def test_what_it_raises_is_told_once_with_its_own_frames(caplog: pytest.LogCaptureFixture) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    def inner(error: Exception) -> None:
        raise error

    for error, told in (
        (RuntimeError("kaboom"), "RuntimeError: kaboom"),
        (AssertionError(), "AssertionError"),
        (Mute(), "Mute"),
    ):
        caplog.clear()
        request = ask("/")
        with pytest.raises(ApplicationError, match=f"^the authorizer site:check raised {told}$"):
            PythonAuthorizer(lambda _, error=error: inner(error), name="site:check").check(request, "/")
        (record,) = caplog.records
        assert record.message == f"request {request.id}: the authorizer site:check raised {told}"
        assert record.exc_info is not None
        assert [frame.name for frame in extract_tb(record.exc_info[2])] == ["<lambda>", "inner"]


def test_a_wrong_answer_is_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked tells it, in its line about the request."""
    with pytest.raises(ApplicationError, match=r"site:check gave no answer: .* not 1$") as failure:
        PythonAuthorizer(lambda request: 1, name="site:check").check(ask("/"), "/")
    assert (failure.value.status_hint, failure.value.cause, caplog.messages) == (500, "internal", [])


def test_what_it_prints_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def talking(request: webob.Request) -> bool:
        print("one\ntwo", end="", file=request.environ["wsgi.errors"])
        return True

    assert PythonAuthorizer(talking).check(ask("/"), "/") == Allow()
    assert [line.rpartition(": ")[2] for line in caplog.messages] == ["one", "two"]


@pytest.mark.parametrize("name", [1, None, object()])
def test_variables_are_text_or_bytes(name: Any) -> None:
    with pytest.raises(TypeError, match="text or bytes"):
        Allow({name: "x"})
    with pytest.raises(TypeError, match="text or bytes"):
        Allow({"X": name})


@pytest.mark.parametrize("target", ["/%c0%ae", "/a?b=%ff"])
def test_bytes_that_are_no_text_are_the_clients_fault(target: str) -> None:
    """A traceback in the log is not for clients to write."""
    guard = PythonAuthorizer(lambda request: (request.path_info, request.GET.get("b")) == ("/a", "ok"))
    decision = guard.check(ask(target), "/")
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 400
    assert guard.check(ask("/a?b=ok"), "/") == Allow()
    with pytest.raises(ApplicationError):
        PythonAuthorizer(lambda request: b"\xff".decode()).check(ask("/a"), "/")
    assert PythonAuthorizer(lambda request: True).check(ask(target), "/") == Allow()


def test_a_client_that_leaves_is_no_failure_of_the_authorizer() -> None:
    """Who asks the same goes on by itself; a failure would be everybody's."""

    def waiting(request: webob.Request) -> bool:
        gevent.sleep(30)
        return True

    asking = gevent.spawn(PythonAuthorizer(waiting).check, ask("/"), "/")
    gevent.idle()
    gone = ClientClosed("the client left")
    asking.kill(gone)
    assert asking.exception is gone


def test_one_that_ends_its_greenlet_has_failed() -> None:
    """GreenletExit is what gevent says goodbye with; said by a function it is an error like any other."""

    def leaving(request: webob.Request) -> bool:
        raise gevent.GreenletExit

    with pytest.raises(ApplicationError, match="raised GreenletExit"):
        PythonAuthorizer(leaving).check(ask("/"), "/")


def test_a_question_that_nobody_waits_for_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    asking = gevent.spawn(PythonAuthorizer(lambda request: gevent.sleep(30)).check, ask("/"), "/")
    gevent.idle()
    asking.kill(QuestionEnded)
    assert isinstance(asking.value, QuestionEnded)
    assert caplog.messages == []


def test_its_time_is_limited() -> None:
    @authorizer(time_limit=0.01)
    def waiting(request: webob.Request) -> bool:
        try:
            gevent.sleep(30)
        except Exception:
            return True  # a function that swallows everything does not swallow its end
        return True

    with pytest.raises(BackendTimeout, match=r"the authorizer test_auth_python:waiting took more than 0\.01 s"):
        waiting.check(ask("/"), "/")

    @authorizer
    def timing(request: webob.Request) -> bool:
        with gevent.Timeout(0.01):
            gevent.sleep(30)
        return True

    with pytest.raises(ApplicationError, match=r":timing raised Timeout: 0\.01 seconds"):
        timing.check(ask("/"), "/")
    assert PythonAuthorizer(lambda request: True, time_limit=0).check(ask("/"), "/") == Allow()


def test_a_late_yes_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends a function that computes, or that takes its time-out for an error of its own."""
    now = [100.0]
    monkeypatch.setattr(auth_python, "monotonic", lambda: now[0])

    @authorizer(time_limit=5)
    def computing(request: webob.Request) -> bool:
        now[0] += float(request.query_string)
        return True

    assert computing.check(ask("/?5"), "/") == Allow()
    with pytest.raises(BackendTimeout, match="the authorizer test_auth_python:computing took more than 5 s"):
        computing.check(ask("/?5.1"), "/")
    assert PythonAuthorizer(computing.function, time_limit=0).check(ask("/?99"), "/") == Allow()


def test_so_is_the_time_of_its_answer() -> None:
    """What was said by then is a no, so it is no outage (`"stale-allow"`)."""

    def body() -> Iterator[bytes]:
        yield b"no, "
        gevent.sleep(30)
        yield b"because"

    @authorizer(time_limit=0.01)
    def denying(request: webob.Request) -> webob.Response:
        return webob.Response(status=403, app_iter=body())

    with pytest.raises(AnswerStalled, match=r"the authorizer test_auth_python:denying took more than 0\.01 s"):
        denying.check(ask("/"), "/")


@pytest.mark.parametrize("is_raised", [False, True])
def test_so_is_the_time_of_an_exception_that_is_an_answer(is_raised: bool) -> None:
    class SlowPage(HTTPUnauthorized):
        def generate_response(self, environ: Any, start_response: Any) -> Any:
            gevent.sleep(30)

    @authorizer(time_limit=0.01)
    def denying(request: webob.Request) -> webob.Response:
        if is_raised:
            raise SlowPage
        return SlowPage()

    with pytest.raises(AnswerStalled):
        denying.check(ask("/"), "/")


def test_what_it_sees() -> None:
    seen: list[webob.Request] = []
    request = ask("/a%20b?c=d", "POST", cookie="s=1", range="bytes=0-1", if_none_match="*", remote_user="forged")
    request.variables[b"TEAM"] = b"blue"
    PythonAuthorizer(lambda asked: seen.append(asked) or True).check(request, "/")  # type: ignore[func-returns-value]
    (asked,) = seen
    assert (asked.method, asked.path_info, asked.query_string, asked.cookies["s"]) == ("POST", "/a b", "c=d", "1")
    assert (asked.body, asked.environ["TEAM"], asked.remote_user) == (b"", "blue", None)
    assert not {"HTTP_RANGE", "HTTP_IF_NONE_MATCH", "CONTENT_LENGTH"} & asked.environ.keys()


def test_what_was_said_of_a_client_stands_in_the_place_of_what_it_sent() -> None:
    seen: list[Any] = []
    request = ask("/", tenant="mine", squad="red")
    request.variables = {b"TENANT": b"other", b"HTTP_SQUAD": b"allowed", b"SQUAD": b"blue"}
    PythonAuthorizer(seen.append).check(request, "/")
    environ = seen[0].environ
    assert (environ["TENANT"], environ["SQUAD"]) == ("other", "blue")
    assert not {"HTTP_TENANT", "HTTP_SQUAD"} & environ.keys()


def test_the_decorator() -> None:
    @authorizer
    def check(request: webob.Request) -> bool:
        """Says no."""
        return False

    assert (check.__name__, check.__doc__, check(webob.Request.blank("/"))) == ("check", "Says no.", False)
    assert (repr(check), check.time_limit) == ("<PythonAuthorizer check>", 30)


def test_finding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "gate_found.py").write_text(
        "def check(request): return True\nclass A:\n    b = staticmethod(check)\nx = 1\n"
    )
    (tmp_path / "gate_broken.py").write_text("1 / 0\n")
    (tmp_path / "gate_syntax.py").write_text("def\n")
    assert load("gate_found:check", str(tmp_path))(None) is True  # type: ignore[arg-type]
    assert load("gate_found:A.b", str(tmp_path))(None) is True  # type: ignore[arg-type]
    assert sys.path.count(str(tmp_path)) == 1
    for name, message in (
        ("gate_found", "takes"), (":check", "takes"), ("gate_found:", "takes"), ("gate_found:x", "is no function"),
        ("gate_found:missing", "AttributeError"), ("gate_missing:check", "ModuleNotFoundError"),
        ("gate_broken:check", "ZeroDivisionError"), ("gate_syntax:check", "SyntaxError"),
    ):  # fmt: skip
        with pytest.raises(InvalidValue, match=message):
            load(name, str(tmp_path))
