"""Which backend a path belongs to, and how the path splits into SCRIPT_NAME and PATH_INFO. Pure.

`fastcgi.server` keys are tried in config order; `fastcgi.map-extensions` goes first; the first that fits wins:

    ".php"  and /a/b.php        fits (suffix)          SCRIPT_NAME=/a/b.php
    "/app"  and /app/x/y        fits (prefix)          SCRIPT_NAME=/app        PATH_INFO=/x/y
    "/q/"   and /q/x/y          fits (prefix)          SCRIPT_NAME=/q/x        PATH_INFO=/y
    "/"     and /x/y            fits (prefix)          SCRIPT_NAME=/x          PATH_INFO=/y
    "/"     with "fix-root-scriptname" and /x/y        SCRIPT_NAME=            PATH_INFO=/x/y
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from gfastcgi.config import HostConfig

__all__ = ["Route", "mapped", "match", "matches", "split"]

T = TypeVar("T")


class Route:
    """Where a request goes: the script's URL path, what follows it, and the folder that both are beneath."""

    __slots__ = ("filename", "params", "path_info", "root", "script_name")

    def __init__(self, script_name: str, path_info: str, root: str, filename: str) -> None:
        self.script_name = script_name
        self.path_info = path_info
        self.root = root
        self.filename = filename
        """The script's path on the file system of who resolved it."""
        self.params: dict[HostConfig, bytes] = {}
        """The meta-variables that the route alone decides, encoded, for each host that was sent them."""

    def __repr__(self) -> str:
        return f"<Route {self.script_name} + {self.path_info!r} beneath {self.root}>"


def matches(key: str, path: str, script: str) -> bool:
    """True when the `fastcgi.server` key `key` fits: a prefix of the URL path `path`, else a suffix of `script`."""
    return path.startswith(key) if key.startswith("/") else script.endswith(key)


def mapped(map_extensions: Sequence[tuple[str, str]], script: str) -> str | None:
    """The key that `fastcgi.map-extensions` names for `script`, or None."""
    return next((to for extension, to in map_extensions if script.endswith(extension)), None)


def match(
    keyed: Iterable[tuple[str, T]], map_extensions: Sequence[tuple[str, str]], path: str, script: str
) -> tuple[str, T] | None:
    """The first (key, value) of `keyed` that fits; a mapped extension stands for the one it maps to.

    `script` is the path of the file that serves it, without PATH_INFO; where no file was looked for, it is `path`.
    """
    wanted = mapped(map_extensions, script)
    for key, value in keyed:
        if key == wanted if wanted is not None else matches(key, path, script):
            return key, value
    return None


def split(key: str, path: str, *, fix_root_scriptname: bool = False) -> tuple[str, str]:
    """SCRIPT_NAME and PATH_INFO of `path` under the prefix `key` with `"check-local" => "disable"`.

    The script ends at the first slash behind the prefix (lighttpd: fix-root-scriptname for the key "/").
    """
    if not key.startswith("/"):
        return path, ""
    if key == "/" and fix_root_scriptname:
        return "", path
    slash = path.find("/", len(key))
    return (path, "") if slash < 0 else (path[:slash], path[slash:])
