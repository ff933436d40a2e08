"""Configurations that are wrong, doubtful or hostile: what gfastcgi answers, never with a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gfastcgi import lighttpd
from gfastcgi.errors import ConfigErrors

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "lighttpd" / "bad_config.json").read_text()
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_answer(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "site.conf"
    path.write_bytes(case["bytes"].replace("{lab}", "/run/lab").encode("latin-1"))
    try:
        _, warnings = lighttpd.load(str(path))
        answer, told = "warning" if warnings else "ok", [str(warning) for warning in warnings]
    except ConfigErrors as error:
        answer, told = "error", [str(fault) for fault in error.errors]
    assert answer == case["answer"], told
    assert [message.replace(str(path), "site.conf") for message in told] == case["messages"]


def test_every_case_names_its_line() -> None:
    for case in CASES:
        if case["name"] != "cf-empty":
            assert all(message.startswith("site.conf:") for message in case["messages"]), case["name"]
