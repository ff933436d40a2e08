"""Pools that share procs: the invariants of test_pool_property over all of them, while procs come, go and recover."""

from __future__ import annotations

import random

import poolrig
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.slow_start import SlowStart
from gfastcgi.backend.states import State
from gfastcgi.balance import LeastConnection
from gfastcgi.config import Address, HostConfig
from gfastcgi.errors import NoBackendAvailable

CHOICES = st.integers(0, 9)
PROCS = 4
# Pools, each a list of hosts, each a list of procs' numbers.
LAYOUTS = st.lists(
    st.lists(st.lists(st.integers(0, PROCS - 1), max_size=3, unique=True), min_size=1, max_size=2),
    min_size=2,
    max_size=3,
)


class Waiter(poolrig.Waiter):
    def __init__(self, pool, number):
        super().__init__()
        self.pool, self.number = pool, number


class SharedPoolsMachine(RuleBasedStateMachine):
    @initialize(layout=LAYOUTS, capacities=st.lists(st.sampled_from([1, 2, None]), min_size=PROCS, max_size=PROCS))
    def make(self, layout, capacities):
        self.now = 100.0
        rng = random.Random(1)
        self.procs = [
            Proc(Address("127.0.0.1", number + 1), state=State.RUNNING, capacity=capacity)
            for number, capacity in enumerate(capacities)
        ]
        self.pools = [
            Pool(
                [
                    Host(HostConfig(), [self.procs[number] for number in numbers], name=f"{place}")
                    for place, numbers in enumerate(hosts)
                ],
                LeastConnection(rng),
                clock=self.tell,
                slow_start=SlowStart(self.tell, rng),
            )
            for hosts in layout
        ]
        self.open, self.queue, self.kept = [], [], set()
        self.made = 0

    def tell(self):
        """Time passes with every look, so that who came first is never a question."""
        self.now += 1e-6
        return self.now

    def pool(self, choice):
        return self.pools[choice % len(self.pools)]

    def host(self, choice):
        hosts = [host for pool in self.pools for host in pool.hosts]
        return hosts[choice % len(hosts)]

    def adopt(self, lease):
        if lease.connection is not None:
            self.kept.remove(lease.connection)
        self.open.append(lease)

    def settle(self, closed=()):
        for connection in closed:
            self.kept.remove(connection)
        done = [waiter for waiter in self.queue if waiter.lease or waiter.error]
        self.queue = [waiter for waiter in self.queue if not (waiter.lease or waiter.error)]
        for waiter in done:
            if waiter.lease is not None:
                self.adopt(waiter.lease)
                proc = waiter.lease.proc
                earlier = [other for other in self.queue if other.number < waiter.number]
                assert not any(proc in host.procs for other in earlier for host in other.pool.hosts), "overtaken"

    def usable(self, pool):
        return [proc for host in pool.hosts for proc in host.procs if proc.state is State.RUNNING]

    @rule(choice=CHOICES)
    def acquire(self, choice):
        pool = self.pool(choice)
        try:
            lease = pool.acquire(poolrig.REQUEST)
        except NoBackendAvailable:
            self.settle()
            assert not self.usable(pool)
            return
        self.settle()
        if lease is None:
            assert all(proc.capacity is not None and proc.load >= proc.capacity for proc in self.usable(pool))
        else:
            self.adopt(lease)

    @rule(choice=CHOICES)
    def enqueue(self, choice):
        self.made += 1
        waiter = Waiter(self.pool(choice), self.made)
        self.queue.append(waiter)
        waiter.pool.enqueue(waiter)
        self.settle()

    @precondition(lambda self: self.open)
    @rule(choice=CHOICES, is_whole=st.booleans())
    def release(self, choice, is_whole):
        lease = self.open.pop(choice % len(self.open))
        keep = None
        if is_whole:
            self.made += 1
            keep = lease.connection or f"connection {self.made}"
            self.kept.add(keep)
        self.settle(lease.host.pool.release(lease, keep=keep))

    @precondition(lambda self: self.open)
    @rule(choice=CHOICES, is_overloaded=st.booleans())
    def fail(self, choice, is_overloaded):
        lease = self.open[choice % len(self.open)]
        pool = lease.host.pool
        self.settle(pool.overloaded(lease) if is_overloaded else pool.failed(lease))

    @rule(seconds=st.floats(0, 4), choice=CHOICES)
    def pass_time(self, seconds, choice):
        self.now += seconds
        self.pool(choice).tick()
        self.settle()

    @rule(choice=CHOICES, number=st.integers(0, PROCS - 1))
    def add(self, choice, number):
        host, proc = self.host(choice), self.procs[number]
        if proc not in host.procs and proc.state is not State.KILLED:
            host.pool.add(host, proc)
            self.settle()

    @rule(choice=CHOICES, number=st.integers(0, PROCS - 1))
    def remove(self, choice, number):
        host, proc = self.host(choice), self.procs[number]
        if proc in host.procs:
            self.settle(host.pool.remove(host, proc))

    @rule(number=st.integers(0, PROCS - 1), capacity=st.integers(1, 3))
    def learn(self, number, capacity):
        proc = self.procs[number]
        if proc.hosts:
            proc.hosts[0].pool.learned(proc, capacity)
            self.settle()

    @rule(number=st.integers(0, PROCS - 1))
    def sicken(self, number):
        proc = self.procs[number]
        if proc.hosts and proc.state in (State.RUNNING, State.DISABLED, State.OVERLOADED):
            self.settle(proc.hosts[0].pool.unhealthy(proc, "ill"))

    @rule(number=st.integers(0, PROCS - 1), ramp=st.integers(1, 5))
    def heal(self, number, ramp):
        proc = self.procs[number]
        if proc.hosts and proc.state is State.UNHEALTHY:
            proc.hosts[0].pool.healthy(proc, ramp=ramp)
            self.settle()

    @rule(choice=CHOICES)
    def probe(self, choice):
        host = self.host(choice)
        for proc in host.procs:
            is_full = proc.capacity is not None and proc.load >= proc.capacity
            lease = host.pool.probe(host, proc)
            assert (lease is None) is is_full
            if lease is not None:
                if lease.connection is not None:
                    self.kept.remove(lease.connection)
                self.settle(host.pool.release(lease))

    @invariant()
    def loads_are_the_open_leases(self):
        for proc in self.procs:
            assert proc.load == sum(lease.proc is proc for lease in self.open)
        for pool in self.pools:
            for host in pool.hosts:
                assert host.load == sum(proc.load for proc in host.procs)

    @invariant()
    def capacity_holds(self):
        for proc in self.procs:
            if proc.idle:
                assert proc.load + len(proc.idle) <= proc.capacity
                assert proc.hosts
                assert proc.state is State.RUNNING
            if proc.capacity is not None and not proc.is_learned:
                assert proc.load <= proc.capacity

    @invariant()
    def no_connection_is_lost_or_doubled(self):
        idle = [connection for proc in self.procs for connection in proc.idle]
        assert len(idle) == len(set(idle))
        assert set(idle) == self.kept

    @invariant()
    def everyone_knows_who_uses_what(self):
        for proc in self.procs:
            users = [host for pool in self.pools for host in pool.hosts if proc in host.procs]
            assert sorted(map(id, proc.hosts)) == sorted(map(id, users))
            is_resting = proc.state in (State.OVERLOADED, State.DISABLED)
            for pool in self.pools:
                assert (proc in pool._resting) is (is_resting and any(host.pool is pool for host in users))

    @invariant()
    def nobody_waits_for_nothing(self):
        for waiter in self.queue:
            usable = self.usable(waiter.pool)
            assert usable
            assert all(proc.capacity is not None and proc.load >= proc.capacity for proc in usable)


TestSharedPools = SharedPoolsMachine.TestCase
TestSharedPools.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
