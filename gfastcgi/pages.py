"""The gateway's own answers: error pages that say what happened, and redirects that lead nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from urllib.parse import quote

import webob

__all__ = ["error_page", "redirect"]

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;padding:0 1em;color-scheme:light dark}}
small{{opacity:.6}}</style></head>
<body><h1>{title}</h1><p>{text}</p>{note}</body></html>
"""
_TEXTS = {
    400: "The request cannot be understood.",
    401: "You have to say who you are.",
    403: "You may not see this.",
    404: "There is nothing here.",
    405: "This cannot be done with what is here.",
    408: "The request took too long to arrive.",
    411: "A body has to come with its length.",
    413: "The body is larger than this site takes.",
    414: "The address is too long.",
    429: "There were too many attempts. Please try again in a moment.",
    431: "The header fields are too large.",
    500: "Something went wrong inside the gateway.",
    502: "The program behind this page gave no sound answer.",
    503: "Nobody is free to answer. Please try again in a moment.",
    504: "The program behind this page did not answer in time.",
    507: "There is no room to store the request.",
}


def error_page(
    status: int, *, cause: str = "", request_id: str = "", headers: Iterable[tuple[str, str]] = ()
) -> webob.Response:
    """A page for `status`, naming the cause and the request's id for whoever reads the log."""
    phrase = _phrase(status)
    title = f"{status} {phrase}"
    notes = " ".join(part for part in (cause, f"request {request_id}" if request_id else "") if part)
    page = _PAGE.format(
        title=escape(title),
        text=_TEXTS.get(status, phrase),
        note=f"<p><small>{escape(notes)}</small></p>" if notes else "",
    )
    fields = [("Content-Type", "text/html; charset=utf-8"), *headers]
    return webob.Response(status=title, headerlist=fields, app_iter=[page.encode()])


_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def redirect(location: str, status: int = 301) -> webob.Response:
    """A redirect to `location`: an absolute URI, or an absolute path that is made safe to send.

    A path never begins with two slashes (or slash and backslash): browsers would take the next word for a host.
    """
    if not _ABSOLUTE.match(location):
        location = "/" + location.lstrip("/\\")
    location = quote(location, safe="/:?#[]@!$&'()*+,;=%-._~")
    fields = [("Location", location), ("Content-Length", "0")]
    return webob.Response(status=f"{status} {_phrase(status)}", headerlist=fields, app_iter=[b""])


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
