"""The authorizer over HTTP (forward-auth), as oauth2-proxy, Authelia and their like speak it.

Contract: a whole answer with a 2xx status allows, any other whole answer goes to the client as it is, a redirect too;
everything else raises, which denies. The service learns the request from X-Forwarded-* and X-Original-*, which no
client can send it, and gets the client's other fields; it gets no body, and nothing that asks about the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gfastcgi.auth.answers import ABOUT_THE_FILE, USUAL_VARIABLES, denial, identity_names, variable_name
from gfastcgi.auth.base import Allow, Decision, Deny, Question
from gfastcgi.auth.freshness import max_age, vary
from gfastcgi.client.http import Answer, Service
from gfastcgi.config import AUTHORIZER_READ_TIMEOUT, HostConfig
from gfastcgi.errors import BadCGIResponse, InvalidValue
from gfastcgi.request import Request

__all__ = ["ForwardAuthorizer", "forward_authorizer"]

_MOST_CONNECTIONS = 64
_LARGEST_ANSWER = 1 << 20

_NAME = re.compile(rb"[a-z0-9-]+")
# Of the connection (RFC 9110 section 7.6.1), or ours to say.
_NOT_ASKED_WITH = ABOUT_THE_FILE | {
    b"connection", b"forwarded", b"host", b"http2-settings", b"keep-alive", b"proxy", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-real-ip", b"x-rewrite-url",
}  # fmt: skip
_OURS = (b"x-forwarded-", b"x-original-", b"x-auth-request-", b"remote-", b"variable-", b"content-")


class ForwardAuthorizer:
    """Asks the service at `"url"`. `variables` maps fields of its yes beside the usual ones."""

    transport = "url"

    def __init__(self, key: str, service: Service, variables: Sequence[tuple[str, str]] = ()) -> None:
        self.key = key
        self._service = service
        self._called = str(service)
        # Those of the site stand first: they may make something else of a usual field.
        named = [*variables, *(pair for pair in USUAL_VARIABLES.items() if pair[0] not in dict(variables))]
        self._variables = [(field.lower(), variable_name(name, key)) for field, name in named]
        self._hidden = frozenset(field.encode() for field, _ in self._variables)
        self.identity_fields = list(identity_names(variables))
        """The fields and variables by which it says who a client is: no client may send them."""
        self.config: HostConfig | None = None
        """The options that it was made with, for the gate that asks it."""

    def __repr__(self) -> str:
        return f"<ForwardAuthorizer {self.key} {self._service!r}>"

    def check(self, request: Request, root: str) -> Decision:
        """Asks once. Raises `BackendError` or `BadCGIResponse` when there is no sound answer."""
        answer = self._service.get([*_told(request), *self._forwarded(request)])
        if 200 <= answer.status < 300:
            return self._allow(answer)
        return Deny(denial(answer.status, answer.reason, answer.fields, answer.body))

    def question(self, request: Request, root: str) -> Question:
        """What `check` would ask."""
        return Question((str(self._service),), (*_told(request), *self._forwarded(request)))

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._service.close()

    def _forwarded(self, request: Request) -> Iterable[tuple[bytes, bytes]]:
        """The client's fields, and as fields what earlier authorizers said of it."""
        said = {name.removeprefix(b"HTTP_").replace(b"_", b"-"): value for name, value in request.variables.items()}
        named = (request.field(b"connection") or b"").lower().split(b",")
        hop_by_hop = {option.strip(b" \t") for option in named} - {b"authorization", b"cookie"}
        for name, value in request.fields:
            if name in _NOT_ASKED_WITH or name in hop_by_hop or name in self._hidden or name.startswith(_OURS):
                continue
            if _NAME.fullmatch(name) and name.upper() not in said:
                yield name, value
        for name, value in said.items():
            if value and not name.startswith((b"X-FORWARDED-", b"X-ORIGINAL-", b"CONTENT-")):
                yield name.title(), value

    def _allow(self, answer: Answer) -> Allow:
        given: dict[str, list[str]] = {}
        variables: dict[bytes, bytes] = {}
        for name, value in answer.fields:
            given.setdefault(name.lower(), []).append(value)
        for name, values in given.items():
            if name.startswith("variable-"):
                variables[variable_name(name.removeprefix("variable-"), self._called)] = self._only(name, values)
        for name, variable in self._variables:
            if name in given and variable not in variables:
                variables[variable] = self._only(name, given[name])
        cookies = tuple(("Set-Cookie", value) for value in given.get("set-cookie", ()))
        return Allow(variables, cookies, max_age(answer.fields), vary(answer.fields))

    def _only(self, name: str, values: list[str]) -> bytes:
        if len(values) > 1:
            raise BadCGIResponse(f"the authorizer {self._called} said {name} more than once")
        return values[0].encode("latin-1")


def forward_authorizer(key: str, host: HostConfig) -> ForwardAuthorizer:
    """The authorizer at `host.url`, with the limits and variables of `host`. Raises `InvalidValue`."""
    for _, name in host.variables:
        try:
            variable_name(name, key)
        except BadCGIResponse as error:
            message = f'"variables": {name} is not for an authorizer to set'
            raise InvalidValue(message, host.where.filename, host.where.lineno) from error
    service = Service(
        host.url,
        connect_timeout=host.connect_timeout,
        read_timeout=host.read_timeout or AUTHORIZER_READ_TIMEOUT,
        time_limit=host.decision_seconds,
        queue_timeout=host.queue_timeout,
        size=host.max_connections or _MOST_CONNECTIONS,
        largest=_LARGEST_ANSWER,
    )
    authorizer = ForwardAuthorizer(key, service, host.variables)
    authorizer.config = host
    return authorizer


def _told(request: Request) -> list[tuple[bytes, bytes]]:
    """The request that is asked about. No body goes with the question, so the method goes in a field."""
    method, uri, scheme = request.method.encode(), request.uri, request.peer.scheme.encode()
    host = (request.authority or request.server_name or request.peer.server_addr).encode("latin-1", "replace")
    return [
        (b"X-Forwarded-Method", method), (b"X-Forwarded-Proto", scheme), (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Uri", uri), (b"X-Forwarded-For", request.remote_addr.encode()),
        (b"X-Original-Method", method), (b"X-Original-URI", uri),
        (b"X-Original-URL", b"%b://%b%b" % (scheme, host, uri)),
    ]  # fmt: skip
