"""Workers that share what their master has opened: forked before they load anything, replaced, reloaded, ended.

Contract: the master runs no hub: it waits for signals (`sigtimedwait`) and does what they ask. A worker says that it
serves by a real-time signal, which, unlike others, is queued. SIGHUP starts new workers, and ends the old ones once
all the new ones serve; when one of them ends before, the old ones stay. SIGTERM, SIGINT and SIGUSR1 end all gracefully.
"""

from __future__ import annotations

import contextlib
import logging
import os
import posix
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import gevent
from gevent import monkey

from gfastcgi.supervise.restarts import Restarts

__all__ = ["EXIT_START", "Prefork", "Worker"]

_log = logging.getLogger(__name__)

EXIT_START = 255
"""The exit status when the first workers never came to serve."""

# A worker is forked and buried by the master itself, never by a hub's watchers, even where the library is patched.
_fork = monkey.get_original("os", "fork")
_waitpid = monkey.get_original("os", "waitpid")

_READY = signal.SIGRTMIN
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_AWAITED = {*_ENDING, signal.SIGHUP, signal.SIGCHLD, _READY}


@dataclass(slots=True)
class Worker:
    """One worker, as itself and its master see it."""

    seat: int
    """0 to `count` - 1."""
    master: int
    """The master's pid."""
    life: int
    """A descriptor that comes to its end with the master."""
    started: float
    is_ready: bool = False
    is_old: bool = False
    """On its way out: whatever becomes of it, its seat is somebody else's."""

    def ready(self) -> None:
        """Tells the master, from the worker, that it serves."""
        if os.getppid() == self.master:
            os.kill(self.master, _READY)


class Prefork:
    """`count` processes that run `work(worker)`, whose value is their exit status.

    `stop_timeout`: seconds after which what has not ended by SIGTERM is killed.
    """

    def __init__(self, work: Callable[[Worker], int], count: int, *, stop_timeout: float = 30.0) -> None:
        self._work = work
        self._count = count
        self._stop_timeout = stop_timeout
        self._workers: dict[int, Worker] = {}
        self._restarts = Restarts()
        self._has_served = False
        self._kept: list[int] = []
        """Who serves while a reload's new workers are not ready; no reload: nobody."""
        self._is_asked_again = False

    def __repr__(self) -> str:
        return f"<Prefork {len(self._workers)} of {self._count} workers>"

    def run(self) -> int:
        """Runs until a signal ends it; returns 0, or `EXIT_START` where the first workers could not begin."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        self._mask = mask
        self._life, self._life_writer = os.pipe()
        try:
            self._start_all()
            return self._watch()
        finally:
            posix.close(self._life)
            posix.close(self._life_writer)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    # Starting

    def _start_all(self) -> None:
        for seat in range(self._count):
            self._start(seat)

    def _start(self, seat: int) -> None:
        worker = Worker(seat, os.getpid(), self._life, time.monotonic())
        sys.stdout.flush()
        sys.stderr.flush()
        pid = _fork()
        if not pid:
            self._become(worker)
        self._workers[pid] = worker

    def _become(self, worker: Worker) -> None:
        """The rest of a worker's life."""
        status = 1
        try:
            posix.close(self._life_writer)  # os.close may be gevent's, which leaves it to the hub
            gevent.reinit()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            status = self._work(worker)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    # Watching

    def _watch(self) -> int:
        while True:
            due = self._restarts.next
            pause = 3600.0 if due is None else max(due - time.monotonic(), 0.0)
            info = signal.sigtimedwait(_AWAITED, pause)
            if info is None:
                for seat in self._restarts.take_due(time.monotonic()):
                    self._start(seat)
            elif info.si_signo in _ENDING:
                self._stop(self._stop_timeout)
                return 0
            elif info.si_signo == signal.SIGHUP:
                self._reload()
            elif info.si_signo == _READY:
                self._served(info.si_pid)
            elif not self._bury():
                return EXIT_START

    def _served(self, pid: int) -> None:
        worker = self._workers.get(pid)
        if worker is None:
            return
        worker.is_ready = self._has_served = True
        new = [worker for pid, worker in self._workers.items() if not (worker.is_old or pid in self._kept)]
        if self._kept and all(worker.is_ready for worker in new):
            _log.info("reloaded, the old workers end")
            for old in self._kept:
                self._end(old)
            self._end_reload()

    def _bury(self) -> bool:
        """Looks who has ended; False when nobody ever served, and nobody will."""
        ended = [(pid, self._workers.pop(pid), status) for pid, status in _ended() if pid in self._workers]
        for pid, worker, status in ended:
            if worker.is_old:
                continue
            if pid in self._kept:
                self._kept.remove(pid)
            elif self._kept:
                _log.error("not reloaded: a new worker ended before it served (%s); the old ones go on", _how(status))
                self._give_up_reload([other for _, other, _ in ended])
            elif not self._has_served:
                _log.error("worker %d ended before it served (%s)", pid, _how(status))
                self._stop(1.0)
                return False
            else:
                self._replace(worker, pid, status)
        return True

    def _replace(self, worker: Worker, pid: int, status: int) -> None:
        now = time.monotonic()
        due = self._restarts.ended(worker.seat, started=worker.started, now=now, has_served=worker.is_ready)
        _log.error("worker %d ended (%s), another starts in %.1f s", pid, _how(status), max(due - now, 0.0))

    # Reloading

    def _reload(self) -> None:
        if self._kept:
            self._is_asked_again = True
            return
        _log.info("reloading")
        self._kept = [pid for pid, worker in self._workers.items() if not worker.is_old]
        for seat in range(self._count):
            self._restarts.forget(seat)
        self._start_all()

    def _give_up_reload(self, ended: list[Worker]) -> None:
        for worker in ended:
            worker.is_old = True
        for pid, worker in self._workers.items():
            if pid not in self._kept and not worker.is_old:
                self._end(pid)
        self._end_reload()

    def _end_reload(self) -> None:
        self._kept = []
        if self._is_asked_again:
            self._is_asked_again = False
            self._reload()

    # Ending

    def _end(self, pid: int) -> None:
        self._workers[pid].is_old = True
        os.kill(pid, signal.SIGTERM)

    def _stop(self, timeout: float) -> None:
        """Ends all; a second signal ends them at once."""
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self._workers and (left := deadline - time.monotonic()) > 0:
            info = signal.sigtimedwait({*_ENDING, signal.SIGCHLD}, left)
            if info is not None and info.si_signo in _ENDING:
                break
            self._forget_ended()
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            _waitpid(pid, 0)
        self._workers.clear()

    def _forget_ended(self) -> None:
        for pid, _ in _ended():
            self._workers.pop(pid, None)


def _ended() -> list[tuple[int, int]]:
    """The pids and statuses of the children that have ended; one SIGCHLD may stand for many."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = _waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, status))


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {-code}"
