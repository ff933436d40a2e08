"""One opened file as an answer: preconditions, ranges, or the whole of it (RFC 9110 sections 13 and 14).

Contract: `answer` takes the file over: it is in the answer's `FileBody`, or closed.
"""

from __future__ import annotations

import os
import secrets

import webob

from gfastcgi.errors import RangeNotSatisfiable
from gfastcgi.http.conditional import evaluate, if_range_holds
from gfastcgi.http.ranges import content_range, multipart, parse_range
from gfastcgi.net.beneath import OpenedFile
from gfastcgi.net.sendfile import FileBody, Piece
from gfastcgi.pages import error_page
from gfastcgi.request import Request

__all__ = ["Fields", "answer", "entity_tag", "modified", "refusal", "whole"]

Fields = list[tuple[str, str]]


def refusal(request: Request, error: OSError) -> webob.Response:
    """What a client is told when a file could not be opened: 404 or 403; else raises."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return error_page(404, request_id=request.id)
    if isinstance(error, PermissionError):
        return error_page(403, request_id=request.id)
    raise error


def entity_tag(stat: os.stat_result) -> str:
    """A strong validator: every write changes the size or the time of modification (RFC 9110 section 8.8.1)."""
    return f'"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"'


def modified(stat: os.stat_result) -> int:
    """The whole second of the last modification; the float of `st_mtime` may round up to the next."""
    return stat.st_mtime_ns // 1_000_000_000


def answer(request: Request, file: OpenedFile, fields: Fields, *, etag: str, mtime: float) -> webob.Response:
    """The answer 200, 206, 304, 412 or 416 whose `fields` describe `file`, but for its length. Takes both over.

    `etag` and `mtime` (seconds since 1970) are the validators that the client was or will be told.
    """
    if request.head.has_questions:
        try:
            partial = _conditional(request, file, fields, etag, mtime)
        except BaseException:
            file.close()
            raise
        if partial is not None:
            return partial
    if request.method != "POST":
        fields.append(("Accept-Ranges", "bytes"))
    return whole(request, file, None, fields)


def whole(request: Request, file: OpenedFile, status: str | None, fields: Fields) -> webob.Response:
    """All of `file` as the content of `status`, None: "200 OK"; to HEAD just its length. Takes the file over."""
    size = file.stat.st_size
    fields.append(("Content-Length", str(size)))
    if request.method == "HEAD":
        file.close()
        return webob.Response(status=status, headerlist=fields, app_iter=[])
    return webob.Response(status=status, headerlist=fields, app_iter=FileBody(((file, 0, size),)))


def _conditional(request: Request, file: OpenedFile, fields: Fields, etag: str, mtime: float) -> webob.Response | None:
    status = evaluate(request.method, request.field, etag=etag, mtime=mtime)
    if status == 412:
        file.close()
        return error_page(412, request_id=request.id)
    if status == 304:
        file.close()
        kept = [field for field in fields if field[0].lower() != "content-type"]
        return webob.Response(status="304 Not Modified", headerlist=kept, app_iter=[])
    if request.method != "GET":  # ranges are defined for GET alone (section 14.2)
        return None
    value = request.field(b"range")
    if value is None:
        return None
    if_range = request.field(b"if-range")
    if if_range is not None and not if_range_holds(if_range, etag=etag, mtime=mtime):
        return None
    try:
        ranges = parse_range(value, file.stat.st_size)
    except RangeNotSatisfiable:
        size = file.stat.st_size
        file.close()
        headers = (("Content-Range", f"bytes */{size}"), ("Accept-Ranges", "bytes"))
        return error_page(416, request_id=request.id, headers=headers)
    return None if ranges is None else _partial(file, fields, ranges)


def _partial(file: OpenedFile, fields: Fields, ranges: list[tuple[int, int]]) -> webob.Response:
    size = file.stat.st_size
    fields.append(("Accept-Ranges", "bytes"))
    if len(ranges) == 1:
        start, end = ranges[0]
        fields.append(("Content-Range", content_range(start, end, size)))
        body = FileBody(((file, start, end),))
    else:
        content_type = next((value for name, value in fields if name.lower() == "content-type"), "")
        boundary = secrets.token_hex(16)
        pieces: list[Piece] = [
            piece if isinstance(piece, bytes) else (file, *piece)
            for piece in multipart(ranges, size, content_type, boundary)
        ]
        fields = [field for field in fields if field[0].lower() != "content-type"]
        fields.append(("Content-Type", f"multipart/byteranges; boundary={boundary}"))
        body = FileBody(pieces)
    fields.append(("Content-Length", str(body.length)))
    return webob.Response(status="206 Partial Content", headerlist=fields, app_iter=body)
