"""A program that gets a listening socket as its standard input, and is left alone: FastCGI 1.0 section 2.2.

Contract: `start` forks, `become` does not. A child has a session of its own, no other descriptor,
and default signal dispositions; one that cannot be executed is told apart from one that ended.
"""

from __future__ import annotations

import os
import posix
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import NamedTuple, NoReturn

from gevent import monkey

from gfastcgi.cli.console import print_fault
from gfastcgi.net.listeners import SocketFile, address_of

__all__ = ["Program", "become", "start"]

_SECONDS = 0.1
"""How long a program has to stay to count as started, as in spawn-fcgi."""

# A child of ours is for no hub to watch and to bury, and must not enter one, even where the library is patched.
_fork = monkey.get_original("os", "fork")
_waitpid = monkey.get_original("os", "waitpid")
_poll = monkey.get_original("select", "poll")


class Program(NamedTuple):
    """What is executed: a file, its arguments with its own name first, its environment."""

    file: str
    words: Sequence[str]
    environment: Mapping[str, str]


def become(program: Program, listener: socket.socket) -> int:
    """Becomes the program. The value is the exit status when that is not possible, which is told."""
    try:
        _execute(program, listener)
    except OSError as error:
        print_fault(f"{program.file}: exec failed: {error.strerror}")
        return error.errno or 1


def start(program: Program, listener: socket.socket, count: int, *, output: int, pid_file: int | None) -> int:
    """Starts `count` processes that write to `output`; the value is the exit status.

    The ids of those that run go into `pid_file`. Nothing is opened or imported here: the root may be another by now.
    """
    file = SocketFile(address_of(listener))
    processes = [_start(program, listener, output) for _ in range(count)]
    ended = _wait(processes)
    for pid in processes:
        if pid not in ended:
            print(f"gfastcgi spawn: child spawned successfully: PID: {pid}", flush=True)
    running = [pid for pid in processes if pid not in ended]
    if pid_file is not None:
        os.ftruncate(pid_file, 0)
        os.write(pid_file, "\n".join(map(str, running)).encode())
    if not running:
        with suppress(OSError):  # its folder may be out of reach since we became somebody else
            file.remove()
    return next((status for status in reversed(ended.values()) if status), 0)


def _start(program: Program, listener: socket.socket, output: int) -> int:
    """The id of a process that executes the program, or has ended because it could not, which is told."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = int(_fork())
    if pid == 0:
        _live(program, listener, output, writing)
    posix.close(writing)
    with open(reading, "rb") as pipe:
        number = pipe.read()  # nothing: the pipe was closed by exec
    if number:
        print_fault(f"{program.file}: exec failed: {os.strerror(int(number))}")
    return pid


def _live(program: Program, listener: socket.socket, output: int, writing: int) -> NoReturn:
    """The life of a child."""
    status = 1
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        _execute(program, listener, keeps=writing)
    except OSError as error:
        status = error.errno or 1
        os.write(writing, b"%d" % status)
    finally:
        os._exit(status)


def _execute(program: Program, listener: socket.socket, *, keeps: int | None = None) -> NoReturn:
    """Raises OSError. `keeps`: of the descriptors above 2 only this one is left, for us to speak through."""
    os.set_blocking(listener.fileno(), True)
    os.dup2(listener.fileno(), 0)
    os.set_inheritable(0, True)
    if keeps is not None:
        os.closerange(3, keeps)
        os.closerange(keeps + 1, os.sysconf("SC_OPEN_MAX"))
    # Python ignores these, and exec would pass that on.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execve(program.file, list(program.words), dict(program.environment))


def _wait(processes: Sequence[int]) -> dict[int, int]:
    """The exit statuses of those that end within a moment; 1 for one killed by a signal. They are told."""
    end = monotonic() + _SECONDS
    poll = _poll()
    watched = {os.pidfd_open(pid): pid for pid in processes}
    ended: dict[int, int] = {}
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    while len(ended) < len(processes) and (left := end - monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            pid = watched[descriptor]
            ended[pid] = _bury(pid)
    for descriptor in watched:
        posix.close(descriptor)
    return ended


def _bury(pid: int) -> int:
    code = os.waitstatus_to_exitcode(_waitpid(pid, 0)[1])
    print_fault(f"child exited with: {code}" if code >= 0 else f"child signaled: {-code}")
    return code if code >= 0 else 1
