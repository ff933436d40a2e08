"""One spawned backend under several keys: each is served, though the process serves one connection at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

# Serves one connection until its web server closes it, then the next, as libfcgi and php-cgi do.
PROGRAM = """
import os, sys
from gfastcgi.server.fastcgi import run

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

run(application, max_connections=1)
"""
HOST = '"socket" => "{root}/s", "bin-path" => "{python} {root}/app.py", "max-procs" => 1, "check-local" => "disable"'
SHARED = 'var.hosts = (( {host} ))\nfastcgi.server = ( "/a" => hosts, "/b" => hosts )\n'
REPEATED = 'fastcgi.server = ( "/a" => (( {host} )), "/b" => (( {host} )) )\n'
# The seed's example "Multiple extensions for the same host", in both orders.
NAMED = (
    'fastcgi.server = ( "/a" => (( {host} )), "/b" => (( "socket" => "{root}/s-0", "check-local" => "disable" )) )\n'
)
BEFORE = (
    'fastcgi.server = ( "/b" => (( "socket" => "{root}/s-0", "check-local" => "disable" )), "/a" => (( {host} )) )\n'
)


@pytest.mark.parametrize(
    "servers", [SHARED, REPEATED, NAMED, BEFORE], ids=["shared", "repeated", "named", "named before"]
)
def test_every_key_is_served(tmp_path: Path, gateway: Callable[..., Gateway], servers: str) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    host = HOST.format(root=tmp_path, python=sys.executable)
    site = gateway(servers.format(host=host, root=tmp_path))
    pids = {site.get(target).body for target in ("/a", "/b", "/a", "/b")}
    assert len(pids) == 1, "one process for all"
    assert pids.pop().isdigit()
