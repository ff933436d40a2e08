"""`gfastcgi -V`: what this installation can do, in the layout of `lighttpd -V`."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

from gfastcgi.net.beneath import has_openat2
from gfastcgi.plugins import balances

__all__ = ["features"]

# The extras of the distribution that a gateway may need, and the modules that they bring.
_EXTRAS = {
    "auth (passwords, authorizers over HTTP)": ("bcrypt", "geventhttpclient", "passlib"),
    "redis (decisions that gateways share)": ("redis",),
    "completion": ("shtab",),
}


def features() -> str:
    """Sections of lines that start with a tab and `+` (has it) or `-` (has it not)."""
    sections: list[tuple[str, dict[str, bool]]] = [
        ("Runtime", {
            f"{platform.python_implementation()} {platform.python_version()}": True,
            **{f"{name} {metadata.version(name)}": True for name in ("gevent", "httptools", "WebOb")},
        }),
        ("FastCGI roles", {"responder": True, "authorizer": True, "filter (wsgi)": True}),
        ("Balancing", balances()),
        ("HTTP", {"HTTP/1.0": True, "HTTP/1.1": True, "HTTP/2": False, "TLS": False, "upgrade (websocket)": False}),
        ("Extras", {extra: all(map(find_spec, modules)) for extra, modules in _EXTRAS.items()}),
        ("Files", {"openat2 (RESOLVE_BENEATH)": has_openat2(), "sendfile": True, "X-Sendfile": True}),
    ]  # fmt: skip
    return "".join(
        f"\n{title}:\n\n" + "".join(f"\t{'+' if has else '-'} {name}\n" for name, has in rows.items())
        for title, rows in sections
    )
