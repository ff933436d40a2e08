"""The examples of the pages on authorizers elsewhere, passwords and private files are understood, and run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from filerig import ask

from gfastcgi import Allow, assemble, lighttpd
from gfastcgi.auth.base import Deny

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    (page, text)
    for page in ("forward-auth.md", "passwords.md", "private-files.md")
    for text in re.findall(r"^```lighttpd\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
]


@pytest.fixture
def site_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module that the page shows."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "site_gate", raising=False)
    (text,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "forward-auth.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "site_gate.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_configurations(page: str, text: str, site_gate: Path) -> None:
    config, warnings = lighttpd.loads(text, str(site_gate / "site.conf"))
    assert warnings == []
    assemble.build(config)


def test_the_function(site_gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site_gate))
    from site_gate import check

    assert check.check(ask("/", cookie="SID=s3cret"), "/") == Allow(
        {b"REMOTE_USER": b"ann", b"REMOTE_GROUPS": b"staff"}
    )
    assert isinstance(check.check(ask("/", cookie="SID=x"), "/"), Deny)
    assert check.time_limit == 5
