"""Static files as a client gets them: conditional requests, ranges, indexes, and nothing from outside the docroot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import filerig
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

CONTENT = filerig.ALLOWED


@pytest.fixture
def site(tmp_path: Path, gateway: Callable[..., Gateway]) -> Gateway:
    www = filerig.build(tmp_path)
    (www / "dir/index.html").write_text("<p>index")
    (www / "page.html").write_text("<p>page")
    (www / "caf\xe9 \U0001f600.txt").write_text("name")
    return gateway(
        f'server.document-root = "{www}"\nindex-file.names = ( "index.html" )\n'
        'mimetype.assign = ( ".txt" => "text/plain", ".html" => "text/html; charset=utf-8", "" => "a/b" )\n'
        'url.access-deny = ( "~", ".inc" )\n'
    )


def test_conditional_requests(site: Gateway) -> None:
    with site.connect() as connection:
        got = connection.request("GET", "/allowed.txt")
        assert (got.status, got.body, got.get("Content-Type")) == (200, CONTENT, "text/plain")
        etag, modified = got.get("ETag"), got.get("Last-Modified")
        assert etag
        assert modified
        for fields in ({"If_None_Match": etag}, {"If_None_Match": "*"}, {"If_Modified_Since": modified}):
            got = connection.request("GET", "/allowed.txt", **fields)
            assert (got.status, got.body, got.get("ETag")) == (304, b"", etag)
        assert connection.request("GET", "/allowed.txt", If_None_Match='"other"').status == 200
        assert connection.request("GET", "/allowed.txt", If_Match='"other"').status == 412
        got = connection.request("GET", "/allowed.txt", Range="bytes=0-3", If_Range=etag)
        assert (got.status, got.body) == (206, CONTENT[:4])
        assert connection.request("GET", "/allowed.txt", Range="bytes=0-3", If_Range='"other"').body == CONTENT


def test_ranges(site: Gateway) -> None:
    size = len(CONTENT)
    with site.connect() as connection:
        for spec, start, stop in (("0-0", 0, 1), ("2-", 2, size), ("-3", size - 3, size), (f"5-{size * 9}", 5, size)):
            got = connection.request("GET", "/allowed.txt", Range=f"bytes={spec}")
            assert (got.status, got.body) == (206, CONTENT[start:stop])
            assert got.get("Content-Range") == f"bytes {start}-{stop - 1}/{size}"
        got = connection.request("GET", "/allowed.txt", Range=f"bytes={size}-")
        assert (got.status, got.get("Content-Range")) == (416, f"bytes */{size}")
        assert connection.request("GET", "/allowed.txt", Range="lines=1-2").status == 200
        got = connection.request("GET", "/allowed.txt", Range="bytes=0-1,5-6")
        kind, _, boundary = (got.get("Content-Type") or "").partition("; boundary=")
        assert (got.status, kind) == (206, "multipart/byteranges")
        _, *parts, last = got.body.split(f"--{boundary}".encode())
        contents = [part.partition(b"\r\n\r\n")[2] for part in parts]
        assert (contents, last.strip()) == ([CONTENT[:2] + b"\r\n", CONTENT[5:7] + b"\r\n"], b"--")
        head = connection.request("HEAD", "/allowed.txt")
        assert (head.get("Content-Length"), head.get("Accept-Ranges")) == (str(size), "bytes")


def test_indexes_and_redirects(site: Gateway) -> None:
    with site.connect() as connection:
        got = connection.request("GET", "/dir/")
        assert (got.body, got.get("Content-Type")) == (b"<p>index", "text/html; charset=utf-8")
        got = connection.request("GET", "/dir?x=1&y")
        assert got.status == 301
        location = got.get("Location") or ""
        assert location.endswith("/dir/?x=1&y")
        assert connection.request("GET", "/dir/deep/").status in (403, 404)
        assert connection.request("GET", "/none").status == 404
        assert connection.request("GET", "/empty.txt").body == b""
        assert connection.request("GET", "/caf%C3%A9%20%F0%9F%98%80.txt").body == b"name"
    for target in ("//dir", "/%2fdir", "///evil.example/../dir", "/\\evil.example/../dir", "/%5cevil.example/../dir"):
        location = site.get(target).get("Location") or "/"
        assert not location.startswith(("//", "/\\"))
        assert "evil" not in location
    for method in ("PUT", "DELETE", "PATCH"):
        assert site.request(method, "/page.html", b"x").status in (405, 501)


def test_nothing_from_outside(site: Gateway) -> None:
    """Links that lead out, devices, pipes, and every spelling of `..`."""
    links = ("dir/out.txt", "absolute-out.txt", "linkdir/secret.txt", "sibling/secret.txt", "self", "fd", "cwd", "null")
    spelt = ("..", "%2e%2e", ".%2e", "..%2f..", "%2e%2e%2f", "..%5c", "%c0%ae%c0%ae", "%252e%252e", "..;")
    for target in (*links, "fifo", "sock", "loop", "dangling", *(f"{dots}/private/secret.txt" for dots in spelt)):
        with site.connect() as connection:
            got = connection.request("GET", f"/{target}")
            assert got.status in (400, 403, 404), target
            assert filerig.SECRET not in got.body
    assert site.get("/dir/deep/up.txt").body == CONTENT  # a link that stays inside


def test_denied_suffixes(site: Gateway, tmp_path: Path) -> None:
    (tmp_path / "www/config.inc").write_text("secret")
    (tmp_path / "www/page.html~").write_text("secret")
    for target in ("/config.inc", "/page.html~", "/page.html%7E", "/dir/../config.inc", "/config%2einc"):
        assert site.get(target).status == 403
