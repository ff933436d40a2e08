"""Keeps the processes of one host with `"bin-path"` running, and tells the pool which of them serve.

Contract: each proc's socket is bound here and stays open while its process is replaced, so that connections wait in
its backlog. An address that somebody serves already is used as it is. `start` raises `SpawnError`; later failures are
logged and tried again. After `stop` no process, no zombie and no socket file of ours is left. It is started once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

import gevent
from gevent import queue, socket
from gevent.lock import BoundedSemaphore

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.config import Address
from gfastcgi.errors import SpawnError
from gfastcgi.net.listeners import ListenError, SocketFile, listen
from gfastcgi.supervise.command import make_command
from gfastcgi.supervise.process import Process
from gfastcgi.supervise.restarts import Restarts

__all__ = ["Supervisor"]

PROBE_TIMEOUT = 1.0
"""Seconds to find out whether somebody serves an address."""


class _Child:
    """A proc with its listening socket, and the process that runs on it."""

    def __init__(self, proc: Proc, listener: socket.socket) -> None:
        self.proc = proc
        self.listener = listener
        self.file = SocketFile(proc.address)
        self.process: Process | None = None
        self.started = 0.0


class Supervisor:
    """The processes of `host`, one of `pool`'s. `log` gets one line an event, and the processes' output."""

    def __init__(
        self,
        host: Host,
        pool: Pool,
        *,
        log: Callable[[str], None],
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        restarts: Restarts | None = None,
    ) -> None:
        """`environ` is the environment to copy from (None: ours); `clock` is the pool's. Raises `SpawnError`."""
        self.host = host
        self._pool = pool
        self._log = log
        self._clock = clock
        self._command = make_command(host.config, os.environ if environ is None else environ)
        self._restarts = restarts or Restarts()
        self._children: dict[int, _Child] = {}
        self._ended: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._lock = BoundedSemaphore(1)
        self._watcher: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<Supervisor of {self.host.name} {len(self._children)} procs>"

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [proc.pid for proc in self.host.procs if proc.pid]

    def start(self) -> None:
        """Starts `"min-procs"` processes. Raises `SpawnError` when one cannot be; none is left then."""
        self._watcher = gevent.spawn(self._watch)
        try:
            with self._lock:
                for proc in self.host.procs[: self.host.config.min_procs]:
                    self._open(proc)
        except BaseException:
            self.stop()
            raise

    def want_one(self) -> bool:
        """For `"min-procs" => 0`, when no proc runs: starts one that never was. Whether one runs now."""
        with self._lock:
            if any(proc.state is State.RUNNING for proc in self.host.procs):
                return True
            unset = [proc for proc in self.host.procs if proc.state is State.UNSET]
            if not unset or self._watcher is None:
                return False
            try:
                self._open(unset[0])
            except SpawnError as error:
                self._log(str(error))
                return False
            return True

    def stop(self, timeout: float = 10.0) -> None:
        """Ends all processes within about `timeout` seconds: kill-signal, SIGTERM, SIGKILL to the group."""
        with self._lock:  # nobody is half-way through a start, whose process would be forgotten
            watcher, self._watcher = self._watcher, None
            if watcher is not None:
                watcher.kill()
        children, self._children = list(self._children.values()), {}
        for proc in self.host.procs:
            for connection in self._pool.stopped(proc):
                connection.close()
        self._end_processes([child.process for child in children if child.process is not None], timeout)
        for child in children:
            child.listener.close()
            child.file.remove()

    # Starting

    def _open(self, proc: Proc) -> None:
        if _is_served(proc.address):
            self._log(f"{proc.name} is served already, it is used as it is")
            self._pool.started(proc, pid=0, is_local=False, capacity=self.host.config.max_connections)
            return
        try:
            listener = listen(proc.address, self.host.config.listen_backlog)
        except ListenError as error:
            raise SpawnError(f"gw-backend failed to start: {self._command}: {error}") from error
        # The open file is shared with the process, which expects that accept() waits.
        os.set_blocking(listener.fileno(), True)
        child = self._children[proc.id] = _Child(proc, listener)
        self._spawn(child)

    def _spawn(self, child: _Child) -> None:
        proc = child.proc
        child.started = self._clock()
        child.process = Process(
            self._command,
            child.listener,
            on_line=lambda line: self._log(f"{proc.name}: {line}"),
            on_end=lambda: self._ended.put(child),
        )
        self._pool.started(proc, pid=child.process.pid, is_local=True, capacity=self._command.capacity)

    # Watching

    def _watch(self) -> None:
        while True:
            due = self._restarts.next
            try:
                child = self._ended.get(timeout=None if due is None else max(due - self._clock(), 0.0))
            except queue.Empty:
                self._restart()
            else:
                self._bury(child)

    def _restart(self) -> None:
        with self._lock:
            for id in self._restarts.take_due(self._clock()):
                child = self._children[id]
                try:
                    self._spawn(child)
                except SpawnError as error:
                    self._rest(child, str(error), "spawn_failed")

    def _bury(self, child: _Child) -> None:
        process, child.process = child.process, None
        assert process is not None, "a process ends once"
        process.clean_up()
        self._rest(child, f"{child.proc.name}: process {process.pid} ended ({process.how_ended})", process.how_ended)

    def _rest(self, child: _Child, what: str, cause: str) -> None:
        proc, now = child.proc, self._clock()
        until = self._restarts.ended(proc.id, started=child.started, now=now, has_served=proc.has_served)
        self._log(f"{what}, it is started again in {max(until - now, 0.0):.0f} s")
        for connection in self._pool.exited(proc, cause, until):
            connection.close()

    # Ending

    def _end_processes(self, processes: list[Process], timeout: float) -> None:
        steps = (
            (Process.kill, self.host.config.kill_signal),
            (Process.kill_group, signal.SIGTERM),
            (Process.kill_group, signal.SIGKILL),
        )
        for send, number in steps:
            running = [process for process in processes if not process.has_ended]
            for process in running:
                send(process, number)
            deadline = time.monotonic() + timeout / len(steps)
            for process in running:
                process.wait(max(deadline - time.monotonic(), 0.0))
        for process in processes:
            process.clean_up()
            if not process.has_ended:
                self._log(f"process {process.pid} cannot be ended")


def _is_served(address: Address) -> bool:
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(address.path or (address.host, address.port))
        except (TimeoutError, BlockingIOError):
            return True  # somebody listens, and has a full backlog
        except OSError:
            return False
        return True
