"""Where a path leads: scripts and PATH_INFO, indexes, aliases, denials, and every gate on the way."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from gfastcgi.auth.gate import Gate
from gfastcgi.config import HostConfig, Settings
from gfastcgi.resolve import Resolver, Resource
from gfastcgi.site import Forwarding, Own, Responder, Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    www = tmp_path / "www"
    for path in ("app.php", "plain.txt", "sub/index.php", "sub/deep/x.txt", "empty/x", "index.html", "far/in.txt"):
        (www / path).parent.mkdir(parents=True, exist_ok=True)
        (www / path).write_text(path)
    (tmp_path / "secret.txt").write_text("secret")
    (www / "out.txt").symlink_to("../secret.txt")
    return www


def resolve(root: Path, path: str, **options: Any) -> tuple[str, str, str]:
    found = Resolver(str(root), ["index.php", "index.html"], [], **options).find(path)
    return found.path, found.path_info, found.kind


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app.php", ("/app.php", "", "file")),
        ("/app.php/", ("/app.php", "/", "file")),
        ("/app.php/a/b.php/", ("/app.php", "/a/b.php/", "file")),
        ("/sub/index.php/info", ("/sub/index.php", "/info", "file")),
        ("/sub/", ("/sub/index.php", "", "file")),
        ("/", ("/index.html", "", "file")),
        ("/sub", ("/sub", "", "directory")),
        ("/empty/", ("/empty/", "", "directory")),
        ("/none", ("/none", "", "missing")),
        ("/none/x/", ("/none/x/", "", "missing")),
        ("/sub/none", ("/sub/none", "", "missing")),
    ],
)
def test_resolve(root: Path, path: str, expected: tuple[str, str, str]) -> None:
    assert resolve(root, path) == expected


@pytest.mark.parametrize("path", ["/out.txt", "/out.txt/info"])
def test_what_lies_outside_is_not_there(root: Path, path: str) -> None:
    assert resolve(root, path)[2] in ("missing", "forbidden")
    allowed = Resolver(str(root), [], [str(root.parent)]).find("/out.txt")
    assert allowed.kind == "file"


def test_who_cannot_look_does_not_say_that_it_is_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr("gfastcgi.resolve.stat_beneath", fail)
    with pytest.raises(OSError, match="too many"):
        resolve(root, "/app.php")


def test_an_absolute_index_is_looked_for_beneath_the_root(root: Path) -> None:
    found = Resolver(str(root), ["none", "/app.php"], []).find("/empty/")
    assert (found.path, found.filename) == ("/app.php", f"{root}/app.php")


@pytest.mark.parametrize(
    ("path", "is_covered"), [("/a", True), ("/a/", True), ("/a/x", True), ("/ab", False), ("/", False)]
)
@pytest.mark.parametrize("prefix", ["/a", "/a/"])
def test_an_alias_covers_whole_segments(root: Path, prefix: str, path: str, is_covered: bool) -> None:
    assert Resolver(str(root), [], [], prefix=prefix).covers(path) is is_covered


def test_an_alias_is_taken_off(root: Path) -> None:
    found = Resolver(str(root / "far"), [], [], prefix="/other/").find("/other/in.txt")
    assert (found.path, found.local, found.filename) == ("/other/in.txt", "/in.txt", f"{root}/far/in.txt")


class Sites:
    """Makes sites of one docroot; the pool of a responder and the authorizer of a gate are only names here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0.0

    def make(
        self, responders: dict[str, HostConfig] | None = None, gates: dict[str, str] | None = None, **settings: Any
    ) -> Site:
        options = Settings(document_root=str(self.root), **settings)
        names = ["index.php", "index.html"]
        guards: Any = [
            Gate(key, key, Resolver(far, names, []) if far else None)  # type: ignore[arg-type]
            for key, far in (gates or {}).items()
        ]
        made: Any = [(key, Responder(host, None)) for key, host in (responders or {}).items()]  # type: ignore[arg-type]
        return Site(
            settings=options, server_tag="", resolvers=[Resolver(str(self.root), names, [])], gates=guards,
            responders=made, rewriter=None, redirector=None, access_log=None, upload_dir=None, clock=lambda: self.now,
        )  # fmt: skip


@pytest.fixture
def sites(root: Path) -> Sites:
    return Sites(root)


UNCHECKED = HostConfig(check_local=False)
CHECKED = HostConfig()


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/other/in.txt", "/in.txt"), ("/other/none", "/none"), ("/sub/", "/sub/index.php"), ("/app.php/x", "/app.php"),
        ("/plain.txt", "/plain.txt"), ("/empty/", "/empty/"), ("/run/a", "/run/a"), ("/other/run/a", "/run/a"),
    ],
)  # fmt: skip
def test_what_is_asked_for_beneath_its_root(sites: Sites, path: str, local: str) -> None:
    site = sites.make({"/run": UNCHECKED, "/other/run": UNCHECKED}, {"/": ""})
    site.resolvers = [Resolver(str(sites.root / "far"), ["index.php"], [], prefix="/other/"), *site.resolvers]
    assert site.locate(path).local == local


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app.php", (".php", "/app.php", "")),
        ("/app.php/", (".php", "/app.php", "/")),
        ("/app.php/info", (".php", "/app.php", "/info")),
        ("/sub/", (".php", "/sub/index.php", "")),
        ("/run/a/b", ("/run", "/run", "/a/b")),
        ("/run/a.php", ("/run", "/run", "/a.php")),
        ("/empty/", ("/empty", "/empty/", "")),
        ("/empty", None),
        ("/none.php", None),
        ("/plain.txt", None),
        ("/plain.txt/x.php", None),
    ],
)
def test_routes(sites: Sites, path: str, expected: tuple[str, str, str] | None) -> None:
    site = sites.make({"/run": UNCHECKED, ".php": CHECKED, "/empty": CHECKED})
    place = site.locate(path)
    if expected is None:
        assert isinstance(place.to, Resource)
        return
    assert isinstance(place.to, Forwarding)
    found, route = place.to
    key = next(key for key, responder in site.responders if responder is found)
    assert (key, route.script_name, route.path_info) == expected
    assert route.filename == f"{sites.root}{route.script_name}"


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/plain.txt", [".txt"]),
        ("/plain.txt/x", [".txt"]),
        ("/app.php/a.txt", [".txt", ".php"]),
        ("/sub/", ["/sub", ".php"]),
        ("/sub/index.php", ["/sub", ".php"]),
        ("/run/x.txt", [".txt"]),
        ("/none.txt", [".txt"]),
        ("/", []),
    ],
)
def test_every_gate_of_what_was_asked_or_would_be_served(sites: Sites, path: str, keys: list[str]) -> None:
    site = sites.make({"/run": UNCHECKED, ".php": CHECKED}, {"/sub": "", ".txt": "", ".php": ""})
    assert sorted(gate.key for gate in site.locate(path).gates) == sorted(keys)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/run/a.php/x", [".php"]), ("/run/sub/a.php/x", [".php"]), ("/run/sub/a.php/", [".php"]),
        ("/run/a.inc/sub/b.php/x/y", [".php"]), ("/run/sub/a.phpx/x", []), ("/run/sub/x", []), ("/run", []),
        ("/run/sub/a.phtml/x", [".php"]), ("/run/far/x", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fixes", [False, True])
def test_a_script_in_the_middle_of_a_path_that_nobody_looks_up(
    sites: Sites, path: str, keys: list[str], fixes: bool
) -> None:
    """PHP runs the file that it finds on the way (`cgi.fix_pathinfo`), whatever we take for SCRIPT_NAME."""
    host = HostConfig(check_local=False, fix_root_scriptname=fixes)
    mapped = {"map_extensions": ((".phtml", ".php"),)}
    site = sites.make({"/": host} if fixes else {"/run": host}, {".php": "", "/far": ""}, **mapped)
    place = site.locate(path)
    assert isinstance(place.to, Forwarding)
    assert [gate.key for gate in place.gates] == keys
    denied = sites.make({"/run": host}, access_deny=(".php", ".phtml")).locate(path).to is Own.DENIAL
    assert denied is bool(keys)


def test_a_gate_with_a_docroot_of_its_own_serves_from_there(sites: Sites) -> None:
    site = sites.make(gates={"/in.txt": str(sites.root / "far")})
    place = site.locate("/in.txt")
    assert isinstance(place.to, Resource)
    assert (place.root, place.to.kind) == (f"{sites.root}/far", "file")
    assert site.locate("/plain.txt").root == str(sites.root)


@pytest.mark.parametrize(
    ("settings", "denied"),
    [
        ({"access_deny": (".txt",)}, ["/plain.txt", "/plain.txt/x", "/none.txt", "/app.php/a.txt"]),
        ({"access_deny": (".php",)}, ["/app.php", "/app.php/a.txt", "/sub/"]),
        ({"access_allow": (".txt",)}, ["/app.php", "/sub/", "/app.php/a.txt", "/plain.txt/x"]),
        ({"access_allow": (".txt",), "access_deny": ("plain.txt",)}, ["/plain.txt", "/app.php", "/plain.txt/x"]),
    ],
)
def test_denied(sites: Sites, settings: dict[str, Any], denied: list[str]) -> None:
    site = sites.make({".php": CHECKED}, **settings)
    assert all(site.locate(path).to is Own.DENIAL for path in denied)
    assert sites.make({".php": CHECKED}).locate(denied[0]).to is not Own.DENIAL


def test_the_counters_are_denied_like_a_file(sites: Sites) -> None:
    site = sites.make(gates={"/counters": ""}, statistics_url="/counters.txt")
    assert site.locate("/counters.txt").to is Own.STATISTICS
    assert [gate.key for gate in site.locate("/counters.txt").gates] == ["/counters"]
    site = sites.make(statistics_url="/counters.txt", access_deny=(".txt",))
    assert site.locate("/counters.txt").to is Own.DENIAL


def test_files_are_remembered_for_a_second_and_nothing_else_is(sites: Sites) -> None:
    site = sites.make({".php": CHECKED})
    place, missing = site.locate("/app.php"), site.locate("/late.php")
    (sites.root / "app.php").unlink()
    (sites.root / "late.php").write_text("here")
    assert isinstance(missing.to, Resource)
    assert isinstance(site.locate("/late.php").to, Forwarding)
    sites.now = 0.9
    assert site.locate("/app.php") is place
    sites.now = 1.1
    assert isinstance(site.locate("/app.php").to, Resource)


def test_what_is_remembered_has_an_end(sites: Sites) -> None:
    site = sites.make({"/run": UNCHECKED})
    for number in range(5000):
        assert isinstance(site.locate(f"/run/{number}").to, Forwarding)
    assert len(site._places) < 5000


def test_a_mapped_extension_is_guarded_like_the_one_it_is_mapped_to(sites: Sites, root: Path) -> None:
    (root / "old.php3").write_text("x")
    site = sites.make({".php": CHECKED}, {".php": "", ".php3": ""}, map_extensions=((".php3", ".php"),))
    for path in ("/old.php3", "/old.php3/info"):
        place = site.locate(path)
        assert isinstance(place.to, Forwarding)
        assert [gate.key for gate in place.gates] == [".php", ".php3"]
