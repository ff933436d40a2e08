"""One request's story, top to bottom: settings, rewrite, gate, route, answer.

Contract: `Gateway.handle` answers every request with a `webob.Response`. Nothing of a private file or a responder is
reached before every authorizer whose key fits has allowed; an error on the way is an answer of its own, never a way in.
The path was normalised before it came here; that one value is routed, authorised, sent and opened.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import webob

from gfastcgi import pages
from gfastcgi.answers import SCRIPT_UNKNOWN, hide_commands, log_stderr, make_answer, without_commands
from gfastcgi.auth import chain
from gfastcgi.auth.base import Allow, Decision
from gfastcgi.auth.recheck import Recheck, guard
from gfastcgi.cgi.response import Head
from gfastcgi.client import Exchange, RequestBody
from gfastcgi.errors import (
    SHORTAGES,
    BackendError,
    ClientClosed,
    LengthRequired,
    NoBackendAvailable,
    ProtocolError,
    StreamError,
)
from gfastcgi.files import answer_options, serve_resource
from gfastcgi.http.response import close_body, encode_interim
from gfastcgi.http.target import parse_target
from gfastcgi.pages import error_page
from gfastcgi.record import record
from gfastcgi.request import Request
from gfastcgi.resolve import Resource
from gfastcgi.rewrite import Origin, Rewriter
from gfastcgi.routing import Route
from gfastcgi.server.body import EMPTY, Room, spool
from gfastcgi.site import Destination, Forwarding, Mounting, Own, Place, Responder, Site
from gfastcgi.sites import Captures, SiteTable
from gfastcgi.status import proxy_status, render
from gfastcgi.variables import responder_params

__all__ = ["Gateway", "find_redirect", "settle"]

log = logging.getLogger("gfastcgi")

_MOST_LOCAL_REDIRECTS = 5
_ROOM = 32 << 20
"""Bytes of memory for the larger request bodies, all together."""
_RECORDED = 16384
"""Characters of what a client sent, that a line of the audit log may have."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class LocalRedirect(NamedTuple):
    """What a responder wants served in the place of its answer (RFC 3875 section 6.2.2)."""

    target: str


class Gateway:
    """Answers requests by the sites of `sites`. `statistics` gives the counters for `status.statistics-url`."""

    def __init__(
        self, sites: SiteTable[Site], *, statistics: Callable[[], dict[str, int]], tells_why: bool = True
    ) -> None:
        """`tells_why`: failures carry the field Proxy-Status (RFC 9209)."""
        self._sites = sites
        self._statistics = statistics
        self._tells_why = tells_why
        self._room = Room(_ROOM)
        self.requests = 0
        """How many came so far."""
        self.failures: dict[str, int] = {}
        """How many requests failed, by their cause."""

    # One request

    def handle(self, request: Request) -> webob.Response:
        """The answer to `request`. Raises `StreamError` alone: the client is gone."""
        self.requests += 1
        try:
            redirect: LocalRedirect | None = None
            for _ in range(_MOST_LOCAL_REDIRECTS + 1):
                answer = self._serve(request, redirect)
                if isinstance(answer, webob.Response):
                    if request.added:
                        answer.headerlist.extend(request.added)
                    return answer
                redirect = answer
            return self._fail(request, 500, "too_many_redirects", f"more than {_MOST_LOCAL_REDIRECTS} local redirects")
        except NoBackendAvailable as error:
            # Every request fails alike until a backend is back: without a word of its own the log folds them.
            log.error("%s (%s)", error, error.cause)
            return self._failure(error.status_hint, error.cause, request.id)
        except (ProtocolError, BackendError) as error:
            return self._fail(request, error.status_hint, error.cause, str(error))
        except StreamError:
            self._count("client_closed")
            raise
        except OSError as error:
            if error.errno in SHORTAGES:
                # Every request fails alike, as above.
                log.error("a request cannot be served: %s (overloaded)", error.strerror)
                return self._failure(503, "overloaded", request.id)
            return self._fail(request, 507 if error.errno in _FULL else 500, "internal", str(error))
        except Exception:
            uri = request.uri.decode("latin-1")
            log.exception("request %s: %s %s failed inside the gateway", request.id, request.method, uri)
            return self._failure(500, "internal", request.id)

    def _serve(self, request: Request, redirect: LocalRedirect | None) -> webob.Response | LocalRedirect:
        if redirect is not None:
            request.redirect_locally(parse_target(redirect.target.encode("latin-1", "replace")), EMPTY)
        site, captures = settle(request, self._sites, rewrites=redirect is None)
        if request.path == "*":
            return webob.Response(status="200 OK", headerlist=[("Allow", _METHODS)], app_iter=[b""])
        location = find_redirect(request, site, captures)
        if location is not None:
            return pages.redirect(location, site.settings.redirect_code)
        return self._visit(request, site, site.locate(request.path))

    def _visit(self, request: Request, site: Site, place: Place) -> webob.Response | LocalRedirect:
        """What is at `place`, once every gate on the way there allows."""
        to = place.to
        if to is Own.DENIAL:
            return error_page(403, request_id=request.id)
        if isinstance(to, Forwarding) and to.responder.host.tcp_fin_propagate is not None:
            request.patience = 0.0 if to.responder.host.tcp_fin_propagate else None
        if not place.gates:
            return self._fetch(request, site, to)
        request.local = place.local
        before, began = (dict(request.variables), site.clock()) if place.recheck else ({}, 0.0)
        decision = _ask(request, site, place)
        if not isinstance(decision, Allow):
            return decision.response
        if decision.response_headers:
            request.added += decision.response_headers
        if request.method == "OPTIONS" and isinstance(to, Resource) and _passes_unasked(request, place):
            return answer_options()
        answer = self._fetch(request, site, to)
        if place.recheck and isinstance(answer, webob.Response):
            is_due = site.clock() - began >= place.recheck
            return _watch(request, site, place, before, answer, is_due=is_due)
        return answer

    def _fetch(self, request: Request, site: Site, to: Destination) -> webob.Response | LocalRedirect:
        if isinstance(to, Forwarding):
            return self._forward(request, site, to.responder, to.route)
        if isinstance(to, Resource):
            return serve_resource(request, to, site.settings, site.shelf)
        if isinstance(to, Mounting):
            return hide_commands(to.app.call(request, to.route, self._count))
        return self._tell_statistics(request)

    # To the counters

    def _tell_statistics(self, request: Request) -> webob.Response:
        """As lighttpd's mod_status: lines of `name: value`, 204 when there are none."""
        if request.method not in ("GET", "HEAD"):
            return error_page(405, request_id=request.id, headers=(("Allow", "GET, HEAD"),))
        text = render(self._statistics())
        fields = [("Content-Type", "text/plain"), ("Cache-Control", "no-store")]
        return webob.Response(status="200 OK" if text else "204 No Content", headerlist=fields, app_iter=[text])

    # To a responder

    def _forward(
        self, request: Request, site: Site, responder: Responder, route: Route
    ) -> webob.Response | LocalRedirect:
        body = EMPTY if request.body.length == 0 else _take_body(request, site, self._room)
        is_unknown = False

        def tell(data: bytes) -> None:
            nonlocal is_unknown
            is_unknown = is_unknown or SCRIPT_UNKNOWN in data
            log_stderr(request, data, route.filename)

        exchange = Exchange(
            responder.pool, request, partial(responder_params, request, route, body.length or 0), body,
            log_stderr=tell,
            on_interim=partial(_relay, request),
        )  # fmt: skip
        head = exchange.start()
        if head.location is not None and head.kind == "local-redirect":
            exchange.close()
            return LocalRedirect(head.location or "/")
        try:
            answer = make_answer(request, site, exchange, head, self._count)
        except BaseException:
            exchange.close()
            raise
        if is_unknown and head.status == 404:
            self._count("script_unknown")
            if self._tells_why:
                answer.headerlist.append(("Proxy-Status", proxy_status("script_unknown", received=404)))
        return answer

    # Failing

    def refuse(self, error: ProtocolError) -> webob.Response:
        """The answer to bytes that are no request."""
        log.info("a client was refused: %s (%s)", error, error.cause)
        return self._failure(error.status_hint, error.cause)

    def _fail(self, request: Request, status: int, cause: str, message: str) -> webob.Response:
        level = logging.INFO if status < 500 else logging.ERROR
        uri = request.uri.decode("latin-1")
        log.log(level, "request %s: %s %s: %s (%s)", request.id, request.method, uri, message, cause)
        return self._failure(status, cause, request.id)

    def _failure(self, status: int, cause: str, request_id: str = "") -> webob.Response:
        """The answer to a request that failed, counted."""
        self._count(cause)
        headers = [("Retry-After", "1")] if status == 503 else []
        if self._tells_why:
            headers.append(("Proxy-Status", proxy_status(cause)))
        return error_page(status, cause=cause, request_id=request_id, headers=headers)

    def _count(self, cause: str) -> None:
        self.failures[cause] = self.failures.get(cause, 0) + 1


def settle(request: Request, sites: SiteTable[Site], *, rewrites: bool = True) -> tuple[Site, Captures]:
    """The site of `request`, which gets its settings; it is chosen anew once its rules have rewritten the target."""
    site, captures = sites.find(request)
    if site.rewriter is not None and rewrites and _rewrite(request, site, site.rewriter, captures):
        site, captures = sites.find(request)
    _adopt(request, site)
    return site, captures


def find_redirect(request: Request, site: Site, captures: Captures) -> str | None:
    """Where `url.redirect` sends the client; None: nowhere."""
    if site.redirector is None:
        return None
    return site.redirector.apply(request.uri.decode("latin-1"), captures, _origin_of(request))


def _rewrite(request: Request, site: Site, rewriter: Rewriter, captures: Captures) -> bool:
    """Gives `request` the target that the rules make of its own; False where they leave it."""

    def is_file(target: str) -> bool:
        path = parse_target(target.encode("latin-1", "replace")).path
        return site.resolver(path).find(path).kind == "file"

    target = rewriter.apply(request.uri.decode("latin-1"), captures, is_file, _origin_of(request))
    if target is None:
        return False
    request.rewrite(parse_target(target.encode("latin-1", "replace")))
    return True


def _adopt(request: Request, site: Site) -> None:
    """What the settings say of the request itself."""
    request.log, request.server_tag = site.access_log, site.server_tag
    request.server_name, request.balance = site.settings.server_name, site.settings.balance
    request.body.limit = site.settings.max_request_size
    if site.hygiene is not None:
        site.hygiene.apply(request)


def _ask(request: Request, site: Site, place: Place) -> Decision:
    before = frozenset(request.variables)
    need = site.settings.authorizers
    if site.audit is None:
        decision = chain.ask(place.gates, request, place.root, need=need)
    else:
        known = record(request, site, place, room=_RECORDED)
        decision = site.audit.follow(request, known, lambda: chain.ask(place.gates, request, place.root, need=need))
    if site.hygiene is not None and request.variables:
        site.hygiene.learn(request.variables.keys() - before if before else request.variables.keys())
    return decision


def _passes_unasked(request: Request, place: Place) -> bool:
    """Whether a gate lets a preflight through by itself: what lies behind it is then nothing to tell of."""
    return any(gate.passes_unasked(request) for gate in place.gates)


def _watch(
    request: Request, site: Site, place: Place, before: dict[bytes, bytes], answer: webob.Response, *, is_due: bool
) -> webob.Response:
    """`answer`, while the authorizers go on allowing it; `is_due`: its backend took so long that they are asked now."""
    ask = partial(chain.ask_anew, place.gates, request, place.root, before, need=site.settings.authorizers)
    if is_due:
        decision: Decision | None = None
        try:
            decision = ask()
        finally:
            if not isinstance(decision, Allow):
                close_body(answer.app_iter)
        if not isinstance(decision, Allow):
            # What they added to a yes goes with it.
            request.added = ()
            return decision.response
    keys = [gate.key for gate in place.gates]
    guard(answer, Recheck(request, place.recheck, lambda: isinstance(ask(), Allow), keys))
    return answer


def _origin_of(request: Request) -> Origin:
    """What stands before the path in the URL of `request`."""
    peer = request.peer
    return Origin(peer.scheme, request.authority or peer.server_addr, peer.server_port)


# Bodies


def _take_body(request: Request, site: Site, room: Room) -> RequestBody:
    """The body, whole, unless it is to be streamed: a slow client never holds a backend."""
    body = request.body
    if not site.settings.stream_request_body:
        return spool(iter(body.read, b""), site.upload_dir, room=room, length=body.length)
    if body.length is None:
        raise LengthRequired("a chunked body cannot be streamed to a backend, which needs its length first")
    return body


def _relay(request: Request, head: Head) -> None:
    if request.interim is not None:
        try:
            request.interim(encode_interim(head.status, head.reason, without_commands(head.fields)))
        except StreamError as error:
            raise ClientClosed(str(error)) from error
