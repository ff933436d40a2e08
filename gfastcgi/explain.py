"""What would become of a request: settings, rewrite, authorizers, route, file, all in one record.

Contract: nothing is started, asked or connected to, and nothing is remembered; the same functions answer here that
serve requests, so that what is told is what would happen. Secrets are left out unless they are wanted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gfastcgi.assemble import App
from gfastcgi.auth.gate import Gate
from gfastcgi.auth.hygiene import fold
from gfastcgi.backend.pool import Pool
from gfastcgi.cgi.metavars import variable_name
from gfastcgi.config import Address, Block
from gfastcgi.errors import BadRequest, InvalidValue
from gfastcgi.files import serve_file
from gfastcgi.gateway import adopt, origin_of, rewrite
from gfastcgi.http.request import RequestHead, RequestParser
from gfastcgi.request import Peer, Request
from gfastcgi.secrecy import is_secret
from gfastcgi.server.body import EMPTY
from gfastcgi.site import Place, Site
from gfastcgi.variables import responder_variables

__all__ = ["Asked", "explain", "make_request"]

Record = dict[str, Any]


class Asked(NamedTuple):
    """A request as somebody types it. `fields` are "Name: value"."""

    url: str
    method: str = "GET"
    fields: Sequence[str] = ()
    remote: str = "127.0.0.1"


def make_request(asked: Asked, listeners: Sequence[Address]) -> Request:
    """The request, read as if it came over a connection to one of `listeners`, the one that fits the URL best.

    Raises `InvalidValue` for no URL, `RemoteProtocolError` for what the server refuses.
    """
    url = urlsplit(asked.url)
    rest = asked.url.partition("://")[2]
    if url.scheme not in ("http", "https") or not url.netloc or not rest.startswith(url.netloc):
        raise InvalidValue(f"expected a URL like http://host/path, not {asked.url!r}")
    target = rest[len(url.netloc) :].partition("#")[0]
    target = target if target.startswith("/") else "/" + target
    has_host = any(field.lower().startswith("host:") for field in asked.fields)
    lines = [f"{asked.method} {target} HTTP/1.1", *([] if has_host else [f"Host: {url.netloc}"]), *asked.fields]
    head = _parse("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
    listener = _listener(listeners, url.port or (443 if url.scheme == "https" else 80))
    host = "127.0.0.1" if listener.host in ("0.0.0.0", "::", "") else listener.host
    peer = Peer((asked.remote, 0), (host, listener.port), scheme=url.scheme, socket=str(listener))
    return Request(head, peer, EMPTY, monotonic())


def _parse(data: bytes) -> RequestHead:
    parser = RequestParser()
    parser.feed(data)
    head = parser.next_event()
    if not isinstance(head, RequestHead):
        raise BadRequest("this is no request")
    return head


def _listener(listeners: Sequence[Address], port: int) -> Address:
    fitting = [address for address in listeners if address.port == port]
    return next(iter([*fitting, *listeners]), Address(host="127.0.0.1", port=port))


def explain(app: App, request: Request, *, shows_secrets: bool = False) -> Record:
    """The record of `request`, which is changed as serving it would. Raises what serving it would before a gate."""
    told = _Teller(app, shows_secrets)
    return told.record(request)


class _Teller:
    def __init__(self, app: App, shows_secrets: bool) -> None:
        self._app = app
        self._shows_secrets = shows_secrets

    def record(self, request: Request) -> Record:
        sites = self._app.sites
        site, captures = sites.find(request)
        is_rewritten = site.rewriter is not None and rewrite(request, site, captures)
        if is_rewritten:
            site, captures = sites.find(request)
        known = list(request.fields)
        adopt(request, site)
        record: Record = {
            "request": {
                "method": request.method,
                "host": request.authority,
                "uri": request.original_uri.decode("latin-1"),
                "path": request.path,
                "peer": request.remote_addr,
            },
            "settings": [_told_block(block) for block in sites.holding(request)],
            "rewritten": request.uri.decode("latin-1") if is_rewritten else None,
            "dropped": sorted({name.decode("latin-1") for name, _ in known if not _is_passed_on(name, request)}),
            "need": site.settings.authorizers,
            "authorizers": [],
        }
        if site.redirector is not None:
            location = site.redirector.apply(request.uri.decode("latin-1"), captures, origin_of(request))
            if location is not None:
                return {**record, "route": {"kind": "redirect", "location": location, "status": _redirect(site)}}
        place = site.locate(request.path)
        if place.is_denied:
            return {**record, "route": {"kind": "denied", "status": 403}}
        request.local = place.local
        record["authorizers"] = [self._gate(gate, request, place.root) for gate in place.gates]
        return {**record, "route": self._route(request, site, place)}

    def _gate(self, gate: Gate, request: Request, root: str) -> Record:
        question = getattr(gate.authorizer, "question", None)
        asks = question(request, root) if question is not None else None
        return {
            "key": gate.key,
            "transport": gate.transport,
            "to": list(asks.to) if asks else [],
            "independent": gate.is_independent,
            "recheck": gate.recheck,
            "unasked": gate.passes_unasked(request),
            "cache": _told_cache(gate, request),
            "sends": self._pairs(asks.sends) if asks else {},
        }

    def _route(self, request: Request, site: Site, place: Place) -> Record:
        if place.is_statistics:
            return {"kind": "statistics", "status": 200}
        if place.app is not None and place.route is not None:
            return {
                "kind": "wsgi",
                "key": place.app.key,
                "app": place.app.name,
                "script_name": place.route.script_name,
                "path_info": place.route.path_info,
                "sends": self._pairs(place.app.variables(request, place.route)),
            }
        if place.responder is None or place.route is None:
            return _told_file(request, site, place)
        route, responder = place.route, place.responder
        length = request.head.content_length or 0
        return {
            "kind": "responder",
            "key": next(key for key, each in site.responders if each is responder),
            "script_name": route.script_name,
            "path_info": route.path_info,
            "filename": route.filename,
            "root": route.root,
            "balance": site.settings.balance,
            "backends": _told_backends(responder.pool),
            "sends": self._pairs(responder_variables(request, route, responder.host, length)),
        }

    def _pairs(self, pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        return {name.decode("latin-1"): self._value(name, value) for name, value in pairs}

    def _value(self, name: bytes, value: bytes) -> str:
        if is_secret(name.decode("latin-1")) and not self._shows_secrets:
            return f"({len(value)} bytes)"
        return os.fsdecode(value)


def _is_passed_on(name: bytes, request: Request) -> bool:
    """Whether a program is told of the field: as it is, or since `fastcgi.allow-fields` names it."""
    if any(name == kept for kept, _ in request.fields):
        return variable_name(name) is not None
    return b"HTTP_" + fold(name) in request.variables


def _redirect(site: Site) -> int:
    return site.settings.redirect_code


def _told_block(block: Block) -> Record:
    spelt = [
        ("" if truth else "not ") + f'${condition.variable} {condition.operator} "{condition.operand}"'
        for condition, truth in block.conditions
    ]
    return {"where": str(block.where), "conditions": spelt, "sets": sorted(block.overrides)}


def _told_cache(gate: Gate, request: Request) -> Record | None:
    if gate.keeper is None:
        return None
    config, is_kept = gate.keeper.outlook(request)
    key = [f"{kind}:{name}" if name else kind for kind, name in config.key]
    return {"key": key, "ttl": config.ttl, "negative_ttl": config.negative_ttl, "kept": is_kept}


def _told_file(request: Request, site: Site, place: Place) -> Record:
    """What the file is, and the status that it would be served with: it is opened for that, and closed."""
    resource = place.resource
    assert resource is not None
    record = {"kind": "file", "root": resource.root, "filename": resource.filename, "is": resource.kind}
    if resource.kind == "forbidden":
        return {**record, "status": 403}
    if resource.kind == "missing" or resource.path_info:
        return {**record, "status": 404}
    response = serve_file(request, resource.root, resource.local, site.settings)
    close = getattr(response.app_iter, "close", None)
    if close is not None:
        close()
    return {**record, "status": response.status_int}


def _told_backends(pool: Pool) -> list[str]:
    found: list[str] = []
    for host in pool.hosts:
        config = host.config
        found += [str(proc.address) for proc in host.procs] or [config.socket or f"{config.host}:{config.port or 80}"]
    return found
