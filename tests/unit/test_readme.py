"""The README's examples work: Python runs, configurations are understood, the commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gfastcgi import lighttpd

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

# Appended to the examples: asks through the gateway what the library's server answers, then ends both.
ASK = """
import gevent
from gevent import socket as sockets

with sockets.create_connection((gateway.addresses[0].host, gateway.addresses[0].port)) as client:
    client.sendall(b"GET /app/x HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    answer = b""
    while data := client.recv(65536):
        answer += data
assert answer.startswith(b"HTTP/1.1 200 OK\\r\\n"), answer
assert answer.endswith(b"hello from /app/x"), answer
assert authorizer(webob.Request.blank("/")).status_int == 403
gateway.stop(1)
server.stop(1)
"""


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"no {language} example"
    return found


@pytest.mark.parametrize("text", blocks("lighttpd"))
def test_configurations_are_understood_without_a_warning(text: str) -> None:
    _, warnings = lighttpd.loads(text, "site.conf")
    assert warnings == []


def test_python_examples_serve_a_request(tmp_path: Path) -> None:
    program = "\n".join([*blocks("python"), ASK])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/app/\n", done.stdout)


@pytest.mark.parametrize("script", re.findall(r"^    sh (\S+)", README, re.MULTILINE))
def test_the_scripts_are_there(script: str) -> None:
    assert (ROOT / script).is_file()
