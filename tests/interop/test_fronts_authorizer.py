"""Our authorizers behind Apache's mod_authnz_fcgi, which asks over TCP and sends no STDIN."""

from __future__ import annotations

import base64
import os
import sys
from typing import TYPE_CHECKING

import pytest
from peers.fronts import ROOT, Site, apache
from peers.http import Connection
from peers.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.processes import Processes

APPLICATION = """
import webob
from gfastcgi import Allow, authorizer
from gfastcgi.auth.base import Deny

@authorizer
def guard(request):
    user, password = request.environ.get("REMOTE_USER"), request.environ.get("REMOTE_PASSWD")
    if password == "boom":
        raise RuntimeError("the authorizer broke")
    if password == "no":
        return False
    if password == "deny":
        return Deny(webob.Response("not you", status=403, content_type="text/plain"))
    if password == "nothing":
        return None
    return Allow({b"REMOTE_USER": user.encode(), b"GROUP": b"staff"}) if password == "allow" else user
"""

CONFIG = """
LoadModule auth_basic_module {{modules}}/mod_auth_basic.so
LoadModule authnz_fcgi_module {{modules}}/mod_authnz_fcgi.so
LoadModule headers_module {{modules}}/mod_headers.so
AuthnzFcgiDefineProvider authnz Guard fcgi://127.0.0.1:{port}/
<Directory "{folder}/www">
  AuthType Basic
  AuthName "a"
  AuthBasicProvider Guard
  Require Guard
  Header set X-Group "%{{{{GROUP}}}}e"
</Directory>
"""


@pytest.fixture(scope="module")
def port(module_processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> int:
    folder: Path = tmp_path_factory.mktemp("authnz")
    (folder / "www").mkdir()
    (folder / "www/secret.txt").write_text("for friends")
    (folder / "guards.py").write_text(APPLICATION)
    guarded = free_port()
    module_processes.start(
        [sys.executable, "-m", "gfastcgi", "wsgi", "guards:guard", "--bind", f"127.0.0.1:{guarded}"],
        until=("127.0.0.1", guarded), cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    site = Site(module_processes, folder, "")
    return apache(site, CONFIG.format(port=guarded, folder=folder).replace("{{", "{").replace("}}", "}"))


@pytest.fixture
def client(port: int) -> Iterator[Connection]:
    with Connection(("127.0.0.1", port)) as connection:
        yield connection


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()


@pytest.mark.parametrize("password", ["yes", "allow"])
def test_a_yes(client: Connection, password: str) -> None:
    for _ in range(3):
        answer = client.request("GET", "/secret.txt", Host="a", Authorization=basic(password))
        assert (answer.status, answer.body) == (200, b"for friends")


def test_variables_arrive(client: Connection) -> None:
    answer = client.request("GET", "/secret.txt", Host="a", Authorization=basic("allow"))
    assert answer.get("X-Group") == "staff"


@pytest.mark.parametrize("password", ["no", "deny", "boom", "nothing"])
def test_all_else_is_a_no(client: Connection, password: str) -> None:
    answer = client.request("GET", "/secret.txt", Host="a", Authorization=basic(password))
    assert answer.status >= 400
    assert b"friends" not in answer.body


def test_without_credentials(client: Connection) -> None:
    answer = client.request("GET", "/secret.txt", Host="a")
    assert answer.status == 401
    assert b"friends" not in answer.body
