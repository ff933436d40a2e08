"""One request's story, top to bottom: settings, rewrite, gate, route, answer.

Contract: `Gateway.handle` answers every request with a `webob.Response`. Nothing of a private file or a responder is
reached before every authorizer whose key fits has allowed; an error on the way is an answer of its own, never a way in.
The path was normalised before it came here; that one value is routed, authorised, sent and opened.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import webob

from gfastcgi.auth import chain
from gfastcgi.auth.base import Authorizer
from gfastcgi.backend.pool import Pool
from gfastcgi.cgi.response import Head
from gfastcgi.client import Exchange, RequestBody
from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import (
    BackendError,
    LengthRequired,
    ProtocolError,
    StreamClosed,
    StreamError,
)
from gfastcgi.files import apply_x_sendfile, serve_file
from gfastcgi.http.response import encode_interim
from gfastcgi.http.target import parse_target
from gfastcgi.pages import error_page, redirect
from gfastcgi.request import Log, Request
from gfastcgi.resolve import Resolver, Resource
from gfastcgi.rewrite import Origin, Redirector, Rewriter
from gfastcgi.routing import Route, match, matches, split
from gfastcgi.server.body import EMPTY, spool
from gfastcgi.sites import Captures, SiteTable
from gfastcgi.variables import encode, responder_variables

__all__ = ["Gate", "Gateway", "Responder", "Site", "log_stderr"]

log = logging.getLogger("gfastcgi")

_MOST_LOCAL_REDIRECTS = 5
_FOR_US = ("x-accel-", "x-sendfile", "x-lighttpd-")
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@dataclass(slots=True)
class Gate:
    """An authorizer with the `fastcgi.server` key that it guards, and where what it allows is, if elsewhere."""

    key: str
    authorizer: Authorizer
    resolver: Resolver | None


@dataclass(slots=True)
class Responder:
    """The backends of one key. `host` is the first entry: its options route, before a host is chosen."""

    host: HostConfig
    pool: Pool


@dataclass(slots=True)
class Site:
    """What holds for a request, live: made once for each combination of settings that occurs."""

    settings: Settings
    server_tag: str
    resolvers: Sequence[Resolver]
    """Aliases first, the docroot last."""
    gates: Sequence[Gate]
    responders: Sequence[tuple[str, Responder]]
    rewriter: Rewriter | None
    redirector: Redirector | None
    access_log: Log | None
    upload_dir: str | None


class Gateway:
    """Answers requests by the sites of `sites`."""

    def __init__(self, sites: SiteTable[Site]) -> None:
        self._sites = sites

    # One request

    def handle(self, request: Request) -> webob.Response:
        """The answer to `request`. Raises `StreamError` alone: the client is gone."""
        try:
            target: str | None = None
            for _ in range(_MOST_LOCAL_REDIRECTS + 1):
                answer = self._serve(request, target)
                if isinstance(answer, webob.Response):
                    return answer
                target = answer
            return self._fail(request, 500, "too_many_redirects", f"more than {_MOST_LOCAL_REDIRECTS} local redirects")
        except (ProtocolError, BackendError) as error:
            return self._fail(request, error.status_hint, error.cause, str(error))
        except StreamError:
            raise
        except OSError as error:
            status = 507 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 500
            return self._fail(request, status, "internal", str(error))
        except Exception:
            log.exception("request %s: %s %r failed inside the gateway", request.id, request.method, request.uri)
            return error_page(500, cause="internal", request_id=request.id)

    def _serve(self, request: Request, redirected_to: str | None) -> webob.Response | str:
        """The answer, or the target of a local redirect."""
        if redirected_to is not None:
            request.redirect_locally(parse_target(redirected_to.encode("latin-1", "replace")), EMPTY)
        site, captures = self._sites.find(request)
        if site.rewriter is not None and redirected_to is None and self._rewrite(request, site, captures):
            site, captures = self._sites.find(request)
        request.log, request.server_tag = site.access_log, site.server_tag
        request.body.limit = site.settings.max_request_size
        if request.path == "*":
            return webob.Response(status="200 OK", headerlist=[("Allow", _METHODS)], app_iter=[b""])
        if site.redirector is not None:
            location = site.redirector.apply(request.uri.decode("latin-1"), captures, _origin(request))
            if location is not None:
                return redirect(location, site.settings.redirect_code)

        gates = [gate for gate in site.gates if matches(gate.key, request.path, request.path)]
        resolver = next((gate.resolver for gate in gates if gate.resolver), None) or _resolver(site, request.path)
        routed = _route_by_prefix(site, request.path, resolver)
        resource = None if routed else resolver.find(request.path)
        script = routed[1].script_name if routed else resource.path if resource else request.path
        gates += [gate for gate in site.gates if gate not in gates and matches(gate.key, script, script)]

        if _is_denied(site.settings, request.path) or _is_denied(site.settings, script):
            return error_page(403, request_id=request.id)
        added = chain.ask([gate.authorizer for gate in gates], request, resolver.root) if gates else []
        if isinstance(added, webob.Response):
            return added
        if resource is not None:
            routed = _route_by_file(site, request.path, resource)
        answer = self._forward(request, site, *routed) if routed else self._send_file(request, site, resource)
        if added and isinstance(answer, webob.Response):
            answer.headerlist.extend(added)
        return answer

    def _rewrite(self, request: Request, site: Site, captures: Captures) -> bool:
        assert site.rewriter is not None

        def is_file(target: str) -> bool:
            path = parse_target(target.encode("latin-1", "replace")).path
            return _resolver(site, path).find(path).kind == "file"

        target = site.rewriter.apply(request.uri.decode("latin-1"), captures, is_file, _origin(request))
        if target is None:
            return False
        request.rewrite(parse_target(target.encode("latin-1", "replace")))
        return True

    # To a file

    def _send_file(self, request: Request, site: Site, resource: Resource | None) -> webob.Response:
        assert resource is not None
        if resource.kind == "forbidden":
            return error_page(403, request_id=request.id)
        if resource.kind == "missing" or resource.path_info:
            return error_page(404, request_id=request.id)
        return serve_file(request, resource.root, resource.local, site.settings)

    # To a responder

    def _forward(self, request: Request, site: Site, responder: Responder, route: Route) -> webob.Response | str:
        body = _take_body(request, site)
        length = body.length or 0

        def params(host: HostConfig) -> bytes:
            return encode(request, responder_variables(request, route, host, length))

        exchange = Exchange(
            responder.pool, request, params, body,
            log_stderr=lambda data: log_stderr(request, data, route.filename),
            on_interim=lambda head: _relay(request, head),
        )  # fmt: skip
        head = exchange.start()
        if head.kind == "local-redirect":
            exchange.close()
            return head.location or "/"
        return _answer(request, site, exchange, head)

    # Failing

    def refuse(self, error: ProtocolError) -> webob.Response:
        """The answer to bytes that are no request."""
        log.info("a client was refused: %s (%s)", error, error.cause)
        return error_page(error.status_hint, cause=error.cause)

    def _fail(self, request: Request, status: int, cause: str, message: str) -> webob.Response:
        level = logging.INFO if status < 500 else logging.ERROR
        uri = request.uri.decode("latin-1")
        log.log(level, "request %s: %s %s: %s (%s)", request.id, request.method, uri, message, cause)
        headers = (("Retry-After", "1"),) if status == 503 else ()
        return error_page(status, cause=cause, request_id=request.id, headers=headers)


def _origin(request: Request) -> Origin:
    peer = request.peer
    return Origin(peer.scheme, request.authority or peer.server_addr, peer.server_port)


# Routes


def _resolver(site: Site, path: str) -> Resolver:
    return next((resolver for resolver in site.resolvers[:-1] if resolver.covers(path)), site.resolvers[-1])


def _route_by_prefix(site: Site, path: str, resolver: Resolver) -> tuple[Responder, Route] | None:
    """The responder that takes `path` without a look at files (`"check-local" => "disable"`)."""
    found = match(site.responders, site.settings.map_extensions, path, path)
    if found is None or found[1].host.check_local:
        return None
    key, responder = found
    script, path_info = split(key, path, fix_root_scriptname=responder.host.fix_root_scriptname)
    return responder, Route(script, path_info, resolver.root, resolver.root.rstrip("/") + script)


def _route_by_file(site: Site, path: str, resource: Resource) -> tuple[Responder, Route] | None:
    """The responder for what was found; a directory can only belong to a prefix."""
    if resource.kind not in ("file", "directory"):
        return None
    found = match(site.responders, site.settings.map_extensions, path, resource.path)
    if found is None or (resource.kind == "directory" and not (path.endswith("/") and found[0].startswith("/"))):
        return None
    return found[1], Route(resource.path, resource.path_info, resource.root, resource.filename)


def _is_denied(settings: Settings, path: str) -> bool:
    """url.access-deny and url.access-allow: suffixes of the path; any deny wins."""
    if settings.access_deny and path.endswith(settings.access_deny):
        return True
    return bool(settings.access_allow) and not path.endswith(settings.access_allow)


# Bodies and answers


def _take_body(request: Request, site: Site) -> RequestBody:
    """The body, whole, unless it is to be streamed: a slow client never holds a backend."""
    if request.body.length == 0:
        return EMPTY
    if not site.settings.stream_request_body:
        return spool(request.body, site.upload_dir)
    if request.body.length is None:
        raise LengthRequired("a chunked body cannot be streamed to a backend, which needs its length first")
    return request.body


def _relay(request: Request, head: Head) -> None:
    if request.interim is not None:
        request.interim(encode_interim(head.status, head.reason, head.fields))


def _answer(request: Request, site: Site, exchange: Exchange, head: Head) -> webob.Response:
    """The responder's answer as a response; what it says to the gateway alone ends here."""
    pieces = exchange.take_whole()
    body: list[bytes] | Iterator[bytes]
    if pieces is None:
        body = _stream(request, exchange)
        if not site.settings.stream_response_body:
            body = list(body)
    else:
        body = pieces
    fields = head.fields
    if isinstance(body, list) and head.content_length is not None and request.method != "HEAD":
        body = _fit(body, head.content_length)
    response = webob.Response(status=f"{head.status} {head.reason}", headerlist=fields, app_iter=body)
    if any(_is_for_us(name) for name, _ in fields):
        assert exchange.host is not None
        response = apply_x_sendfile(request, response, exchange.host, site.settings)
        response.headerlist = [field for field in response.headerlist if not _is_for_us(field[0])]
    return response


def _is_for_us(name: str) -> bool:
    """True for the fields by which a backend speaks to its gateway: they never reach a client."""
    return name[:2] in ("X-", "x-") and name.lower().startswith(_FOR_US)


def _fit(pieces: list[bytes], length: int) -> list[bytes] | Iterator[bytes]:
    """The body cut to the length that was promised; one that is too short stays short for the client to see."""
    body = b"".join(pieces)
    return [body[:length]] if len(body) >= length else iter(pieces)


def _stream(request: Request, exchange: Exchange) -> Iterator[bytes]:
    """The body as it comes. When it breaks off the client's connection does, too: it must not look whole."""
    try:
        yield from exchange
    except (BackendError, ProtocolError) as error:
        log.error("request %s: the answer broke off: %s (%s)", request.id, error, error.cause)
        raise StreamClosed(str(error)) from error


def log_stderr(request: Request, data: bytes, filename: str = "") -> None:
    """What a backend said on STDERR, line by line, with the request's id."""
    for line in data.decode("utf-8", "backslashreplace").splitlines():
        tried = f" (tried {filename})" if "Primary script unknown" in line else ""
        log.error("request %s: FastCGI-stderr: %s%s", request.id, line, tried)
