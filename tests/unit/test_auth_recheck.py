"""A long answer whose authorizers are asked again: it goes on with a yes, and ends with everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import pytest
import webob
from filerig import ask as request_for
from gevent.event import Event

from gfastcgi.auth.recheck import Recheck, guard
from gfastcgi.errors import BackendTimeout, ClientClosed
from gfastcgi.net.beneath import open_beneath
from gfastcgi.net.sendfile import FileBody

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Question:
    """What the authorizers say, one answer a time; the last is repeated. `asked` is set with each."""

    def __init__(self, *says: Any) -> None:
        self.says = list(says)
        self.count = 0
        self.asked = Event()

    def __call__(self) -> bool:
        self.count += 1
        self.asked.set()
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, BaseException):
            raise said
        return bool(said)


class SlowReader:
    """A stream that takes nothing until `goes_on`."""

    def __init__(self) -> None:
        self.goes_on = Event()
        self.taken = 0

    def fileno(self) -> int:
        return -1

    def send_all(self, data: bytes) -> None:
        self.goes_on.wait()
        self.taken += len(data)

    def wait_writable(self) -> None:
        self.goes_on.wait()


class Body:
    """A body of three pieces that waits before each."""

    def __init__(self, reader: SlowReader) -> None:
        self.reader = reader
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(3):
            self.reader.goes_on.wait()
            yield b"piece"

    def close(self) -> None:
        self.is_closed = True


def send(response: webob.Response, reader: SlowReader) -> Any:
    """Sends as the server does; returns what ended it early."""
    body: Any = response.app_iter
    try:
        if isinstance(body, FileBody):
            body.send_to(reader)
        else:
            for piece in body:
                reader.send_all(piece)
    except ClientClosed as error:
        return error
    finally:
        body.close()
    return None


def start(response: webob.Response, question: Question) -> tuple[SlowReader, gevent.Greenlet[..., Any]]:
    reader = SlowReader()
    if response.app_iter is None:
        response.app_iter = Body(reader)
    guard(response, Recheck(request_for("/x?y"), 0.001, question, ["/private/", "/"]))
    return reader, gevent.spawn(send, response, reader)


@pytest.fixture(params=["file", "stream"])
def response(request: pytest.FixtureRequest, tmp_path: Path) -> webob.Response:
    if request.param == "stream":
        response = webob.Response()
        response.app_iter = None
        return response
    (tmp_path / "f").write_bytes(b"x")
    return webob.Response(app_iter=FileBody([b"a" * 15, (open_beneath(str(tmp_path), "/f"), 0, 0)]))


@pytest.mark.parametrize(
    "says", [False, BackendTimeout("x"), ValueError("x"), gevent.GreenletExit(), gevent.Timeout(9, None)]
)
def test_a_no_ends_it(response: webob.Response, says: Any, caplog: pytest.LogCaptureFixture) -> None:
    question = Question(True, True, says)
    reader, sender = start(response, question)
    sender.join(timeout=10)
    assert isinstance(sender.value, ClientClosed)
    assert (question.count, reader.taken) == (3, 0)
    (line,) = [message for message in caplog.messages if "cut" in message]
    assert ": GET /x?y: cut: its authorizers" in line
    assert line.endswith("(/private/, /)")


def test_a_yes_lets_it_go_on(response: webob.Response) -> None:
    question = Question(True)
    reader, sender = start(response, question)
    for _ in range(3):
        question.asked.clear()
        question.asked.wait()
    reader.goes_on.set()
    sender.join()
    assert (sender.value, reader.taken) == (None, 15)


def test_nothing_outlives_it(response: webob.Response) -> None:
    question = Question(True, False)
    reader, sender = start(response, question)
    question.asked.wait()
    reader.goes_on.set()
    sender.join()
    asked = question.count
    later = gevent.spawn(gevent.sleep, 0.02)
    later.join()
    assert (sender.value, reader.taken, question.count) == (None, 15, asked)


def test_a_late_no_hits_nobody() -> None:
    """The no is there, but the answer ends before the sender is told: what it does then goes on."""
    question = Question(False)
    response = webob.Response()
    body = Body(SlowReader())
    body.reader.goes_on.set()
    response.app_iter = body
    recheck = Recheck(request_for("/x"), 0.001, question)
    guard(response, recheck)
    guarded: Any = response.app_iter
    iterator = iter(guarded)
    assert next(iterator) == b"piece"
    recheck.stop()
    recheck._cut()
    guarded.close()
    assert body.is_closed


def test_a_body_that_nobody_reads_starts_nothing() -> None:
    question = Question(False)
    response = webob.Response()
    body = Body(SlowReader())
    response.app_iter = body
    guard(response, Recheck(request_for("/x"), 0.001, question))
    guarded: Any = response.app_iter
    guarded.close()
    gevent.sleep(0.01)
    assert (body.is_closed, question.count) == (True, 0)


@pytest.mark.parametrize("fields", [[], [("Content-Length", "70000")]])
def test_bodies_in_memory(fields: list[tuple[str, str]]) -> None:
    """Small ones are gone at once; a large one keeps its length."""
    recheck = Recheck(request_for("/x"), 60, lambda: True)
    small = webob.Response(app_iter=[b"x" * 65536])
    guard(small, recheck)
    assert isinstance(small.app_iter, list)
    large = webob.Response(headerlist=fields, app_iter=[b"x" * 70000])
    guard(large, recheck)
    assert large.headerlist == [("Content-Length", "70000")]
    assert b"".join(large.app_iter) == b"x" * 70000
    stream = webob.Response(headerlist=[("Content-Length", "15")], app_iter=iter([b"x" * 15]))
    guard(stream, recheck)
    assert stream.headerlist == [("Content-Length", "15")]


def test_a_small_file_leaves_with_its_head(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"xyz")
    response = webob.Response(app_iter=FileBody([(open_beneath(str(tmp_path), "/f"), 0, 3)]))
    guard(response, Recheck(request_for("/x"), 60, lambda: True))
    body: Any = response.app_iter
    assert (body.length, body.small(100), body.small(2), b"".join(body)) == (3, b"xyz", None, b"xyz")
    body.close()
