"""`PrivateFiles`: a private document root as a WSGI application.

Contract: every request is authorised before the file is looked for; the file is opened once, beneath its root, under
the path that was authorised, and judged by its descriptor: ranges, preconditions and HEAD as the gateway answers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gfastcgi.auth.base import Allow, Authorizer
from gfastcgi.auth.python import Check
from gfastcgi.config import Settings
from gfastcgi.errors import ProtocolError
from gfastcgi.files import serve_resource
from gfastcgi.pages import error_page
from gfastcgi.resolve import Resolver
from gfastcgi.wsgi.environ import request_of
from gfastcgi.wsgi.hosting import StartResponse, send
from gfastcgi.wsgi.middleware import Guard

__all__ = ["PrivateFiles"]


class PrivateFiles:
    """The files beneath the directory `root`, for whom all of `authorizers` allow.

    `index` names the files that answer for a directory, `mimetypes` are content types by suffix beside those that
    Python knows. Links lead nowhere but inside `root`. The bytes leave in pieces that never hold up other greenlets.
    """

    def __init__(
        self,
        root: str,
        authorizers: Sequence[Authorizer | Check],
        *,
        index: Sequence[str] = ("index.html",),
        mimetypes: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = Settings(
            document_root=str(root), index_file_names=tuple(index), mimetypes=tuple((mimetypes or {}).items())
        )
        self._guard = Guard(authorizers)

    def __repr__(self) -> str:
        return f"<PrivateFiles of {self._settings.document_root} {self._guard!r}>"

    def purge(self) -> None:
        """Forgets every decision of the authorizers that remember theirs (`cache`)."""
        self._guard.purge()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333). Where the application is mounted (SCRIPT_NAME) stands for `root`."""
        try:
            request = request_of(environ)
        except ProtocolError as error:
            return send(error_page(error.status_hint, cause=error.cause), environ, start_response)
        mount = environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "surrogateescape")
        resolver = Resolver(self._settings.document_root, self._settings.index_file_names, (), prefix=mount)
        request.local = resolver.local(request.path)
        decision = self._guard.ask(request, self._settings.document_root)
        if not isinstance(decision, Allow):
            return send(decision.response, environ, start_response)
        response = serve_resource(request, resolver.find(request.path), self._settings)
        response.headerlist.extend(decision.response_headers)
        return send(response, environ, start_response)
