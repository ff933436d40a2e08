"""What the documentation shows works: Python runs, configurations are understood, commands and links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filerig import ask
from peers.http import Connection
from peers.processes import free_port

from gfastcgi import Allow, assemble, lighttpd
from gfastcgi.auth.base import Deny

if TYPE_CHECKING:
    from peers.processes import Processes

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT): path.read_text() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
README = PAGES[Path("README.md")]

GATE, *LIBRARY = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def blocks(language: str, page: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found, f"no {language} example"
    return found


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module that README shows."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "gate", raising=False)
    (tmp_path / "gate.py").write_text(GATE)
    return tmp_path


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
def test_configurations_are_understood_without_a_warning(text: str, gate: Path) -> None:
    config, warnings = lighttpd.loads(text, str(gate / "site.conf"))
    assert warnings == []
    assemble.build(config)


def test_the_gate(gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(gate))
    from gate import check

    assert check.check(ask("/club/", cookie="SID=s3cret"), "/") == Allow({b"REMOTE_USER": b"ann"})
    assert isinstance(check.check(ask("/club/", cookie="SID=x"), "/"), Deny)


def test_python_examples_serve_a_request(tmp_path: Path, processes: Processes) -> None:
    """Each is a program of its own, as it stands there but for the ports; the first serves the others."""
    ports = {"9000": str(free_port()), "8080": str(free_port())}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name, text in zip(("server", "client", "gateway"), LIBRARY, strict=True):
        (tmp_path / f"{name}.py").write_text(re.sub("9000|8080", lambda port: ports[port[0]], text))

    def start(name: str, port: str) -> tuple[str, int]:
        address = ("127.0.0.1", int(ports[port]))
        processes.start([sys.executable, f"{name}.py"], until=address, cwd=tmp_path, env=environment)
        return address

    start("server", "9000")
    client = subprocess.run(
        [sys.executable, "client.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert (client.returncode, client.stdout, client.stderr) == (0, "hello from /client\n", "")
    with Connection(start("gateway", "8080")) as connection:
        for target, cookie, status, body in (
            ("/app/x", "", 200, b"hello from /app/x"),
            ("/app/staff/x", "", 403, b"log in first\n"),
            ("/app/staff/x", "session=s3cret", 200, b"hello from /app/staff"),
        ):
            answer = connection.request("GET", target, Host="x", Cookie=cookie)
            assert (answer.status, answer.body) == (status, body)


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
