"""The audit log: a line for each request that was decided about, whatever was decided, and whatever the client sent."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import webob
from filerig import ask as request_for

from gfastcgi.audit import AuditLog
from gfastcgi.auth.base import Allow, Decision, Deny, Verdict
from gfastcgi.errors import BackendTimeout, ClientClosed

LINES: list[bytes] = []
RECORD = {"route": {"kind": "file"}}


@pytest.fixture
def log() -> AuditLog:
    LINES.clear()
    return AuditLog(LINES.append, now=lambda: 1_700_000_000.25)


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LINES]


def test_a_yes(log: AuditLog) -> None:
    request = request_for("/a?x=%0A", method="POST", host="a")

    def ask() -> Decision:
        log(request, Verdict("/a", "allow", "memory", 200, 0.0012345, transport="fastcgi"))
        log(request, Verdict("/", "allow", "asked", 200, 0.5, transport="url"))
        request.user = "bob"
        return Allow(response_headers=(("Set-Cookie", "a"),))

    assert log.follow(request, RECORD, ask) == Allow(response_headers=(("Set-Cookie", "a"),))
    first = {"key": "/a", "transport": "fastcgi", "outcome": "allow", "status": 200, "cause": "", "source": "memory"}
    assert lines() == [{
        "time": "2023-11-14T22:13:20.250+00:00", "id": request.id, "user": "bob", "outcome": "allow", "status": 200,
        "cause": "", "verdicts": [
            {**first, "recheck": False, "ms": 1.234},
            {**first, "key": "/", "transport": "url", "source": "asked", "recheck": False, "ms": 500.0},
        ], **RECORD,
    }]  # fmt: skip


def test_a_no(log: AuditLog) -> None:
    request, denial = request_for("/"), Deny(webob.Response(status=401))

    def ask() -> Decision:
        log(request, Verdict("/", "deny", "asked", 401, 0.1))
        return denial

    assert log.follow(request, RECORD, ask) is denial
    (line,) = lines()
    assert (line["outcome"], line["status"], line["verdicts"][0]["outcome"]) == ("deny", 401, "deny")


@pytest.mark.parametrize(
    ("error", "told"), [(BackendTimeout("x"), (504, "read_timeout")), (ValueError("x"), (500, "internal"))]
)
def test_no_answer(log: AuditLog, error: Exception, told: tuple[int, str]) -> None:
    def ask() -> Decision:
        raise error

    with pytest.raises(type(error)):
        log.follow(request_for("/"), RECORD, ask)
    (line,) = lines()
    assert (line["outcome"], line["status"], line["cause"], line["verdicts"]) == ("error", *told, [])


def test_a_client_that_left(log: AuditLog) -> None:
    def ask() -> Decision:
        raise ClientClosed("x")

    with pytest.raises(ClientClosed):
        log.follow(request_for("/"), RECORD, ask)
    assert LINES == []


def test_asked_again(log: AuditLog) -> None:
    request = request_for("/")
    log.follow(request, RECORD, Allow)
    log(request, Verdict("/", "deny", "asked", 403, 0.1, is_recheck=True))
    assert [(line["outcome"], line["status"]) for line in lines()] == [("allow", 200), ("deny", 403)]
    assert lines()[1]["verdicts"][0]["recheck"] is True
    assert [(line["id"], line["route"]) for line in lines()] == [(request.id, RECORD["route"])] * 2


def test_nothing_that_a_client_sends_makes_a_line(log: AuditLog) -> None:
    """CWE-117: names and targets stay inside of their strings, whatever bytes they have."""
    request = request_for("/")
    request.user = 'eve"\n{"outcome": "allow"}\x1b[2J\x85\u2028\udc80'
    log.follow(request, RECORD, lambda: Deny(webob.Response(status=403)))
    assert LINES[0].isascii()
    assert LINES[0].count(b"\n") == 1
    assert b"\x1b" not in LINES[0]
    assert lines()[0]["user"] == request.user


def test_ids_are_those_of_one_process() -> None:
    """Logs of several workers, and of several starts, are read together."""
    code = (
        "import os; from gfastcgi import request; ids = lambda: print(next(request._next_id), next(request._next_id),"
        " flush=True); ids(); child = os.fork(); child and os.waitpid(child, 0); ids()"
    )
    printed = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)]
    words = [word.split("-") for word in " ".join(printed).split()]
    assert sorted(number for _, number in words) == sorted(["1", "2", "1", "2", "3", "4"] * 2)
    assert len({process for process, _ in words}) == 4
