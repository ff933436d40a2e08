"""A file in the place of a backend's own body: what the backend said of it holds, the rest is added.

Contract: takes the file over. Status, fields and cookies stay the backend's; Content-Length is the file's. A file that
cannot be opened is told in the log: the client sees no more than 403 or 404.
"""

from __future__ import annotations

import logging

import webob

from gfastcgi.config import Settings
from gfastcgi.files.answer import Fields, answer, entity_tag, modified, refusal, whole
from gfastcgi.files.content_types import content_type
from gfastcgi.http.conditional import format_http_date, parse_http_date
from gfastcgi.net.beneath import OpenedFile
from gfastcgi.request import Request

__all__ = ["refuse_in_place", "send_in_place"]

log = logging.getLogger("gfastcgi")


def send_in_place(
    request: Request, response: webob.Response, fields: Fields, file: OpenedFile, path: str, settings: Settings
) -> webob.Response:
    """The answer with `file`, named `path`, and the `fields` of `response` but for its Content-Length."""
    said = {name.lower(): value for name, value in fields}
    if "content-type" not in said:
        fields.append(("Content-Type", content_type(path, settings.mimetypes)))
    # A status that the backend set speaks of more than the file; and what a POST asks for it has judged itself.
    if response.status_int != 200 or request.method not in ("GET", "HEAD"):
        return whole(request, file, response.status, fields)
    if "accept-ranges" in said:
        fields = [field for field in fields if field[0].lower() != "accept-ranges"]
    etag = said.get("etag", "")
    if not etag and settings.etags:
        etag = entity_tag(file.stat)
        fields.append(("ETag", etag))
    mtime = parse_http_date(said.get("last-modified", "").encode("latin-1"))
    if mtime is None:
        mtime = modified(file.stat)
        if "last-modified" not in said:
            fields.append(("Last-Modified", format_http_date(mtime)))
    return answer(request, file, fields, etag=etag, mtime=mtime)


def refuse_in_place(request: Request, error: OSError, *, field: str, named: bytes, option: str) -> webob.Response:
    """The answer where what the backend has `named` in `field` could not be opened; `option` says what could be.

    Raises `error` where that is no word about the file.
    """
    response = refusal(request, error)
    log.warning(
        'request %s: %s names %s, which is refused (%d): %s; see "%s"',
        request.id, field, named.decode("utf-8", "backslashreplace"), response.status_int, error.strerror, option,
    )  # fmt: skip
    return response
