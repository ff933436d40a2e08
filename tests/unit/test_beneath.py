"""What opens beneath a root, by openat2 and by the walk: the same answers."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import filerig
import pytest

from gfastcgi.net import beneath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INSIDE = ["allowed.txt", "/allowed.txt", "///allowed.txt", "./allowed.txt", "dir/./inner.txt", "dir//inner.txt",
          "dir/deep/up.txt", "dir/again/inner.txt", "absolute.txt", "absolute-dir/inner.txt"]  # fmt: skip
MISSING = ["nope", "dir/nope", "nope/x", "allowed.txt/", "allowed.txt/x", "dangling", "a" * 300, "dir/" * 2000,
           "allowed.txt\0.jpg", "nul\0/x"]  # fmt: skip
OUTSIDE = ["dir/out.txt", "absolute-out.txt", "linkdir/secret.txt", "linkdir", "linkshared/shared.txt", "shared.txt",
           "sibling/secret.txt", "self", "cwd", "../private/secret.txt", "dir/../allowed.txt", ".."]  # fmt: skip
SPECIAL = ["fifo", "sock", "null", "fd", "fifo-link", "loop"]


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to open."""
    monkeypatch.setattr(beneath, "_open_at", getattr(beneath, f"_open_by_{request.param}"))
    if request.param == "openat2" and beneath._best_way() is beneath._open_by_walk:
        pytest.skip("the kernel has no openat2")
    return str(request.param)


@pytest.fixture
def www(tmp_path: Path) -> Iterator[Path]:
    before = filerig.open_fds()
    yield filerig.build(tmp_path)
    assert filerig.open_fds() == before


def content_of(root: Path, path: str, *extra: Path) -> bytes:
    file = beneath.open_beneath(str(root), path, extra_roots=[str(tree) for tree in extra])
    try:
        assert file.is_regular
        assert not file.is_dir
        assert not os.get_inheritable(file.fd)
        return os.pread(file.fd, file.stat.st_size, 0)
    finally:
        file.close()
        file.close()


@pytest.mark.parametrize("path", INSIDE)
def test_inside_opens(www: Path, path: str) -> None:
    assert content_of(www, path) == filerig.ALLOWED
    assert beneath.stat_beneath(str(www), path).st_size == len(filerig.ALLOWED)


@pytest.mark.parametrize("path", MISSING)
@pytest.mark.parametrize("call", [beneath.open_beneath, beneath.stat_beneath])
def test_missing(www: Path, path: str, call: Callable[[str, str], object]) -> None:
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        call(str(www), path)


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("call", [beneath.open_beneath, beneath.stat_beneath])
def test_outside_is_refused(www: Path, path: str, call: Callable[[str, str], object]) -> None:
    with pytest.raises(PermissionError):
        call(str(www), path)


def test_dangling_link_outside_tells_nothing_but_missing(www: Path) -> None:
    with pytest.raises(FileNotFoundError):
        beneath.open_beneath(str(www), "dangling-out")


@pytest.mark.parametrize("path", SPECIAL)
def test_neither_file_nor_directory(www: Path, path: str) -> None:
    with pytest.raises(PermissionError):
        beneath.open_beneath(str(www), path)


@pytest.mark.parametrize("path", ["", "/", ".", "dir", "dir/", "absolute-dir", "absolute-dir/", "dir/again/deep/"])
def test_directories(www: Path, path: str) -> None:
    file = beneath.open_beneath(str(www), path)
    assert file.is_dir
    assert not file.is_regular
    file.close()


@pytest.mark.parametrize("path", ["linkshared/shared.txt", "shared.txt"])
def test_extra_roots(www: Path, path: str) -> None:
    shared = www.parent / "shared"
    assert content_of(www, path, shared) == b"SHARED"
    assert beneath.stat_beneath(str(www), path, extra_roots=[str(shared)]).st_size == 6
    with pytest.raises(PermissionError):
        content_of(www, path, www.parent / "share")
    with pytest.raises(PermissionError):
        content_of(www, "absolute-out.txt", shared)


def test_extra_roots_are_no_way_up(www: Path) -> None:
    with pytest.raises(PermissionError):
        content_of(www, "../shared/shared.txt", www.parent / "shared")


def test_root_that_is_a_link_or_relative(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = www.parent / "current"
    link.symlink_to("www")
    assert content_of(link, "absolute.txt") == filerig.ALLOWED
    with pytest.raises(PermissionError):
        content_of(link, "linkdir/secret.txt")
    monkeypatch.chdir(www.parent)
    assert beneath.stat_beneath("www", "absolute.txt").st_size == len(filerig.ALLOWED)


def test_slash_as_root_takes_absolute_links_but_no_magic_ones(www: Path) -> None:
    assert beneath.stat_beneath("/", str(www / "absolute.txt")).st_size == len(filerig.ALLOWED)
    assert beneath.stat_beneath("/", str(www / "linkdir" / "secret.txt")).st_size == len(filerig.SECRET)


@pytest.mark.parametrize("root", ["allowed.txt", "nope"])
def test_root_has_to_be_a_directory(www: Path, root: str) -> None:
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        beneath.open_beneath(str(www / root), "x")


def test_names_are_bytes(www: Path) -> None:
    name = b"\xff\xc3\xa4"
    (www / os.fsdecode(name)).write_bytes(b"odd")
    assert content_of(www, name.decode("utf-8", "surrogateescape")) == b"odd"


def test_unreadable(www: Path) -> None:
    (www / "allowed.txt").chmod(0)
    code = f"""
import os
from gfastcgi.net import beneath
if os.getuid() == 0: os.seteuid(65534)
print(beneath.stat_beneath({str(www)!r}, "allowed.txt").st_size)
try: beneath.open_beneath({str(www)!r}, "allowed.txt")
except PermissionError: print("refused")
"""
    for folder in www.parents:
        if not folder.stat().st_mode & 1 and os.getuid() == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20", "refused"]


def test_many_links_end(www: Path) -> None:
    target = "allowed.txt"
    for number in range(45):
        (www / f"chain{number}").symlink_to(target)
        target = f"chain{number}"
    assert content_of(www, "chain38") == filerig.ALLOWED
    with pytest.raises(PermissionError):
        content_of(www, "chain44")


def test_opening_a_fifo_does_not_wait(www: Path) -> None:
    opened = threading.Event()

    def open_it() -> None:
        with pytest.raises(PermissionError):
            beneath.open_beneath(str(www), "fifo")
        opened.set()

    thread = threading.Thread(target=open_it, daemon=True)
    thread.start()
    assert opened.wait(10)
    thread.join()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_kernels_without_openat2_get_the_walk(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(beneath, "_syscall", fail)
    assert beneath._best_way() is beneath._open_by_walk


def test_says_whether_there_is_openat2(way: str) -> None:
    assert beneath.has_openat2() is (way == "openat2")


def test_a_rename_at_the_same_moment_is_tried_again(www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "_open_at", beneath._open_by_openat2)
    answers = [errno.EAGAIN, errno.EINTR, errno.EAGAIN]
    syscall = beneath._syscall

    def busy(*arguments: object) -> int:
        if answers:
            ctypes.set_errno(answers.pop())
            return -1
        return int(syscall(*arguments))

    monkeypatch.setattr(beneath, "_syscall", busy)
    assert content_of(www, "allowed.txt") == filerig.ALLOWED
    assert not answers


SWAPPER = """
import itertools, os, sys
os.chdir(sys.argv[1])
print("ready", flush=True)
for turn in itertools.count():
    os.symlink(("../private/secret.txt", sys.argv[2])[turn % 2], "tmp-link")
    os.rename("tmp-link", "swapped.txt")
    with open("tmp-file", "wb") as file: file.write(b"ALLOWED-FILE-CONTENT")
    os.rename("tmp-file", "swapped.txt")
    os.rename("real", "aside"); os.symlink("../private", "real")
    os.unlink("real"); os.rename("aside", "real")
"""


def test_swapped_while_opening_only_the_inside_is_seen(www: Path) -> None:
    (www / "swapped.txt").write_bytes(filerig.ALLOWED)
    (www / "real").mkdir()
    (www / "real" / "secret.txt").write_bytes(filerig.ALLOWED)
    command = [sys.executable, "-c", SWAPPER, str(www), str(www.parent / "private" / "secret.txt")]
    seen = {"file": 0, "refused": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"ready\n"
            turn = 0
            while turn < 10_000 or not all(seen.values()):
                turn += 1
                try:
                    assert content_of(www, ("swapped.txt", "real/secret.txt")[turn % 2]) == filerig.ALLOWED
                    seen["file"] += 1
                except (PermissionError, FileNotFoundError, NotADirectoryError):
                    seen["refused"] += 1
        finally:
            swapper.kill()
