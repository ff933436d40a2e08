"""What the documentation shows works: Python runs, configurations are understood, commands and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gfastcgi import assemble, lighttpd

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT): path.read_text() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
README = PAGES[Path("README.md")]

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


def blocks(language: str, page: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found, f"no {language} example"
    return found


@pytest.mark.parametrize(
    "text",
    [
        *blocks("lighttpd", README),
        *blocks("lighttpd", PAGES[Path("docs/authorizers.md")]),
        *blocks("lighttpd", PAGES[Path("docs/decisions.md")]),
        *blocks("lighttpd", PAGES[Path("docs/status.md")]),
        *blocks("lighttpd", PAGES[Path("docs/backends.md")]),
        (ROOT / "contrib/lighttpd.conf").read_text(),
    ],
)
def test_configurations_are_understood_without_a_warning(text: str) -> None:
    config, warnings = lighttpd.loads(text, "site.conf")
    assert warnings == []
    assemble.build(config)


def test_python_examples_serve_a_request(tmp_path: Path) -> None:
    program = "\n".join([*blocks("python", README), ASK])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"hello from /client\nhttp://127\.0\.0\.1:\d+/app/\n", done.stdout)


@pytest.mark.parametrize("script", re.findall(r"^    sh (\S+)", README, re.MULTILINE))
def test_the_scripts_are_there(script: str) -> None:
    assert (ROOT / script).is_file()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", PAGES[page]):
        assert (ROOT / page.parent / link).exists(), link


def test_the_architecture_names_every_module() -> None:
    package = ROOT / "gfastcgi"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("_")}
    named = re.findall(r"^([a-z_/]+\.py) +\S", PAGES[Path("docs/architecture.md")], re.MULTILINE)
    assert modules ^ set(named) == set(), "every module has a line under `The rooms`, and every line a module"
