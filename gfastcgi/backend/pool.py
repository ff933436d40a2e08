"""The pool: which request gets which connection to which proc. It decides; who calls it connects, closes and waits.

Contract: a load never exceeds its proc's capacity, and neither does load plus kept connections. A slot that gets free
goes to the first waiter that may use it, of whichever pool the proc is; a waiter that nothing can serve any more is
failed. Connections that are no longer wanted are returned to be closed. `grant` and `fail` of a waiter must not call
the pool. Pools that share procs share their clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Any

from gfastcgi.backend import debug, growth, turns
from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.candidates import Candidates, free_proc
from gfastcgi.backend.latency import Latency
from gfastcgi.backend.lease import Lease, Waiter
from gfastcgi.backend.reasons import unavailable
from gfastcgi.backend.slow_start import SlowStart
from gfastcgi.backend.states import Event, State, next_state
from gfastcgi.balance.base import Policy, RequestKey
from gfastcgi.errors import LocalProtocolError

__all__ = ["Lease", "Pool", "Waiter"]

_RUNNING = State.RUNNING


class Pool:
    """The hosts of one extension. `clock` gives seconds (monotonic); `log` gets the lines of `fastcgi.debug`.

    With `measures` each host keeps the latency of its answers, for a policy that wants it.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        policy: Policy,
        *,
        clock: Callable[[], float],
        log: Callable[[str], None] | None = None,
        level: int = debug.CHOICES,
        slow_start: SlowStart | None = None,
        measures: bool = False,
    ) -> None:
        self.hosts = list(hosts)
        self._policy = policy
        self._clock = clock
        self._log = log
        self._level = level
        self._only_host = self.hosts[0] if len(self.hosts) == 1 else None
        self._candidates = Candidates(self.hosts)
        self.measures = measures
        self._resting: dict[Proc, None] = {}
        self.waiters: dict[Waiter, float] = {}
        """Who waits, first come first, and since when."""
        self._slow_start = slow_start or SlowStart(clock)
        self._recovering = self._slow_start.procs
        self._leases = self._probes = 0
        self._renewed = 0
        """The last lease that began before `renew`."""
        self.on_move: Callable[[Proc], None] | None = None
        """Is told of every proc that came, or changed its state."""
        for host in self.hosts:
            host.pool = self
            host.measured = Latency(clock) if measures else None
            for proc in host.procs:
                self._join(host, proc)

    def __repr__(self) -> str:
        load = sum(host.load for host in self.hosts)
        return f"<Pool of {len(self.hosts)} hosts, load {load}, {len(self.waiters)} waiting>"

    # Requests

    def acquire(self, request: RequestKey, tried: Collection[Proc] = ()) -> Lease | None:
        """A lease on the proc that the balance and the loads choose, none of `tried`; None: all are busy, `enqueue`.

        Raises `NoBackendAvailable` if none is running; its message names what is down, alike until that changes.
        """
        if self._resting:
            self.tick()
        lease = self.lease_for(request, tried) if self._recovering else self._find(request, tried)
        if lease is None and not self._is_served(tried):
            raise unavailable(self.hosts, tried)
        return lease

    def enqueue(self, waiter: Waiter) -> None:
        """Puts `waiter` at the end of the queue; it is granted a lease, or failed, perhaps before this returns."""
        # One waits first who would take any slot: then none is free, and nobody needs to look.
        is_full = bool(self.waiters) and not next(iter(self.waiters)).tried
        lease = None if is_full else self.lease_for(waiter.request, waiter.tried)
        if lease is not None:
            waiter.grant(lease)
        elif (is_full and not waiter.tried) or self._is_served(waiter.tried):
            self.waiters[waiter] = self._clock()
            for host in self.hosts:
                # Without a limit there is nothing to start.
                if host.procs and host.procs[0].crowded_above is not inf:
                    growth.grow(host)
        else:
            waiter.fail(unavailable(self.hosts, waiter.tried))

    def leave(self, waiter: Waiter) -> None:
        """Takes `waiter` out of the queue, if it is still in it."""
        self.waiters.pop(waiter, None)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.waiters)

    @property
    def leased(self) -> int:
        """How many leases were given to requests so far."""
        return self._leases - self._probes

    def release(self, lease: Lease, *, keep: Any | None = None) -> Sequence[Any]:
        """Ends `lease`. `keep` is its connection, whole and idle, if it can be used again.

        Returns the connections to close. Raises `LocalProtocolError` if it was released before.
        """
        if not lease.is_open:
            raise LocalProtocolError(f"{lease!r} is released again")
        lease.is_open = False
        proc = lease.proc
        was_full = proc.load == proc.capacity
        is_wanted = False
        proc.load -= 1
        proc.requests += not lease.is_probe
        for host in proc.hosts:
            host.load -= 1
            if host.pool.waiters:
                is_wanted = True
        if proc.grow is not None and not (proc.load or lease.is_probe):
            proc.idle_since = self._clock()
        if lease.since:
            self._give_up(lease)
        if self._log is not None:
            self._log(debug.format_release(lease.number, proc))
            self._log_table()
        surplus: Sequence[Any] = ()
        if keep is not None:
            capacity, idle = proc.capacity, proc.idle
            has_room = capacity is not None and proc.load + len(idle) < capacity
            is_young = not proc.is_learned or lease.number > self._renewed
            if has_room and is_young and proc.keep_alive and proc.state is _RUNNING:
                idle.append(keep)
            else:
                surplus = (keep,)
        if is_wanted and proc.state is _RUNNING:
            turns.hand_over(proc)
        if was_full and proc.load != proc.capacity:
            for host in proc.hosts:
                host.pool._candidates.update(host)
        return surplus

    def probe(self, host: Host, proc: Proc) -> Lease | None:
        """A lease for a question of our own to `proc` of `host`, whatever its state; None: it is used to its capacity.

        The question takes a connection of its own. One that the lease holds makes room for it, and is to be closed.
        """
        if proc.capacity is not None and proc.load >= proc.capacity:
            return None
        lease = self.take(host, proc)
        lease.since = 0.0
        lease.is_probe = True
        self._probes += 1
        return lease

    # What becomes of a lease's proc

    def connected(self, lease: Lease) -> None:
        """A new connection was made."""
        lease.proc.connected += 1
        if self._log is not None and self._level >= debug.CONNECTIONS:
            self._log(debug.format_connected(lease.number, lease.proc))

    def answered(self, lease: Lease) -> None:
        """The head of the answer has come. Only what `measures` has to be told."""
        measured = lease.host.measured
        if measured is not None and lease.since:
            measured.observe(self._clock() - lease.since)
            lease.since = 0.0

    def _give_up(self, lease: Lease) -> None:
        if lease.host.measured is not None:
            lease.host.measured.give_up(self._clock() - lease.since)

    def failed(self, lease: Lease, cause: str = "connect_failed") -> Sequence[Any]:
        """The proc could not be reached: it rests for `"disable-time"`. Returns the connections to close."""
        proc = lease.proc
        proc.disabled += 1
        idle = self._rest(lease, Event.FAILED, cause)
        _look_for_owner(proc)
        return idle

    def overloaded(self, lease: Lease) -> Sequence[Any]:
        """The proc said OVERLOADED: it rests for `"disable-time"`. Returns the connections to close."""
        lease.proc.overloaded += 1
        return self._rest(lease, Event.OVERLOADED, "overloaded")

    def tick(self) -> float | None:
        """Brings back the procs that have rested, and serves waiters with them.

        Returns when to call again (by the clock; None: no proc rests). Who waits calls it then; `acquire` does as well.
        """
        if not self._resting:
            return None
        now = self._clock()
        rested = [proc for proc in self._resting if proc.disabled_until <= now]
        for proc in rested:
            for pool in _pools_of(proc):
                del pool._resting[proc]
            self._move(proc, Event.RESTED)
        if rested:
            turns.serve(pool for proc in rested for pool in _pools_of(proc))
        return min((proc.disabled_until for proc in self._resting), default=None)

    # What the supervisor tells

    def supervised(self, host: Host, grow: Callable[[], None] | None) -> None:
        """From now on `grow` is called when `host` may want another process; None: nobody starts its procs any more.

        It neither waits nor calls the pool; what is to be started, `wanted` tells.
        """
        for proc in host.procs:
            proc.grow = grow
        _look_at_loads(host)
        for pool in _pools_of(host.procs[0]):
            pool._fail_stranded()

    def wanted(self, host: Host) -> Proc | None:
        """The proc of `host` to start now; None while it is not `is_in_demand`, or no more may be started."""
        return growth.next_to_start(host) if self.is_in_demand(host) else None

    def is_in_demand(self, host: Host) -> bool:
        """Whether requests wait, or every running proc of `host` has more than `"max-load-per-proc"`."""
        return any(pool.waiters for pool in _pools_of(host.procs[0])) or growth.is_crowded(host)

    def started(self, proc: Proc, *, pid: int, is_local: bool, capacity: int | None) -> None:
        """`proc` accepts connections: its process (`pid`) runs, or somebody else serves its address (pid 0)."""
        proc.pid, proc.is_local, proc.capacity = pid, is_local, capacity
        proc.is_learned = False
        proc.idle_since = self._clock()
        for pool in _pools_of(proc):
            pool._resting.pop(proc, None)
        self._move(proc, Event.STARTED)
        turns.serve(_pools_of(proc))

    def exited(self, proc: Proc, cause: str, until: float) -> Sequence[Any]:
        """The process ended or could not be started, and is started again at `until`. Returns what to close."""
        proc.died += 1
        # Not when the next one is known to have started: it may have answered by then.
        proc.has_served = False
        return self._end(proc, Event.EXITED, cause, until)

    def postponed(self, proc: Proc, until: float) -> None:
        """The process that ended is not started again before `until`."""
        proc.disabled_until = until
        for pool in _pools_of(proc):
            pool._fail_stranded()

    def stopped(self, proc: Proc) -> Sequence[Any]:
        """The process was stopped by us. Returns the connections to close."""
        proc.has_served = False
        return self._end(proc, Event.STOPPED, "stopped", float("inf"))

    # What is found out about procs

    def learned(self, proc: Proc, capacity: int) -> None:
        """`proc` told the capacity that nobody configured; it holds until `proc` fails."""
        if proc.capacity is None and proc.state is _RUNNING:
            proc.capacity, proc.is_learned = capacity, True
            _choose_anew(proc)

    def renew(self) -> Sequence[Any]:
        """Ends the connections to procs that told their capacity: it is for all who use them, and not ours alone.

        The idle ones are returned to be closed; the others are not kept when their requests end.
        """
        self._renewed = self._leases
        procs = [proc for host in self.hosts for proc in host.procs if proc.is_learned]
        return [connection for proc in procs for connection in _take_idle(proc)]

    def distrusted(self, proc: Proc) -> Sequence[Any]:
        """`proc` said something behind an answer: its connections are kept no more. Returns those to close."""
        proc.keep_alive = False
        return _take_idle(proc)

    def unhealthy(self, proc: Proc, cause: str) -> Sequence[Any]:
        """`proc` fails its health checks: it rests until `healthy`. Returns the connections to close."""
        proc.disabled += 1
        idle = self._end(proc, Event.UNHEALTHY, cause, float("inf"))
        _look_for_owner(proc)
        return idle

    def healthy(self, proc: Proc, *, ramp: float) -> None:
        """`proc` passes its health checks again: its share of the requests grows to the whole within `ramp` seconds."""
        now = self._clock()
        proc.recovering = (now, now + ramp)
        for pool in _pools_of(proc):
            pool._slow_start.add(proc)
        self._move(proc, Event.HEALTHY)
        turns.serve(_pools_of(proc))

    # Procs that come and go

    def add(self, host: Host, proc: Proc) -> None:
        """`host` has one proc more, a new one or one that other hosts have, too."""
        host.procs.append(proc)
        self._join(host, proc)
        self._candidates.forget()
        if proc.state is _RUNNING:
            turns.serve([self])
        if self.on_move is not None:
            self.on_move(proc)

    def remove(self, host: Host, proc: Proc) -> Sequence[Any]:
        """`host` has `proc` no longer; the requests that are there are finished. Returns the connections to close."""
        host.procs.remove(proc)
        proc.hosts.remove(host)
        host.load -= proc.load
        self._candidates.forget()
        if self not in _pools_of(proc):
            self._resting.pop(proc, None)
            self._slow_start.discard(proc)
        idle = () if proc.hosts else self._end(proc, Event.STOPPED, "no longer used", float("inf"))
        self._fail_stranded()
        return idle

    def _join(self, host: Host, proc: Proc) -> None:
        # The one whose processes are supervised stands first.
        is_first = bool(host.config.bin_path) and not any(other.config.bin_path for other in proc.hosts)
        proc.hosts.insert(0 if is_first else len(proc.hosts), host)
        host.load += proc.load
        if proc.state in (State.OVERLOADED, State.DISABLED):
            self._resting[proc] = None
        if proc.recovering is not None:
            self._slow_start.add(proc)

    def drain(self) -> list[Any]:
        """Gives up all kept connections; returns them to be closed."""
        return [connection for host in self.hosts for proc in host.procs for connection in _take_idle(proc)]

    # Choosing

    def lease_for(self, request: RequestKey, tried: Collection[Proc]) -> Lease | None:
        """A lease as `acquire` gives it; None where nothing is free."""
        if self._recovering and (spared := self._slow_start.draw()):
            lease = self._find(request, [*tried, *spared])
            if lease is not None:
                return lease
        return self._find(request, tried)

    def _find(self, request: RequestKey, tried: Collection[Proc]) -> Lease | None:
        host = self._only_host or self._select(request, tried)
        if host is None:
            return None
        proc = free_proc(host, tried)
        return None if proc is None else self.take(host, proc)

    def _select(self, request: RequestKey, tried: Collection[Proc]) -> Host | None:
        candidates = self._candidates.find(tried)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        return self._policy.select(candidates, request)

    def take(self, host: Host, proc: Proc) -> Lease:
        """A lease on `proc` of `host`, which has a free slot."""
        if self._log is not None:
            self._log_table()
        proc.load += 1
        is_full = proc.load == proc.capacity
        for each in proc.hosts:
            each.load += 1
            if is_full:
                each.pool._candidates.update(each)
        if proc.load > proc.crowded_above and proc.grow is not None and growth.is_crowded(proc.hosts[0]):
            proc.grow()
        self._leases += 1
        proc.turn = self._leases
        lease = Lease(host, proc, proc.idle.pop() if proc.idle else None, self._leases)
        if self.measures:
            lease.since = self._clock()
        if self._log is not None:
            self._log(debug.format_got(lease.number, proc))
        return lease

    def _log_table(self) -> None:
        if self._log is not None:
            for line in debug.format_table(self.hosts):
                self._log(line)

    # Waiters

    def _fail_stranded(self) -> None:
        for waiter in [waiter for waiter in self.waiters if not self._is_served(waiter.tried)]:
            del self.waiters[waiter]
            waiter.fail(unavailable(self.hosts, waiter.tried))

    def _is_served(self, tried: Collection[Proc]) -> bool:
        """Whether a proc runs that is none of `tried`, or will soon."""
        if any(proc.state is _RUNNING and proc not in tried for host in self.hosts for proc in host.procs):
            return True
        return any(growth.is_coming(host, tried, self._clock()) for host in self.hosts)

    # States

    def _move(self, proc: Proc, event: Event) -> None:
        proc.state = next_state(proc.state, event)
        if proc.state is _RUNNING:
            proc.cause = ""
        elif proc.is_learned:
            proc.capacity, proc.is_learned = None, False
        _choose_anew(proc)
        if proc.grow is not None:
            _look_at_loads(proc.hosts[0])
        if self.on_move is not None:
            self.on_move(proc)
        if self._level >= debug.STATES:
            self._log_table()

    def _rest(self, lease: Lease, event: Event, cause: str) -> Sequence[Any]:
        proc = lease.proc
        self._move(proc, event)
        if proc.state not in (State.OVERLOADED, State.DISABLED):
            return ()
        proc.cause = cause
        proc.disabled_until = self._clock() + lease.host.config.disable_time
        idle = _take_idle(proc)
        pools = _pools_of(proc)
        for pool in pools:
            pool._resting[proc] = None
        self.tick()
        for pool in pools:
            pool._fail_stranded()
        return idle

    def _end(self, proc: Proc, event: Event, cause: str, until: float) -> Sequence[Any]:
        pools = _pools_of(proc)
        for pool in pools:
            pool._resting.pop(proc, None)
        self._move(proc, event)
        proc.cause, proc.disabled_until = cause, until
        if event is not Event.UNHEALTHY:
            proc.pid = 0
        idle = _take_idle(proc)
        for pool in pools:
            pool._fail_stranded()
        return idle


def _pools_of(proc: Proc) -> Collection[Pool]:
    return {host.pool: None for host in proc.hosts}


def _look_at_loads(host: Host) -> None:
    """Loads are compared with `"max-load-per-proc"` only where one more process can be started."""
    above = host.config.max_load_per_proc if growth.next_to_start(host) is not None else inf
    for proc in host.procs:
        proc.crowded_above = above


def _look_for_owner(proc: Proc) -> None:
    """Whoever served `proc` before us may be gone."""
    if proc.grow is not None and not proc.is_local:
        proc.grow()


def _choose_anew(proc: Proc) -> None:
    for host in proc.hosts:
        host.pool._candidates.forget()


def _take_idle(proc: Proc) -> list[Any]:
    idle, proc.idle = proc.idle, []
    return idle
