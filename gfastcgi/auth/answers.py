"""What authorizers of every kind are not asked with, and what they may say: variables of a yes, fields of a no.

Contract: pure. A variable that is not for an authorizer to set spoils its answer, which denies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import webob

from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.cgi.response import COMMANDS
from gfastcgi.errors import BadCGIResponse

__all__ = [
    "ABOUT_THE_FILE",
    "USUAL_VARIABLES",
    "VARIABLES_ABOUT_THE_FILE",
    "decision_of",
    "denial",
    "identity_names",
    "passed_on",
    "variable_name",
]

ABOUT_THE_FILE = frozenset({
    b"content-length", b"expect", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"range",
})  # fmt: skip
"""Fields that ask about what is behind a gate, or tell of a body: nothing of the right to pass."""
VARIABLES_ABOUT_THE_FILE = frozenset(b"HTTP_" + name.upper().replace(b"-", b"_") for name in ABOUT_THE_FILE)
"""The same as meta-variables."""

USUAL_VARIABLES: Mapping[str, str] = {
    "Remote-User": "REMOTE_USER", "Remote-Groups": "REMOTE_GROUPS",
    "Remote-Name": "REMOTE_NAME", "Remote-Email": "REMOTE_EMAIL",
    "X-Auth-Request-User": "REMOTE_USER", "X-Auth-Request-Groups": "REMOTE_GROUPS",
    "X-Auth-Request-Preferred-Username": "REMOTE_NAME", "X-Auth-Request-Email": "REMOTE_EMAIL",
}  # fmt: skip
"""What the fields of a yes become (Authelia, oauth2-proxy); of several for one variable the first counts."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# An authorizer decides; it does not choose files, nor how its answer is framed.
_NOT_PASSED_ON = frozenset({
    "content-length", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_FOR_US = ("variable-", *COMMANDS)
# What was asked for, what is served for it (php-fpm takes settings from variables) and how long its body is: no
# authorizer's word changes that.
_NOT_TO_BE_SET = frozenset({
    b"CONTENT_LENGTH", b"DOCUMENT_ROOT", b"FCGI_ROLE", b"GATEWAY_INTERFACE", b"HTTP_CONTENT_LENGTH", b"HTTP_PROXY",
    b"HTTP_TRANSFER_ENCODING", b"PATH_INFO", b"PATH_TRANSLATED", b"PHP_ADMIN_VALUE", b"PHP_VALUE", b"QUERY_STRING",
    b"REDIRECT_STATUS", b"REDIRECT_URI", b"REQUEST_METHOD", b"REQUEST_URI", b"SCRIPT_FILENAME", b"SCRIPT_NAME",
    b"SERVER_PROTOCOL",
})  # fmt: skip


def decision_of(answer: Any, no: Callable[[], webob.Response]) -> Decision | webob.Response:
    """What the answer of an authorizer in Python says; a `webob.Response` is for its protocol to judge.

    `no` makes the denial of one that only says no. Raises TypeError for what is no answer.
    """
    if answer is True:
        return Allow()
    if answer is None or answer is False or answer == "":
        return Deny(no())
    if isinstance(answer, str):
        return Allow({b"REMOTE_USER": answer.encode()})
    if isinstance(answer, Deny) and not isinstance(answer.response, webob.Response):
        raise TypeError(f"the response of a Deny is a webob.Response, not {answer.response!r}")
    if isinstance(answer, (Allow, Deny, webob.Response)):
        return answer
    raise TypeError(f"an authorizer answers Allow, Deny, a webob.Response, a user's name or a bool, not {answer!r}")


def identity_names(variables: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    """The fields and variables by which an authorizer over HTTP says who a client is: the usual, and `variables`."""
    for field, variable in (*USUAL_VARIABLES.items(), *variables):
        yield field.encode()
        yield variable.encode()


def variable_name(name: str, authorizer: str) -> bytes:
    """The meta-variable that `authorizer` calls `name`. Raises `BadCGIResponse` when it is none for it to set."""
    if not _VARIABLE.fullmatch(name):
        raise BadCGIResponse(f"the authorizer {authorizer} named the variable {name!r}")
    key = name.upper().replace("-", "_").encode()
    if key in _NOT_TO_BE_SET:
        raise BadCGIResponse(f"the authorizer {authorizer} set {name}, which is not for it to say")
    return key


def denial(status: int, reason: str, fields: Iterable[tuple[str, str]], body: bytes) -> webob.Response:
    """An authorizer's no as the answer to the client: whole, but for what it says to the gateway."""
    return webob.Response(status=f"{status} {reason}", headerlist=passed_on(fields), app_iter=[body])


def passed_on(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of an authorizer's `fields` that are for the client."""
    return [
        (name, value)
        for name, value in fields
        if name.lower() not in _NOT_PASSED_ON and not name.lower().startswith(_FOR_US)
    ]
