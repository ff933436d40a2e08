"""`FastCGIApp`: PHP, or any FastCGI program, as a WSGI application inside a Python site.

Contract: requests are routed, sent and answered by the gateway's own parts: a script is looked for beneath its document
root as they look for it. Where the application is mounted (SCRIPT_NAME) stands for that root.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any
from urllib.parse import quote

import webob

from gfastcgi.auth.hygiene import IDENTITY, Hygiene
from gfastcgi.config import Config, RewriteRule, Settings
from gfastcgi.errors import GfastcgiError, InvalidValue
from gfastcgi.gateway import Gateway
from gfastcgi.library.pool import Pool
from gfastcgi.pages import error_page
from gfastcgi.request import Request
from gfastcgi.resolve import Resolver
from gfastcgi.rewrite import Rewriter
from gfastcgi.site import Responder, Site
from gfastcgi.sites import SiteTable
from gfastcgi.wsgi.hosting import StartResponse, host, send

__all__ = ["FastCGIApp"]

log = logging.getLogger("gfastcgi")

_MOST_MOUNTS = 64


class FastCGIApp:
    """The program behind `pool`: a `Pool`, a `Client`, or the address of one (`unix:/path`, `tcp://host:port`).

    With a `document_root` the files there with one of `extensions` are its scripts, and what follows them in a path is
    PATH_INFO; `index` are names of files that answer for a folder, `fallback` ("/index.php") is the script for all that
    is no file. Other files are sent when `files` is true, else they are a 403. Without a document root the program gets
    every request, with SCRIPT_NAME and PATH_INFO as the WSGI server told them.

    REMOTE_USER and its like reach the program from the WSGI environ alone. X-Sendfile is obeyed where the host of the
    pool says so (`x_sendfile`, `x_sendfile_docroot`). Raises `InvalidValue`.
    """

    def __init__(
        self,
        pool: Pool | str,
        document_root: str = "",
        *,
        extensions: Sequence[str] = (".php",),
        index: Sequence[str] = ("index.php", "index.html"),
        fallback: str = "",
        files: bool = False,
        mimetypes: Mapping[str, str] | None = None,
        max_request_size: int = 0,
    ) -> None:
        """`max_request_size` is the most bytes of a body, 0: any number."""
        if not all(extension.startswith(".") for extension in extensions):
            raise InvalidValue(f'extensions are suffixes like ".php", not {tuple(extensions)!r}')
        if fallback and not (document_root and fallback.startswith("/")):
            raise InvalidValue(f'a fallback is a script beneath a document root, like "/index.php", not {fallback!r}')
        self._pool = Pool([pool]) if isinstance(pool, str) else pool
        self._fallback = fallback
        self._extensions = tuple(extensions)
        self._settings = Settings(
            document_root=str(document_root),
            index_file_names=tuple(index),
            mimetypes=tuple((mimetypes or {}).items()),
            static_exclude_extensions=() if files else ("",),
            balance=self._pool.balance,
            max_request_size=max_request_size,
        )
        self._mounts: dict[str, Gateway] = {}

    def __repr__(self) -> str:
        return f"<FastCGIApp {self._settings.document_root or '/'} {self._pool!r}>"

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        try:
            self._pool.start()
        except GfastcgiError as error:
            log.error("nobody is served: %s", error)
            return send(error_page(503, cause=getattr(error, "cause", "internal")), environ, start_response)
        gateway = self._gateway(environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "surrogateescape"))

        def handle(request: Request) -> webob.Response:
            for name in IDENTITY:
                value = environ.get(name.decode())
                if value:
                    request.variables[name] = value.encode("latin-1")
            return gateway.handle(request)

        return host(environ, start_response, handle, gateway.refuse)

    def stop(self, timeout: float = 10.0) -> None:
        """Stops the pool, within about `timeout` seconds."""
        self._pool.stop(timeout)

    def _gateway(self, mount: str) -> Gateway:
        """What answers for the application mounted at `mount`."""
        if mount not in self._mounts:
            if len(self._mounts) >= _MOST_MOUNTS:
                self._mounts.clear()
            sites = SiteTable(Config(settings=self._settings), lambda settings, _: self._site(settings, mount))
            self._mounts[mount] = Gateway(sites, statistics=self._pool.statistics, tells_why=False)
        return self._mounts[mount]

    def _site(self, settings: Settings, mount: str) -> Site:
        pool = self._pool.backend
        options = pool.hosts[0].config
        keys = self._extensions
        if not settings.document_root:
            # The prefix that every path has: what follows it is PATH_INFO.
            keys, options = (mount or "/",), replace(options, check_local=False, fix_root_scriptname=True)
        rules: tuple[RewriteRule, ...] = ()
        if self._fallback:
            rules = (RewriteRule(r"^[^?]*(\?.*)?$", f"{_literal(mount + self._fallback)}$1"),)
        return Site(
            settings=settings,
            server_tag="",
            resolvers=[Resolver(settings.document_root, settings.index_file_names, (), prefix=mount)],
            gates=(),
            responders=[(key, Responder(options, pool)) for key in keys],
            rewriter=Rewriter((), rules) or None,
            redirector=None,
            access_log=None,
            upload_dir=None,
            clock=monotonic,
            hygiene=Hygiene((), (), clock=monotonic, tell=log.warning),
        )


def _literal(path: str) -> str:
    """`path` as the replacement of a rewrite rule, in which $ and % have a meaning of their own."""
    return quote(path, errors="surrogateescape").replace("%", "%%").replace("$", "$$")
