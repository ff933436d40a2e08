"""auth.require with real clients and real files of users: curl, htpasswd, htdigest."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from peers.programs import find_peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

SECRET = "SECRET-FILE"

SITE = """
server.document-root = "{root}"
accesslog.filename = "{root}/../access.log"
accesslog.format = "%U %s user=%u"
index-file.names = ( "index.html" )
auth.backend.htpasswd.userfile = "{root}/../htpasswd"
auth.backend.htdigest.userfile = "{root}/../htdigest"
auth.backend.plain.userfile = "{root}/../missing"
auth.backend.plain.groupfile = "{root}/../groups"
auth.backend = "htpasswd"
auth.require = (
  "/open/" => ( "method" => "basic", "realm" => "one user", "require" => "user=bob" ),
  "/staff/" => ( "method" => "basic", "realm" => "staff", "require" => "group=staff" ),
  "/basic/" => ( "method" => "basic", "realm" => "anybody", "require" => "valid-user" ),
  "/index/index.html" => ( "method" => "basic", "realm" => "anybody", "require" => "valid-user" ),
)
$HTTP["url"] =^ "/digest/" {{
  auth.backend = "htdigest"
  auth.require = ( "" => ( "method" => "digest", "realm" => "the realm", "require" => "valid-user" ) )
}}
$HTTP["url"] =^ "/missing/" {{
  auth.backend = "plain"
  auth.require = ( "" => ( "method" => "basic", "realm" => "x", "require" => "valid-user" ) )
}}
$HTTP["url"] =~ "^/broken" {{
  auth.backend = "htdigest"
  auth.require = ( "" => ( "method" => "digest", "realm" => "x", "require" => "valid-user" ) )
}}
$HTTP["url"] =^ "/broken/" {{
  auth.backend = "htpasswd"
}}
fastcgi.server = ( "/basic/app" => (( {app}, "check-local" => "disable" )) )
"""


class Site:
    def __init__(self, folder: Path, app: ScriptedBackend, gateway: Callable[..., Gateway]) -> None:
        root = self.root = folder / "www"
        for name in ("open", "staff", "basic", "digest", "missing", "broken", "index"):
            (root / name).mkdir(parents=True)
            (root / name / "file.txt").write_text(SECRET)
        (root / "index" / "index.html").write_text(SECRET)
        (root / "public.txt").write_text("public")
        htpasswd = [find_peer("htpasswd"), "-b", str(folder / "htpasswd")]
        subprocess.run([*htpasswd[:1], "-cbB", *htpasswd[2:], "ann", "secret"], check=True, capture_output=True)
        subprocess.run([*htpasswd, "bob", "böb"], check=True, capture_output=True)
        command = [find_peer("htdigest"), "-c", str(folder / "htdigest"), "the realm", "ann"]
        # htdigest asks twice, and takes what comes where there is no terminal.
        subprocess.run(command, input=b"secret\nsecret\n", check=True, capture_output=True, start_new_session=True)
        (folder / "groups").write_text("staff: bob\n")
        self.folder = folder
        self.clients = 0
        self.gateway = gateway(SITE.format(root=root, app=app.option))

    def curl(self, path: str, *arguments: str) -> tuple[int, str]:
        """The status and body that curl got in the end."""
        # Each from an address of its own: wrong guesses of one client wait longer and longer.
        self.clients += 1
        address = f"127.0.1.{self.clients}"
        command = [find_peer("curl"), "-sS", "--interface", address, "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{self.gateway.port}{path}"], capture_output=True, check=True, text=True
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_gateway: Callable[..., Gateway],
) -> Site:
    return Site(tmp_path_factory.mktemp("login"), module_backend(), module_gateway)


def test_basic(site: Site) -> None:
    assert site.curl("/public.txt") == (200, "public")
    assert site.curl("/basic/file.txt", "--basic", "-u", "ann:secret") == (200, SECRET)
    assert site.curl("/basic/file.txt", "--basic", "-u", "bob:böb") == (200, SECRET)
    for user in ("ann:wrong", "ann:", "nobody:secret"):
        status, body = site.curl("/basic/file.txt", "--basic", "-u", user)
        assert (status, SECRET in body) == (401, False)
    got = site.gateway.get("/basic/file.txt")
    assert (got.status, got.get("WWW-Authenticate")) == (401, 'Basic realm="anybody", charset="UTF-8"')


def test_the_responder_and_the_log_know_the_user(site: Site) -> None:
    status, body = site.curl("/basic/app/x", "--basic", "-u", "ann:secret", "-d", "body", "-H", "Remote-User: root")
    params = json.loads(body)["params"]
    assert (status, params["REMOTE_USER"], params["AUTH_TYPE"]) == (200, "ann", "Basic")
    assert "HTTP_REMOTE_USER" not in params


def test_rules(site: Site) -> None:
    outcomes = {
        (path, user): site.curl(f"/{path}/file.txt", "--basic", "-u", user)[0]
        for path in ("open", "staff")
        for user in ("ann:secret", "bob:böb")
    }
    assert outcomes == {
        ("open", "ann:secret"): 401, ("open", "bob:böb"): 200, ("staff", "ann:secret"): 401, ("staff", "bob:böb"): 200,
    }  # fmt: skip


def test_digest(site: Site) -> None:
    assert site.curl("/digest/file.txt", "--digest", "-u", "ann:secret") == (200, SECRET)
    assert site.curl("/digest/file.txt?a=b&c=%20", "--digest", "-u", "ann:secret") == (200, SECRET)
    assert site.curl("/digest/file.txt", "--digest", "-u", "ann:secret", "-X", "POST", "-d", "x") == (200, SECRET)
    for user in ("ann:wrong", "nobody:secret"):
        status, body = site.curl("/digest/file.txt", "--digest", "-u", user)
        assert (status, SECRET in body) == (401, False)
    assert site.curl("/digest/file.txt", "--basic", "-u", "ann:secret")[0] == 401


def test_an_index_file_is_guarded_by_its_own_name(site: Site) -> None:
    for path in ("/index/", "/index/index.html", "/index/./index.html", "//index/%69ndex.html"):
        got = site.gateway.get(path)
        assert (got.status, SECRET.encode() in got.body) == (401, False), path
    assert site.curl("/index/", "--basic", "-u", "ann:secret") == (200, SECRET)


def test_no_file_of_users_no_entry(site: Site) -> None:
    status, body = site.curl("/missing/file.txt", "--basic", "-u", "ann:secret")
    assert (status, SECRET in body) == (500, False)
    status, body = site.curl("/missing/file.txt")
    assert (status, SECRET in body) == (401, False)
    site.gateway.wait_for_log("No such file or directory.*missing")


def test_a_requirement_that_cannot_be_judged(site: Site) -> None:
    """Two blocks, each of which is sound without the other, and both hold: that shows when a request comes."""
    got = site.gateway.get("/broken/file.txt")
    assert (got.status, SECRET.encode() in got.body) == (500, False)
    site.gateway.wait_for_log('"digest" needs the backend "htdigest" or "plain"')
    site.gateway.may_trace = True


def test_a_user_who_is_removed_is_out_at_once(site: Site) -> None:
    subprocess.run(
        [find_peer("htpasswd"), "-bs", str(site.folder / "htpasswd"), "cid", "x"], check=True, capture_output=True
    )
    assert site.curl("/basic/file.txt", "--basic", "-u", "cid:x") == (200, SECRET)
    subprocess.run([find_peer("htpasswd"), "-D", str(site.folder / "htpasswd"), "cid"], check=True, capture_output=True)
    assert site.curl("/basic/file.txt", "--basic", "-u", "cid:x")[0] == 401
    os.rename(site.folder / "htpasswd", site.folder / "away")
    status, body = site.curl("/basic/file.txt", "--basic", "-u", "ann:secret")
    assert (status, SECRET in body) == (500, False)
    os.rename(site.folder / "away", site.folder / "htpasswd")
    assert site.curl("/basic/file.txt", "--basic", "-u", "ann:secret") == (200, SECRET)
