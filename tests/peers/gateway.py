"""A gfastcgi process under test: the one that ships for other people's tests, looked at closely.

At the end of every test its exit code must be 0, its log without a traceback, and no process of it left.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gfastcgi.testing.gateway import GatewayProcess
from peers.http import Answer, Connection
from peers.processes import children, kill_all
from peers.waiting import wait_until

if TYPE_CHECKING:
    import subprocess


class Gateway(GatewayProcess):
    """One running `gfastcgi`. `command` is what stands behind the program's name."""

    _interpreter = (sys.executable, "-W", "error::ResourceWarning")
    running: ClassVar[set[int]] = set()

    def _start(self, *arguments: Any) -> subprocess.Popen[bytes]:
        self._before = children(os.getpid()) - Gateway.running
        process = super()._start(*arguments)
        Gateway.running.add(process.pid)
        return process

    def connect(self, timeout: float = 15.0) -> Connection:
        return Connection(self.address, timeout)

    def request(self, method: str, target: str, body: bytes | None = None, **fields: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.request(method, target, body, **fields)

    def get(self, target: str, **fields: str) -> Answer:
        return self.request("GET", target, **fields)

    def rss(self) -> int:
        """Resident memory in bytes."""
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert match is not None
        return int(match[1]) * 1024

    def peak_rss(self) -> int:
        """The most resident memory since the start or `reset_peak`, in bytes."""
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert match is not None
        return int(match[1]) * 1024

    def reset_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def fds(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self) -> float:
        ticks = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """Ends it by SIGKILL, with whatever it leaves; `stop` has nothing to judge then."""
        super().kill()
        kill_all(self._left())

    def _left(self) -> set[int]:
        """The processes that it left behind; we are their parent now."""
        return children(os.getpid()) - self._before - Gateway.running

    def _join(self) -> None:
        super()._join()
        Gateway.running.discard(self.pid)

    def stop(self, *, timeout: float = 15.0) -> None:
        """Ends it by SIGTERM and asserts that it went in order."""
        if self._is_over:
            return
        try:
            super().stop(timeout=timeout)
        finally:
            with contextlib.suppress(AssertionError):  # what it killed may still be on its way out
                wait_until(lambda: not self._left(), "its processes to end", 2)
            left = self._left()
            kill_all(left)
        assert not left, f"processes were left: {left}"
