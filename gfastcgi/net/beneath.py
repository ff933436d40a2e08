"""Opens files that lie beneath a root directory, and no others: judged by what was opened, never by a path string.

Contract: `open_beneath` gives a regular file or a directory, opened without blocking, or raises the OSError that fits.
Plan: one openat2 call (Linux 5.6) refuses every way out; kernels without it get the same answers from a walk by
component. A link that leaves the root is followed to its end, which has to lie in the root or a tree named beside it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Sequence

# The plain call: gevent's os.close, which the command line puts in its place, lets the hub run for what is no file.
from posix import close
from typing import Final

__all__ = ["OpenedFile", "has_openat2", "open_beneath", "stat_beneath"]

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LOOK: Final = os.O_PATH | os.O_CLOEXEC
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_BENEATH: Final = 0x08
_MAX_LINKS: Final = 40  # as the kernel counts (path_resolution(7))
# openat2(2): a rename in the tree at the same moment answers EAGAIN; the patient way follows after that.
_ATTEMPTS: Final = 8

_REFUSED: Final = frozenset({errno.ELOOP, errno.EXDEV, errno.EPERM, errno.ENXIO, errno.ENODEV})


class OpenedFile:
    """An open descriptor and its `stat`. It belongs to whoever holds the object, who has to `close` it."""

    __slots__ = ("fd", "stat")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            self.stat = os.fstat(fd)
        except OSError:
            close(fd)
            raise

    def __repr__(self) -> str:
        return f"<OpenedFile fd={self.fd} size={self.stat.st_size}>"

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    def close(self) -> None:
        """Closes the descriptor; again: nothing happens."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close(fd)


def open_beneath(root: str, path: str, *, extra_roots: Sequence[str] = ()) -> OpenedFile:
    """Opens `path`, taken relative to the directory `root` (leading slashes mean nothing), for reading.

    Symbolic links may lead anywhere inside `root` and inside `extra_roots`. Raises FileNotFoundError,
    NotADirectoryError; PermissionError for what lies outside, may not be read or is neither file nor directory;
    other OSErrors as they come.
    """
    file = OpenedFile(_open(root, path, _READ, extra_roots))
    if file.is_regular or file.is_dir:
        return file
    file.close()
    raise PermissionError(errno.EACCES, "neither a regular file nor a directory", path)


def stat_beneath(root: str, path: str, *, extra_roots: Sequence[str] = ()) -> os.stat_result:
    """The status of what `open_beneath` would open; needs no right to read it. Raises as `open_beneath` does."""
    fd = _open(root, path, _LOOK, extra_roots)
    try:
        return os.fstat(fd)
    finally:
        close(fd)


def _open(root: str, path: str, flags: int, extra_roots: Iterable[str]) -> int:
    if "\0" in path:
        raise FileNotFoundError(errno.ENOENT, "a NUL in the path", path)
    if ".." in path and ".." in path.split("/"):
        raise PermissionError(errno.EACCES, "the path has a parent segment", path)
    name = path.lstrip("/").encode("utf-8", "surrogateescape") or b"."
    top = os.open(root.encode("utf-8", "surrogateescape"), _LOOK | os.O_DIRECTORY)
    try:
        try:
            return _open_at(top, name, flags, is_bound=True)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EAGAIN):
                raise
        return _open_judged(top, root, name, flags, extra_roots)
    except OSError as error:
        if error.errno in _REFUSED:
            raise PermissionError(errno.EACCES, error.strerror, path) from error
        if error.errno == errno.ENAMETOOLONG:
            raise FileNotFoundError(errno.ENOENT, error.strerror, path) from error
        raise
    finally:
        close(top)


def _open_judged(top: int, root: str, name: bytes, flags: int, extra_roots: Iterable[str]) -> int:
    """Follows links wherever they lead, opens nothing on the way, and asks the kernel where that is."""
    slash = os.open("/", _LOOK | os.O_DIRECTORY)
    try:
        whole = os.path.join(os.path.abspath(root).encode("utf-8", "surrogateescape"), name)
        found = _open_at(slash, whole.lstrip(b"/"), _LOOK, is_bound=False)
    finally:
        close(slash)
    try:
        allowed = [_place(top), *(os.path.realpath(extra) for extra in extra_roots)]
        place = _place(found)
        if not any(place == tree or place.startswith(tree.rstrip("/") + "/") for tree in allowed):
            raise OSError(errno.EXDEV, "leads out of the root")
        return _reopen(found, flags)
    finally:
        close(found)


def _place(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _reopen(fd: int, flags: int) -> int:
    """The very object that `fd` looks at, opened with `flags`."""
    if flags == _LOOK:
        return os.dup(fd)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.ENXIO, "neither a regular file nor a directory")
    return os.open(f"/proc/self/fd/{fd}", flags)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _how(flags: int, *, is_bound: bool) -> _OpenHow:
    return _OpenHow(flags, 0, _RESOLVE_NO_MAGICLINKS | (_RESOLVE_BENEATH if is_bound else 0))


_HOWS = {
    (flags, is_bound): ctypes.byref(_how(flags, is_bound=is_bound))
    for flags in (_READ, _LOOK)
    for is_bound in (True, False)
}
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
# Made once instead of argtypes, whose conversions cost 1 us a call.
_OPENAT2: Final = ctypes.c_long(437)
_HOW_SIZE: Final = ctypes.c_size_t(ctypes.sizeof(_OpenHow))


def _open_by_openat2(top: int, path: bytes, flags: int, *, is_bound: bool) -> int:
    """openat2(2). Raises OSError; EXDEV when the path leaves `top` and `is_bound`."""
    how = _HOWS[flags, is_bound]
    code = 0
    for _ in range(_ATTEMPTS):
        fd: int = _syscall(_OPENAT2, top, path, how, _HOW_SIZE)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code))


def _open_by_walk(top: int, path: bytes, flags: int, *, is_bound: bool) -> int:
    """The same by one component after the other, each held open before the next is looked up.

    A magic link of /proc counts as the path that it reads as, never as what it jumps to.
    """
    parents: list[int] = [top]
    todo = deque(path.split(b"/"))
    links = 0
    try:
        while todo:
            name = todo.popleft()
            if name == b"..":
                _step_up(parents, is_bound=is_bound)
            if name in (b"", b".", b".."):
                continue
            parents.append(os.open(name, _LOOK | os.O_NOFOLLOW, dir_fd=parents[-1]))
            mode = os.fstat(parents[-1]).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                target = os.readlink(b"", dir_fd=parents[-1])
                close(parents.pop())
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if target.startswith(b"/"):
                    _step_to_top(parents, is_bound=is_bound)
                todo.extendleft(reversed(target.split(b"/")))
            elif todo and not stat.S_ISDIR(mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return _reopen(parents[-1], flags)
    finally:
        for fd in parents[1:]:
            close(fd)


def _step_up(parents: list[int], *, is_bound: bool) -> None:
    if len(parents) > 1:
        close(parents.pop())
    elif is_bound:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _step_to_top(parents: list[int], *, is_bound: bool) -> None:
    if is_bound:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    while len(parents) > 1:
        close(parents.pop())


def has_openat2() -> bool:
    """Whether the kernel opens beneath a directory in one call; if not, a walk does it."""
    return _open_at is _open_by_openat2


def _best_way() -> Callable[..., int]:
    top = os.open("/", _LOOK | os.O_DIRECTORY)
    try:
        close(_open_by_openat2(top, b".", _LOOK, is_bound=True))
    except OSError:  # ENOSYS: an older kernel; EPERM: a filter of system calls that does not know it
        return _open_by_walk
    finally:
        close(top)
    return _open_by_openat2


_open_at = _best_way()
