"""The meta-variables that a backend is sent, as lighttpd sends them, encoded for FCGI_PARAMS.

Plan: what is constant is encoded once per process and site (`Encoder`), per connection (`Peer.variables`); the rest per
request. A variable that the server or an authorizer sets is never taken from the client: theirs come first and win.
"""

from __future__ import annotations

import os

from gfastcgi.cgi.metavars import field_variables
from gfastcgi.config import HostConfig
from gfastcgi.fcgi.params import encode_pair, encode_pairs
from gfastcgi.http.target import host_of
from gfastcgi.request import Peer, Request
from gfastcgi.routing import Route

__all__ = ["authorizer_variables", "encode", "responder_variables"]

_CONSTANT = encode_pairs([(b"GATEWAY_INTERFACE", b"CGI/1.1"), (b"REDIRECT_STATUS", b"200")])
# What an authorizer must not see: the specification's section 6.3 names the first, the rest would change its answer
# (a conditional or Range field asks about the file, not about the right to see it).
_NOT_FOR_AUTHORIZERS = frozenset({
    b"HTTP_CONTENT_LENGTH", b"HTTP_EXPECT", b"HTTP_IF_MATCH", b"HTTP_IF_MODIFIED_SINCE", b"HTTP_IF_NONE_MATCH",
    b"HTTP_IF_RANGE", b"HTTP_IF_UNMODIFIED_SINCE", b"HTTP_RANGE",
})  # fmt: skip


def responder_variables(request: Request, route: Route, host: HostConfig, length: int) -> list[tuple[bytes, bytes]]:
    """The variables of this request for a responder, without those of `_CONSTANT` and its connection.

    `length` is the body's in bytes. Order and presence as lighttpd's http_cgi_headers; RFC 3875 section 4.1.
    """
    script_name = os.fsencode(route.script_name)
    pairs = [(b"CONTENT_LENGTH", b"%d" % length), (b"SCRIPT_NAME", script_name)]
    docroot = os.fsencode(host.docroot.rstrip("/") if host.docroot else route.root)
    if route.path_info:
        path_info = os.fsencode(route.path_info)
        pairs += [(b"PATH_INFO", path_info), (b"PATH_TRANSLATED", docroot + path_info)]
    filename = docroot + script_name if host.docroot else os.fsencode(route.filename)
    if host.broken_scriptfilename and not host.docroot:
        filename += os.fsencode(route.path_info)
    return pairs + _common(request, host, filename, docroot if not host.docroot else os.fsencode(host.docroot))


def authorizer_variables(request: Request, root: str, host: HostConfig) -> list[tuple[bytes, bytes]]:
    """The variables of this request for an authorizer: no CONTENT_LENGTH, SCRIPT_NAME, PATH_INFO, PATH_TRANSLATED
    (FastCGI 1.0 section 6.3), nothing conditional, FCGI_ROLE=AUTHORIZER."""
    docroot = os.fsencode((host.docroot or root).rstrip("/"))
    pairs = _common(request, host, docroot + os.fsencode(request.path), os.fsencode(host.docroot or root))
    pairs = [pair for pair in pairs if pair[0] not in _NOT_FOR_AUTHORIZERS]
    pairs.append((b"FCGI_ROLE", b"AUTHORIZER"))
    return pairs


def _common(request: Request, host: HostConfig, filename: bytes, docroot: bytes) -> list[tuple[bytes, bytes]]:
    uri = request.original_uri
    if host.strip_request_uri:
        prefix = os.fsencode(host.strip_request_uri.rstrip("/"))
        if uri.startswith(prefix + b"/"):
            uri = uri[len(prefix) :]
    pairs = [
        (b"QUERY_STRING", request.query.encode("latin-1")),
        (b"REQUEST_URI", uri),
        (b"SCRIPT_FILENAME", filename),
        (b"DOCUMENT_ROOT", docroot),
        (b"REQUEST_METHOD", request.method.encode()),
        (b"SERVER_PROTOCOL", b"HTTP/1.1" if request.version == "1.1" else b"HTTP/1.0"),
        (b"SERVER_NAME", _server_name(request)),
        (b"SERVER_SOFTWARE", request.server_tag.encode("latin-1", "replace")),
    ]
    if request.uri != request.original_uri:
        pairs.append((b"REDIRECT_URI", request.uri))
    fields = field_variables(request.fields)
    if request.variables:
        for name in request.variables:
            fields.pop(name, None)
            fields.pop(b"HTTP_" + name, None)
        pairs = [pair for pair in pairs if pair[0] not in request.variables]
        pairs += request.variables.items()
    pairs += fields.items()
    return pairs


def _server_name(request: Request) -> bytes:
    if request.authority:
        return host_of(request.authority).encode()
    return request.peer.server_addr.encode()


def encode(request: Request, pairs: list[tuple[bytes, bytes]]) -> bytes:
    """The whole FCGI_PARAMS stream of `pairs`, with what is constant and the connection's own."""
    peer = request.peer
    return b"".join((_CONSTANT, peer.variables or _connection(peer), *[encode_pair(*pair) for pair in pairs]))


def _connection(peer: Peer) -> bytes:
    pairs = [
        (b"REQUEST_SCHEME", peer.scheme.encode()),
        (b"SERVER_PORT", b"%d" % peer.server_port),
        (b"SERVER_ADDR", peer.server_addr.encode()),
        (b"REMOTE_ADDR", peer.remote_addr.encode()),
        (b"REMOTE_PORT", b"%d" % peer.remote_port),
    ]
    if peer.scheme == "https":
        pairs.append((b"HTTPS", b"on"))
    peer.variables = encode_pairs(pairs)
    return peer.variables
