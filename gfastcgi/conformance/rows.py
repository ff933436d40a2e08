"""The rows: what an authorizer may answer in front of a private file, and what has to follow. A literal table.

Contract: only a whole and sound yes lets through; whatever else happens is a no, with the status that is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gfastcgi.conformance.wire import CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE, answer, end, record, stderr, stdout

__all__ = ["OTHER", "ROWS", "SECRET", "Reply", "Row", "Step", "Then"]

SECRET = "SECRET-BEHIND-THE-GATE"
"""What the private file holds, and what the responder behind the gate answers."""
OTHER = "OTHER-FILE"
"""What /other.txt holds: anybody may ask for it, no authorizer may choose it."""

Then = Literal["keep", "close", "reset", "half", "hang"]
"""What becomes of a connection: kept if the web server wishes, closed, reset, closed in one direction, left open."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Raw bytes, `after` so many seconds, and what becomes of the connection then."""

    data: bytes
    then: Then = "keep"
    after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request, and what has to come of it. `replies` has one entry for each process of the authorizer."""

    replies: tuple[Reply, ...]
    status: int
    """200: the private file has to be served."""
    fields: tuple[tuple[str, str], ...] = ()
    """Fields that the answer has to have, each as often as it stands here."""
    body: str = ""
    """What the answer's body has to be; "": anything but the file."""
    absent: tuple[str, ...] = ()
    """What must not stand anywhere in the answer."""
    method: str = "GET"
    sends: Mapping[str, str] = field(default_factory=dict)
    """Fields that the client sends."""
    not_asked_with: tuple[str, ...] = ()
    """What no meta-variable of the authorizer may begin with."""
    most_asked: int = 0
    """How many processes may be asked; 0: any number."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. `name` is a word for URLs, `answers` and `outcome` are for people."""

    name: str
    answers: str
    outcome: str
    steps: tuple[Step, ...]
    is_down: bool = False
    """Nobody listens."""

    @property
    def procs(self) -> int:
        """How many processes the authorizer has."""
        return len(self.steps[0].replies)


def _row(
    name: str, answers: str, status: int, data: str | bytes, then: Then = "keep", *, outcome: str = "",
    **expected: object,
) -> Row:  # fmt: skip
    """A row of one step; text is a whole answer."""
    reply = Reply(answer(data) if isinstance(data, str) else data, then)
    step = Step(replies=(reply,), status=status, **expected)  # type: ignore[arg-type]
    return Row(name, answers, outcome or ("allowed" if status == 200 else f"denied: {status}"), (step,))


_YES = "Status: 200 OK\r\n\r\n"
_NO = "Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nno"
_WHOLE = answer(_YES)
_PAGE = 'WWW-Authenticate: Basic realm="x"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Type: text/plain\r\n\r\nwho'
_PAGE_FIELDS = (("WWW-Authenticate", 'Basic realm="x"'), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
_LOGIN = "http://login.example/?back"
_LOGIN_FIELDS = (("Location", _LOGIN), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
_COOKIES = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
_GARBAGE = bytes((7 + 41 * number) % 256 for number in range(300))
_COMMANDS = (
    "X-Sendfile: /etc/passwd\r\nX-LIGHTTPD-send-file: /etc/passwd\r\nX-Sendfile2: /etc/passwd 0-\r\n"
    "X-Accel-Redirect: /other.txt\r\n"
)
_OBEYED = ("x-sendfile", "x-lighttpd", "x-accel", "root:", OTHER)


def _no(protocol_status: int) -> Reply:
    return Reply(end(protocol_status=protocol_status))


def _pair(name: str, answers: str, outcome: str, status: int, *replies: Reply) -> Row:
    return Row(name, answers, outcome, (Step(replies=replies, status=status, most_asked=2),))


_PASSED = "denied: {} to the client, whole"
_NOBODY = (Reply(b""),)

ROWS: tuple[Row, ...] = (
    # What lets through.
    _row("az-200", "Status 200", 200, _YES),
    _row("az-200-vars", "Status 200 with a variable", 200, "Status: 200\r\nVariable-REMOTE_USER: bob\r\n\r\n"),
    _row("az-no-status", "a complete header block without Status", 200, "Content-Type: text/plain\r\n\r\n"),
    _row("az-200-lf", "Status 200, lines that end with LF alone", 200, "Status: 200\n\n"),
    _row("az-200-body", "Status 200 with a body", 200, _YES + "own", outcome="allowed; the body is dropped"),
    _row("az-200-stderr", "Status 200, with words on STDERR", 200, stderr("note\n") + _WHOLE),
    _row("az-200-split", "Status 200, each byte in a record of its own", 200, b"".join(map(stdout, _YES)) + end()),
    _row("az-200-close", "Status 200, then the end of the connection", 200, _WHOLE, "close"),
    _row(
        "az-200-commands", "Status 200 with X-Sendfile, X-Accel-Redirect and their like", 200,
        "Status: 200\r\n" + _COMMANDS + "\r\n", absent=_OBEYED,
        outcome="allowed; none is obeyed or passed on",
    ),
    _row("az-nph-200", "a header block that begins with HTTP/1.1 200 OK", 200, "HTTP/1.1 200 OK\r\n\r\n"),
    Row(
        "az-200-twice", "a complete 200, then more bytes", "allowed, and the connection is not used again",
        (Step(replies=(Reply(_WHOLE + _WHOLE),), status=200), Step(replies=(Reply(answer(_NO)),), status=403)),
    ),
    _pair("az-overloaded-one", "OVERLOADED, and another process says 200", "allowed by the other process", 200,
          _no(OVERLOADED), Reply(_WHOLE)),
    _pair("az-cant-mpx-one", "CANT_MPX_CONN, and another process says 200", "allowed by the other process", 200,
          _no(CANT_MPX_CONN), Reply(_WHOLE)),
    # Whole answers that are no yes: they go to the client.
    _row("az-401", "401 with fields and a body", 401, "Status: 401 Who\r\n" + _PAGE, fields=_PAGE_FIELDS, body="who",
         outcome=_PASSED.format(401)),
    *(
        _row(f"az-{status}", f"{status} with a body", status, f"Status: {status}\r\n{_PAGE}", fields=_PAGE_FIELDS,
             body="who", outcome=_PASSED.format(status))
        for status in (400, 403, 404, 429, 500, 503)
    ),
    *(
        _row(f"az-{status}", f"Status {status}", status, f"Status: {status}\r\n\r\n", outcome=_PASSED.format(status))
        for status in (201, 202, 204, 206, 299)
    ),
    _row("az-302", "Status 302, then Location", 302, f"Status: 302\r\nLocation: {_LOGIN}\r\n{_COOKIES}\r\n",
         fields=_LOGIN_FIELDS, outcome="denied: 302 with Location and every Set-Cookie"),
    _row("az-location-302", "Location before Status 302", 302, f"Location: {_LOGIN}\r\n{_COOKIES}Status: 302\r\n\r\n",
         fields=_LOGIN_FIELDS, outcome="denied: 302 with Location and every Set-Cookie"),
    _row("az-location", "Location without Status", 302, f"Location: {_LOGIN}\r\n{_COOKIES}\r\n", fields=_LOGIN_FIELDS,
         outcome="denied: 302 with Location and every Set-Cookie"),
    _row("az-location-200", "Location with Status 200", 200, f"Location: {_LOGIN}\r\nStatus: 200\r\n\r\n"),
    _row("az-location-local", "Location of this site, without Status", 302, "Location: /other.txt\r\n\r\n",
         absent=(OTHER,), outcome="denied: 302; it is not followed here"),
    _row("az-304", "304, when the client sent If-None-Match and Range", 304, "Status: 304\r\n\r\n",
         sends={"If-None-Match": '"x"', "Range": "bytes=0-1"}, not_asked_with=("HTTP_IF_", "HTTP_RANGE"),
         outcome="denied: 304; the authorizer is not sent such fields"),
    _row("az-403-xsendfile", "403 with X-Sendfile, X-Accel-Redirect and their like", 403,
         "Status: 403\r\n" + _COMMANDS + "\r\n", absent=_OBEYED,
         outcome="denied: 403; none is obeyed or passed on"),
    _row("az-403-post", "403 to a POST whose body never comes", 403, _NO, method="POST", body="no",
         sends={"Content-Length": "5"}, not_asked_with=("CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"),
         outcome="denied: 403, before a byte of the body"),
    Row(
        "az-403-twice", "a complete 403, then a complete 200", "denied: 403, and the connection is not used again",
        (
            Step(replies=(Reply(answer(_NO) + _WHOLE),), status=403, body="no"),
            Step(replies=(Reply(answer(_NO)),), status=403, body="no"),
        ),
    ),
    # What is no answer.
    _row("az-empty-complete", "END_REQUEST alone", 502, end()),
    _row("az-app-status-1", "END_REQUEST alone, with app_status 1", 502, end(app_status=1)),
    _row("az-stderr-only", "STDERR alone, then app_status 1", 502, stderr("Traceback ...\n") + end(app_status=1)),
    _row("az-unknown-role", "UNKNOWN_ROLE: a responder configured as an authorizer by mistake", 502,
         end(protocol_status=UNKNOWN_ROLE), outcome="denied: 502, logged"),
    _row("az-protocol-status-9", "a protocol status that does not exist", 502, stdout(_YES) + end(protocol_status=9)),
    _row("az-200-unknown-role", "Status 200, then UNKNOWN_ROLE", 502, stdout(_YES) + end(protocol_status=UNKNOWN_ROLE)),
    _row("az-200-overloaded", "Status 200, then OVERLOADED", 503, stdout(_YES) + end(protocol_status=OVERLOADED)),
    _row("az-200-app-status-1", "Status 200 with app_status 1", 502, stdout(_YES) + end(app_status=1),
         outcome="denied: 502, logged"),
    _pair("az-overloaded", "OVERLOADED from every process", "denied: 503, after two were asked", 503,
          *[_no(OVERLOADED)] * 3),
    _pair("az-cant-mpx", "CANT_MPX_CONN from every process", "denied: 503, after two were asked", 503,
          *[_no(CANT_MPX_CONN)] * 3),
    _row("az-partial-header-end", "a piece of a header block, then END_REQUEST", 502, "Statu"),
    _row("az-partial-200-end", "`Status: 200` without the blank line", 502, "Status: 200\r\n"),
    _row("az-partial-status-end", "`Status: 403` without the blank line", 502, "Status: 403\r\n"),
    _row("az-status-bad", "`Status: 200x`", 502, "Status: 200x\r\n\r\n"),
    _row("az-status-abc", "`Status: abc`", 502, "Status: abc\r\n\r\n"),
    _row("az-status-empty", "`Status:` without a number", 502, "Status:\r\n\r\n"),
    _row("az-status-100", "Status 100", 502, "Status: 100\r\n\r\n"),
    _row("az-status-103", "Status 103, then a second header block with 200", 502, f"Status: 103\r\n\r\n{_YES}"),
    _row("az-status-200-403", "two Status lines, 200 first", 502, "Status: 200\r\nStatus: 403\r\n\r\n"),
    _row("az-status-403-200", "two Status lines, 403 first", 502, "Status: 403\r\nStatus: 200\r\n\r\n"),
    _row("az-no-header", "words that are no header fields", 502, "hello there\r\n\r\n"),
    _row("az-nul", "Status 200 and a field with a NUL", 502, "Status: 200\r\nX: a\0b\r\n\r\n"),
    _row("az-var-content-length", "Status 200 with a Variable-CONTENT_LENGTH or Variable-SCRIPT_FILENAME", 502,
         "Status: 200\r\nVariable-CONTENT_LENGTH: 9\r\nVariable-SCRIPT_FILENAME: /etc/passwd\r\n\r\n"),
    _row("az-wrong-id", "Status 200 under another request id", 502, stdout(_YES, 2) + end(request_id=2)),
    _row("az-wrong-id-end", "Status 200, END_REQUEST with another request id", 502, stdout(_YES) + end(request_id=2),
         "close"),
    _row("az-end-first", "END_REQUEST, and Status 200 behind it", 502, end() + stdout(_YES)),
    _row("az-version-2", "Status 200 in a record of version 2", 502,
         record(6, _YES.encode(), version=2) + end(), "close"),
    _row("az-garbage", "bytes that are no records", 502, _GARBAGE, "close"),
    _row("az-http-200", "HTTP in place of FastCGI", 502, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "close"),
    # What ends too early, or not at all.
    _row("az-eof", "the end of the connection", 502, b"", "close"),
    _row("az-rst", "a reset of the connection", 502, b"", "reset"),
    _row("az-eof-after-200", "Status 200, and the connection ends without END_REQUEST", 502, stdout(_YES), "close"),
    Row(
        "az-cut", "a good answer that is cut, after whichever byte", "denied: 502",
        tuple(Step(replies=(Reply(_WHOLE[:size], "close"),), status=502) for size in range(len(_WHOLE))),
    ),
    _row("az-hang", "nothing until the time-out", 504, b"", "hang"),
    _row("az-stall", "half a header block, then nothing until the time-out", 504, stdout("Status: 2"), "hang"),
    _row("az-stall-200", "Status 200, then nothing until the time-out", 504, stdout(_YES), "hang"),
    Row("az-down", "nobody listens", "denied: 503", (Step(replies=_NOBODY, status=503),), is_down=True),
    Row("az-down-all", "nobody listens, at none of three processes", "denied: 503",
        (Step(replies=_NOBODY * 3, status=503),), is_down=True),
)  # fmt: skip
