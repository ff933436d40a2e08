"""FastCGI programs in C (libfcgi), in Perl, and CGI scripts under fcgiwrap, spawned by `bin-path` or from outside."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import pytest
from peers.programs import compile_c, find_peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway
    from peers.processes import Processes

# The three skeletons of lighttpd's page on mod_fastcgi; the authorizer's condition is filled in.
SKELETON = r"""
#include <fcgi_stdio.h>
int main (void) {
    while (FCGI_Accept() >= 0) {
        printf("Status: 200 OK\r\n\r\nHello World!\n");
    }
    return 0;
}
"""

TESTFASTCGI = r"""
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <alloca.h>
#include <fcgiapp.h>
#define LISTENSOCK_FILENO 0
#define LISTENSOCK_FLAGS 0
int main(int argc, char** argv) {
  openlog("testfastcgi", LOG_CONS|LOG_NDELAY, LOG_USER);
  int err = FCGX_Init(); /* call before Accept in multithreaded apps */
  if (err) { syslog (LOG_INFO, "FCGX_Init failed: %d", err); return 1; }
  FCGX_Request cgi;
  err = FCGX_InitRequest(&cgi, LISTENSOCK_FILENO, LISTENSOCK_FLAGS);
  if (err) { syslog(LOG_INFO, "FCGX_InitRequest failed: %d", err); return 2; }

  while (1) {
    err = FCGX_Accept_r(&cgi);
    if (err) { syslog(LOG_INFO, "FCGX_Accept_r stopped: %d", err); break; }
    char** envp;
    int size = 200;
    for (envp = cgi.envp; *envp; ++envp) size += strlen(*envp) + 11;
    char*  result = (char*) alloca(size);
    strcpy(result, "Status: 200 OK\r\nContent-Type: text/html\r\n\r\n");
    strcat(result, "<html><head><title>testcgi</title></head><body><ul>\r\n");

    for (envp = cgi.envp; *envp; ++envp) {
      strcat(result, "<li>");
      strcat(result, *envp);
      strcat(result, "</li>\r\n");
    }

    strcat(result, "</ul></body></html>\r\n");
    FCGX_PutStr(result, strlen(result), cgi.out);
  }

  return 0;
}
"""

AUTHORIZER = r"""
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main () {
    char* p;

    while (FCGI_Accept() >= 0) {
      /* wait for fastcgi authorizer request */

      printf("Content-type: text/html\r\n");

      if ((p = getenv("QUERY_STRING")) == NULL || strcmp(p, "key=open") != 0)
           printf("Status: 403 Forbidden\r\n\r\n");

      else printf("\r\n");
        /* default Status is 200 - allow access */
    }

    return 0;
}
"""

PERL = r"""
use strict; use warnings; use FCGI;
my %env;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%env);
while ($request->Accept() >= 0) {
    my $body = '';
    read(STDIN, $body, $env{CONTENT_LENGTH}) if $env{CONTENT_LENGTH};
    print STDERR "perl saw $env{REQUEST_METHOD}\n";
    print "Content-Type: text/plain\r\n\r\n";
    print "$env{REQUEST_METHOD} $env{SCRIPT_NAME} ", length($body), " ", reverse(split(//, substr($body, 0, 5))), "\n";
}
"""

CGI_SCRIPT = """#!/bin/sh
echo "Status: 200 OK"
echo "Content-Type: text/plain"
echo "X-Script: $SCRIPT_NAME"
echo
echo "$REQUEST_METHOD $PATH_INFO $QUERY_STRING $CONTENT_LENGTH"
sha256sum
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles a C program once a session: `programs(source)`."""
    folder, built = tmp_path_factory.mktemp("programs"), {}

    def build(source: str) -> Path:
        if source not in built:
            built[source] = compile_c(source, folder / f"program-{len(built)}.fcgi", "fcgi")
        return built[source]

    return build


def test_skeleton(tmp_path: Path, programs: Callable[[str], Path], gateway: Callable[..., Gateway]) -> None:
    site = gateway(
        f'server.document-root = "{tmp_path}"\n'
        f'fastcgi.server = ( "/hello" => (( "socket" => "{tmp_path}/s", "bin-path" => "{programs(SKELETON)}",'
        ' "check-local" => "disable", "max-procs" => 2 )) )\n'
    )
    with site.connect() as connection:
        for _ in range(20):
            answer = connection.request("GET", "/hello")
            assert (answer.status, answer.body) == (200, b"Hello World!\n")


def test_seed_record_of_testfastcgi(
    tmp_path: Path, programs: Callable[[str], Path], gateway: Callable[..., Gateway]
) -> None:
    """The configuration record that stands beside the program on lighttpd's page, with its list of named hosts."""
    site = gateway(
        f'var.socket_dir = "{tmp_path}/"\nserver.document-root = "{tmp_path}"\n'
        "fastcgi.server = (\n"
        '  "/login" => (\n'
        '    "test.fastcgi.handler" => (\n'
        '      "socket" => socket_dir + "test.fastcgi.socket",\n'
        '      "check-local" => "disable",\n'
        f'      "bin-path" => "{programs(TESTFASTCGI)}",\n'
        '      "max-procs" => 30,\n'
        "    )\n"
        "  )\n"
        ")\n"
    )
    page = site.get("/login/as/ali?x=1").body.decode()
    assert "<li>SCRIPT_NAME=/login</li>" in page
    assert "<li>PATH_INFO=/as/ali</li>" in page
    assert "<li>QUERY_STRING=x=1</li>" in page
    assert 4 <= len(list(tmp_path.glob("test.fastcgi.socket-*"))) <= 30


def test_authorizer(tmp_path: Path, programs: Callable[[str], Path], gateway: Callable[..., Gateway]) -> None:
    """In front of a private docroot, killed by the signal that libfcgi asks for."""
    (tmp_path / "private/docs").mkdir(parents=True)
    (tmp_path / "private/docs/secret.txt").write_text("for friends")
    (tmp_path / "www/docs").mkdir(parents=True)
    (tmp_path / "www/docs/secret.txt").write_text("the public one")
    site = gateway(
        f'server.document-root = "{tmp_path}/www"\nmimetype.assign = ( ".txt" => "text/plain" )\n'
        f'fastcgi.server = ( "/docs/" => (( "socket" => "{tmp_path}/auth", "bin-path" => "{programs(AUTHORIZER)}",'
        f' "mode" => "authorizer", "docroot" => "{tmp_path}/private", "max-procs" => 1, "kill-signal" => 10 )) )\n'
    )
    for target in ("/docs/secret.txt", "/docs/secret.txt?key=shut", "/docs/../docs/secret.txt", "//docs//secret.txt"):
        answer = site.get(target)
        assert (answer.status, b"friends" in answer.body, b"public" in answer.body) == (403, False, False)
    answer = site.get("/docs/secret.txt?key=open")
    assert (answer.status, answer.body, answer.get("Content-Type")) == (200, b"for friends", "text/plain")
    answer = site.get("/docs/secret.txt?key=open", Range="bytes=4-")
    assert (answer.status, answer.body) == (206, b"friends")
    assert site.get("/docs/none.txt?key=open").status == 404


def test_perl(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    find_peer("perl-fcgi")
    (tmp_path / "app.pl").write_text(PERL)
    site = gateway(
        f'server.document-root = "{tmp_path}"\n'
        f'fastcgi.server = ( "/perl" => (( "socket" => "{tmp_path}/s", "bin-path" => "/usr/bin/perl {tmp_path}/app.pl",'
        ' "check-local" => "disable", "max-procs" => 2 )) )\n'
    )
    with site.connect() as connection:
        for size in (0, 5, 70_000, 1_000_000):
            answer = connection.request("POST", "/perl", b"abcde" * (size // 5))
            assert answer.body == f"POST /perl {size} {'edcba' if size else ''}\n".encode()
    assert site.get("/perl").body.startswith(b"GET /perl 0")
    site.wait_for_log("perl saw POST")


@pytest.mark.parametrize("spawned", [True, False], ids=["by-bin-path", "from-outside"])
def test_fcgiwrap(tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway], spawned: bool) -> None:
    program = find_peer("fcgiwrap")
    folder = tmp_path / "www/cgi-bin"
    folder.mkdir(parents=True)
    script = folder / "script.cgi"
    script.write_text(CGI_SCRIPT)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    where = f'"socket" => "{tmp_path}/wrap.sock"'
    if spawned:
        where += f', "bin-path" => "{program}", "max-procs" => 2'
    else:
        processes.start([program, "-s", f"unix:{tmp_path}/wrap.sock"], until=f"{tmp_path}/wrap.sock")
    site = gateway(
        f'server.document-root = "{tmp_path}/www"\n'
        f'fastcgi.server = ( ".cgi" => (( {where} )) )\n'
    )  # fmt: skip
    answer = site.get("/cgi-bin/script.cgi/extra?a=b")
    assert (answer.status, answer.get("X-Script")) == (200, "/cgi-bin/script.cgi")
    assert answer.body.startswith(b"GET /extra a=b 0\n")
    body = os.urandom(300_000)
    answer = site.request("POST", "/cgi-bin/script.cgi", body)
    assert answer.body.decode() == f"POST   300000\n{hashlib.sha256(body).hexdigest()}  -\n"
    assert site.get("/cgi-bin/none.cgi").status == 404
