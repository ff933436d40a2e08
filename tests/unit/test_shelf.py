"""Small files that are kept: given out only while the name leads to the very same file, unchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gfastcgi.files.shelf import LARGEST, ROOM, Shelf
from gfastcgi.net.beneath import open_beneath
from gfastcgi.net.rounds import Round

LATER = 10.0
FIELDS = [("Content-Type", "text/plain")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    return path


def later(path: Path) -> float:
    return path.stat().st_ctime + LATER


def keep(shelf: Shelf, path: Path) -> None:
    opened = open_beneath(str(path.parent), path.name)
    try:
        shelf.keep(str(path), opened, FIELDS)
    finally:
        opened.close()


def test_a_kept_file(file: Path) -> None:
    shelf = Shelf(lambda: later(file))
    assert shelf.find(str(file)) is None
    keep(shelf, file)
    kept = shelf.find(str(file))
    assert kept is not None
    assert (kept.content, list(kept.fields)) == (b"hello", FIELDS)
    assert repr(shelf) == "<Shelf of 1 files, 5 bytes>"


def test_a_file_that_changed_just_now_is_not_kept(file: Path) -> None:
    shelf = Shelf(lambda: file.stat().st_ctime + 1)
    keep(shelf, file)
    assert shelf.find(str(file)) is None


@pytest.mark.parametrize("change", ["written", "same length", "replaced", "removed", "mode", "linked away"])
def test_what_changed_is_not_given_out(file: Path, tmp_path: Path, change: str) -> None:
    # The clock of a file system may stand still for some milliseconds: an old time makes every change another one.
    os.utime(file, ns=(0, 0))
    shelf = Shelf(lambda: later(file))
    keep(shelf, file)
    other = tmp_path / "other"
    if change == "written":
        file.write_bytes(b"hello, you")
    elif change == "same length":
        file.write_bytes(b"HELLO")
    elif change == "replaced":
        other.write_bytes(b"hello")
        other.rename(file)
    elif change == "removed":
        file.unlink()
    elif change == "mode":
        os.utime(file, ns=(0, 1))
        file.chmod(0)
    else:
        other.write_bytes(b"hello")
        file.unlink()
        file.symlink_to(other)
    assert shelf.find(str(file)) is None
    assert repr(shelf) == "<Shelf of 0 files, 0 bytes>"


def test_large_files_are_not_kept(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (LARGEST + 1))
    shelf = Shelf(lambda: later(large))
    keep(shelf, large)
    assert shelf.find(str(large)) is None


def test_room_is_bounded(tmp_path: Path) -> None:
    now = 0.0
    shelf = Shelf(lambda: now)
    for number in range(ROOM // LARGEST + 1):
        path = tmp_path / str(number)
        path.write_bytes(b"x" * LARGEST)
        now = later(path)
        keep(shelf, path)
    assert repr(shelf) == f"<Shelf of 1 files, {LARGEST} bytes>"


def test_a_file_that_grew_since_it_was_opened_is_not_kept(file: Path) -> None:
    shelf = Shelf(lambda: later(file))
    opened = open_beneath(str(file.parent), file.name)
    try:
        with file.open("ab") as more:
            more.write(b"!")
        shelf.keep(str(file), opened, FIELDS)
    finally:
        opened.close()
    assert shelf.find(str(file)) is None


def test_one_look_is_good_for_a_round(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    this = Round.here()
    monkeypatch.setattr(this, "number", 7)
    shelf = Shelf(lambda: later(file))
    keep(shelf, file)
    found = shelf.find(str(file), 7)
    file.write_bytes(b"hello, you")
    assert found is not None
    assert shelf.find(str(file), 7) is found
    assert repr(found) == "<Kept 5 bytes>"
    monkeypatch.setattr(this, "number", 8)
    assert shelf.find(str(file), 7) is None, "whoever waited meanwhile may know more"


@pytest.mark.parametrize("turn", [0, 6])
def test_who_has_another_turn_looks_again(file: Path, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    monkeypatch.setattr(Round.here(), "number", 7)
    shelf = Shelf(lambda: later(file))
    keep(shelf, file)
    assert shelf.find(str(file), 7) is not None
    file.write_bytes(b"hello, you")
    assert shelf.find(str(file), turn) is None


def test_outside_of_rounds_each_looks(file: Path) -> None:
    shelf = Shelf(lambda: later(file))
    keep(shelf, file)
    assert shelf.find(str(file)) is not None
    file.write_bytes(b"hello, you")
    assert shelf.find(str(file)) is None
