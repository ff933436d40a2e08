"""What a URL path is on the file system: a script with its PATH_INFO, a directory's index, a plain file, or nothing.

Contract: everything is looked for beneath one root; a link that leads out is as good as forbidden. This decides where a
request goes and what it is called, never what is sent: a file that is served is opened anew and judged by itself.
Raises OSError, of `SHORTAGES`, when nobody can look.
"""

from __future__ import annotations

from collections.abc import Sequence
from stat import S_ISDIR, S_ISREG
from typing import Literal, NamedTuple

from gfastcgi.config.paths import is_beneath
from gfastcgi.errors import SHORTAGES
from gfastcgi.net.beneath import stat_beneath

__all__ = ["Resolver", "Resource"]


Kind = Literal["file", "directory", "missing", "forbidden"]


class Resource(NamedTuple):
    """What a URL path is: `path` + `path_info` is the path, an index file standing in for its directory."""

    path: str
    path_info: str
    root: str
    local: str
    """The path beneath `root`: `path`, less the prefix of an alias."""
    kind: Kind

    @property
    def filename(self) -> str:
        """The path on the file system."""
        return self.root.rstrip("/") + self.local


class Resolver:
    """Looks URL paths up beneath one root. `prefix` is what an alias replaces (lighttpd: alias.url)."""

    def __init__(
        self, root: str, index_names: Sequence[str], symlink_roots: Sequence[str], *, prefix: str = ""
    ) -> None:
        self.root = root
        self._prefix = prefix.rstrip("/")
        self._index_names = index_names
        self._symlink_roots = symlink_roots

    def __repr__(self) -> str:
        return f"<Resolver of {self.root}>"

    def covers(self, path: str) -> bool:
        """True when `path` is the alias's prefix or beneath it."""
        return is_beneath(path, self._prefix)

    def local(self, path: str) -> str:
        """`path` beneath the root."""
        return path.removeprefix(self._prefix)

    def find(self, path: str) -> Resource:
        """What the normalised URL path `path` is."""
        kind = self._kind(path)
        if kind == "directory" and path.endswith("/"):
            return self._find_index(path)
        script = path
        while kind == "not a directory":
            # A file stands where a folder would be: what follows it is PATH_INFO (RFC 3875 section 4.1.5).
            script = script[: script.rfind("/")]
            kind = self._kind(script) if script else "missing"
        if kind != "file":
            script = path
        return self._resource(script, path[len(script) :], kind)

    def _find_index(self, path: str) -> Resource:
        for name in self._index_names:
            # lighttpd: a name that starts with a slash is looked for beneath the docroot itself.
            candidate = name if name.startswith("/") else path + name
            if self._kind(candidate) == "file":
                return self._resource(candidate, "", "file")
        return self._resource(path, "", "directory")

    def _resource(self, path: str, path_info: str, kind: Kind) -> Resource:
        return Resource(path, path_info, self.root, self.local(path), kind)

    def _kind(self, path: str) -> Kind | Literal["not a directory"]:
        try:
            mode = stat_beneath(self.root, self.local(path), extra_roots=self._symlink_roots).st_mode
        except NotADirectoryError:
            return "not a directory"
        except PermissionError:
            return "forbidden"
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return "missing"
        if S_ISREG(mode):
            return "file"
        return "directory" if S_ISDIR(mode) else "forbidden"
