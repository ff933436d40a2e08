"""Gates of a configuration: which sites share what is remembered, and which never may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filerig import ask

from gfastcgi import authorizer
from gfastcgi.auth.base import Allow
from gfastcgi.backends import Backends
from gfastcgi.config import CacheConfig, HostConfig, Settings, Where
from gfastcgi.gates import Gates, _identity

CACHE = CacheConfig(key=(("cookie", "SID"),))
HOST = HostConfig(socket="/s", mode="authorizer", cache=CACHE)
SETTINGS = Settings(document_root="/www", server_name="a")


def test_sites_that_look_alike_share_a_gate() -> None:
    gates = Gates(Backends({"least-connection"}))
    gate = gates.gate("/p/", [HOST], SETTINGS)
    assert gates.gate("/p/", [HOST], replace(SETTINGS, max_request_size=5)) is gate
    same = replace(HOST)
    others = [
        gates.gate("/q/", [HOST], SETTINGS),
        gates.gate("/p/", [same], SETTINGS),
        gates.gate("/p/", [HOST, same], SETTINGS),
        gates.gate("/p/", [HOST], replace(SETTINGS, document_root="/other")),
        gates.gate("/p/", [HOST], replace(SETTINGS, server_name="b")),
        gates.gate("/p/", [HOST], replace(SETTINGS, index_file_names=("x",))),
        gates.gate("/p/", [HOST], replace(SETTINGS, symlink_roots=("/x",))),
    ]
    assert len({id(each) for each in [gate, *others]}) == 8
    gates.gate("/r/", [replace(HOST, cache=None)], SETTINGS)
    assert gates.purge() == 8


def test_a_gate_is_as_its_host_says() -> None:
    gates = Gates(Backends({"least-connection"}))
    gate = gates.gate("/p/", [replace(HOST, independent=True, recheck=7, docroot="/far")], SETTINGS)
    assert (gate.is_independent, gate.recheck, gate.keeper is not None) == (True, 7, True)
    assert gate.resolver is not None
    plain = gates.gate("/p/", [HostConfig(socket="/s", mode="authorizer")], SETTINGS)
    assert (plain.is_independent, plain.recheck, plain.keeper, plain.resolver) == (False, 0, None, None)


def says_yes(request: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("function", "options", "seconds"),
    [
        (says_yes, {}, 30),
        (says_yes, {"read_timeout": 5}, 5),
        (says_yes, {"read_timeout": 5, "decision_timeout": 7}, 7),
        (authorizer(time_limit=5)(says_yes), {"read_timeout": 3}, 5),
        (authorizer(time_limit=5)(says_yes), {"decision_timeout": 7}, 5),
        (authorizer(time_limit=5)(says_yes), {"decision_timeout": 3}, 3),
        (authorizer(time_limit=0)(says_yes), {"decision_timeout": 3}, 3),
    ],
)
def test_how_long_a_function_may_take(function: Any, options: dict[str, float], seconds: float) -> None:
    host = HostConfig(python=function, mode="authorizer", **options)  # type: ignore[arg-type]
    known = getattr(function, "time_limit", None)
    found: Any = Gates(Backends({"least-connection"})).gate("/p/", [host], SETTINGS).authorizer
    assert (found.time_limit, getattr(function, "time_limit", None)) == (seconds, known)


@pytest.mark.parametrize("decorate", ["", "@gfastcgi.authorizer\n", "@gfastcgi.authorizer(time_limit=9)\n"])
def test_it_is_called_what_the_configuration_calls_it(decorate: str, tmp_path: Path) -> None:
    """Whatever stands behind the name: that is where its reader looks for it."""
    module = f"called_{len(decorate)}"
    (tmp_path / f"{module}.py").write_text(
        f"import gfastcgi\n{decorate}def inner(request):\n    return True\nsession = inner\n"
    )
    name = f"{module}:session"
    host = HostConfig(python=name, mode="authorizer", where=Where(str(tmp_path / "site.conf"), 1))
    found: Any = Gates(Backends({"least-connection"})).gate("/p/", [host], SETTINGS).authorizer
    assert found.question(ask("/"), "/www").to == (name,)
    assert found.check(ask("/"), "/www") == Allow()


@pytest.mark.parametrize(
    "change",
    [
        {"socket": "/t"},
        {"cache": replace(CACHE, ttl=5)},
        {"require_status": True},
        {"docroot": "/far"},
        {"bin_path": "/b"},
    ],
)
def test_another_configuration_is_another_authorizer(change: dict[str, Any]) -> None:
    here = _identity("/p/", [HOST], SETTINGS)
    assert here == _identity("/p/", [replace(HOST, where=Where("other.conf", 5))], replace(SETTINGS, server_tag="x"))
    assert here != _identity("/p/", [replace(HOST, **change)], SETTINGS)


def test_another_site_is_another_authorizer() -> None:
    identities = {
        _identity("/p/", [HOST], SETTINGS),
        _identity("/q/", [HOST], SETTINGS),
        _identity("/p/", [HOST, HOST], SETTINGS),
        _identity("/p/", [HOST], replace(SETTINGS, document_root="/other")),
        _identity("/p/", [HOST], replace(SETTINGS, server_name="b")),
    }
    assert len(identities) == 5
