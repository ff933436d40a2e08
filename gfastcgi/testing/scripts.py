"""What a FastCGI program may answer, ready made: pages, php-fpm's own errors, refusals, and answers that break off.

Contract: a script is a function of an `Asked`; those that take a script make another one of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from gfastcgi.conformance import wire
from gfastcgi.conformance.conversation import Asked
from gfastcgi.conformance.peer import Script
from gfastcgi.conformance.rows import Reply, Then

__all__ = [
    "allow", "broken", "cannot_multiplex", "deny", "echo", "fatal_error", "in_turn", "overloaded", "page",
    "script_unknown", "silent", "slow", "unknown_role",
]  # fmt: skip

Fields = Iterable[tuple[str, str]]


def page(
    body: str | bytes = "",
    *,
    status: str = "",
    content_type: str = "text/html; charset=UTF-8",
    fields: Fields = (),
    log: str = "",
) -> Script:
    """A document (RFC 3875 section 6.2.1). `status` as "404 Not Found", "" for none; `log` goes to STDERR."""
    lines = [f"Status: {status}"] if status else []
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"{name}: {value}" for name, value in fields]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    said = head + (body.encode() if isinstance(body, str) else body)
    return lambda asked: wire.answer(said, asked.request_id, stderr=log)


def echo(asked: Asked) -> bytes:
    """JSON that tells what was asked: "params", and "size" and "sha256" of the body."""
    return wire.answer(asked.echo(), asked.request_id)


def script_unknown() -> Script:
    """What php-fpm says of a SCRIPT_FILENAME that is not there."""
    return page("File not found.\n", status="404 Not Found", log="Primary script unknown")


def fatal_error(message: str) -> Script:
    """What PHP says when a script dies and `display_errors` is off: status 500, and the message in the log."""
    return page(status="500 Internal Server Error", log=f"PHP message: PHP Fatal error:  {message}")


def overloaded() -> Script:
    """END_REQUEST with FCGI_OVERLOADED (FastCGI 1.0 section 5.5)."""
    return _refusal(wire.OVERLOADED)


def cannot_multiplex() -> Script:
    """END_REQUEST with FCGI_CANT_MPX_CONN."""
    return _refusal(wire.CANT_MPX_CONN)


def unknown_role() -> Script:
    """END_REQUEST with FCGI_UNKNOWN_ROLE."""
    return _refusal(wire.UNKNOWN_ROLE)


def _refusal(protocol_status: int) -> Script:
    return lambda asked: wire.end(protocol_status=protocol_status, request_id=asked.request_id)


def allow(**variables: str) -> Script:
    """An authorizer's yes (section 6.3), with variables for whoever answers: `allow(REMOTE_USER="ada")`."""
    fields = [(f"Variable-{name}", value) for name, value in variables.items()]
    return page(status="200 OK", content_type="", fields=fields)


def deny(status: str = "403 Forbidden", body: str = "", *, fields: Fields = ()) -> Script:
    """An authorizer's no: the answer that its client gets."""
    return page(body, status=status, content_type="text/plain", fields=fields)


def slow(script: Script, seconds: float) -> Script:
    """The same answer, so many seconds later."""

    def answer(asked: Asked) -> Reply:
        reply = _reply(script, asked)
        return Reply(reply.data, reply.then, reply.after + seconds)

    return answer


def broken(script: Script, size: int, then: Then = "close") -> Script:
    """The first `size` bytes of the records of an answer; then the connection is closed, "reset", or left to "hang"."""
    return lambda asked: Reply(_reply(script, asked).data[:size], then)


def silent() -> Script:
    """No answer, on a connection that stays open."""
    return lambda asked: Reply(b"", "hang")


def in_turn(*scripts: Script) -> Script:
    """The first request is answered by the first script, and so on; the last one answers all others."""
    lock, rest = threading.Lock(), list(scripts)

    def answer(asked: Asked) -> Reply:
        with lock:
            script = rest.pop(0) if len(rest) > 1 else rest[0]
        return _reply(script, asked)

    return answer


def _reply(script: Script, asked: Asked) -> Reply:
    reply = script(asked)
    return Reply(reply) if isinstance(reply, bytes) else reply
