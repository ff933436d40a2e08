"""The pool's invariants under any sequence of requests, failures, deaths and returns."""

from __future__ import annotations

import random
from functools import partial
from types import SimpleNamespace

import poolrig
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.candidates import free_proc
from gfastcgi.backend.growth import PATIENCE
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.balance import POLICIES
from gfastcgi.config import HostConfig
from gfastcgi.errors import NoBackendAvailable

CONFIGS = st.lists(
    st.one_of(
        st.builds(
            HostConfig,
            host=st.just("127.0.0.1"),
            port=st.just(1),
            max_connections=st.sampled_from([1, 1, 1, 2, None]),
            weight=st.integers(1, 3),
            disable_time=st.integers(0, 3),
            keep_alive=st.sampled_from([None, None, False]),
        ),
        st.builds(
            HostConfig,
            socket=st.just("/s"),
            bin_path=st.just("/bin/app"),
            min_procs=st.integers(0, 3),
            max_procs=st.just(3),
            max_load_per_proc=st.integers(0, 2),
        ),
    ),
    min_size=1,
    max_size=3,
)

CHOICES = st.integers(0, 9)
MASKS = st.one_of(st.just(0), st.integers(0, 15))
STARTABLE = (State.UNSET, State.DIED, State.KILLED)


class Waiter(poolrig.Waiter):
    has_left = False

    @property
    def is_waiting(self):
        return super().is_waiting and not self.has_left


class PoolMachine(RuleBasedStateMachine):
    @initialize(configs=CONFIGS, policy=st.sampled_from(sorted(POLICIES)), is_supervised=st.booleans())
    def make(self, configs, policy, is_supervised):
        self.now = 0.0
        self.pool = Pool(make_hosts(configs), POLICIES[policy](random.Random(1)), clock=lambda: self.now)
        self.open = []
        self.queue = []
        self.kept = set()  # connections that the pool holds
        self.made = 0
        self.asked = []  # hosts that may want another process
        self.supervised = [host for host in self.pool.hosts if is_supervised and host.config.bin_path]
        for host in self.supervised:
            self.pool.supervised(host, partial(self.asked.append, host))

    @property
    def procs(self):
        return [proc for host in self.pool.hosts for proc in host.procs]

    def adopt(self, lease):
        """A lease that we hold from now on: a kept connection leaves the pool once."""
        if lease.connection is not None:
            self.kept.remove(lease.connection)
        self.open.append(lease)
        return lease

    def settle(self, closed=()):
        """After a call: who was granted or failed, first come first served."""
        for connection in closed:
            self.kept.discard(connection)
        done = [waiter for waiter in self.queue if not waiter.is_waiting]
        self.queue = [waiter for waiter in self.queue if waiter.is_waiting]
        for waiter in done:
            if waiter.lease is None:
                continue
            self.adopt(waiter.lease)
            assert waiter.lease.proc not in waiter.tried
            earlier = self.queue[: sum(other.number < waiter.number for other in self.queue)]
            assert all(waiter.lease.proc in other.tried for other in earlier), "overtaken"

    def serving(self, tried):
        """The procs that run, or may be started soon."""
        found = [proc for proc in self.procs if proc.state is State.RUNNING]
        for host in self.supervised:
            dead = [proc for proc in host.procs if proc.state is State.DIED]
            found += [proc for proc in dead if proc.disabled_until <= self.now + PATIENCE]
            found += [proc for proc in host.procs if proc.state in (State.UNSET, State.KILLED) and not dead]
        return [proc for proc in found if proc not in tried]

    def check_demand(self, hosts=None):
        """Whoever can start the process that is wanted, by any host or by one of `hosts`, was asked to."""
        for host in self.supervised if hosts is None else hosts:
            if self.pool.wanted(host) is not None:
                assert host in self.asked
        self.asked.clear()

    def choose_tried(self, mask):
        return [proc for number, proc in enumerate(self.procs) if mask >> number & 1]

    @rule(path=st.text(max_size=2), mask=MASKS)
    def acquire(self, path, mask):
        request = SimpleNamespace(authority="", path=path, remote_addr=path)
        tried = self.choose_tried(mask)
        try:
            lease = self.pool.acquire(request, tried)
        except NoBackendAvailable as error:
            lease, message = None, str(error)
        else:
            message = ""
        self.settle()
        wanted = [proc for proc in self.procs if proc.state is State.RUNNING and proc not in tried]
        assert bool(message) is not bool(self.serving(tried))
        if message:
            assert all(proc.name in message for proc in self.procs)
        elif lease is None:
            assert all(proc.load == proc.capacity for proc in wanted)
        else:
            assert lease.proc in wanted
            self.adopt(lease)
            if not self.queue:
                self.check_demand([lease.host])  # who was crowded before was asked then

    @rule(mask=MASKS)
    def enqueue(self, mask):
        waiter = Waiter(self.choose_tried(mask))
        self.made += 1
        waiter.number = self.made
        self.queue.append(waiter)
        self.pool.enqueue(waiter)
        is_waiting = waiter.is_waiting
        self.settle()
        if is_waiting:
            self.check_demand()

    @precondition(lambda self: self.queue)
    @rule(choice=CHOICES)
    def leave(self, choice):
        waiter = self.queue[choice % len(self.queue)]
        self.pool.leave(waiter)
        waiter.has_left = True
        self.settle()

    @precondition(lambda self: self.open)
    @rule(choice=CHOICES, is_whole=st.booleans())
    def release(self, choice, is_whole):
        lease = self.open.pop(choice % len(self.open))
        keep = None
        if is_whole:
            self.made += 1
            keep = lease.connection or self.made
            assert keep not in self.kept
            self.kept.add(keep)
        closed = self.pool.release(lease, keep=keep)
        self.settle(closed)

    @precondition(lambda self: self.open)
    @rule(choice=CHOICES)
    def fail(self, choice):
        self.settle(self.pool.failed(self.open[choice % len(self.open)]))

    @precondition(lambda self: self.open)
    @rule(choice=CHOICES)
    def overload(self, choice):
        self.settle(self.pool.overloaded(self.open[choice % len(self.open)]))

    @rule(seconds=st.floats(0, 4))
    def pass_time(self, seconds):
        self.now += seconds
        until = self.pool.tick()
        self.settle()
        resting = [proc for proc in self.procs if proc.state in (State.OVERLOADED, State.DISABLED)]
        assert all(proc.disabled_until > self.now for proc in resting), "rested long enough"
        assert until == min((proc.disabled_until for proc in resting), default=None)

    @precondition(lambda self: any(proc.state in STARTABLE for proc in self.procs))
    @rule(choice=CHOICES, capacity=st.integers(1, 3))
    def start(self, choice, capacity):
        startable = [proc for proc in self.procs if proc.state in STARTABLE]
        proc = startable[choice % len(startable)]
        self.pool.started(proc, pid=choice + 1, is_local=True, capacity=max(capacity, proc.load))
        self.settle()

    @precondition(lambda self: any(proc.pid for proc in self.procs))
    @rule(choice=CHOICES, is_wanted=st.booleans(), pause=st.sampled_from([0, 0.5, 5]))
    def end(self, choice, is_wanted, pause):
        local = [proc for proc in self.procs if proc.pid]
        proc = local[choice % len(local)]
        self.settle(self.pool.stopped(proc) if is_wanted else self.pool.exited(proc, "signal 9", self.now + pause))

    @precondition(lambda self: any(proc.state is State.DIED for proc in self.procs))
    @rule(pause=st.sampled_from([0, 0.5, 5]))
    def postpone(self, pause):
        self.pool.postponed(next(proc for proc in self.procs if proc.state is State.DIED), self.now + pause)
        self.settle()

    @invariant()
    def loads_are_the_open_leases(self):
        for host in self.pool.hosts:
            assert host.load == sum(lease.host is host for lease in self.open)
            for proc in host.procs:
                assert proc.load == sum(lease.proc is proc for lease in self.open)

    @invariant()
    def capacity_holds(self):
        for proc in self.procs:
            assert proc.capacity is None or proc.load + len(proc.idle) <= proc.capacity
            assert not proc.idle or (proc.capacity is not None and proc.keep_alive and proc.state is State.RUNNING)

    @invariant()
    def no_connection_is_lost_or_doubled(self):
        idle = [connection for proc in self.procs for connection in proc.idle]
        assert len(idle) == len(set(idle))
        assert set(idle) == self.kept

    @invariant()
    def candidates_are_the_hosts_with_a_free_slot(self):
        free = tuple(host for host in self.pool.hosts if free_proc(host, ()) is not None)
        assert self.pool._candidates.find() == free

    @invariant()
    def nobody_waits_for_nothing(self):
        assert self.pool.waiting == len(self.queue)
        for waiter in self.queue:
            wanted = self.serving(waiter.tried)
            assert wanted
            assert all(proc.load == proc.capacity for proc in wanted if proc.state is State.RUNNING)

    def teardown(self):
        for host in self.supervised:
            self.pool.supervised(host, None)
        self.supervised = []
        self.settle()
        while self.open:  # waiters are granted on the way, and released in their turn
            self.settle(self.pool.release(self.open.pop()))
        assert all(host.load == 0 for host in self.pool.hosts)
        assert not self.queue


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
