"""docs/security.md names tests, and the lists of guards in `contrib` quote the code: all of it is there."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[a-z_/]+\.py(?:::\w+)?)`", PAGE)))

sys.path.append(str(ROOT / "contrib"))
GUARDS = [
    *import_module("guards").GUARDS,
    *import_module("wire_guards").WIRE_GUARDS,
    *import_module("stream_guards").STREAM_GUARDS,
]


@cache
def functions_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    for name in NAMED:
        file, _, function = name.partition("::")
        assert (ROOT / file).is_file(), name
        assert not function or function in functions_in(ROOT / file), name


def test_every_row_names_a_test() -> None:
    tables = re.findall(r"^\| what .* \| shown by \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert len(tables) == 4
    assert [row for table in tables for row in table.splitlines() if "`tests/" not in row] == []


def test_every_guard_that_is_removed_in_turn_exists() -> None:
    """Otherwise `contrib/mutation.py` removes nothing, and finds nothing."""
    for guard in GUARDS:
        assert (ROOT / "gfastcgi" / guard.file).read_text().count(guard.text) == 1, guard
        assert guard.text != guard.without
        for name in guard.tests.split():
            assert (ROOT / "tests" / name).is_file(), guard
