"""An access-control gateway and FastCGI toolkit for gevent.

Contract: `__all__` is the public interface. A name is imported when it is first asked for: `import gfastcgi` loads
neither gevent nor WebOb, and nothing here ever monkey-patches.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gfastcgi._version import __version__

if TYPE_CHECKING:
    from gfastcgi.assemble import App, build
    from gfastcgi.auth.base import Allow, Deny
    from gfastcgi.auth.python import authorizer
    from gfastcgi.config import Address, CacheConfig, Config, Extension, HostConfig, ServerConfig, Settings, WSGIMount
    from gfastcgi.errors import GfastcgiError
    from gfastcgi.library.authorizer import authorizer_at
    from gfastcgi.library.client import Client
    from gfastcgi.library.fastcgi_app import FastCGIApp
    from gfastcgi.library.gateway import Gateway
    from gfastcgi.library.pool import Pool
    from gfastcgi.library.response import Response
    from gfastcgi.server.fastcgi import FastCGIServer
    from gfastcgi.wsgi.files import PrivateFiles
    from gfastcgi.wsgi.middleware import AuthorizerMiddleware

__all__ = [
    "Address", "Allow", "App", "AuthorizerMiddleware", "CacheConfig", "Client", "Config", "Deny", "Extension",
    "FastCGIApp", "FastCGIServer", "Gateway", "GfastcgiError", "HostConfig", "Pool", "PrivateFiles", "Response",
    "ServerConfig", "Settings", "WSGIMount", "__version__", "authorizer", "authorizer_at", "build",
]  # fmt: skip

_HOMES = {
    "gfastcgi.assemble": ("App", "build"),
    "gfastcgi.auth.base": ("Allow", "Deny"),
    "gfastcgi.auth.python": ("authorizer",),
    "gfastcgi.config": (
        "Address",
        "CacheConfig",
        "Config",
        "Extension",
        "HostConfig",
        "ServerConfig",
        "Settings",
        "WSGIMount",
    ),
    "gfastcgi.errors": ("GfastcgiError",),
    "gfastcgi.library.authorizer": ("authorizer_at",),
    "gfastcgi.library.client": ("Client",),
    "gfastcgi.library.fastcgi_app": ("FastCGIApp",),
    "gfastcgi.library.gateway": ("Gateway",),
    "gfastcgi.library.pool": ("Pool",),
    "gfastcgi.library.response": ("Response",),
    "gfastcgi.server.fastcgi": ("FastCGIServer",),
    "gfastcgi.wsgi.files": ("PrivateFiles",),
    "gfastcgi.wsgi.middleware": ("AuthorizerMiddleware",),
}

if not TYPE_CHECKING:  # a type checker would take every name for known

    def __getattr__(name: str) -> object:
        for module, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(module), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
