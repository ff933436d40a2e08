"""A document root with every kind of thing in and around it, and requests for its files."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from gfastcgi.http.request import RequestHead
from gfastcgi.http.target import parse_target
from gfastcgi.request import Peer, Request

if TYPE_CHECKING:
    from pathlib import Path

    import webob

ALLOWED = b"ALLOWED-FILE-CONTENT"
SECRET = b"SECRET"


def build(lab: Path) -> Path:
    """`lab`/www and what is outside of it; returns www."""
    www, private, evil, shared = (lab / name for name in ("www", "private", "www-evil", "shared"))
    for folder in (www, private, evil, shared, www / "dir" / "deep"):
        folder.mkdir(parents=True)
    (www / "allowed.txt").write_bytes(ALLOWED)
    (www / "empty.txt").write_bytes(b"")
    (www / "dir" / "inner.txt").write_bytes(ALLOWED)
    for folder in (private, evil):
        (folder / "secret.txt").write_bytes(SECRET)
    (shared / "shared.txt").write_bytes(b"SHARED")
    links = {
        "dir/deep/up.txt": "../../allowed.txt",
        "dir/out.txt": "../../private/secret.txt",
        "dir/again": "../dir/deep/../../dir",
        "absolute.txt": str(www / "allowed.txt"),
        "absolute-dir": str(www / "dir"),
        "absolute-out.txt": str(private / "secret.txt"),
        "linkdir": "../private",
        "linkshared": str(shared),
        "shared.txt": "../shared/shared.txt",
        "sibling": str(evil),
        "loop": "loop",
        "dangling": "nowhere",
        "dangling-out": str(lab / "nowhere"),
        "self": "/proc/self/exe",
        "fd": "/proc/self/fd/0",
        "cwd": "/proc/self/cwd",
        "null": "/dev/null",
        "fifo-link": str(www / "fifo"),
    }
    for name, target in links.items():
        (www / name).symlink_to(target)
    os.mkfifo(www / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(www, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/sock")
        os.close(here)
    return www


class NoBody:
    """The body of a request without one."""

    length: int | None = 0
    limit = 0

    def read(self) -> bytes:
        return b""

    def close(self) -> None:
        pass


def ask(target: str, method: str = "GET", **fields: str) -> Request:
    """A request; `if_range="x"` is the field If-Range."""
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()]
    head = RequestHead(method, parse_target(target.encode("latin-1")), "1.1", [(b"host", b"localhost"), *pairs])
    return Request(head, Peer(("127.0.0.1", 1), ("127.0.0.1", 80)), NoBody(), 0.0)


def take(response: webob.Response) -> bytes:
    """The content of `response`, closed afterwards; a Content-Length has to be true."""
    try:
        content = b"".join(response.app_iter)
    finally:
        close = getattr(response.app_iter, "close", None)
        if close:
            close()
    if content:
        assert response.headers.get("Content-Length", str(len(content))) == str(len(content))
    return content


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))
