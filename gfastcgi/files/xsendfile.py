"""X-Sendfile, X-LIGHTTPD-send-file and X-Sendfile2: a backend names the files that are sent in its stead.

Contract: none of these fields ever reaches a client. With `"x-sendfile"` a file is sent if it lies in one of
`"x-sendfile-docroot"` (none configured: anywhere), judged by the opened descriptor; a malformed field raises.
"""

from __future__ import annotations

import re
from errno import EACCES
from functools import lru_cache
from posixpath import normpath
from urllib.parse import unquote_to_bytes

import webob

from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import BadCGIResponse
from gfastcgi.files.answer import Fields
from gfastcgi.files.in_place import refuse_in_place, send_in_place
from gfastcgi.http.response import close_body
from gfastcgi.net.beneath import OpenedFile, open_beneath
from gfastcgi.net.sendfile import FileBody, Piece
from gfastcgi.request import Request

__all__ = ["apply_x_sendfile"]

_WHOLE = ("x-sendfile", "x-lighttpd-send-file")
_PARTS = "x-sendfile2"
_FAMILY = frozenset({*_WHOLE, _PARTS})
# Descriptors that one answer may hold open; more parts are 502.
_MOST_PARTS = 64

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# X-Sendfile2: "path start-end" with the end included, or "path start-" for the rest of the file.
_SPAN = re.compile(r"([0-9]{1,18})-([0-9]{0,18})")


def _drop(response: webob.Response) -> list[tuple[str, str]]:
    """Removes the fields from `response`; returns them as (lower-case name, value)."""
    found = [(name.lower(), value) for name, value in response.headerlist if name.lower() in _FAMILY]
    if found:
        response.headerlist = [field for field in response.headerlist if field[0].lower() not in _FAMILY]
    return found


def apply_x_sendfile(
    request: Request, response: webob.Response, host: HostConfig, settings: Settings
) -> webob.Response:
    """`response` itself, or the answer with the files that it names; then its own body is closed.

    403: outside or no regular file; 404: missing. Raises `BadCGIResponse` for a malformed field.
    """
    found = _drop(response)
    if not found or not host.x_sendfile or response.status_int in (204, 205, 304):
        return response
    close_body(response.app_iter)
    fields = [field for field in response.headerlist if field[0].lower() != "content-length"]
    try:
        if found[0][0] == _PARTS:
            return _send_parts(request, response.status, fields, _parse_parts(found), host)
        path = _parse_whole(found)
        return send_in_place(request, response, fields, _open(path, host), path, settings)
    except OSError as error:
        named = (error.filename or "").encode("utf-8", "surrogateescape")
        return refuse_in_place(request, error, field="X-Sendfile", named=named, option="x-sendfile-docroot")


def _parse_whole(found: Fields) -> str:
    if len(found) > 1:
        raise BadCGIResponse("X-Sendfile stands more than once")
    return _decode(found[0][1])


def _parse_parts(found: Fields) -> list[tuple[str, int, int | None]]:
    """(path, start, end), the end excluded; None: the end of the file."""
    parts: list[tuple[str, int, int | None]] = []
    for name, value in found:
        for text in value.split(","):
            path, _, span = text.strip(" \t").rpartition(" ")
            match = _SPAN.fullmatch(span)
            if name != _PARTS or not match or len(parts) == _MOST_PARTS:
                raise BadCGIResponse(f"X-Sendfile2 takes up to {_MOST_PARTS} of PATH START-[END], not {value[:200]!r}")
            start, last = match.groups()
            parts.append((_decode(path.rstrip(" \t")), int(start), int(last) + 1 if last else None))
    return parts


@lru_cache(maxsize=1024)
def _decode(value: str) -> str:
    """The absolute path that a url-encoded `value` names, without dot segments. Raises `BadCGIResponse`."""
    path = unquote_to_bytes(value.encode("latin-1"))
    if not path.startswith(b"/") or _CONTROL.search(path) or _BAD_ESCAPE.search(value):
        raise BadCGIResponse(f"X-Sendfile has to name an absolute, url-encoded path, not {value[:200]!r}")
    slash = b"/" if path.endswith(b"/") else b""
    return (b"/" + normpath(path).lstrip(b"/") + slash).decode("utf-8", "surrogateescape")


def _open(path: str, host: HostConfig) -> OpenedFile:
    """Raises OSError with `path`: PermissionError for what lies outside or is no regular file."""
    for tree in _trees(host.x_sendfile_docroot or ("/",)):
        if path.startswith(tree):
            try:
                file = open_beneath(tree, path[len(tree) :], extra_roots=host.x_sendfile_docroot)
            except OSError as error:
                error.filename = path
                raise
            if file.is_regular:
                return file
            file.close()
            raise PermissionError(EACCES, "no regular file", path)
    raise PermissionError(EACCES, "it lies outside", path)


@lru_cache(maxsize=256)
def _trees(roots: tuple[str, ...]) -> tuple[str, ...]:
    """The absolute `roots` with one slash at their ends, so that a prefix ends with a name."""
    return tuple(normpath(root).rstrip("/") + "/" for root in roots if root.startswith("/"))


def _send_parts(
    request: Request, status: str, fields: Fields, parts: list[tuple[str, int, int | None]], host: HostConfig
) -> webob.Response:
    files: dict[str, OpenedFile] = {}
    try:
        pieces: list[Piece] = []
        for path, start, end in parts:
            file = files.get(path) or files.setdefault(path, _open(path, host))
            size = file.stat.st_size
            end = size if end is None else min(end, size)
            if start > end:
                raise BadCGIResponse(f"X-Sendfile2 asks for bytes from {start} of a file of {size}")
            pieces.append((file, start, end))
    except BaseException:
        for file in files.values():
            file.close()
        raise
    body = FileBody(pieces)
    fields.append(("Content-Length", str(body.length)))
    if request.method != "HEAD":
        return webob.Response(status=status, headerlist=fields, app_iter=body)
    body.close()
    return webob.Response(status=status, headerlist=fields, app_iter=[])
