"""An authorizer in Python: lets through who comes with `?key=KEY`, where KEY is in its environment ("bin-environment").

Run by "bin-path" => "PYTHON authorizer.py" with the Python that has gfastcgi. docs/authorizers.md says what it is asked
and what follows from its answers.
"""

from __future__ import annotations

import hmac
import os
import sys

import webob

from gfastcgi.server.fastcgi import run


class Authorizer:
    """Answers 200 to requests with the key, else 403."""

    def __init__(self, key: str) -> None:
        self._query = f"key={key}".encode()

    def __call__(self, request: webob.Request) -> webob.Response:
        if hmac.compare_digest(request.query_string.encode(), self._query):
            return webob.Response(headerlist=[("Variable-REMOTE_USER", "friend")])
        return webob.Response("The key is missing or wrong.\n", status=403, content_type="text/plain")


if __name__ == "__main__":
    secret = os.environ.get("KEY")
    if not secret:
        sys.exit("authorizer: no KEY in the environment")
    run(authorizer=Authorizer(secret))
