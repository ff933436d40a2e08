"""A gfastcgi process under test: started on port 0, its log followed, ended gracefully and looked at closely.

At the end of every test its exit code must be 0, its log without a traceback, and no process of it left.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from peers.http import Answer, Connection
from peers.processes import children, kill_all
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LISTENING = re.compile(r"listening on (?:unix:(?P<path>\S+)|http://(?P<host>\[[^\]]+\]|[^:\s]+):(?P<port>\d+))")


class Gateway:
    """One running `gfastcgi`. `command` is what stands behind the program's name."""

    running: ClassVar[set[int]] = set()

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self._before = children(os.getpid()) - Gateway.running
        self._lines: list[str] = []
        self._file = log
        self._is_over = False
        self.may_trace = False
        """Set by a test that makes it log a traceback."""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "gfastcgi", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        Gateway.running.add(self.process.pid)
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

        def is_up() -> bool:
            assert self.process.poll() is None, f"gfastcgi ended with {self.process.returncode}:\n{self.log}"
            return bool(self.addresses)

        try:
            wait_until(is_up, "gfastcgi to listen", 20)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log}") from None

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.decode("utf-8", "backslashreplace"))

    @property
    def log(self) -> str:
        """What it wrote, on its standard error and into its error log."""
        written = self._file.read_text("utf-8", "backslashreplace") if self._file and self._file.exists() else ""
        return "".join(self._lines) + written

    @property
    def addresses(self) -> list[str | tuple[str, int]]:
        return [
            match["path"] or (match["host"].strip("[]"), int(match["port"])) for match in LISTENING.finditer(self.log)
        ]

    @property
    def address(self) -> str | tuple[str, int]:
        return self.addresses[0]

    @property
    def port(self) -> int:
        """The port of the first listener."""
        address = self.address
        assert isinstance(address, tuple)
        return address[1]

    def connect(self, timeout: float = 15.0) -> Connection:
        return Connection(self.address, timeout)

    def request(self, method: str, target: str, body: bytes | None = None, **fields: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.request(method, target, body, **fields)

    def get(self, target: str, **fields: str) -> Answer:
        return self.request("GET", target, **fields)

    def wait_for_log(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """The first match of a regular expression in the log, once it stands there."""
        found = wait_until(lambda: re.search(pattern, self.log, re.MULTILINE), f"{pattern!r} in the log", timeout)
        assert found is not None
        return found

    @property
    def pid(self) -> int:
        return self.process.pid

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

    def terminate(self, number: int = signal.SIGTERM) -> None:
        """Asks it to end; `stop` waits for that and judges."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it by SIGKILL, with whatever it leaves; `stop` has nothing to judge then."""
        self._is_over = True
        self.process.kill()
        self._join()
        kill_all(self._left())

    def _left(self) -> set[int]:
        """The processes that it left behind; we are their parent now."""
        return children(os.getpid()) - self._before - Gateway.running

    def _join(self) -> None:
        self.process.wait()
        Gateway.running.discard(self.pid)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self, *, timeout: float = 15.0) -> None:
        """Ends it by SIGTERM and asserts that it went in order."""
        if self._is_over:
            return
        if self.process.poll() is None:
            self.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"gfastcgi did not end within {timeout:g} s of SIGTERM:\n{self.log}") from None
        self._join()
        with contextlib.suppress(AssertionError):  # what it killed may still be on its way out
            wait_until(lambda: not self._left(), "its processes to end", 2)
        left = self._left()
        kill_all(left)
        assert self.process.returncode == 0, f"exit code {self.process.returncode}\n{self.log}"
        assert self.may_trace or "Traceback (most recent call last)" not in self.log, self.log
        assert not left, f"processes were left: {left}"
