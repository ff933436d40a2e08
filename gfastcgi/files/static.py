"""Static files of a document root, as lighttpd's mod_staticfile serves them.

Contract: `path` is normalised and decoded, and is opened as it stands: what was authorised is what is served.
"""

from __future__ import annotations

from urllib.parse import quote

import webob

from gfastcgi.config import Settings
from gfastcgi.files.answer import Fields, answer, entity_tag, modified, refusal
from gfastcgi.files.content_types import content_type
from gfastcgi.files.shelf import Shelf
from gfastcgi.http.conditional import format_http_date
from gfastcgi.net.beneath import open_beneath
from gfastcgi.pages import error_page, redirect
from gfastcgi.request import Request
from gfastcgi.resolve import Resource

__all__ = ["answer_options", "serve_file", "serve_resource"]

# lighttpd answers POST with the file, as if it were GET.
_METHODS = ("GET", "HEAD", "POST")
_ALLOW = ("Allow", "OPTIONS, GET, HEAD, POST")
_VISIBLE = "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}"


def serve_resource(
    request: Request, resource: Resource, settings: Settings, shelf: Shelf | None = None
) -> webob.Response:
    """The answer where no backend stands: `serve_file`, or 403 and 404 for what is no file of ours."""
    if resource.kind == "forbidden":
        return error_page(403, request_id=request.id)
    if resource.kind == "missing" or resource.path_info:
        return error_page(404, request_id=request.id)
    return serve_file(request, resource.root, resource.local, settings, shelf)


def serve_file(
    request: Request, root: str, path: str, settings: Settings, shelf: Shelf | None = None
) -> webob.Response:
    """The answer for the file `path` beneath the directory `root`; small ones are kept on the `shelf` of `settings`.

    403: outside, unreadable, no regular file, excluded (static-file.exclude-extensions) or a directory (index files
    are looked for before); 404: missing; 405: another method. A directory without its slash is redirected to it.
    """
    if path.endswith(settings.static_exclude_extensions):
        return error_page(403, request_id=request.id)
    is_plain = shelf is not None and request.method == "GET" and not request.head.has_questions
    if is_plain and shelf is not None:
        kept = shelf.find(root + path, request.turn)
        if kept is not None:
            return webob.Response(headerlist=[*kept.fields], app_iter=[kept.content])
    try:
        file = open_beneath(root, path, extra_roots=settings.symlink_roots)
    except OSError as error:
        return refusal(request, error)
    if file.is_dir:
        file.close()
        return error_page(403, request_id=request.id) if request.path.endswith("/") else _redirect_to_slash(request)
    if request.method not in _METHODS:
        file.close()
        if request.method == "OPTIONS":
            return answer_options()
        return error_page(405, request_id=request.id, headers=(_ALLOW,))
    mtime = modified(file.stat)
    fields: Fields = [
        ("Content-Type", content_type(path, settings.mimetypes)),
        ("Last-Modified", format_http_date(mtime)),
    ]
    etag = ""
    if settings.etags:
        etag = entity_tag(file.stat)
        fields.append(("ETag", etag))
    response = answer(request, file, fields, etag=etag, mtime=mtime)
    if is_plain and shelf is not None:
        shelf.keep(root + path, file, response.headerlist)
    return response


def answer_options() -> webob.Response:
    """What a file may be asked with (RFC 9110 section 9.3.7), whether there is one or not."""
    return webob.Response(headerlist=[_ALLOW, ("Content-Length", "0")], app_iter=[])


def _redirect_to_slash(request: Request) -> webob.Response:
    # Built from parts and encoded: a decoded line end or backslash must not reach the field (CVE-2024-42353).
    location = quote(request.path, errors="surrogateescape") + "/"
    if request.query:
        location += "?" + quote(request.query, safe=_VISIBLE, encoding="latin-1")
    return redirect(location)
