"""The documentation site builds without a warning, has every page in its contents, and every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
IMPORTS = re.compile(r"^(?:\w.+ )?from (gfastcgi[\w.]*) import ([\w, ]+)$", re.MULTILINE)
MODULES = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)


def test_the_site(tmp_path: Path) -> None:
    """One test, since every worker would build it anew."""
    site = tmp_path / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path), str(DOCS), str(site)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False, env=environment)
    # A page that index.md does not link is a warning, as is a link that leads nowhere.
    assert (done.returncode, done.stderr) == (0, "")
    check_contents(site)
    check_links(site)
    check_reference(site)


def test_what_the_pages_import_is_in_the_reference() -> None:
    """Whatever is not there may change without notice."""
    pages = "\n".join(path.read_text() for path in (ROOT / "README.md", *DOCS.glob("*.md")))
    imported = {(module, name.strip()) for module, names in IMPORTS.findall(pages) for name in names.split(",")}
    assert len(imported) > 20
    assert {module for module, _ in imported} <= set(MODULES)
    assert [(module, name) for module, name in imported if name not in import_module(module).__all__] == []


def check_contents(site: Path) -> None:
    """Every page is there, and in the contents."""
    contents = re.search(r'<div class="sidebar-tree">.*?</div>', (site / "index.html").read_text(), re.DOTALL)
    assert contents is not None
    for page in DOCS.glob("*.md"):
        assert (site / f"{page.stem}.html").exists()
        assert page.stem == "index" or f'href="{page.stem}.html"' in contents[0]


def check_links(site: Path) -> None:
    """Links between pages of the repository lead to pages of the site."""
    for page in DOCS.glob("*.md"):
        html = (site / f"{page.stem}.html").read_text()
        for link in re.findall(r"\]\(([a-z-]+)\.md", page.read_text()):
            assert f'href="{link}.html' in html, link
        assert ".md" not in " ".join(re.findall(r'href="([^"]*)"', html))


def check_reference(site: Path) -> None:
    """Every public name is in the reference."""
    head, body = (site / "objects.inv").read_bytes().split(b"using zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2")
    known = {line.split(" ")[0] for line in zlib.decompress(body).decode().splitlines()}
    assert len(MODULES) > 5
    for module in map(import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            homes = [home for home in MODULES if getattr(import_module(home), name, None) is value]
            is_known = any(f"{home}.{name}" in known for home in homes)
            assert is_known or isinstance(value, TypeVar), f"{module.__name__}.{name}"
