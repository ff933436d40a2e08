"""Processes that a test starts: waited for until they answer, ended with all that they left behind.

The test process is a subreaper (prctl(2)): what a process leaves behind becomes our child, and so cannot hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from pathlib import Path

from peers.waiting import wait_until

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> set[int]:
    """The living children of a process; zombies are none."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.add(int(stat.parent.name))
    return found


def descendants(pid: int) -> set[int]:
    found = children(pid)
    return found.union(*(descendants(child) for child in found))


def kill_all(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)


def can_connect(address: str | tuple[str, int]) -> bool:
    """Whether somebody listens: `address` is a path or a (host, port)."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0


def free_port() -> int:
    """A TCP port that was free a moment ago, for peers that cannot bind port 0 themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Processes:
    """The processes of one test."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._adopted: list[int] = []

    def start(self, command: list[str], *, until: str | tuple[str, int], **options: object) -> subprocess.Popen[bytes]:
        """Starts a peer and returns when it listens at `until`."""
        process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
        self._running.append(process)

        def listens() -> bool:
            assert process.poll() is None, f"{command[0]} ended at once with {process.returncode}"
            return can_connect(until)

        wait_until(listens, f"{command[0]} to listen at {until}")
        return process

    @property
    def pids(self) -> list[int]:
        """Those that were started and not adopted, in order."""
        return [process.pid for process in self._running]

    def adopt(self, pid: int) -> None:
        """Takes over a daemon that went into the background."""
        self._adopted.append(pid)

    def stop(self) -> None:
        """Ends them and what they left behind. php-cgi may fork once more while it ends: parents go first."""
        roots = {*self._adopted, *self.pids}
        others = children(os.getpid()) - roots.union(*map(descendants, roots))
        kill_all(set(self._adopted))
        self._adopted.clear()
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        while orphans := children(os.getpid()) - others:
            kill_all(orphans)
