"""The meta-variables that a backend is sent, as lighttpd sends them, and their encoded form for FCGI_PARAMS.

Plan: what a route decides is encoded once per route and host, what a connection decides once per connection, the rest
per request. A variable that an authorizer set wins over every other, under all the names that a client could reach.
"""

from __future__ import annotations

import os

from gfastcgi.auth.answers import VARIABLES_ABOUT_THE_FILE
from gfastcgi.cgi.metavars import field_variables
from gfastcgi.config import HostConfig
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.http.target import host_of
from gfastcgi.request import Known, Peer, Request
from gfastcgi.routing import Route

__all__ = ["authorizer_params", "authorizer_variables", "responder_params", "responder_variables"]

Pairs = list[tuple[bytes, bytes]]

_MOST_REMEMBERED = 4
# What an authorizer must not see, by the specification's section 6.3.
_NOT_FOR_ANY_AUTHORIZER = frozenset({b"HTTP_CONTENT_LENGTH"})


def responder_params(request: Request, route: Route, length: int, host: HostConfig) -> bytes:
    """`responder_variables`, encoded."""
    if request.variables:
        return encode_pairs(responder_variables(request, route, host, length))
    peer = request.peer
    known = peer.remembered.get(host)
    if known is not None and known.holds(request, route, length):
        return known.params
    routed = route.params.get(host)
    if routed is None:
        routed = route.params[host] = encode_pairs(_of_route(request, route, host))
    connected = peer.params
    if connected is None:
        connected = peer.params = encode_pairs(_of_peer(peer))
    # A client sends much the same fields with each request of a connection.
    if request.fields != peer.fields or request.server_name != peer.server_name:
        peer.fields, peer.server_name = request.fields, request.server_name
        peer.field_params = encode_pairs(_of_fields(request))
    params = b"".join((routed, connected, peer.field_params, encode_pairs(_of_target(request, host, length))))
    _remember(host, Known(request, route, length, params), peer)
    return params


def authorizer_params(request: Request, root: str, host: HostConfig) -> bytes:
    """`authorizer_variables`, encoded."""
    if request.variables:
        return encode_pairs(authorizer_variables(request, root, host))
    known = request.peer.remembered.get(host)
    if known is not None and known.holds(request, root, 0):
        return known.params
    params = encode_pairs(authorizer_variables(request, root, host))
    _remember(host, Known(request, root, 0, params), request.peer)
    return params


def _remember(host: HostConfig, known: Known, peer: Peer) -> None:
    if len(peer.remembered) >= _MOST_REMEMBERED:
        peer.remembered.clear()
    peer.remembered[host] = known


def responder_variables(request: Request, route: Route, host: HostConfig, length: int) -> Pairs:
    """The variables of a request for a responder; `length` is the body's in bytes.

    Names and presence as lighttpd's FastCGI sends them; RFC 3875 section 4.1.
    """
    pairs = _of_route(request, route, host) + _of_peer(request.peer)
    return _override(pairs + _of_fields(request) + _of_target(request, host, length), request.variables)


def authorizer_variables(request: Request, root: str, host: HostConfig) -> Pairs:
    """The variables of a request for an authorizer, for what would be served from beneath `root`.

    Nothing of a body, no SCRIPT_NAME, PATH_INFO, PATH_TRANSLATED (FastCGI 1.0 section 6.3), nothing conditional.
    REQUEST_URI is what is to be served, behind every rewrite and local redirect: that is what has to be judged.
    `"mode-compat" => "lighttpd"` sends what the client asked for, and its conditional fields.
    """
    is_compatible = host.mode_compat == "lighttpd"
    docroot = os.fsencode(host.docroot or root)
    # PHP runs what SCRIPT_FILENAME names: the private file, unless "script" names its program.
    filename = os.fsencode(host.script) or docroot.rstrip(b"/") + os.fsencode(request.local or request.path)
    pairs = _of_script(request, filename, docroot)
    uri = request.original_uri if is_compatible else request.uri
    pairs += _of_peer(request.peer) + _of_fields(request) + _of_target(request, host, None, uri)
    hidden = _NOT_FOR_ANY_AUTHORIZER if is_compatible else VARIABLES_ABOUT_THE_FILE
    pairs = [pair for pair in pairs if pair[0] not in hidden]
    pairs.append((b"FCGI_ROLE", b"AUTHORIZER"))
    return _override(pairs, request.variables)


def _of_route(request: Request, route: Route, host: HostConfig) -> Pairs:
    script_name = os.fsencode(route.script_name)
    path_info = os.fsencode(route.path_info)
    docroot = os.fsencode(host.docroot or route.root)
    if host.docroot:
        filename = docroot.rstrip(b"/") + script_name
    else:
        filename = os.fsencode(route.filename) + (path_info if host.broken_scriptfilename else b"")
    pairs = [(b"SCRIPT_NAME", script_name), *_of_script(request, filename, docroot)]
    if path_info:
        pairs += [(b"PATH_INFO", path_info), (b"PATH_TRANSLATED", docroot.rstrip(b"/") + path_info)]
    return pairs


def _of_script(request: Request, filename: bytes, docroot: bytes) -> Pairs:
    return [
        (b"SCRIPT_FILENAME", filename),
        (b"DOCUMENT_ROOT", docroot),
        (b"SERVER_SOFTWARE", request.server_tag.encode("latin-1", "replace")),
        (b"GATEWAY_INTERFACE", b"CGI/1.1"),
        (b"REDIRECT_STATUS", b"200"),
    ]


def _of_peer(peer: Peer) -> Pairs:
    pairs = [
        (b"REQUEST_SCHEME", peer.scheme.encode()),
        (b"SERVER_PORT", b"%d" % peer.server_port),
        (b"SERVER_ADDR", peer.server_addr.encode()),
        (b"REMOTE_ADDR", peer.remote_addr.encode()),
        (b"REMOTE_PORT", b"%d" % peer.remote_port),
    ]
    if peer.scheme == "https":
        pairs.append((b"HTTPS", b"on"))
    return pairs


def _of_fields(request: Request) -> Pairs:
    server_name = request.server_name or host_of(request.authority or request.peer.server_addr)
    return [(b"SERVER_NAME", server_name.encode()), *field_variables(request.fields).items()]


def _of_target(request: Request, host: HostConfig, length: int | None, uri: bytes | None = None) -> Pairs:
    """What the target decides. `length` None: there is no body; `uri` None: it is what the client sent."""
    uri = request.original_uri if uri is None else uri
    if host.strip_request_uri:
        prefix = os.fsencode(host.strip_request_uri.rstrip("/"))
        if uri.startswith(prefix + b"/"):
            uri = uri[len(prefix) :]
    pairs = [
        (b"QUERY_STRING", request.query.encode("latin-1")),
        (b"REQUEST_URI", uri),
        (b"REQUEST_METHOD", request.method.encode()),
        (b"SERVER_PROTOCOL", b"HTTP/1.1" if request.version == "1.1" else b"HTTP/1.0"),
    ]
    if length is not None:
        pairs.append((b"CONTENT_LENGTH", b"%d" % length))
    if request.uri is not request.original_uri and request.uri != request.original_uri:
        pairs.append((b"REDIRECT_URI", request.uri))
    return pairs


def _override(pairs: Pairs, variables: dict[bytes, bytes]) -> Pairs:
    """`pairs` with `variables` in place of what had their names, or the names of fields that PHP and others mix up."""
    if not variables:
        return pairs
    shadowed = {b"HTTP_" + name for name in variables}
    taken = variables.keys() | shadowed
    # A field that the site allows (`fastcgi.allow-fields`) stands among `variables`: an authorizer's word wins over it.
    said = [pair for pair in variables.items() if pair[0] not in shadowed]
    return [pair for pair in pairs if pair[0] not in taken] + said
