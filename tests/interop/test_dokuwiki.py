"""Debian's dokuwiki behind php-fpm: a page, a login, an edit, an upload and its download, as a browser does them.

The package's own files are served as they lie (its docroot has symlinks into two other trees); only its
configuration and data are the test's own.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import zlib
from contextlib import closing
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from peers.programs import find_peer, start_php_fpm

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.gateway import Gateway
    from peers.processes import Processes

PACKAGE = Path("/usr/share/dokuwiki")
FOLDERS = ("attic", "cache", "index", "locks", "log", "media", "media_attic", "media_meta", "meta", "pages", "tmp")
SITE = """
server.document-root = "/usr/share/dokuwiki"
server.symlink-docroots = ( "/var/lib/dokuwiki", "/etc/dokuwiki" )
server.modules = ( "mod_access", "mod_fastcgi" )
index-file.names = ( "doku.php" )
mimetype.assign = ( ".css" => "text/css", ".js" => "text/javascript", ".png" => "image/png", ".svg" => "image/svg+xml" )
url.access-deny = ( "~", ".inc", ".htaccess" )
$HTTP["url"] =~ "^/(bin|data|inc|conf)/" {{ url.access-deny = ( "" ) }}
fastcgi.server = ( ".php" => ((
    "socket" => "{socket}", "broken-scriptfilename" => "enable",
    "x-sendfile" => "enable", "x-sendfile-docroot" => ( "{folder}/data/media" ) )) )
"""


def make_wiki(folder: Path, x_sendfile: int = 0) -> Path:
    """A wiki's own configuration and data; returns the PHP file that points dokuwiki to them.

    With `x_sendfile` 2 dokuwiki hands its media files to the server by X-Sendfile, with 1 by X-LIGHTTPD-send-file.
    """
    conf, data = folder / "conf", folder / "data"
    conf.mkdir()
    for path in Path("/etc/dokuwiki").iterdir():
        if not path.is_symlink() and path.is_file() and path.name not in ("local.php", "apache.conf"):
            shutil.copyfile(path, conf / path.name)
    for name in FOLDERS:
        (data / name).mkdir(parents=True)
    (data / "pages/start.txt").write_text("====== Front door ======\nCome in.\n")
    (data / "pages/private.txt").write_text("behind the curtain\n")
    (conf / "acl.auth.php").write_text("* @ALL 1\n* @user 16\nprivate @ALL 0\n")
    secret = hashlib.md5(b"open sesame").hexdigest()
    (conf / "users.auth.php").write_text(f"ali:{secret}:Ali Baba:ali@example.org:admin,user\n")
    (conf / "local.php").write_text(
        f"<?php $conf['savedir'] = '{data}'; $conf['useacl'] = 1; $conf['superuser'] = '@admin';"
        " $conf['updatecheck'] = 0; $conf['disableactions'] = 'register'; $conf['title'] = 'Test wiki';\n"
        f" $conf['xsendfile'] = {x_sendfile};\n"
    )
    prepend = folder / "prepend.php"
    prepend.write_text(f"<?php define('DOKU_CONF', '{conf}/');\n")
    return prepend


class Browser:
    """One visitor: one connection, a cookie jar, and the hidden fields of forms."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.cookies: SimpleCookie = SimpleCookie()

    def request(
        self, method: str, target: str, body: bytes | None = None, content_type: str = "", *, follow: bool = True
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Cookie": "; ".join(f"{name}={morsel.coded_value}" for name, morsel in self.cookies.items())}
        if content_type:
            headers["Content-Type"] = content_type
        self.connection.request(method, target, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        for value in response.headers.get_all("Set-Cookie", []):
            self.cookies.load(value)
        if follow and response.status in (301, 302, 303):
            location = response.headers["Location"]
            return self.request("GET", re.sub("^https?://[^/]+", "", location).partition("#")[0])
        return response, content

    def get(self, target: str) -> tuple[int, str]:
        response, content = self.request("GET", target)
        return response.status, content.decode("utf-8", "replace")

    def submit(self, target: str, fields: dict[str, str]) -> tuple[int, str]:
        body, content_type = urlencode(fields).encode(), "application/x-www-form-urlencoded"
        response, content = self.request("POST", target, body, content_type)
        return response.status, content.decode("utf-8", "replace")


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden inputs of a page's forms; the last of a name wins."""
    fields = {}
    for tag in re.findall(r"<input[^>]*>", page):
        attributes = dict(re.findall(r'([a-z]+)="([^"]*)"', tag))
        if attributes.get("type") == "hidden":
            fields[attributes["name"]] = unescape(attributes.get("value", ""))
    return fields


def make_png(width: int = 64) -> bytes:
    """A small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(width * 3)) for y in range(width))
    head = width.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def multipart(fields: dict[str, str], name: str, filename: str, data: bytes) -> tuple[bytes, str]:
    boundary = "between-the-parts"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    parts += [f"{head}Content-Type: image/png\r\n\r\n".encode(), data, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


@pytest.mark.parametrize("x_sendfile", [0, 1, 2], ids=["by-php", "by-x-lighttpd-send-file", "by-x-sendfile"])
def test_dokuwiki(tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway], x_sendfile: int) -> None:
    find_peer("dokuwiki")
    prepend = make_wiki(tmp_path, x_sendfile)
    socket = start_php_fpm(processes, tmp_path / "fpm", ini={"auto_prepend_file": str(prepend)})
    browser = Browser(gateway(SITE.format(socket=socket, folder=tmp_path)).port)
    with closing(browser.connection):
        visit_wiki(browser)


def visit_wiki(browser: Browser) -> None:

    # A page, by the index file and by its name, and what belongs to it.
    status, page = browser.get("/")
    assert (status, "Front door" in page) == (200, True)
    assert "Come in." in browser.get("/doku.php?id=start")[1]
    for target in set(re.findall(r'(?:src|href)="(/lib/[^"]+)"', page)):
        response, content = browser.request("GET", unescape(target))
        assert (response.status, bool(content)) == (200, True), target
    status, script = browser.get("/lib/scripts/behaviour.js")
    assert (status, script) == (200, (PACKAGE / "lib/scripts/behaviour.js").read_text())
    assert browser.get("/lib/tpl/dokuwiki/images/button-php.gif")[0] == 200  # through a symlink
    assert browser.get("/inc/init.php")[0] == 403
    assert browser.get("/nothing-here")[0] == 404

    # What needs a login, before and after one.
    assert "behind the curtain" not in browser.get("/doku.php?id=private")[1]
    status, page = browser.get("/doku.php?id=start&do=login")
    fields = {**hidden_fields(page), "u": "ali", "p": "wrong", "id": "start", "do": "login"}
    assert "Ali Baba" not in browser.submit("/doku.php?id=start", fields)[1]
    fields = {**hidden_fields(page), "u": "ali", "p": "open sesame", "id": "start", "do": "login"}
    assert "Ali Baba" in browser.submit("/doku.php?id=start", fields)[1]
    assert "behind the curtain" in browser.get("/doku.php?id=private")[1]

    # An edit, with letters outside ASCII and a good many of them.
    _, page = browser.get("/doku.php?id=notes&do=edit")
    text = "====== Notes ======\nGrüße, 你好\n\n" + "All work and no play. " * 5000
    fields = {**hidden_fields(page), "wikitext": text, "summary": "first", "do[save]": "Save", "id": "notes"}
    status, page = browser.submit("/doku.php?id=notes", fields)
    assert (status, "Grüße, 你好" in page) == (200, True)
    assert browser.get("/doku.php?id=notes&do=export_raw")[1].strip() == text.strip()

    # An upload and its download.
    picture = make_png()
    _, page = browser.get("/lib/exe/mediamanager.php?ns=")
    fields = {**hidden_fields(page), "ns": "", "mediaid": "picture.png"}
    body, content_type = multipart(fields, "upload", "picture.png", picture)
    response, _ = browser.request("POST", "/lib/exe/mediamanager.php", body, content_type)
    assert response.status == 200
    response, content = browser.request("GET", "/lib/exe/fetch.php?media=picture.png")
    assert (response.status, response.headers["Content-Type"], content) == (200, "image/png", picture)

    # And out again.
    browser.get(f"/doku.php?id=start&do=logout&sectok={hidden_fields(page)['sectok']}")
    assert "behind the curtain" not in browser.get("/doku.php?id=private")[1]
