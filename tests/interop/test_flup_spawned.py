"""lighttpd's page on flup: its configuration and its program under lighttpd and under us; only a name is another."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.http import Connection
from peers.programs import start_lighttpd

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.gateway import Gateway
    from peers.processes import Processes

ROOT = Path(__file__).parents[2]

CONFIG = """
var.socket_dir = "{folder}/"
server.document-root = "{folder}/www"

fastcgi.server = (
    ".py" =>
    (
        "python-fcgi" =>
        (
         "socket" => socket_dir + "fastcgi.python.socket",
         "bin-path" => "{folder}/test.py",
         "check-local" => "disable",
         "max-procs" => 1,
        )
    ))
"""
PROGRAM = """#!{python}
def myapp(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return ['Hello World!\\n']

if __name__ == '__main__':
    from gfastcgi.compat.flup import WSGIServer
    WSGIServer(myapp).run()
"""


@pytest.mark.parametrize("is_ours", [True, False], ids=["gfastcgi", "lighttpd"])
def test_the_page(
    is_ours: bool,
    tmp_path: Path,
    processes: Processes,
    gateway: Callable[..., Gateway],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "www").mkdir()
    program = tmp_path / "test.py"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    config = CONFIG.format(folder=tmp_path)
    port = gateway(config).port if is_ours else start_lighttpd(processes, tmp_path, config, "mod_fastcgi")
    with Connection(("127.0.0.1", port)) as client:
        for _ in range(3):
            answer = client.request("GET", "/test.py", Host="a")
            assert (answer.status, answer.body) == (200, b"Hello World!\n")
            assert answer.get("Content-Type") == "text/plain"
