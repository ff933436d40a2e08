"""One spawned process: its start, its output, its end.

Contract: it gets the listening socket as descriptor 0, a pipe of ours as 1 and 2 and no other descriptor; default
signal dispositions and an empty mask; a session and process group of its own; our umask. It gets `death_signal` when
our thread ends, however that comes (Linux, prctl(2)). Its end is told by gevent's child watcher, which reaps it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable

import gevent
from gevent import monkey, socket, subprocess
from gevent.os import make_nonblocking, nb_read

from gfastcgi.errors import SpawnError
from gfastcgi.log import escape
from gfastcgi.supervise.command import Command
from gfastcgi.supervise.output import LineSplitter

__all__ = ["Process"]

PIECE = 4096
LINES_A_SECOND = 2000
"""The most that is taken from a process, and as many pieces of `PIECE` bytes; one that writes more has to wait."""

# gevent's own signal() would reach into the event loop, which after fork is the gateway's.
_set_disposition = monkey.get_original("signal", "signal")

_PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


class Process:
    """A process of `command`. `on_line` gets its output, `on_end` is called once in the hub, and must not wait."""

    def __init__(
        self,
        command: Command,
        listener: socket.socket,
        *,
        on_line: Callable[[str], None],
        on_end: Callable[[], None],
        death_signal: int = signal.SIGTERM,
    ) -> None:
        """Starts it. Raises `SpawnError`, which names the command and the reason."""
        self.command = command
        try:
            reading, writing = os.pipe()
        except OSError as error:
            raise SpawnError(f"gw-backend failed to start: {command}: {error.strerror}") from error
        try:
            self._popen = subprocess.Popen(
                list(command.words),
                stdin=listener.fileno(),
                stdout=writing,
                stderr=writing,
                cwd=command.folder,
                env=dict(command.environment),
                close_fds=True,
                start_new_session=True,
                preexec_fn=_Preparation(death_signal),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            os.close(reading)
            raise SpawnError(f"gw-backend failed to start: {command}: {_reason(error, command)}") from error
        finally:
            os.close(writing)
        self.pid: int = self._popen.pid
        make_nonblocking(reading)
        self._reader = gevent.spawn(_read_lines, reading, on_line)
        self._popen.rawlink(lambda _: on_end())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.command.words[0]}{' ' + self.how_ended if self.has_ended else ''}>"

    @property
    def has_ended(self) -> bool:
        """Whether it ended and was reaped."""
        return self._popen.returncode is not None

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended with exit status 0."""
        return self._popen.returncode == 0

    @property
    def how_ended(self) -> str:
        """`exit status 1` or `signal 9 (SIGKILL)`."""
        status = self._popen.returncode
        if status is None:
            return "runs"
        if status >= 0:
            return f"exit status {status}"
        try:
            return f"signal {-status} ({signal.Signals(-status).name})"
        except ValueError:
            return f"signal {-status}"

    def wait(self, timeout: float) -> bool:
        """Waits until it ends, at most `timeout` seconds; whether it has ended."""
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, number: int) -> None:
        """Sends a signal to the process alone."""
        if not self.has_ended:
            os.kill(self.pid, number)

    def kill_group(self, number: int) -> None:
        """Sends a signal to the process and its children, which outlive it unless they are told."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def clean_up(self) -> None:
        """After its end: kills what is left of its group, and lets its last words be read."""
        self.kill_group(signal.SIGKILL)
        self._reader.join(timeout=1.0)
        self._reader.kill()


class _Preparation:
    """What the child does before it becomes the program."""

    def __init__(self, death_signal: int) -> None:
        self._death_signal = death_signal
        self._parent = os.getpid()

    def __call__(self) -> None:
        # What we ignore or block would stay so in the program, and PHP or libfcgi not end.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            _set_disposition(number, signal.SIG_DFL)
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, self._death_signal, 0, 0, 0)
            if os.getppid() != self._parent:
                os.kill(os.getpid(), signal.SIGKILL)  # we died before it could be told
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reason(error: Exception, command: Command) -> str:
    """Why `command` cannot be executed, execve(2); ENOENT may mean the file, or its interpreter."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.errno == errno.ENOENT and os.path.exists(command.words[0]):
        return f"{error.strerror}: not the file, but what its first line names: {_first_line(command.words[0])}"
    if error.errno == errno.ENOEXEC:
        return f"{error.strerror}: neither a program for this machine nor a script that begins with #!"
    return error.strerror


def _first_line(program: str) -> str:
    try:
        with open(program, "rb") as file:
            line = file.readline(128)
    except OSError as error:
        return error.strerror or str(error)
    return escape(line.strip().decode("utf-8", "surrogateescape")) if line.startswith(b"#!") else "a binary"


def _read_lines(fd: int, on_line: Callable[[str], None]) -> None:
    splitter = LineSplitter()
    try:
        while data := nb_read(fd, PIECE):
            lines = splitter.feed(data)
            for line in lines:
                on_line(line)
            gevent.sleep(max(len(lines), 1) / LINES_A_SECOND)
        for line in splitter.close():
            on_line(line)
    finally:
        os.close(fd)
