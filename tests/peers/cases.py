"""The catalogue of bad inputs in tests/data: how a case is read, sent and judged.

`expected` holds what must come of it: `status` (any of them; "close": no answer at all), `close` (the connection
ends), `backend_max` (requests that the backend may see), `responses_max`, `env_must` and `env_must_not` (a part of a
meta-variable, or how `NAME=value` starts), `body_must`, `body_must_not`, `header_must_not` (lower case) and
`must_truncate` (never a whole answer).
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.backend import Reply, Seen, answer
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway
    from peers.http import Answer

DATA = Path(__file__).parents[1] / "data"
SENTINEL = b"GET /echo/sentinel HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

Case = dict[str, Any]


def load(name: str) -> list[Case]:
    cases: list[Case] = json.loads((DATA / name).read_text())
    return cases


def join(pieces: list[str | list[Any]]) -> bytes:
    """The bytes of a case: text in latin-1, or [text, how often]."""
    return b"".join(
        piece.encode("latin-1") if isinstance(piece, str) else piece[0].encode("latin-1") * piece[1] for piece in pieces
    )


def check_answer(expected: Case, answer: Answer | None) -> None:
    """What can be judged by one answer."""
    if answer is None:
        assert "close" in expected["status"], "the connection ended without an answer"
        return
    assert answer.status in expected["status"], answer
    for text in expected.get("body_must", ()):
        assert text.encode() in answer.body
    for text in expected.get("body_must_not", ()):
        assert text.encode() not in answer.body
    head = answer.head.decode("latin-1").lower().replace("\n", "\r\n")
    for text in expected.get("header_must_not", ()):
        assert text not in (head if len(text) > 1 else head.replace("\r\n", "")), head
    if expected.get("must_truncate") and answer.status < 400:
        assert not answer.whole, "an answer that broke off looks whole"


def check_variables(expected: Case, seen: list[Seen]) -> None:
    lines = [
        f"{name}={value.decode('latin-1')}"
        for one in seen
        for name, value in one.params.items()
        if name not in ("REMOTE_PORT", "SERVER_PORT", "DOCUMENT_ROOT", "PATH_TRANSLATED")
    ]

    def stands(text: str) -> bool:
        return any(line.startswith(text) if "=" in text else text in line for line in lines)

    for text in expected.get("env_must", ()):
        assert stands(text), lines
    for text in expected.get("env_must_not", ()):
        assert not stands(text), lines


def check_request(gateway: Gateway, backend: ScriptedBackend, case: Case) -> None:
    """Sends one case of http1/bad_requests.json to a gateway whose /echo is `backend`.

    Where the connection may live on, a good request follows: it must be answered in step, or the connection be closed.
    """
    expected, begun, known = case["expected"], backend.begun, len(backend.requests)
    with gateway.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(join(case["send"]))
            if case.get("half_close"):
                connection.half_close()
        answers: list[Answer] = []
        answer = connection.try_answer()
        check_answer(expected, answer)
        if answer is not None:
            answers.append(answer)
        if expected.get("close"):
            assert connection.is_closed(), "the connection stays open"
        elif answer is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(SENTINEL)
            while (answer := connection.try_answer()) is not None:
                answers.append(answer)
    seen = [one for one in backend.requests[known:] if not (one.text("REQUEST_URI") or "").endswith("/sentinel")]
    sentinels = len(backend.requests) - known - len(seen)
    assert backend.begun - begun - sentinels <= expected["backend_max"], [one.params for one in seen]
    assert len(answers) - sentinels <= expected.get("responses_max", max(1, expected["backend_max"])), answers
    check_variables(expected, seen)


def script_of_replies(cases: dict[str, Case]) -> Callable[[Seen], bytes | Reply]:
    """A backend's script: the reply of the case that the query names; without one it says "fine"."""

    def script(seen: Seen) -> bytes | Reply:
        case = cases.get(seen.text("QUERY_STRING") or "")
        if case is None:
            return answer("Content-Type: text/plain\r\n\r\nfine")
        return Reply(join(case["pieces"] if "pieces" in case else [case["bytes"]]), case["then"])

    return script


def script_of_x_sendfile(cases: dict[str, Case], lab: Path) -> Callable[[Seen], bytes]:
    """A backend's script: X-Sendfile, or one of its other names, with the value of the case that the query names."""

    def script(seen: Seen) -> bytes:
        case = cases[seen.text("QUERY_STRING") or ""]
        names = {"legacy": "X-LIGHTTPD-send-file", "sendfile2": "X-Sendfile2"}
        field = next((field for name, field in names.items() if name in case["name"]), "X-Sendfile")
        length = "Content-Length: 3\r\n" if case["name"] == "xs-with-cl" else ""
        value = case["value"].replace("{lab}", str(lab))
        return answer(f"{length}{field}: {value}\r\nContent-Type: text/plain\r\n\r\nown")

    return script


def check_reply(gateway: Gateway, target: str, case: Case) -> None:
    """Asks for a case that a backend answers, and then, on the same connection, for something good.

    A backend that says that it is overloaded is left alone for its `disable-time`, a second.
    """
    with gateway.connect() as connection:
        got = connection.request("GET", f"{target}?{case['name']}")
        check_answer(case["expected"], got)
        if got.whole and got.get("Connection") != "close":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(b"GET /reply HTTP/1.1\r\nHost: a\r\n\r\n")
            again = connection.try_answer()
            assert again is None or again.body == b"fine" or got.status == 503
        else:
            assert connection.is_closed()
    patience = 3 if got.status == 503 else 0
    wait_until(lambda: gateway.get("/reply").body == b"fine", "the backend to serve again", patience)
