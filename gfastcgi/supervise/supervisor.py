"""Keeps as many processes of one host with `"bin-path"` running as its load asks for, and tells the pool which serve.

Contract: `start` raises `SpawnError`; later failures are logged and tried again. An address that somebody serves
already is used as it is, and taken over when he is gone. After `stop` no process, no zombie and no socket file of ours
is left. It is started once. All decisions are pure: `backend/growth`, `restarts`, `ending`; here they are carried out.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from gfastcgi.backend import growth
from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.errors import SpawnError
from gfastcgi.net.listeners import ListenError
from gfastcgi.supervise.command import make_command
from gfastcgi.supervise.ending import Step, end, plan_ending
from gfastcgi.supervise.process import Process
from gfastcgi.supervise.restarts import Restarts
from gfastcgi.supervise.seat import Seat, is_served

__all__ = ["Supervisor"]

GROWTH_PAUSE = 0.02
"""Seconds between two processes that a host gets for its load: a short burst may be over by then."""
LAST_ANSWERS = 0.002
"""Seconds in which the last answer of a process that ended is read: it tells that it served."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at what nobody tells: idle processes, and whether one serves after a crash."""

_DOWN = (State.DISABLED, State.UNHEALTHY)


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
        self._seats: dict[int, Seat] = {}
        self._ended: deque[Seat] = deque()
        self._news = Event()
        self._may_grow_at = 0.0
        self._lock = BoundedSemaphore(1)
        self._watcher: gevent.Greenlet[..., None] | None = None
        self._leaving: list[Process] = []
        self._undertakers = Group()

    def __repr__(self) -> str:
        return f"<Supervisor of {self.host.name} {len(self._seats)} procs>"

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
            self._pool.supervised(self.host, self._news.set)
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = 10.0) -> None:
        """Ends all processes, by force after `timeout` seconds; called again, with less, when that takes too long."""
        self._pool.supervised(self.host, None)
        with self._lock:  # nobody is half-way through a start, whose process would be forgotten
            watcher, self._watcher = self._watcher, None
            if watcher is not None:
                watcher.kill()
        self._undertakers.kill()
        for proc in self.host.procs:
            for connection in self._pool.stopped(proc):
                connection.close()
        self._leaving += [seat.process for seat in self._seats.values() if seat.process is not None]
        for seat in self._seats.values():
            seat.process = None
        self._give_up(end(self._leaving, plan_ending(self.host.config.kill_signal, timeout)))
        self._leaving.clear()
        while self._seats:
            self._seats.popitem()[1].close()

    # Starting

    def _open(self, proc: Proc) -> None:
        """Starts `proc` on a socket of our own, unless somebody serves its address. Raises `SpawnError`."""
        if self._is_taken(proc):
            self._log(f"{proc.name} is served already, it is used as it is")
            self._pool.started(proc, pid=0, is_local=False, capacity=self.host.config.max_connections)
            return
        if proc.address.path and os.path.lexists(proc.address.path):
            self._log(f"{proc.name} was left behind by a server that is gone, it is replaced")
        self._take_seat(proc)

    def _is_taken(self, proc: Proc) -> bool:
        """Whether somebody serves its address. Raises `SpawnError` when that cannot be found out."""
        try:
            return is_served(proc.address)
        except OSError as error:
            raise SpawnError(f"gw-backend failed to start: {self._command}: {error.strerror}") from error

    def _take_seat(self, proc: Proc) -> None:
        try:
            seat = Seat(proc, self.host.config.listen_backlog)
        except (ListenError, OSError) as error:
            raise SpawnError(f"gw-backend failed to start: {self._command}: {error}") from error
        try:
            self._spawn(seat)
        except BaseException:
            seat.close()
            raise
        self._seats[proc.id] = seat

    def _spawn(self, seat: Seat) -> None:
        proc = seat.proc
        seat.started = self._clock()
        self._restarts.started(seat.started)
        seat.hand_over()
        seat.process = Process(
            self._command,
            seat.listener,
            on_line=lambda line: self._log(f"{proc.name}: {line}"),
            on_end=lambda: self._report_end(seat),
            death_signal=self.host.config.kill_signal,
        )
        self._pool.started(proc, pid=seat.process.pid, is_local=True, capacity=self._command.capacity)

    def _report_end(self, seat: Seat) -> None:
        self._ended.append(seat)
        self._news.set()

    # Watching

    def _watch(self) -> None:
        pause: float | None = None
        while True:
            self._news.wait(pause)
            self._news.clear()
            if self._ended:
                gevent.sleep(LAST_ANSWERS)
            with self._lock:
                while self._ended:
                    self._bury(self._ended.popleft())
                self._restart()
                times = [self._take_over(), self._grow(), self._shrink(), self._restarts.next]
            now = self._clock()
            if self._restarts.due:
                times.append(now + LOOK_AGAIN)  # whether a process serves, so that the others follow
            pause = min((max(time - now, 0.0) for time in times if time is not None), default=None)

    def _bury(self, seat: Seat) -> None:
        process, seat.process = seat.process, None
        if process is None:
            return  # we ended it ourselves
        # What is left of its group holds the socket, and would serve beside the next one.
        process.kill_group(signal.SIGKILL)
        proc, what = seat.proc, f"{seat.proc.name}: process {process.pid} ended ({process.how_ended})"
        until = self._restarts.ended(
            proc.id,
            started=seat.started,
            now=self._clock(),
            has_served=proc.has_served,
            is_orderly=process.has_succeeded,
            is_alone=not self._is_serving,
        )
        text = self._rest(proc, what, process.how_ended, until)
        self._leaving.append(process)
        self._undertakers.spawn(self._tell_end, process, text)

    def _tell_end(self, process: Process, text: str) -> None:
        process.clean_up()
        self._leaving.remove(process)
        self._log(text)

    def _fail(self, proc: Proc, error: SpawnError) -> None:
        now = self._clock()
        until = self._restarts.ended(proc.id, started=now, now=now, has_served=False)
        self._log(self._rest(proc, str(error), "spawn_failed", until))

    def _rest(self, proc: Proc, what: str, cause: str, until: float) -> str:
        """`proc` has no process until then. Returns what the log says of it."""
        pause = round(until - self._clock(), 1)
        self._postpone()
        for connection in self._pool.exited(proc, cause, until):
            connection.close()
        when = f" in {pause:g} s" if pause > 0 else ""
        return f"{what}, it is started again{when}" if self._is_needed(proc) else f"{what}, it is not needed now"

    def _postpone(self) -> None:
        """Tells the pool when the processes that died are started again, and sends away who would wait too long."""
        worth_waiting = self._clock() + growth.PATIENCE
        for id, due in self._restarts.due.items():
            self._pool.postponed(self.host.procs[id], due)
            seat = self._seats.get(id)
            if seat is not None and due > worth_waiting:
                seat.turn_away()

    def _is_needed(self, proc: Proc) -> bool:
        # Requests that met the end of a process may wait in the backlog of its socket: they count in its load.
        is_short = growth.count_alive(self.host) < self.host.config.min_procs
        return is_short or proc.load > 0 or self._pool.is_in_demand(self.host)

    @property
    def _is_serving(self) -> bool:
        return any(proc.state is State.RUNNING and proc.has_served for proc in self.host.procs)

    def _restart(self) -> None:
        if self._is_serving:
            self._restarts.recovered()
        for id in self._restarts.take_due(self._clock()):
            proc, seat = self.host.procs[id], self._seats.get(id)
            if not self._is_needed(proc):
                self._retire(proc)
                continue
            try:
                if seat is None:
                    self._open(proc)
                else:
                    self._spawn(seat)
            except SpawnError as error:
                self._fail(proc, error)
        self._postpone()

    def _take_over(self) -> float | None:
        """An address that somebody else served, and does no longer, gets a process of ours; when to look again."""
        down = [proc for proc in self.host.procs if proc.state in _DOWN and not proc.is_local]
        for proc in down:
            try:
                if not self._is_taken(proc):
                    self._log(f"{proc.name} is served no longer, a process is started there")
                    self._take_seat(proc)
            except SpawnError as error:
                self._fail(proc, error)
        # A proc that rests is asked again by requests; an unhealthy one is not.
        return self._clock() + LOOK_AGAIN if any(proc.state is State.UNHEALTHY for proc in down) else None

    # As many as the load asks for

    def _grow(self) -> float | None:
        """Starts one process more if requests wait for it; returns when to look again."""
        proc, now = self._pool.wanted(self.host), self._clock()
        if proc is None:
            return None
        if self._restarts.is_crashing(now) and growth.count_alive(self.host):
            return now + LOOK_AGAIN
        if now >= self._may_grow_at:
            self._may_grow_at = now + GROWTH_PAUSE
            try:
                self._open(proc)
            except SpawnError as error:
                self._fail(proc, error)
            else:
                self._log(f"{proc.name}: process {proc.pid} was started, since requests wait")
        return self._may_grow_at

    def _shrink(self) -> float | None:
        """Ends the processes that were idle for `"idle-timeout"`; returns when to look again."""
        now, timeout = self._clock(), self.host.config.idle_timeout
        while (proc := growth.longest_idle(self.host)) is not None and proc.idle_since + timeout <= now:
            self._log(f"{proc.name}: process {proc.pid} was idle for {now - proc.idle_since:.0f} s, it is ended")
            self._retire(proc)
        if growth.count_alive(self.host) <= self.host.config.min_procs:
            return None
        return max(timeout + (proc.idle_since if proc else now), now + LOOK_AGAIN)

    def _retire(self, proc: Proc) -> None:
        """`proc` has no process from now on, and no socket, until it is wanted again."""
        for connection in self._pool.stopped(proc):
            connection.close()
        seat = self._seats.pop(proc.id, None)
        if seat is None:
            return
        process, seat.process = seat.process, None
        if process is not None:
            first, *others = plan_ending(self.host.config.kill_signal)
            first.send([process])
            self._leaving.append(process)
            self._undertakers.spawn(self._see_out, process, others)
        seat.close()

    def _see_out(self, process: Process, steps: list[Step]) -> None:
        self._give_up(end([process], steps))
        self._leaving.remove(process)

    def _give_up(self, processes: list[Process]) -> None:
        for process in processes:
            self._log(f"process {process.pid} cannot be ended")
