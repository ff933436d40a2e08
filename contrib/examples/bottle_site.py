"""A Bottle site over FastCGI, as a program of its own: a web server spawns it, or `python bottle_site.py` is a CGI.

In lighttpd.conf:

    fastcgi.server = ( "/bottle" => (( "socket" => "/run/bottle.sock", "check-local" => "disable",
                                       "bin-path" => "/usr/bin/python3 bottle_site.py" )) )
"""

from __future__ import annotations

from collections.abc import Iterator

from bottle import Bottle, request, response

from gfastcgi.server.fastcgi import run

application = Bottle()


@application.get("/")
def index() -> str:
    """Where the site is: below whatever prefix the web server gave it."""
    return f"bottle at {request.script_name}, a greeting at {application.get_url('hello', name='you')}\n"


@application.get("/hello/<name>", name="hello")
def hello(name: str) -> str:
    """REMOTE_USER is there when an authorizer said so."""
    return f"hello {name} from {request.environ.get('REMOTE_USER') or 'nobody'}\n"


@application.post("/count")
def count() -> dict[str, int]:
    """An upload, read as it comes."""
    source = request.environ["wsgi.input"]
    return {"bytes": sum(len(piece) for piece in iter(lambda: source.read(65536), b""))}


@application.get("/stream")
def stream() -> Iterator[str]:
    """An answer that is sent as it is made."""
    response.content_type = "text/plain"
    for number in range(3):
        yield f"line {number}\n"


if __name__ == "__main__":
    run(application)
