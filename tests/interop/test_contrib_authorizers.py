"""The example authorizers, in C and in Python: the same answers, in front of a private docroot and of a responder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.backend import answer
from peers.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

EXAMPLES = Path(__file__).parents[2] / "contrib" / "authorizers"
SITE = """
server.document-root = "{root}/www"
mimetype.assign = ( ".txt" => "text/plain" )
var.gate = (
    "mode" => "authorizer", "bin-path" => "{program}", "max-procs" => 2,
    "bin-environment" => ( "KEY" => "sesame" ), "docroot" => "{root}/private",
)
fastcgi.server = ( "/files/" => ( gate + ( "socket" => "{root}/files-gate" ) ) )
fastcgi.server += ( "/app/" => ( gate + ( "socket" => "{root}/app-gate" ), ( {app}, "check-local" => "disable" ) ) )
"""


@pytest.fixture(params=["c", "python"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The words that start the example."""
    if request.param == "python":
        return [sys.executable, str(EXAMPLES / "authorizer.py")]
    return [str(compile_c((EXAMPLES / "authorizer.c").read_text(), tmp_path / "authorizer", "fcgi"))]


def test_example(
    program: list[str], tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    for folder in ("www/files", "private/files"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "private/files/a.txt").write_text("for friends")
    app = backend(lambda seen: answer("Content-Type: text/plain\r\n\r\n" + seen.text("REMOTE_USER")))
    site = gateway(SITE.format(root=tmp_path, program=" ".join(program), app=app.option).replace("sesame", "sesame"))
    for door in ("/files/a.txt", "/app/run"):
        for query in ("", "?", "?key=", "?key=sesam", "?key=sesame1", "?key=SESAME", "?x&key=sesame"):
            got = site.get(door + query)
            assert (got.status, got.body) == (403, b"The key is missing or wrong.\n"), (door, query)
    assert app.begun == 0
    assert site.get("/files/a.txt?key=sesame").body == b"for friends"
    assert site.get("/files/a.txt?key=sesame", Range="bytes=4-").body == b"friends"
    assert site.get("/app/run?key=sesame", Remote_User="mallory").body == b"friend"


def test_without_its_key_it_does_not_start(program: list[str]) -> None:
    done = subprocess.run(program, env={"PATH": "/usr/bin"}, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"authorizer: no KEY in the environment\n")
