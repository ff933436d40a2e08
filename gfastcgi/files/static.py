"""Static files of a document root, as lighttpd's mod_staticfile, mod_indexfile and mod_dirlisting's refusal do it.

Contract: `path` is normalised and decoded, and is opened as it stands: what was authorised is what is served.
"""

from __future__ import annotations

from stat import S_ISREG
from urllib.parse import quote

import webob

from gfastcgi.config import Settings
from gfastcgi.files.answer import Fields, answer, entity_tag, modified, plain, refusal
from gfastcgi.files.content_types import content_type
from gfastcgi.http.conditional import format_http_date
from gfastcgi.net.beneath import open_beneath, stat_beneath
from gfastcgi.request import Request

__all__ = ["find_index", "serve_file"]

# lighttpd answers POST with the file, as if it were GET.
_METHODS = ("GET", "HEAD", "POST")
_ALLOW = ("Allow", "OPTIONS, GET, HEAD, POST")
_VISIBLE = "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}"


def serve_file(request: Request, root: str, path: str, settings: Settings) -> webob.Response:
    """The answer for the file `path` beneath the directory `root`.

    403: outside, unreadable, no regular file, excluded (static-file.exclude-extensions) or a directory (`find_index`
    comes before); 404: missing; 405: another method. A directory without its slash is redirected to it.
    """
    if path.endswith(settings.static_exclude_extensions):
        return plain("403 Forbidden")
    try:
        file = open_beneath(root, path, extra_roots=settings.symlink_roots)
    except OSError as error:
        return refusal(error)
    if file.is_dir:
        file.close()
        return plain("403 Forbidden") if request.path.endswith("/") else _redirect_to_slash(request)
    if request.method not in _METHODS:
        file.close()
        if request.method == "OPTIONS":
            return webob.Response(headerlist=[_ALLOW, ("Content-Length", "0")], app_iter=[])
        return plain("405 Method Not Allowed", [_ALLOW])
    mtime = modified(file.stat)
    fields: Fields = [
        ("Content-Type", content_type(path, settings.mimetypes)),
        ("Last-Modified", format_http_date(mtime)),
    ]
    etag = ""
    if settings.etags:
        etag = entity_tag(file.stat)
        fields.append(("ETag", etag))
    return answer(request, file, fields, etag=etag, mtime=mtime)


def find_index(root: str, path: str, settings: Settings) -> str | None:
    """The path beneath `root` of the first index file that the directory `path` (with its slash) has, or None.

    A name that starts with a slash is taken from `root` itself (lighttpd: index-file.names). Raises the OSErrors that
    say nothing about the file, such as a want of descriptors.
    """
    for name in settings.index_file_names:
        found = name if name.startswith("/") else path + name
        try:
            status = stat_beneath(root, found, extra_roots=settings.symlink_roots)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        if S_ISREG(status.st_mode):
            return found
    return None


def _redirect_to_slash(request: Request) -> webob.Response:
    # Built from parts and encoded: "//host" or "/\host" would send the browser elsewhere (CVE-2024-42353).
    location = "/" + quote(request.path.lstrip("/"), errors="surrogateescape") + "/"
    if request.query:
        location += "?" + quote(request.query, safe=_VISIBLE, encoding="latin-1")
    return webob.Response(
        status="301 Moved Permanently", headerlist=[("Location", location), ("Content-Length", "0")], app_iter=[]
    )
