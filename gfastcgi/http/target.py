"""The request target and the Host field: read once, refused when doubtful, normalised for good (RFC 9112 section 3.2).

Contract: `parse_target` gives one canonical form of the path; that form is routed, authorised, sent and opened.
Its results are kept per target, since sites are asked for the same targets again and again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import quote_from_bytes

from gfastcgi.errors import BadRequest

__all__ = ["Target", "check_authority", "host_of", "parse_target"]

# What a client may send in a target: visible ASCII but "#" (a fragment never travels), and obs-text.
_TARGET = re.compile(rb"[!\"$-\x7e%\x80-\xff]+")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*)")
# RFC 3986 section 3.2.2, with the labels that DNS and /etc/hosts know: no empty label, one trailing dot.
_AUTHORITY = re.compile(rb"(?:([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?|(\[[0-9A-Fa-f:.]+\]))(?::([0-9]{0,5}))?")
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SAFE_IN_PATH = b"/!$&'()*+,;=:@~-._"


class Target:
    """A request target. `path` is decoded and normalised text, `uri` the canonical bytes of path and query."""

    __slots__ = ("authority", "path", "query", "uri")

    def __init__(self, path: str, query: str, uri: bytes, authority: bytes | None) -> None:
        self.path = path
        """Decoded UTF-8 (other bytes as surrogate escapes); starts with "/", or is "*"."""
        self.query = query
        """As sent, latin-1, without its question mark."""
        self.uri = uri
        self.authority = authority
        """The authority of an absolute-form target, which wins over Host (RFC 9112 section 3.2.2); else None."""

    def __repr__(self) -> str:
        return f"<Target {self.uri!r}>"


@lru_cache(maxsize=1024)
def parse_target(raw: bytes, *, decode_2f: bool = False) -> Target:
    """The target `raw` of a request line in canonical form. Raises `BadRequest`.

    An encoded slash or backslash is refused unless `decode_2f` (lighttpd: url-path-2f-decode) makes it a plain one.
    """
    if not _TARGET.fullmatch(raw):
        raise BadRequest(f"the request target has bytes that no URI has: {raw[:80]!r}")
    authority = None
    if not raw.startswith(b"/"):
        if raw == b"*":
            return Target("*", "", b"*", None)
        absolute = _ABSOLUTE.match(raw)
        if not absolute:
            raise BadRequest(f"the request target has to start with a slash, not {raw[:80]!r}")
        authority = absolute[1]
        check_authority(authority)
        raw = raw[absolute.end() :]
        if not raw.startswith(b"/"):
            raw = b"/" + raw
    encoded_path, mark, query = raw.partition(b"?")
    if b"%" in query:
        query = _ESCAPE.sub(_normal_escape, query)
    path = _normalise(encoded_path, decode_2f)
    canonical = quote_from_bytes(path, _SAFE_IN_PATH).encode()
    return Target(path.decode("utf-8", "surrogateescape"), query.decode("latin-1"), canonical + mark + query, authority)


def _normal_escape(escape: re.Match[bytes]) -> bytes:
    """What needs no encoding is not encoded (RFC 3986 section 6.2.2.2); the hex digits of the rest are capitals."""
    char = bytes((int(escape[1], 16),))
    return char if char in _UNRESERVED else escape[0].upper()


def _normalise(path: bytes, decode_2f: bool) -> bytes:
    """Decoded once; doubled slashes merged and dot segments removed after that (RFC 3986 section 5.2.4)."""
    if b"\\" in path:
        raise BadRequest("the path holds a backslash")
    if b"%" in path:
        if _BAD_ESCAPE.search(path):
            raise BadRequest(f"the path holds a broken percent-encoding: {path[:80]!r}")
        lowered = path.lower()
        if not decode_2f and (b"%2f" in lowered or b"%5c" in lowered):
            raise BadRequest("the path holds an encoded slash or backslash (server.http-parseopts: url-path-2f-decode)")
        path = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), path)
        if _CONTROL.search(path):
            raise BadRequest(f"the path holds an encoded control character: {path[:80]!r}")
    if b"//" not in path and b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment not in (b"", b"."):
            if segment.startswith((b".;", b"..;")):
                # Servlet containers drop the parameter and then go up: past the gate of where they arrive.
                raise BadRequest(f"the path holds a dot segment with a parameter: {path[:80]!r}")
            kept.append(segment)
    is_directory = segments[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(kept) + (b"/" if is_directory and kept else b"")


@lru_cache(maxsize=1024)
def check_authority(value: bytes, default_port: int = 80) -> str:
    """The value of Host in one spelling, `host[:port]`. Raises `BadRequest` (RFC 9112 section 3.2).

    It is in lower case, without the dot that may end a name, without `default_port`, an empty port or zeros before one,
    and an IPv6 address is as short as it gets (RFC 5952): a condition that holds for one spelling holds for all
    (lighttpd: server.http-parseopts "host-normalize").
    """
    match = _AUTHORITY.fullmatch(value)
    if not match or (match[3] and int(match[3]) > 65535):
        raise BadRequest(f"the Host field is no host name: {value[:80]!r}")
    if match[2]:
        try:
            host = f"[{IPv6Address(match[2][1:-1].decode('ascii')).compressed}]"
        except ValueError:
            raise BadRequest(f"the Host field holds no IPv6 address: {value[:80]!r}") from None
    else:
        host = match[1].decode("ascii").lower()
    return f"{host}:{int(match[3])}" if match[3] and int(match[3]) != default_port else host


def host_of(authority: str) -> str:
    """`authority` without its port; an IPv6 address keeps its brackets."""
    if authority.endswith("]"):
        return authority
    return authority.rpartition(":")[0] if ":" in authority else authority
