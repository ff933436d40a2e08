"""`gfastcgi demo`: a whole site in a temporary folder, from an ordinary lighttpd.conf; Ctrl-C leaves nothing behind.

Plan: a private folder -> its files -> `site.conf` -> the same `serve` as for any other file -> the folder is removed.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import shutil
import signal
import socket
import string
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from gfastcgi import lighttpd
from gfastcgi.cli.console import paint
from gfastcgi.cli.demo_apps import PASSWORD, USER
from gfastcgi.cli.serve import serve
from gfastcgi.errors import InvalidValue

if TYPE_CHECKING:
    from gfastcgi.assemble import App

__all__ = ["parser", "run", "write_site"]

HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = 8080, 8179

LONGEST_TEMPDIR = 60
"""Bytes of TMPDIR that leave room for the names of unix sockets (108 bytes, unix(7))."""

RESPONDERS = {"north": 1, "east": 1, "south": 1, "west": 4}
"""The names of the four responders, and how slow each is."""

PHP = b"""<?php
header("Content-Type: text/plain");
printf("PHP %s says hello by %s, from process %d.\\n", PHP_VERSION, PHP_SAPI, getmypid());
"""

CONF = """\
# The whole configuration of this demo: an ordinary lighttpd.conf.

server.document-root = "$folder/public"
server.bind          = "$host"
server.port          = $port
server.modules       = ( "mod_accesslog", "mod_fastcgi" )
index-file.names     = ( "index.html" )
accesslog.filename   = "$folder/access.log"
mimetype.assign      = ( ".html" => "text/html; charset=utf-8", ".txt" => "text/plain; charset=utf-8",
                         ".svg" => "image/svg+xml" )

# Programs that the gateway starts, watches and ends.
var.program     = "$program"
var.environment = ( "PYTHONPATH" => "$pythonpath", "DEMO_STATE" => "$folder/state" )

fastcgi.balance = "round-robin"
fastcgi.server  = (
    # Four responders share what begins with /app/: each request goes to the next one.
    "/app/" => (
$responders    ),

    # The gate: a request for /private/ reaches a responder, and a file, only when an authorizer lets it.
    "/private/" => (
        "gate" => (
            "mode" => "authorizer",
            "socket" => "$folder/state/gate.sock",
            "bin-path" => var.program + " authorizer",
            "bin-environment" => var.environment,
            "max-procs" => 2,
            "check-local" => "disable",
            "docroot" => "$folder/vault",
        ),
        # The responder only names the file, by X-Sendfile; the gateway sends it, and only from here:
        "vault" => (
            "socket" => "$folder/state/vault.sock",
            "bin-path" => var.program + " responder",
            "bin-environment" => var.environment + ( "DEMO_NAME" => "vault" ),
            "max-procs" => 1,
            "check-local" => "disable",
            "x-sendfile" => "enable",
            "x-sendfile-docroot" => ( "$folder/vault" ),
        ),
    ),
$php)

# The other balances, for the paths that ask for them.
$$HTTP["url"] =~ "^/app/who/least-connection/" { fastcgi.balance = "least-connection" }
$$HTTP["url"] =~ "^/app/who/hash/"             { fastcgi.balance = "hash" }
$$HTTP["url"] =~ "^/app/who/sticky/"           { fastcgi.balance = "sticky" }
"""

RESPONDER = """\
        "$name" => (
            "socket" => "$folder/state/$name.sock",
            "bin-path" => var.program + " responder",
            "bin-environment" => var.environment + ( "DEMO_NAME" => "$name", "DEMO_SLOWNESS" => "$slowness" ),
            "max-procs" => 1,
            "check-local" => "disable",
        ),
"""

PHP_SERVER = """
    # This machine has PHP.
    ".php" => (( "socket" => "$folder/state/php.sock", "bin-path" => "$php", "max-procs" => 1,
                 "bin-environment" => ( "PHP_FCGI_CHILDREN" => "1" ) )),
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi demo`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi demo",
        description="Start a site that shows the gateway at work: balance, authorizer, X-Sendfile. Ctrl-C ends it.",
        epilog="examples:\n  gfastcgi demo\n  gfastcgi demo --port 8080 --no-php",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"listen on {HOST}:N (default: the first free from {FIRST_PORT})"
    )
    parser.add_argument("--no-php", action="store_true", help="leave PHP out even where php-cgi is installed")
    return parser


def run(options: argparse.Namespace) -> int:
    """Serve the demo until a signal ends it; the value is the exit status. Raises `ConfigError`."""
    port = _free_port() if options.port is None else options.port
    php = "" if options.no_php else shutil.which("php-cgi") or ""
    for number in (signal.SIGINT, signal.SIGTERM):  # until `serve` takes them: leave in order, too
        signal.signal(number, _leave)
    with _private_folder() as folder:
        conf = write_site(folder, port=port, php=php)
        config, _ = lighttpd.load(str(conf))
        return serve(config, on_start=_announce(conf, has_php=bool(php)), hangup_stops=True)


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


@contextmanager
def _private_folder() -> Iterator[Path]:
    usual = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="gfastcgi-demo-", dir=usual if len(usual) <= LONGEST_TEMPDIR else "/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    for port in range(FIRST_PORT, LAST_PORT + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise InvalidValue(f"no port of {HOST} is free from {FIRST_PORT} to {LAST_PORT}: choose one with --port")


def write_site(folder: Path, *, port: int, php: str = "") -> Path:
    """Write the demo's files into `folder` and return its configuration file; `php` is the path of php-cgi, if any."""
    for name in ("public", "vault/private", "state"):
        (folder / name).mkdir(mode=0o700, parents=True)
    (folder / "state" / "session.key").write_bytes(secrets.token_bytes(32))
    page = resources.files("gfastcgi.cli").joinpath("demo_page.html").read_bytes()
    (folder / "public" / "index.html").write_bytes(page)
    (folder / "vault" / "private" / "postcard.svg").write_text(_postcard(), encoding="utf-8")
    if php:
        (folder / "public" / "hello.php").write_bytes(PHP)
    conf = folder / "site.conf"
    text = _conf(folder, port, php)
    for file in (conf, folder / "public" / "site.conf.txt"):  # a symlink out of the docroot would not be served
        file.write_text(text, encoding="utf-8")
    return conf


def _conf(folder: Path, port: int, php: str) -> str:
    def fill(template: str, **values: object) -> str:
        return string.Template(template).substitute(folder=folder, **values)

    return fill(
        CONF,
        host=HOST,
        port=port,
        program=f"{shlex.quote(sys.executable)} -m gfastcgi.cli.demo_apps",
        pythonpath=Path(__file__).parents[2],
        responders="".join(fill(RESPONDER, name=name, slowness=factor) for name, factor in RESPONDERS.items()),
        php=fill(PHP_SERVER, php=shlex.quote(php)) if php else "",
    )


def _postcard() -> str:
    """The private file: an evening over hills, drawn anew each time."""
    stars = "".join(
        f'<circle cx="{secrets.randbelow(1600)}" cy="{secrets.randbelow(420)}" r="{1 + secrets.randbelow(3)}"/>'
        for _ in range(90)
    )
    ridges = (("#3f4a6b", 560, 120), ("#2f3a57", 640, -90), ("#1f2941", 730, 70), ("#141b2d", 810, -40))
    hills = "".join(
        f'<path fill="{colour}" d="M0 {y} C 260 {y - bend} 520 {y + bend} 800 {y - bend // 3} '
        f'S 1320 {y - bend} 1600 {y + bend // 4} V 900 H 0 Z"/>'
        for colour, y, bend in ridges
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1600 900">'
        '<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1"><stop stop-color="#1b2447"/>'
        '<stop offset=".45" stop-color="#7a5a86"/><stop offset=".7" stop-color="#f0a36b"/></linearGradient></defs>'
        f'<rect width="1600" height="900" fill="url(#sky)"/><g fill="#fff" opacity=".6">{stars}</g>'
        f'<circle cx="1180" cy="470" r="84" fill="#ffe2b0"/>{hills}'
        '<g fill="#fff" font-family="Georgia, serif">'
        '<text x="96" y="150" font-size="76">Greetings from the vault</text>'
        '<text x="100" y="212" font-size="34" opacity=".85">You are on the right side of the gate.</text></g></svg>\n'
    )


def _announce(conf: Path, *, has_php: bool) -> Callable[[App], None]:
    def announce(app: App) -> None:
        at = f"http://{app.addresses[0]}"
        lines = [
            "",
            f"  {paint('The demo is at', 'bold', sys.stdout)} {paint(at + '/', 'green', sys.stdout)}",
            "",
            f"  four responders   curl {at}/app/who/round-robin/",
            f"  the gate: 403     curl -i {at}/private/postcard.svg",
            f"  log in            curl -c jar -H 'X-Demo: 1' -d user={USER} -d password={PASSWORD} {at}/app/login",
            f"  and fetch it      curl -b jar -i -r 0-63 {at}/private/postcard.svg",
            f"  kill the gate     curl -d '' -H 'X-Demo: 1' {at}/app/kill",
        ]
        if has_php:
            lines.append(f"  PHP               curl {at}/hello.php")
        lines += ["", f"  configuration     {conf}", f"  requests          {conf.parent}/access.log", ""]
        lines += ["  Ctrl-C ends it.", ""]
        with suppress(OSError):  # nobody reads it
            print("\n".join(lines), flush=True)

    return announce
