"""The architecture as a test: which room may import which, and how long a file may be (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gfastcgi"
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
CEILING = 500
DOCSTRING_CEILING = 12

WORDS, LANGUAGE, WIRES, REQUEST, CHOICES, GROUND, DRIVERS, STORY, DOORS = range(9)

# A room is a folder or a module, the longest that fits. Imports go down or stay in the room.
FLOORS = {
    "": DOORS, "__main__": DOORS, "cli": DOORS, "compat": DOORS, "conformance": DOORS, "explain": DOORS,
    "library": DOORS, "assemble": DOORS, "backends": DOORS, "gates": DOORS, "logins": DOORS, "elsewhere": DOORS,
    "faults": DOORS, "plugins": DOORS, "mounts": DOORS, "testing": DOORS,
    "gateway": STORY, "answers": STORY, "site": STORY, "resolve": STORY, "variables": STORY, "pages": STORY,
    "files": STORY, "wsgi": STORY, "audit": STORY, "record": STORY,
    "auth.chain": STORY, "auth.gate": STORY, "auth.keeper": STORY, "auth.recheck": STORY, "auth.denial": STORY,
    "auth.fastcgi": STORY, "auth.forward": STORY, "auth.python": STORY, "auth.login": STORY, "auth.userfile": STORY,
    "auth.basic": STORY, "auth.digest": STORY,
    "client": DRIVERS, "server": DRIVERS, "supervise": DRIVERS, "status": DRIVERS, "control": DRIVERS,
    "tap": DRIVERS,
    "auth.shared": DRIVERS,
    "net": GROUND, "log": GROUND,
    "routing": CHOICES, "balance": CHOICES, "backend": CHOICES, "auth": CHOICES, "sites": CHOICES, "rewrite": CHOICES,
    "request": REQUEST,
    "fcgi": WIRES, "http": WIRES, "cgi": WIRES,
    "errors": WORDS, "config": WORDS, "secrecy": WORDS, "_version": WORDS,
    "patterns": LANGUAGE, "lighttpd": LANGUAGE,  # lighttpd is a side wing: only the doors may enter
}  # fmt: skip

# The rooms of these floors may call each other; elsewhere they meet through the Protocols in a room's `base`.
OPEN_FLOORS = {STORY, DOORS}

IMPURE = {"gevent", "greenlet", "socket", "select", "selectors", "subprocess", "time", "random", "threading", "asyncio"}
FORBIDDEN = {
    WIRES: {*IMPURE, "webob", "logging", "os", "gfastcgi.config"},
    REQUEST: IMPURE,
    CHOICES: {*IMPURE - {"random"}, "logging", "os"},  # a choice is handed its random.Random
    WORDS: IMPURE,
}  # fmt: skip

MODULES = sorted(PACKAGE.rglob("*.py"))


def test_the_page_has_the_same_floors() -> None:
    numbers = {"words": WORDS, "language": LANGUAGE, "wires": WIRES, "request": REQUEST, "choices": CHOICES,
               "ground": GROUND, "drivers": DRIVERS, "story": STORY, "doors": DOORS}  # fmt: skip
    rows = re.findall(r"^\| ([0-8]) (\w+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert {name: int(number) for number, name, _ in rows} == numbers
    named = [(room, int(number)) for number, _, rooms in rows for room in re.findall(r"`([^`]+)`", rooms)]
    told = {room.removesuffix("/").replace("/", ".").removeprefix("__init__"): floor for room, floor in named}
    assert len(told) == len(named), "a room stands on one floor"
    assert told == FLOORS
    for room, _ in named:
        assert (PACKAGE / room).is_dir() if room.endswith("/") else (PACKAGE / f"{room}.py").is_file(), room


def name_of(path: Path) -> str:
    """`fcgi.records` for gfastcgi/fcgi/records.py; a package has its folder's name, gfastcgi itself ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(name: str) -> str:
    parts = name.split(".")
    rooms = [".".join(parts[:size]) for size in range(len(parts), 0, -1)]
    room = next((room for room in rooms if room in FLOORS), None)
    assert room is not None, f"gfastcgi.{name} stands on no floor: give its room one"
    return room


def imports_of(path: Path) -> set[str]:
    """The absolute names that a module imports, those for type checking too."""
    found = set()
    package = ["gfastcgi", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            parts = [*above, *(node.module.split(".") if node.module else [])]
            inside = PACKAGE.joinpath(*parts[1:]) if parts[0] == "gfastcgi" else None
            for alias in node.names:
                is_module = inside and ((inside / alias.name).is_dir() or (inside / f"{alias.name}.py").exists())
                found.add(".".join([*parts, alias.name] if is_module else parts))
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    room = room_of(name)
    floor = FLOORS[room]
    for imported in sorted(imports_of(path)):
        if imported.split(".")[0] != "gfastcgi":
            continue
        other = room_of(imported.removeprefix("gfastcgi").lstrip("."))
        if other == "lighttpd" != room:
            assert floor == DOORS, f"{name} imports the config language; only the doors may"
        elif other != room:
            may_mingle = floor == FLOORS[other] and (floor in OPEN_FLOORS or imported.endswith(".base"))
            assert FLOORS[other] < floor or may_mingle, f"floor {floor} imports {imported} of floor {FLOORS[other]}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_lower_floors_are_pure(path: Path) -> None:
    forbidden = FORBIDDEN.get(FLOORS[room_of(name_of(path))], set())
    bad = {name for name in imports_of(path) if name in forbidden or name.split(".")[0] in forbidden}
    assert not bad, f"{name_of(path)} imports {', '.join(sorted(bad))}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_length_and_docstring(path: Path) -> None:
    source = path.read_text()
    lines = source.count("\n")
    if path.name == "__init__.py" and not source.strip():
        return
    assert lines <= CEILING, f"{lines} lines: split it by noun"
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring, "a module opens with its contract"
    # errors.py draws its whole tree there.
    assert docstring.count("\n") < DOCSTRING_CEILING or path.name == "errors.py", "a contract of this length is a page"


def test_no_monkey_patching_in_the_library() -> None:
    patching = {name_of(path) for path in MODULES if "patch_all" in path.read_text()}
    assert patching <= {"__main__", "cli.serve", "cli"}, patching
