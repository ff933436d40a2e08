"""docs/server.md: its Python runs and serves, its configuration is understood, its options are all there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from gfastcgi import lighttpd
from gfastcgi.cli import wsgi

PAGE = (Path(__file__).parents[2] / "docs/server.md").read_text()

ASK = """
from gevent import socket as sockets

from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import WebServer


def ask(server, role, params, data=None):
    core = WebServer()
    with sockets.create_connection(server.address) as client:
        client.sendall(core.begin_request(1, role, params, keep_conn=False, stdin=b""))
        if data is not None:
            client.sendall(core.send_data(1, data) + core.send_data(1, b""))
        events = []
        while received := client.recv(65536):
            events += core.receive_data(received)
    return b"".join(event.data for event in events if hasattr(event, "data"))
"""

RESPONDER = 'assert ask(server, constants.RESPONDER, b"\\x09\\x02PATH_INFO/x").endswith(b"hello from /x")\n'
AUTHORIZER = """
assert b"Location: " in ask(server, constants.AUTHORIZER, b"\\x09\\x02PATH_INFO/x")
allowed = ask(server, constants.AUTHORIZER, b"\\x0b\\x0eHTTP_COOKIEsession=secret")
assert b"Variable-REMOTE_USER: ada" in allowed and b"Variable-GROUP: staff" in allowed
"""
FILTER = 'assert ask(server, constants.FILTER, b"\\x09\\x02PATH_INFO/x", b"quiet").endswith(b"QUIET")\n'


def test_python() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    started = "server.start()\n"
    program = "\n".join([
        blocks[0], ASK, RESPONDER, blocks[1], started, AUTHORIZER, blocks[2], started, FILTER, blocks[3],
    ])  # fmt: skip
    assert len(blocks) == 4
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_the_configuration() -> None:
    [text] = re.findall(r"^```lighttpd\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    _, warnings = lighttpd.loads(text, "site.conf")
    assert warnings == []


def test_every_option_is_told_of() -> None:
    actions = wsgi.parser()._actions
    options = {option for action in actions for option in action.option_strings if option.startswith("--")} - {"--help"}
    table = PAGE[: PAGE.index("SIGTERM")]
    assert set(re.findall(r"`(--[a-z-]+)`", table)) == options


def test_command_lines_are_understood() -> None:
    for line in re.findall(r"gfastcgi wsgi ([^\n\"]+)", PAGE + wsgi._EPILOG):
        if line.startswith("MODULE"):
            continue
        assert wsgi.parser().parse_args(line.split()).app
