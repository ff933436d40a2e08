"""X-Accel-Redirect: a backend names a URI whose file is sent in its stead, as applications written for nginx do.

Contract: with `"x-accel-redirect"` a URI is looked up beneath the folder of the first prefix that fits it, and nowhere
else; without the option the field is no command. Neither it nor its family ever reaches a client.
"""

from __future__ import annotations

from errno import EACCES, ENOENT

import webob

from gfastcgi.config import HostConfig, Settings
from gfastcgi.errors import BadCGIResponse, BadRequest
from gfastcgi.files.in_place import refuse_in_place, send_in_place
from gfastcgi.http.response import close_body
from gfastcgi.http.target import parse_target
from gfastcgi.net.beneath import OpenedFile, open_beneath
from gfastcgi.request import Request

__all__ = ["apply_x_accel_redirect"]

_NAME = "x-accel-redirect"


def apply_x_accel_redirect(
    request: Request, response: webob.Response, host: HostConfig, settings: Settings
) -> webob.Response:
    """`response` itself, or the answer with the file that it names; then its own body is closed.

    404: missing, or under no prefix; 403: outside or no regular file. Raises `BadCGIResponse` for a malformed field.
    """
    found = [value for name, value in response.headerlist if name.lower() == _NAME]
    if not found or not host.x_accel_redirect or response.status_int in (204, 205, 304):
        return response
    close_body(response.app_iter)
    if len(found) > 1:
        raise BadCGIResponse("X-Accel-Redirect stands more than once")
    path = _path(found[0])
    fields = [field for field in response.headerlist if field[0].lower() not in (_NAME, "content-length")]
    try:
        return send_in_place(request, response, fields, _open(path, host, settings), path, settings)
    except OSError as error:
        named = found[0].encode("latin-1")
        return refuse_in_place(request, error, field="X-Accel-Redirect", named=named, option=_NAME)


def _path(value: str) -> str:
    """The path of the URI `value`, decoded and normalised as a client's is; a query says nothing of a file."""
    try:
        # Applications send names as they are; a blank is all that a target cannot hold.
        path = parse_target(value.encode("latin-1").replace(b" ", b"%20")).path
    except BadRequest as error:
        raise BadCGIResponse(f"X-Accel-Redirect has to name a URI's path, not {value[:200]!r}: {error}") from error
    if not value.startswith("/"):
        raise BadCGIResponse(f"X-Accel-Redirect has to begin with a slash, not {value[:200]!r}")
    return path


def _open(path: str, host: HostConfig, settings: Settings) -> OpenedFile:
    """Raises OSError: FileNotFoundError under no prefix, PermissionError for what lies outside or is no file."""
    for prefix, root in host.x_accel_redirect:
        stem = prefix.rstrip("/") + "/"
        if path.startswith(stem):
            file = open_beneath(root, path[len(stem) :], extra_roots=settings.symlink_roots)
            if file.is_regular:
                return file
            file.close()
            raise PermissionError(EACCES, "no regular file", path)
    raise FileNotFoundError(ENOENT, "it is under none of the prefixes", path)
