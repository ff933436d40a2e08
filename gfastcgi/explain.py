"""What would become of a request: settings, rewrite, authorizers, route, file, all in one record.

Contract: nothing is started, asked or connected to, and nothing is remembered; the same functions answer here that
serve requests, so that what is told is what would happen. Secrets are left out unless they are wanted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

from gfastcgi.assemble import App
from gfastcgi.config import Address
from gfastcgi.errors import BadRequest, InvalidValue
from gfastcgi.files import serve_resource
from gfastcgi.gateway import find_redirect, settle
from gfastcgi.http.request import RequestHead, RequestParser
from gfastcgi.http.response import close_body
from gfastcgi.record import Record, record
from gfastcgi.request import Peer, Request
from gfastcgi.resolve import Resource
from gfastcgi.secrecy import without_secrets
from gfastcgi.server.body import EMPTY
from gfastcgi.site import Site

__all__ = ["Asked", "explain", "make_request"]


class Asked(NamedTuple):
    """A request as somebody types it. `fields` are "Name: value", `remote` is an IP address."""

    url: str
    method: str = "GET"
    fields: Sequence[str] = ()
    remote: str = "127.0.0.1"


def make_request(asked: Asked, listeners: Sequence[Address]) -> Request:
    """The request, read as if it came over a connection to one of `listeners`, the one that fits the URL best.

    Raises `InvalidValue` for no URL, or no address, `RemoteProtocolError` for what the server refuses.
    """
    url = urlsplit(asked.url)
    rest = asked.url.partition("://")[2]
    if url.scheme not in ("http", "https") or not url.netloc or not rest.startswith(url.netloc):
        raise InvalidValue(f"expected a URL like http://host/path, not {asked.url!r}")
    try:
        ipaddress.ip_address(asked.remote)
    except ValueError:
        raise InvalidValue(f"expected the client's IP address, not {asked.remote!r}") from None
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
    site, captures = settle(request, app.sites)
    location = find_redirect(request, site, captures)
    if location is not None and not shows_secrets:
        location = without_secrets("", location)
    place = site.locate(request.path)
    request.local = place.local
    found = record(request, site, place, shows_secrets=shows_secrets)
    if location is not None:
        route = {"kind": "redirect", "location": location, "status": site.settings.redirect_code}
        return {**found, "authorizers": [], "route": route}
    if isinstance(place.to, Resource):
        found["route"]["status"] = _status(request, site, place.to)
    return found


def _status(request: Request, site: Site, resource: Resource) -> int:
    """What it would be served with: a file is opened for that, and closed."""
    response = serve_resource(request, resource, site.settings)
    close_body(response.app_iter)
    return response.status_int
