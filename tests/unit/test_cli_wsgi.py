"""The arguments of `gfastcgi wsgi`, and what they name."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from gfastcgi.cli import wsgi
from gfastcgi.cli.command import run
from gfastcgi.errors import GfastcgiError, InvalidValue

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["app", "--workers", "0"], ["app", "--workers", "x"], ["app", "--socket-mode", "0999"],
        ["app", "--socket-mode", "7777"], ["app", "--threads", "-1"], ["app", "--nothing"],
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(["wsgi", *arguments])
    assert stop.value.code == 2
    assert "usage: gfastcgi wsgi" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(["wsgi", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "examples:\n  gfastcgi wsgi " in out
    assert "SIGHUP" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bind", "fd:x"], "names no descriptor"),
        (["--bind", "fd:987"], "descriptor 987 is not a listening socket"),
        (["--bind", "nowhere"], "neither unix:PATH nor HOST:PORT"),
        (["--bind", "unix:/nonexistent/a/b.sock"], "cannot listen on /nonexistent/a/b.sock"),
        (["--bind", "unix:x", "--socket-owner", "no-such-user"], "there is no such user or group"),
        (["--bind", "unix:x", "--socket-owner", ":no-such-group"], "there is no such user or group"),
        (["--bind", "unix:x", "--socket-owner", str(2**32 - 1)], "there is no such user or group"),
    ],
)
def test_addresses_that_cannot_be(arguments: list[str], words: str) -> None:
    with pytest.raises(GfastcgiError, match=words):
        wsgi._listener(wsgi.parser().parse_args(["app", *arguments]))


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    arguments = [
        "app",
        "--bind",
        f"unix:{path}",
        "--socket-mode",
        "0640",
        "--socket-owner",
        f"root:{os.getgid()}" if not os.getuid() else f":{os.getgid()}",
    ]
    listener, file = wsgi._listener(wsgi.parser().parse_args(arguments))
    with listener:
        assert path.stat().st_mode & 0o777 == 0o640
    assert file is not None
    file.remove()
    assert not path.exists()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_by_name.py").write_text("def application(): ...\nclass A:\n  def b(self): ...\nnumber = 1\n")
    (tmp_path / "needs_what_is_not_there.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loaded_by_name", raising=False)


@pytest.mark.usefixtures("module")
def test_loading() -> None:
    application = wsgi._load("loaded_by_name", "application")
    assert application is wsgi._load("loaded_by_name:application", "x")
    assert wsgi._load("loaded_by_name:A.b", "x").__qualname__ == "A.b"


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere_to_be_found", "there is no module nowhere_to_be_found"),
        ("loaded_by_name.x:y", "there is no module loaded_by_name.x"),
        ("loaded_by_name:nothing", "has no attribute 'nothing'"),
        ("loaded_by_name:number", "cannot be called"),
        (":application", "Empty module name"),
    ],
)
def test_what_cannot_be_loaded(name: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        wsgi._load(name, "application")


@pytest.mark.usefixtures("module")
def test_an_error_of_the_module_s_own_is_shown_whole() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        wsgi._load("needs_what_is_not_there", "application")
