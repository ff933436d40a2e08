"""A WSGI environ as a `Request`, for authorizers, and what an application may be told of it afterwards.

Contract: a WSGI server has decoded the path, but not normalised it: here it is made canonical once, and that one value
is authorised, handed on and opened. What a client sent under the name of an identity goes no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any
from urllib.parse import quote_from_bytes

from gfastcgi.auth.hygiene import IDENTITY
from gfastcgi.cgi.metavars import field_variables
from gfastcgi.config.paths import is_beneath
from gfastcgi.errors import BadRequest
from gfastcgi.http.request import RequestHead
from gfastcgi.http.target import check_authority, parse_target
from gfastcgi.request import Body, Peer, Request
from gfastcgi.server.body import EMPTY

__all__ = ["guarded_environ", "request_of"]

# Between the server and its client (RFC 9110 section 7.6.1): of no use for identities, and the application may look.
_HOP_BY_HOP = frozenset({
    "HTTP_CONNECTION", "HTTP_HTTP2_SETTINGS", "HTTP_KEEP_ALIVE", "HTTP_PROXY_CONNECTION", "HTTP_TE", "HTTP_TRAILER",
    "HTTP_TRANSFER_ENCODING", "HTTP_UPGRADE",
})  # fmt: skip


def request_of(environ: Mapping[str, Any], body: Body = EMPTY) -> Request:
    """The request of `environ`, with `body`. Raises `BadRequest` for a path or host that has no canonical form."""
    encoded = quote_from_bytes((_text(environ, "SCRIPT_NAME") + _text(environ, "PATH_INFO")).encode("latin-1"))
    query = _text(environ, "QUERY_STRING").encode("latin-1")
    target = parse_target((encoded or "/").encode() + (b"?" + query if query else b""))
    if not is_beneath(target.path, _script_name(environ)):
        raise BadRequest(f"the path leads out of {_script_name(environ)!r}")
    host = _text(environ, "HTTP_HOST")
    default_port = 443 if _text(environ, "wsgi.url_scheme") == "https" else 80
    authority = check_authority(host.encode("latin-1", "replace"), default_port) if host else ""
    fields: list[tuple[bytes, bytes]] = []
    for key, value in environ.items():
        if (name := _field_name(key)) and isinstance(value, str):
            # One spelling of the host for all who compare it (RFC 9110 section 4.2.3).
            fields.append((name, (authority if name == b"host" else value).encode("latin-1", "replace")))
    version = "1.0" if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" else "1.1"
    head = RequestHead(environ["REQUEST_METHOD"], target, version, fields)
    head.authority = authority
    remote = _text(environ, "REMOTE_ADDR"), _port(environ, "REMOTE_PORT")
    local = _text(environ, "SERVER_NAME"), _port(environ, "SERVER_PORT")
    peer = Peer(remote, local, scheme=environ.get("wsgi.url_scheme", "http"))
    head.content_length = body.length
    return Request(head, peer, body, monotonic())


def guarded_environ(environ: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """What an application behind the gate gets: the canonical path and host, the fields that authorizers are told of,
    and identities that authorizers set, no others.
    """
    told = field_variables(request.fields)
    guarded = {name: value for name, value in environ.items() if _is_passed_on(name, told, request)}
    if "HTTP_HOST" in guarded:
        guarded["HTTP_HOST"] = request.authority
    # Who somebody is, is for the authorizers alone to say, not for the server either.
    for identity in IDENTITY:
        guarded.pop(identity.decode(), None)
    path = request.path.encode("utf-8", "surrogateescape").decode("latin-1")
    guarded["PATH_INFO"] = path[len(_text(environ, "SCRIPT_NAME")) :]
    # Not standard, but some servers tell it and some applications route by it.
    for name in ("RAW_URI", "REQUEST_URI"):
        if name in guarded:
            guarded[name] = request.uri.decode("latin-1")
    for key, value in request.variables.items():
        guarded[key.decode("latin-1")] = value.decode("latin-1")
    return guarded


def _is_passed_on(name: str, told: Mapping[bytes, bytes], request: Request) -> bool:
    """False for fields that no authorizer was `told` of, and for those that would speak in an authorizer's name."""
    if not name.startswith("HTTP_") or name in _HOP_BY_HOP:
        return True
    key = name.encode("latin-1", "replace")
    return key in told and key[len(b"HTTP_") :] not in request.variables


def _field_name(key: str) -> bytes:
    """The field (lower-case) that became the variable `key`; b"": none did."""
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return key.lower().replace("_", "-").encode()
    if not key.startswith("HTTP_"):
        return b""
    return key[len("HTTP_") :].lower().replace("_", "-").encode("latin-1", "replace")


def _script_name(environ: Mapping[str, Any]) -> str:
    return _text(environ, "SCRIPT_NAME").encode("latin-1").decode("utf-8", "surrogateescape")


def _text(environ: Mapping[str, Any], name: str) -> str:
    return str(environ.get(name, ""))


def _port(environ: Mapping[str, Any], name: str) -> int:
    value = _text(environ, name)
    return int(value) if value.isascii() and value.isdigit() else 0
