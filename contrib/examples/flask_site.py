"""A Flask site over FastCGI, with an authorizer in front of a part of it.

gfastcgi wsgi flask_site --authorizer flask_site:guard --bind unix:/run/flask.sock --workers 2
"""

from __future__ import annotations

from collections.abc import Iterator

import webob
from flask import Flask, Response, request, url_for

from gfastcgi import authorizer

application = Flask(__name__)


@application.get("/")
def index() -> str:
    """Where the site is: below whatever prefix the web server gave it."""
    return f"flask at {url_for('index')}, a greeting at {url_for('hello', name='you')}\n"


@application.get("/hello/<name>")
def hello(name: str) -> str:
    """REMOTE_USER is there when an authorizer said so."""
    return f"hello {name} from {request.remote_user or 'nobody'}\n"


@application.post("/count")
def count() -> dict[str, int]:
    """An upload, read as it comes."""
    return {"bytes": sum(len(piece) for piece in iter(lambda: request.stream.read(65536), b""))}


@application.get("/stream")
def stream() -> Response:
    """An answer that is sent as it is made."""

    def lines() -> Iterator[str]:
        for number in range(3):
            yield f"line {number}\n"

    return Response(lines(), mimetype="text/plain")


@authorizer
def guard(request: webob.Request) -> str | bool:
    """Whoever has the cookie is Ada."""
    return "ada" if request.cookies.get("session") == "secret" else False
