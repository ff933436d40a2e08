"""Keys of `fastcgi.server`, and where a path is split."""

from __future__ import annotations

import pytest

from gfastcgi.routing import Route, match, matches, split


@pytest.mark.parametrize(
    ("key", "path", "script", "fits"),
    [
        (".php", "/a.php", "/a.php", True),
        (".php", "/a.php/info", "/a.php", True),
        (".php", "/a.phpx", "/a.phpx", False),
        ("/app", "/app", "/app", True),
        ("/app", "/apple", "/apple", True),
        ("/app/", "/app", "/app", False),
        ("/app", "/x/app", "/x/app", False),
        ("/", "/x", "/x", True),
    ],
)
def test_matches(key: str, path: str, script: str, fits: bool) -> None:
    assert matches(key, path, script) is fits


def test_the_first_that_fits() -> None:
    keyed = [("/app", 1), (".php", 2), ("/", 3)]
    found = [match(keyed, [], path, path) for path in ("/app/x.php", "/x.php", "/x")]
    assert found == [("/app", 1), (".php", 2), ("/", 3)]
    assert match(keyed[:2], [], "/x", "/x") is None


def test_a_mapped_extension_stands_for_its_key() -> None:
    keyed = [("/", 1), (".php", 2)]
    assert match(keyed, [(".php3", ".php")], "/x.php3", "/x.php3") == (".php", 2)
    assert match(keyed[:1], [(".php3", ".php")], "/x.php3", "/x.php3") is None


@pytest.mark.parametrize(
    ("key", "path", "script", "info"),
    [
        (".php", "/a.php", "/a.php", ""),
        ("/app", "/app", "/app", ""),
        ("/app", "/app/x/y", "/app", "/x/y"),
        ("/app", "/apple/x", "/apple", "/x"),
        ("/q/", "/q/x/y", "/q/x", "/y"),
        ("/", "/x/y", "/x", "/y"),
        ("/", "/", "/", ""),
    ],
)
def test_split(key: str, path: str, script: str, info: str) -> None:
    assert split(key, path) == (script, info)


def test_fix_root_scriptname() -> None:
    assert split("/", "/x/y", fix_root_scriptname=True) == ("", "/x/y")
    assert split("/app", "/app/y", fix_root_scriptname=True) == ("/app", "/y")


def test_route_repr() -> None:
    assert repr(Route("/a", "/b", "/www", "/www/a")) == "<Route /a + '/b' beneath /www>"
