"""docs/balancing.md: its configuration is understood, its balance is one, its tables name what there is."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from gfastcgi import assemble, lighttpd
from gfastcgi.balance import POLICIES
from gfastcgi.balance.conformance import Host, Request, check
from gfastcgi.plugins import BALANCE

PAGE = (Path(__file__).parents[2] / "docs" / "balancing.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_configuration_is_understood() -> None:
    config, warnings = lighttpd.loads(block("lighttpd"))
    assert warnings == []
    assert (config.settings.balance, config.blocks[0].overrides) == ("least-connection", {"balance": "hash"})
    assert [host.weight for host in config.settings.extensions[0].hosts] == [2, 1, 1]
    assemble.build(config)


def test_the_example_is_a_balance() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    check(names["Nearest"])
    near, far = Host("192.0.2.7:9000"), Host("10.0.0.1:9000")
    assert names["Nearest"](random.Random(1)).select((far, near), Request(remote_addr="192.0.2.1")) is near


def test_the_tables_name_every_balance() -> None:
    for table in PAGE.split("\n\n"):
        if table.startswith("| balance |"):
            named = [name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
            assert set(named) | {"fair"} == set(POLICIES)


def test_a_package_says_so_where_it_is_looked_for() -> None:
    assert f'[project.entry-points."{BALANCE}"]\n' in block("toml")
