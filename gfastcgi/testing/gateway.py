"""A gateway in a process of its own: started on a free port, its log followed, ended in order.

Contract: it is up when its log says "listening on"; it ends by SIGTERM, with exit status 0 and no traceback in its log,
or that is an AssertionError. Everything blocks: for test functions, not for greenlets.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gfastcgi.config import Address, Config
from gfastcgi.lighttpd.render import render
from gfastcgi.testing.waiting import wait_until

with warnings.catch_warnings():
    # WebOb 1.8 imports the module cgi, which warns of itself: test suites make errors of warnings.
    warnings.simplefilter("ignore", DeprecationWarning)
    import webob

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["GatewayProcess", "write_config"]

LISTENING = re.compile(r"listening on (?:unix:(?P<path>\S+)|http://(?P<host>\[[^\]]+\]|[^:\s]+):(?P<port>\d+))")
TRACEBACK = "Traceback (most recent call last)"
_START_SECONDS = 20.0
_ANSWER_SECONDS = 15.0


def write_config(config: str | Config, folder: Path, name: str = "site.conf") -> Path:
    """Writes a configuration file; where it says nothing of them, it listens on a free port and serves `folder`."""
    if isinstance(config, Config):
        if not config.server.listeners:
            config = replace(config, server=replace(config.server, listeners=(Address("127.0.0.1", 0),)))
        config = render(config)
    defaults = {"server.bind": '"127.0.0.1"', "server.port": "0", "server.document-root": f'"{folder}"'}
    missing = [f"{option} = {value}\n" for option, value in defaults.items() if not _sets(config, option)]
    path = folder / name
    path.write_text("".join(missing) + config)
    return path


def _sets(config: str, option: str) -> bool:
    return re.search(rf"^\s*{re.escape(option)}\s*\+?=", config, re.MULTILINE) is not None


class GatewayProcess:
    """One running `gfastcgi`; `arguments` are what stands behind the program's name: `["-D", "-f", "site.conf"]`.

    `env` is added to the environment. `log` is the file of its `server.errorlog`, if it has one. Also a context
    manager. Raises AssertionError, with its log, when it does not come to listen.
    """

    _interpreter: tuple[str, ...] = (sys.executable,)

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.may_trace = False
        """Whether a traceback in its log is no fault."""
        self._lines: list[str] = []
        self._file = log
        self._is_over = False
        self.process = self._start(arguments, cwd, {**os.environ, **(env or {})})
        """The process itself."""
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()
        try:
            wait_until(self._is_up, "gfastcgi to listen", _START_SECONDS)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log}") from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid} at {', '.join(map(str, self.addresses)) or 'no address'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _start(
        self, arguments: Sequence[str], cwd: str | os.PathLike[str], env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._interpreter, "-m", "gfastcgi", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
        )

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"gfastcgi ended with {self.process.returncode}:")
        return bool(self.addresses)

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.decode("utf-8", "backslashreplace"))

    # What it tells

    @property
    def log(self) -> str:
        """What it wrote, on its standard error and into its error log."""
        written = self._file.read_text("utf-8", "backslashreplace") if self._file and self._file.exists() else ""
        return "".join(self._lines) + written

    def wait_for_log(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """The first match of a regular expression in the log, once it stands there; else AssertionError."""
        found = wait_until(lambda: re.search(pattern, self.log, re.MULTILINE), f"{pattern!r} in the log", timeout)
        assert found is not None
        return found

    @property
    def addresses(self) -> list[str | tuple[str, int]]:
        """Where it listens: paths of unix sockets, and hosts with ports."""
        return [
            match["path"] or (match["host"].strip("[]"), int(match["port"])) for match in LISTENING.finditer(self.log)
        ]

    @property
    def address(self) -> str | tuple[str, int]:
        """The first of them."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        """The port of the first one."""
        if isinstance(self.address, str):
            raise AttributeError(f"it listens on the unix socket {self.address}")
        return self.address[1]

    @property
    def url(self) -> str:
        """Its base URL, "http://127.0.0.1:40001", without a slash behind it."""
        host = self.address[0]
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    # Asking it

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> webob.Response:
        """One request on a connection of its own; redirects are not followed. Raises OSError, http.client errors."""
        address = self.address
        host, port = ("localhost", None) if isinstance(address, str) else address
        connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
        if isinstance(address, str):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_ANSWER_SECONDS)
            connection.sock.connect(address)
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            status = f"{answer.status} {answer.reason}"
            return webob.Response(status=status, headerlist=answer.getheaders(), app_iter=[answer.read()])
        finally:
            connection.close()

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> webob.Response:
        """As `request`, by GET."""
        return self.request("GET", target, headers=headers)

    # Its end

    def terminate(self, number: int = signal.SIGTERM) -> None:
        """Sends it a signal; `stop` waits for its end and judges."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it by SIGKILL; `stop` has nothing to judge then."""
        self._is_over = True
        self.process.kill()
        self._join()

    def stop(self, *, timeout: float = 15.0) -> None:
        """Ends it by SIGTERM. Raises AssertionError when it did not go in order; a second time does nothing."""
        if self._is_over:
            return
        if self.process.poll() is None:
            self.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"gfastcgi did not end within {timeout:g} s of SIGTERM:\n{self.log}") from None
        self._is_over = True
        self._join()
        if self.process.returncode != 0:
            raise AssertionError(f"exit status {self.process.returncode}\n{self.log}")
        if TRACEBACK in self.log and not self.may_trace:
            raise AssertionError(self.log)

    def _join(self) -> None:
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
