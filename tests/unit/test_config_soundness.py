"""A configuration that Python made is held to what a file is held to: what looks guarded is, or nothing starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gfastcgi import assemble
from gfastcgi.config import (
    Address,
    Block,
    Condition,
    Config,
    Extension,
    HostConfig,
    Requirement,
    RewriteRule,
    ServerConfig,
    Settings,
    Where,
)
from gfastcgi.errors import ConfigError
from gfastcgi.net.listeners import ListenError, listen

HERE = Where("site.py", 7)
GATE = HostConfig(host="127.0.0.1", port=1, mode="authorizer", where=HERE)
LOGIN = Requirement(prefix="/a/", method="basic", realm="r", any_user=True, where=HERE)


def faults(**settings: Any) -> str:
    """What is said of a configuration with these settings, as a whole or in a conditional."""
    told: list[str] = []
    condition = Condition('HTTP["url"]', "==", "/")
    blocks = (Block(((condition, True),), {**settings}),)
    for config in (Config(settings=Settings(**settings)), Config(blocks=blocks)):
        with pytest.raises(ConfigError) as caught:
            assemble.build(config)
        told.append(str(caught.value))
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (Extension("/a/", (), HERE), 'site.py:7: fastcgi.server: "/a/" has no host'),
        (
            Extension("/a/", (replace(GATE, mode="authoriser"),), HERE),  # type: ignore[arg-type]
            'site.py:7: "mode" is one of responder, authorizer, found "authoriser"',
        ),
        (Extension("a/", (GATE,), HERE), 'site.py:7: fastcgi.server: "a/" is the end of paths, not their beginning'),
        (Extension("/a//b", (GATE,), HERE), 'site.py:7: fastcgi.server: no path has "/a//b"'),
        (
            Extension("/a/", (GATE, replace(GATE, recheck=5)), HERE),
            'site.py:7: "recheck" is the same for all backends of an authorizer',
        ),
        (
            Extension("/a/", (GATE, HostConfig(mode="authorizer", python="x:y", where=HERE)), HERE),
            'site.py:7: fastcgi.server: "/a/" has another authorizer beside the one over "url" or in "python"',
        ),
        (Extension("/a/", (HostConfig(url="http://h/", where=HERE),)), 'site.py:7: "url" needs "mode" => "authorizer"'),
        (
            Extension("/a/", (replace(GATE, host="", port=0, socket="/s", bin_path="/usr/bin/php-cgi"),)),
            'site.py:7: "script" is missing',
        ),
    ],
    ids=lambda value: getattr(value, "key", ""),
)
def test_gates_that_would_be_none(extension: Extension, message: str) -> None:
    assert faults(extensions=(extension,)).startswith(message)


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        (replace(LOGIN, prefix="a/"), 'auth.require: "a/" does not begin with "/"'),
        (replace(LOGIN, prefix="/a%20b/"), 'auth.require: no path has "/a%20b/"'),
        (replace(LOGIN, method="baisc"), 'auth.require: "method" is "basic" or "digest", found "baisc"'),  # type: ignore[arg-type]
    ],
)
def test_requirements_that_would_be_none(requirement: Requirement, message: str) -> None:
    told = faults(auth_require=(requirement,), auth_backend="plain", auth_plain_userfile="/users")
    assert told.startswith(f"site.py:7: {message}")


def test_a_requirement_without_users_in_a_conditional_that_sets_nothing_else() -> None:
    """The backend alone is taken away there."""
    settings = Settings(auth_require=(LOGIN,), auth_backend="plain", auth_plain_userfile="/users")
    block = Block(((Condition('HTTP["host"]', "==", "a"), True),), {"auth_backend": ""})
    assemble.build(Config(settings=settings))
    with pytest.raises(ConfigError, match=r"auth\.require needs auth\.backend"):
        assemble.build(Config(settings=settings, blocks=(block,)))


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        (Condition('HTTP["hots"]', "==", "a", HERE), "there is no variable"),
        (Condition('HTTP["host"]', "=", "a", HERE), 'there is no operator "="'),  # type: ignore[arg-type]
        (Condition('HTTP["remoteip"]', "==", "10.0.0.0/99", HERE), "does not appear to be an IPv4 or IPv6 network"),
        (Condition('HTTP["host"]', "=~", "(", HERE), "missing \\)"),
    ],
)
def test_conditions_that_are_none(condition: Condition, fault: str) -> None:
    with pytest.raises(ConfigError, match=rf"^site.py:7: .*{fault}"):
        assemble.build(Config(blocks=(Block(((condition, True),), {"server_tag": "t"}),)))


def test_settings_that_are_none() -> None:
    condition = Condition('HTTP["host"]', "==", "a")
    with pytest.raises(ConfigError, match=r"^site.py:7: there is no setting named auth_requires$"):
        assemble.build(Config(blocks=(Block(((condition, True),), {"auth_requires": (LOGIN,)}, HERE),)))


@pytest.mark.parametrize("name", ["rewrite", "rewrite_if_not_file", "redirect"])
def test_rules_that_are_none(name: str) -> None:
    assert faults(**{name: (RewriteRule("(", "/", where=HERE),)}).startswith("site.py:7: the regular expression")


def test_decisions_are_not_shared_without_a_secret() -> None:
    with pytest.raises(ConfigError, match="at least 32 characters"):
        assemble.build(Config(server=ServerConfig(cache_redis="redis://127.0.0.1:1", cache_secret="short")))


def test_an_address_that_is_taken_leaves_none_of_the_others_taken(tmp_path: Path) -> None:
    first, second = (Address(path=str(tmp_path / name)) for name in ("first", "second"))
    with listen(second, 5):
        app = assemble.build(Config(server=ServerConfig(listeners=(first, second))))
        with pytest.raises(ListenError):
            app.bind()
        assert app.addresses == []
        assert not Path(first.path).exists()
