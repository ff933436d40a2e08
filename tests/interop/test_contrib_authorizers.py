"""The example authorizers in C, Perl, PHP and Python: the same answers, in front of files and of a responder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.backend import answer
from peers.programs import compile_c, find_peer, start_php_fpm

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway
    from peers.processes import Processes

EXAMPLES = Path(__file__).parents[2] / "contrib" / "authorizers"
SITE = """
server.document-root = "{root}/www"
mimetype.assign = ( ".txt" => "text/plain" )
var.gate = ( "mode" => "authorizer", "docroot" => "{root}/private"{script} )
fastcgi.server = ( "/files/" => ( gate + ( {files} ) ) )
fastcgi.server += ( "/app/" => ( gate + ( {app} ), ( {responder}, "check-local" => "disable" ) ) )
"""
NOBODY = '"host" => "127.0.0.1", "port" => 1'
BOB, EVE = "b0b" * 6, "E1E" * 6


def command(language: str, folder: Path) -> list[str]:
    """The words that start the example."""
    if language == "c":
        return [str(compile_c((EXAMPLES / "authorizer.c").read_text(), folder / "authorizer", "fcgi"))]
    if language == "perl":
        find_peer("perl-fcgi")
        return ["/usr/bin/perl", str(EXAMPLES / "authorizer.pl")]
    if language == "php":
        return [find_peer("php-cgi"), "-d", "display_errors=0"]
    return [sys.executable, str(EXAMPLES / "authorizer.py")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A site, and the sessions of two users beside things that are no sessions."""
    for folder in ("www/files", "private/files", "sessions/folder0123456789"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "private/files/a.txt").write_text("for friends")
    (tmp_path / "private/files/a.php").write_text("<?php echo 'the private file was run';")
    sessions = tmp_path / "sessions"
    (sessions / BOB).write_text("bob\nand more")
    (sessions / EVE).write_text("Eve\r\nVariable-ADMIN: 1")
    (sessions / "short").write_text("bob")
    (sessions / ("empty0" * 4)).write_text("")
    (tmp_path / ("outside0" * 3)).write_text("bob")
    return tmp_path


def spawned(program: list[str], root: Path, name: str) -> str:
    return (
        f'"bin-path" => "{" ".join(program)}", "max-procs" => 2, "socket" => "{root}/{name}",'
        f' "bin-environment" => ( "SESSIONS" => "{root}/sessions" )'
    )


def script(path: Path) -> str:
    return f', "script" => "{path}"'


def check(site: Gateway, root: Path, app: ScriptedBackend) -> None:
    for door in ("/files/a.txt", "/files/a.php", "/app/run"):
        for cookie in (
            "", "SID", "SID=", "SID=short", f"SID={BOB}x", f"SID={BOB[:-1]}", f"XSID={BOB}", f"SID={BOB.upper()}",
            f"SID=../{'outside0' * 3}", f"SID=..%2f{'outside0' * 3}", "SID=folder0123456789", f"SID={'empty0' * 4}",
            f"a={BOB}; b=SID", f"SID={'x' * 5000}",
        ):  # fmt: skip
            got = site.get(door, Cookie=cookie)
            assert (got.status, got.body) == (403, b"Please log in.\n"), (door, cookie)
    assert app.begun == 0
    for cookie in (f"SID={BOB}", f"a=1; SID={BOB}; b=2"):
        assert site.get("/files/a.txt", Cookie=cookie).body == b"for friends"
        assert site.get("/app/run", Cookie=cookie, Remote_User="mallory").body == b"bob"
    assert site.get("/files/a.txt", Cookie=f"SID={BOB}", Range="bytes=4-").body == b"friends"
    assert site.get("/app/run", Cookie=f"SID={EVE}").body == b"Eve"
    assert "ADMIN" not in app.last.params
    (root / "sessions" / BOB).unlink()
    assert site.get("/files/a.txt", Cookie=f"SID={BOB}").status == 403


@pytest.mark.parametrize("language", ["c", "perl", "php", "python"])
def test_example(
    language: str, root: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    program = command(language, root)
    app = backend(lambda seen: answer("Content-Type: text/plain\r\n\r\n" + (seen.text("REMOTE_USER") or "nobody")))
    site = gateway(SITE.format(
        root=root, script=script(EXAMPLES / "authorizer.php") if language == "php" else "", responder=app.option,
        files=spawned(program, root, "files-gate"), app=spawned(program, root, "app-gate"),
    ))  # fmt: skip
    check(site, root, app)


def test_php_under_php_fpm(
    root: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], processes: Processes
) -> None:
    """php-fpm runs the script in the role of an authorizer, without a word about roles."""
    ini = {"display_errors": "0"}
    address = start_php_fpm(processes, root / "fpm", ini=ini, env={"SESSIONS": str(root / "sessions")})
    app = backend(lambda seen: answer("Content-Type: text/plain\r\n\r\n" + (seen.text("REMOTE_USER") or "nobody")))
    option = f'"socket" => "{address}"'
    run = script(EXAMPLES / "authorizer.php")
    site = gateway(SITE.format(root=root, script=run, responder=app.option, files=option, app=option))
    check(site, root, app)


@pytest.mark.parametrize(
    "source", ["<?php syntax error", "<?php http_response_code(403); call_me();", "<?php throw new E;"]
)
def test_a_php_script_that_fails_denies(source: str, root: Path, gateway: Callable[..., Gateway]) -> None:
    (root / "broken.php").write_text(source)
    gate = spawned(command("php", root), root, "gate")
    site = gateway(SITE.format(root=root, script=script(root / "broken.php"), responder=NOBODY, files=gate, app=gate))
    got = site.get("/files/a.txt", Cookie=f"SID={BOB}")
    assert (got.status in (403, 500), b"friends" in got.body) == (True, False)


@pytest.mark.parametrize("language", ["c", "perl", "python"])
def test_without_sessions_it_does_not_start(language: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command(language, tmp_path),
        env={"PATH": "/usr/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"authorizer: no folder SESSIONS in the environment\n")


# The skeleton of an authorizer in the documentation of lighttpd's mod_fastcgi, as it is printed there, but for what no
# compiler takes: the condition lacks a parenthesis, and its words in angle brackets stand for one.
SKELETON = """\
  #include <fcgi_stdio.h>
  #include <stdlib.h>
  #include <unistd.h>
  int main () {
    char* p;

    while (FCGI_Accept() >= 0) {
     /* wait for fastcgi authorizer request */

      printf("Content-type: text/html\\r\\n");

      if (((p = getenv("QUERY_STRING")) == NULL) ||
           CONDITION)
           printf("Status: 403 Forbidden\\r\\n\\r\\n");

      else printf("\\r\\n");
        /* default Status is 200 - allow access */
    }

    return 0;
  }
"""


def test_the_skeleton(root: Path, gateway: Callable[..., Gateway]) -> None:
    source = SKELETON.replace("CONDITION", "p[0] != 'k'")
    program = [str(compile_c(source, root / "skeleton", "fcgi"))]
    files, app = (spawned(program, root, name) for name in ("files-gate", "app-gate"))
    site = gateway(SITE.format(root=root, script="", responder=NOBODY, files=files, app=app))
    got = site.get("/files/a.txt?no")
    assert (got.status, got.get("Content-Type")) == (403, "text/html")
    assert site.get("/files/a.txt").status == 403
    got = site.get("/files/a.txt?key")
    assert (got.body, got.get("Content-Type")) == (b"for friends", "text/plain")
