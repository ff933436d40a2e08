"""Balances of other packages: found by their entry points, refused with their name, held to their contract."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from gfastcgi import assemble, lighttpd, plugins
from gfastcgi.balance import POLICIES, AsConfigured, LeastConnection, wants_latency
from gfastcgi.balance.conformance import Host, Request, check
from gfastcgi.balance.guarded import Guard
from gfastcgi.cli.command import run
from gfastcgi.config import Block, Config, Extension, HostConfig, Settings
from gfastcgi.errors import ConfigErrors, InvalidValue, PluginError
from gfastcgi.lighttpd.options import DIRECTIVES

LAST = """
class Last:
    wants_latency = True

    def __init__(self, rng):
        pass

    def select(self, candidates, request):
        return candidates[-1]
"""
SITE = """server.document-root = "/srv"
fastcgi.server = ( "/" => (( "host" => "127.0.0.1", "port" => 1 ), ( "host" => "127.0.0.1", "port" => 2 )) )
$HTTP["url"] =^ "/x" {
    fastcgi.balance = "NAME"
}
"""

NUMBERS = count()
Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes an installed package of one module; its name is that of the module."""

    def install(module: str, source: str, **names: str) -> str:
        folder = tmp_path / module
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        points = "".join(f"{name} = {value}\n" for name, value in names.items())
        (info / "entry_points.txt").write_text(f"[gfastcgi.balance]\n{points}")
        monkeypatch.syspath_prepend(str(folder))
        return module

    return install


def choose(balance: str) -> str:
    policy = AsConfigured(random.Random(1), plugins.find_balance)  # type: ignore[arg-type]
    return policy.select((Host("a"), Host("b"), Host("c")), Request(balance=balance)).name


# Finding


def test_ours_come_by_the_same_door() -> None:
    assert {name: plugins.find_balance(name) for name in POLICIES} == dict(POLICIES)


def test_the_option_names_ours() -> None:
    named = re.findall(r'"([^"]+)"', DIRECTIVES["fastcgi.balance"].kind.label)
    assert named == list(POLICIES)


def test_a_plugin_is_found_by_its_name(install: Install) -> None:
    install("plug_last", LAST, last="plug_last:Last")
    factory = plugins.find_balance("last")
    assert factory is not None
    assert wants_latency(factory)
    assert choose("last") == "c"
    check(factory)


def test_nobody_has_it() -> None:
    assert plugins.find_balance("fastest") is None


def test_a_plugin_cannot_take_a_name_of_ours(install: Install) -> None:
    install("plug_thief", LAST, **{"round-robin": "plug_thief:Last"})
    assert plugins.find_balance("round-robin") is POLICIES["round-robin"]
    assert not any("plug_thief" in name for name in plugins.balances())


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("raise RuntimeError('no licence')", "MODULE:Last", "cannot be loaded: RuntimeError: no licence"),
        ("import nonesuch", "MODULE:Last", "cannot be loaded: ModuleNotFoundError: No module named 'nonesuch'"),
        ("", "MODULE:Last", "cannot be loaded: AttributeError: module 'MODULE' has no attribute 'Last'"),
        ("Last = 7", "MODULE:Last", "cannot be loaded: TypeError: 'int' object is not callable"),
        ("class Last: pass", "MODULE:Last", "cannot be loaded: TypeError: Last() takes no arguments"),
        ("def last(rng): return 7", "MODULE:last", "makes int, which has no method `select`"),
        ("class Last:\n def __init__(self, rng): 1 / 0", "MODULE:Last", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_plugin_that_is_none(install: Install, source: str, value: str, message: str) -> None:
    module = f"plug_{next(NUMBERS)}"
    install(module, source, bad=value.replace("MODULE", module))
    with pytest.raises(PluginError) as caught:
        plugins.find_balance("bad")
    told = str(caught.value)
    assert told.startswith(f"{module} 1.0 ({module}:")
    assert told.endswith(message.replace("MODULE", module))


def test_two_packages_with_one_name(install: Install) -> None:
    install("plug_one", LAST, twin="plug_one:Last")
    install("plug_two", LAST, twin="plug_two:Last")
    expected = r"^twin is in several packages: plug_one 1\.0 \(plug_one:Last\), plug_two 1\.0 \(plug_two:Last\)$"
    with pytest.raises(PluginError, match=expected):
        plugins.find_balance("twin")


def test_features_list_what_is_installed(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("plug_last", LAST, last="plug_last:Last")
    install("plug_broken", "raise RuntimeError('no licence')", broken="plug_broken:Last")
    assert run(["-V"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {f"\t+ {name}" for name in POLICIES} <= set(lines)
    assert "\t+ last, plug_last 1.0 (plug_last:Last)" in lines
    assert "\t- broken, plug_broken 1.0 (plug_broken:Last)" in lines


# In a configuration


def test_a_file_names_a_plugin(install: Install) -> None:
    install("plug_last", LAST, last="plug_last:Last")
    config, warnings = lighttpd.loads(SITE.replace("NAME", "last"), find_balance=plugins.find_balance)
    assert warnings == []
    assert config.blocks[0].overrides == {"balance": "last"}
    assemble.build(config)
    printed, _ = lighttpd.loads(lighttpd.render(config), find_balance=plugins.find_balance)
    assert printed.blocks[0].overrides == {"balance": "last"}


def test_a_plugin_that_fails_is_a_fault_with_file_and_line(install: Install) -> None:
    install("plug_broken", "raise RuntimeError('no licence')", broken="plug_broken:Last")
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(SITE.replace("NAME", "broken"), "site.conf", find_balance=plugins.find_balance)
    assert [str(error) for error in caught.value.errors] == [
        "site.conf:4: fastcgi.balance: plug_broken 1.0 (plug_broken:Last) cannot be loaded: RuntimeError: no licence"
    ]


def test_the_command_line_looks_for_plugins(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("plug_last", LAST, last="plug_last:Last")
    for name, status in (("last", 0), ("fastest", 1)):
        file = tmp_path / f"{name}.conf"
        file.write_text(SITE.replace("NAME", name))
        assert run(["-t", "-f", str(file)]) == status
    assert f'{file}:4: fastcgi.balance takes one of "fair", ' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fastest", "broken"])
@pytest.mark.parametrize("is_conditional", [False, True])
def test_a_configuration_without_a_file_is_checked_when_it_is_built(
    install: Install, name: str, is_conditional: bool
) -> None:
    install("plug_broken", "raise RuntimeError('no licence')", broken="plug_broken:Last")
    extension = Extension("/", (HostConfig(host="127.0.0.1", port=1),))
    if is_conditional:
        settings = Settings(document_root="/srv", extensions=(extension,))
        config = Config(settings=settings, blocks=(Block((), {"balance": name}),))
    else:
        config = Config(settings=Settings(document_root="/srv", extensions=(extension,), balance=name))
    with pytest.raises(InvalidValue, match=r"^fastcgi\.balance: .*(named \"fastest\"|RuntimeError: no licence)$"):
        assemble.build(config)


# What a plugin gets wrong


class Moody:
    """Returns or raises what it is told."""

    def __init__(self, rng: random.Random) -> None:
        self.then: object = None

    def select(self, candidates: object, request: object) -> object:
        if isinstance(self.then, Exception):
            raise self.then
        return self.then


def test_a_failure_is_logged_once_and_the_least_loaded_host_serves() -> None:
    lines: list[str] = []
    policy = Guard("moody", Moody, lines.append)(random.Random(1))  # type: ignore[arg-type]
    hosts = (Host("a", load=1), Host("b"), Host("c", load=1))
    for failure in (ValueError("not today"), KeyError("x"), None, Host("elsewhere"), "b"):
        policy._policy.then = failure  # type: ignore[attr-defined]
        assert policy.select(hosts, Request()) is hosts[1]
    assert lines == ["balance moody: ValueError: not today; least-connection chooses instead"]
    policy._policy.then = hosts[0]  # type: ignore[attr-defined]
    assert policy.select(hosts, Request()) is hosts[0]
    policy._policy.then = 7  # type: ignore[attr-defined]
    assert policy.select(hosts, Request()) is hosts[1]
    assert lines[1:] == ["balance moody: it returned 7, which is no candidate; least-connection chooses instead"]


# The conformance check finds what is wrong


class Returns(LeastConnection):
    """Base of policies with one fault each."""


class Stranger(Returns):
    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        return Host(candidates[0].name)


class Forgetful(Returns):
    """Remembers a list by what it is, not by what is in it."""

    seen: object = None

    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        if candidates is not self.seen:
            self.seen, self.members = candidates, tuple(candidates)
        return self.members[-1]


class Prudish(Returns):
    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        request.path.encode()
        return candidates[0]


class Meddling(Returns):
    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        chosen = super().select(candidates, request)
        chosen.load += 1
        return chosen


class Sorting(Returns):
    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        if isinstance(candidates, list):
            candidates.sort(key=lambda candidate: candidate.load)
        return candidates[0]


class Wild(Returns):
    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        return random.SystemRandom().choice(candidates)


class Sharing(Returns):
    turn = 0

    def select(self, candidates, request):  # type: ignore[no-untyped-def]
        Sharing.turn += 1
        return candidates[Sharing.turn % len(candidates)]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Stranger, "none of its 1 candidates"),
        (Forgetful, "none of its"),
        (Prudish, "surrogates not allowed"),
        (Meddling, "it changed the candidates"),
        (Sorting, "it changed the candidates"),
        (Wild, "chance is the generator's"),
        (Sharing, "otherwise with the same seed|changes what another one chooses"),
    ],
)
def test_conformance_finds_the_fault(kind: type[Returns], error: str) -> None:
    with pytest.raises((AssertionError, UnicodeEncodeError), match=error):
        check(kind)
