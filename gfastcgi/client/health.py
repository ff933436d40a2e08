"""Health checks: a FastCGI request for a path to each proc of a host, again and again (`"health-check"`).

Contract: a check takes a connection of its own and counts as load; a proc that works to its capacity is busy, which is
healthy. A proc that fails `fall` checks in a row rests until it passes `rise`, and then gets its share by and by.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.states import State
from gfastcgi.cgi.response import parse_head
from gfastcgi.client.probing import converse, probing
from gfastcgi.config import Address
from gfastcgi.errors import BackendError, BadCGIResponse, BadRecord
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import EndRequest, Stdout, WebServer
from gfastcgi.fcgi.params import encode_pairs

__all__ = ["HealthChecks", "ask_status"]

log = logging.getLogger("gfastcgi")

RAMP = 10
"""Intervals in which the share of a proc that recovered grows to the whole."""
_CHECKED = (State.RUNNING, State.OVERLOADED, State.DISABLED, State.UNHEALTHY)
_LARGEST_HEAD = 65536


def ask_status(address: Address, role: int, params: bytes, *, seconds: float) -> int:
    """The HTTP status of a whole answer. Raises `BackendError`, `BadRecord`, `BadCGIResponse`."""
    core = WebServer()
    data = core.begin_request(1, role, params, keep_conn=False, stdin=b"")
    head = b""
    for event in converse(address, core, data, seconds=seconds):
        if isinstance(event, Stdout) and len(head) < _LARGEST_HEAD:
            head += event.data
        elif isinstance(event, EndRequest):
            if event.protocol_status != constants.REQUEST_COMPLETE:
                raise BackendError(f"{address} ended with the protocol status {event.protocol_status}")
            parsed = parse_head(head)
            if parsed is None:
                raise BadCGIResponse(f"{address}: the answer ended inside its head")
            return parsed.status
    raise BackendError(f"{address} closed the connection before its answer was complete")


class HealthChecks:
    """The checks of one host, whose configuration has a `health_check`. `ask` is `ask_status`, with the path bound."""

    def __init__(self, host: Host, document_root: str, *, ask: Callable[[Address], int] | None = None) -> None:
        check = host.config.health_check
        assert check is not None
        self.host = host
        self._check = check
        self._params = _make_params(check.path, host.config.docroot or document_root)
        self._role = constants.AUTHORIZER if host.config.mode == "authorizer" else constants.RESPONDER
        self._ask = ask or self._ask_backend
        self._counts: dict[Proc, int] = {}
        """Checks that were passed (1 and up) or failed (-1 and down) in a row."""
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<HealthChecks of {self.host.name}{self._check.path} every {self._check.interval} s>"

    def start(self) -> None:
        """Checks now, and every interval."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Checks no more."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _run(self) -> None:
        while True:
            self.check_all()
            gevent.sleep(self._check.interval)

    def check_all(self) -> None:
        """Checks every proc once, all at the same time."""
        checked = [proc for proc in self.host.procs if proc.state in _CHECKED]
        self._counts = {proc: count for proc, count in self._counts.items() if proc in checked}
        checks = [gevent.spawn(self.check, proc) for proc in checked]
        try:
            gevent.joinall(checks)
        finally:
            gevent.killall(checks)

    def check(self, proc: Proc) -> None:
        """Checks `proc` and judges it."""
        with probing(self.host, proc) as has_slot:
            if not has_slot:
                return
            try:
                status = self._ask(proc.address)
            except (BackendError, BadRecord, BadCGIResponse) as error:
                fault = str(error)
            except OSError as error:
                # Descriptors or memory are short here: that says nothing of the backend.
                log.error("%s is not checked: %s", proc.name, error.strerror)
                return
            else:
                fault = "" if self._is_sound(status) else f"{self._check.path} answered {status}"
        if proc.state in _CHECKED:
            self._judge(proc, fault)

    def _ask_backend(self, address: Address) -> int:
        return ask_status(address, self._role, self._params, seconds=self._check.timeout)

    def _is_sound(self, status: int) -> bool:
        """An authorizer that denies works; a responder has to have the page."""
        return status < 500 if self._role == constants.AUTHORIZER else 200 <= status < 400

    def _judge(self, proc: Proc, fault: str) -> None:
        before = self._counts.get(proc, 0)
        count = self._counts[proc] = min(before, 0) - 1 if fault else max(before, 0) + 1
        is_down, pool = proc.state is State.UNHEALTHY, self.host.pool
        if not is_down and count == -self._check.fall:
            log.error("%s is unhealthy and rests: %s", proc.name, fault)
            for connection in pool.unhealthy(proc, fault):
                connection.close()
        elif is_down and count >= self._check.rise:
            log.info("%s is healthy again", proc.name)
            pool.healthy(proc, ramp=RAMP * self._check.interval)


def _make_params(path: str, root: str) -> bytes:
    script, _, query = path.partition("?")
    variables = {
        "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "gfastcgi", "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "0",
        "REQUEST_METHOD": "GET", "REQUEST_URI": path, "QUERY_STRING": query, "SCRIPT_NAME": script,
        "SCRIPT_FILENAME": root.rstrip("/") + script, "DOCUMENT_ROOT": root, "REDIRECT_STATUS": "200",
    }  # fmt: skip
    return encode_pairs((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in variables.items())
