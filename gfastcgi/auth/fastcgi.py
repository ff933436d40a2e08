"""The FastCGI authorizer (FastCGI 1.0 section 6.3), strict: it allows only by a whole and sound answer.

Contract: Allow needs a complete header block with Status 200 (or none, unless `"require-status"`), END_REQUEST with
REQUEST_COMPLETE and app_status 0. Any other whole answer goes to the client; everything else raises, which denies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import webob

from gfastcgi.auth.answers import denial, variable_name
from gfastcgi.auth.base import Allow, Decision, Deny, Question
from gfastcgi.auth.freshness import max_age, vary
from gfastcgi.backend.pool import Pool
from gfastcgi.cgi.response import Head
from gfastcgi.client import Exchange
from gfastcgi.config import HostConfig
from gfastcgi.errors import BadCGIResponse, UnexpectedStatus
from gfastcgi.fcgi import constants
from gfastcgi.request import Request
from gfastcgi.server.body import EMPTY
from gfastcgi.variables import authorizer_params, authorizer_variables

__all__ = ["FastCGIAuthorizer"]

_LARGEST_DENIAL = 1 << 20


class FastCGIAuthorizer:
    """Asks the backends of one `fastcgi.server` key with `"mode" => "authorizer"`."""

    transport = "fastcgi"

    def __init__(self, key: str, pool: Pool, log_stderr: Callable[[Request, bytes], None]) -> None:
        self.key = key
        self._pool = pool
        self._log_stderr = log_stderr

    def __repr__(self) -> str:
        return f"<FastCGIAuthorizer {self.key} {self._pool!r}>"

    def check(self, request: Request, root: str) -> Decision:
        """Asks once. Raises `BackendError`, `BadRecord`, `BadCGIResponse` when there is no sound answer."""

        def params(host: HostConfig) -> bytes:
            return authorizer_params(request, root, host)

        exchange = Exchange(
            self._pool, request, params, EMPTY, role=constants.AUTHORIZER,
            log_stderr=lambda data: self._log_stderr(request, data),
            time_limit=self._pool.hosts[0].config.decision_seconds,
        )  # fmt: skip
        try:
            head = exchange.start()
            body = self._read_whole(exchange)
            host = exchange.host or self._pool.hosts[0].config
        finally:
            exchange.close()
        if head.status == 200 and (head.has_status or not host.require_status):
            if exchange.app_status != 0:
                raise UnexpectedStatus(f"the authorizer {self.key} said 200 with app_status {exchange.app_status}")
            return _allow(self.key, head.fields, is_named=bool(host.script) or host.mode_compat == "lighttpd")
        return Deny(self._denial(head, body))

    def question(self, request: Request, root: str) -> Question:
        """What `check` would ask, of which of its backends."""
        hosts = self._pool.hosts
        to = tuple(str(proc.address) for host in hosts for proc in host.procs)
        return Question(to, tuple(authorizer_variables(request, root, hosts[0].config)))

    def _read_whole(self, exchange: Exchange) -> bytes:
        """The rest of the answer up to END_REQUEST: before that, nothing is decided."""
        body = b""
        pieces = exchange.take_whole()
        for piece in exchange if pieces is None else pieces:
            body += piece
            if len(body) > _LARGEST_DENIAL:
                raise BadCGIResponse(f"the answer of the authorizer {self.key} is larger than {_LARGEST_DENIAL} bytes")
        return body

    def _denial(self, head: Head, body: bytes) -> webob.Response:
        if head.status == 200:
            raise BadCGIResponse(f"the authorizer {self.key} gave no Status, which this site requires")
        return denial(head.status, head.reason, head.fields, body)


@lru_cache(maxsize=256)
def _allow(key: str, fields: tuple[tuple[str, str], ...], *, is_named: bool) -> Allow:
    """The yes that `fields` say. `is_named`: the program that ran is the one that was meant to decide."""
    if not is_named and any(name.lower() == "x-powered-by" and value.startswith("PHP") for name, value in fields):
        message = 'PHP ran, or printed, the private file itself: "script" has to name the authorizer'
        raise BadCGIResponse(f"the authorizer {key}: {message}")
    variables: dict[bytes, bytes] = {}
    cookies: list[tuple[str, str]] = []
    for name, value in fields:
        if name.lower().startswith("variable-"):
            variables[variable_name(name[len("variable-") :], key)] = value.encode("latin-1")
        elif name.lower() == "set-cookie":
            cookies.append((name, value))
    return Allow(variables, tuple(cookies), max_age(fields), vary(fields))
