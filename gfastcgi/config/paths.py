"""What one path is to another. The guards that hold a path against a prefix do it here."""

from __future__ import annotations

__all__ = ["is_beneath"]


def is_beneath(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix`, or lies in it as in a folder: "/app/x" in "/app", and "/apple" not.

    "" has every path. A prefix that ends in a slash is the folder itself: "/app/" has "/app/x", and "/app" not.
    """
    return path.startswith(prefix) and path[len(prefix.rstrip("/")) :][:1] in ("", "/")
