"""One spawned process: its start, its output, its end.

Contract: it gets the listening socket as descriptor 0, a pipe of ours as 1 and 2 and no other descriptor; default
signal dispositions and an empty mask; a session and process group of its own; our umask. Its end is told by gevent's
child watcher, which reaps it too; whatever is left of its group is killed then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import gevent
from gevent import monkey, socket, subprocess
from gevent.os import make_nonblocking, nb_read

from gfastcgi.errors import SpawnError
from gfastcgi.supervise.command import Command
from gfastcgi.supervise.output import LineSplitter

__all__ = ["Process"]

PIECE = 4096
LINES_A_SECOND = 2000
"""The most that is taken from a process, and as many pieces of `PIECE` bytes; one that writes more has to wait."""

# gevent's own signal() would reach into the event loop, which after fork is the gateway's.
_set_disposition = monkey.get_original("signal", "signal")


class Process:
    """A process of `command`. `on_line` gets its output, `on_end` is called once in the hub, and must not wait."""

    def __init__(
        self, command: Command, listener: socket.socket, *, on_line: Callable[[str], None], on_end: Callable[[], None]
    ) -> None:
        """Starts it. Raises `SpawnError`, which names the command and the reason."""
        self.command = command
        reading, writing = os.pipe()
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
                preexec_fn=_reset_signals,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            os.close(reading)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise SpawnError(f"gw-backend failed to start: {command}: {reason}") from error
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


def _reset_signals() -> None:
    # In the child, before exec. What we ignore or block would stay so in the program, and PHP or libfcgi not end.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        _set_disposition(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


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
