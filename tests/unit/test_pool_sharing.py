"""Pools that share procs: one capacity, one set of kept connections, one queue in the order of arrival."""

from __future__ import annotations

import random

import pytest
from poolrig import REQUEST, Waiter

from gfastcgi.backend.backend import Host, Proc
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.balance import POLICIES
from gfastcgi.config import Address, HostConfig
from gfastcgi.errors import NoBackendAvailable


class Rig:
    """`pools` over `procs`; each pool is a list of the numbers of its hosts' procs."""

    def __init__(self, *pools: list[int], capacity: int | None = 1, count: int = 2) -> None:
        self.now = 100.0
        self.procs = [
            Proc(Address("127.0.0.1", 9000 + number), state=State.RUNNING, capacity=capacity) for number in range(count)
        ]
        self.pools = [
            Pool(
                [Host(HostConfig(), [self.procs[number]], name=f"{number}") for number in numbers],
                POLICIES["fair"](random.Random(1)),
                clock=self.tell,
            )
            for numbers in pools
        ]

    def tell(self) -> float:
        self.now += 0.001
        return self.now

    def wait(self, pool: int, tried=()) -> Waiter:
        waiter = Waiter(tried)
        self.pools[pool].enqueue(waiter)
        return waiter

    def acquire(self, pool: int):
        return self.pools[pool].acquire(REQUEST)


def test_a_capacity_is_shared():
    rig = Rig([0], [0], capacity=2)
    assert rig.acquire(0)
    assert rig.acquire(1)
    assert rig.acquire(0) is None
    assert rig.acquire(1) is None


def test_a_kept_connection_is_used_by_whoever_comes():
    rig = Rig([0], [0])
    assert rig.pools[0].release(rig.acquire(0), keep="kept") == ()
    assert rig.acquire(1).connection == "kept"


def test_a_load_counts_for_every_host_of_the_address():
    rig = Rig([0], [0, 1], capacity=None)
    leases = [rig.acquire(0), rig.acquire(0)]
    assert [host.load for pool in rig.pools for host in pool.hosts] == [2, 2, 0]
    assert {rig.acquire(1).host.name for _ in range(2)} == {"1"}
    for lease in leases:
        rig.pools[0].release(lease)
    assert [host.load for pool in rig.pools for host in pool.hosts] == [0, 0, 2]


def test_waiters_of_all_pools_are_served_in_the_order_in_which_they_came():
    rig = Rig([0], [0], [0])
    lease = rig.acquire(2)
    waiters = [rig.wait(number) for number in (1, 0, 0, 1, 0)]
    for waiter in waiters:
        assert waiter.lease is None
        lease.host.pool.release(lease)
        lease = waiter.lease
    assert [pool.waiting for pool in rig.pools] == [0, 0, 0]


def test_a_waiter_that_has_tried_the_proc_lets_another_pool_pass():
    rig = Rig([0, 1], [0])
    first, second = rig.acquire(0), rig.acquire(0)
    picky = rig.wait(0, tried=[rig.procs[0]])
    plain = rig.wait(1)
    lease = first if first.proc is rig.procs[0] else second
    rig.pools[0].release(lease)
    assert (picky.lease, plain.lease.proc) == (None, rig.procs[0])


def test_a_proc_that_fails_is_down_for_all_and_comes_back_for_all():
    rig = Rig([0], [0])
    lease, kept = Rig.acquire(rig, 0), None
    rig.pools[0].failed(lease, "connect_refused")
    rig.pools[0].release(lease, keep=kept)
    with pytest.raises(NoBackendAvailable, match="connect_refused"):
        rig.acquire(1)
    rig.now += 1
    assert rig.pools[1].tick() is None
    assert rig.procs[0].state is State.RUNNING
    assert rig.pools[0].tick() is None
    assert rig.acquire(0)


def test_waiters_of_every_pool_fail_with_the_proc_and_are_served_when_it_is_back():
    rig = Rig([0], [0, 1])
    lease, other = rig.acquire(0), rig.acquire(1)
    stranded, patient = rig.wait(0), rig.wait(1)
    rig.pools[0].failed(lease)
    assert stranded.error is not None
    assert (patient.error, patient.lease) == (None, None)
    rig.pools[0].release(lease)
    rig.now += 1
    rig.pools[0].tick()
    assert patient.lease.proc is rig.procs[0]
    assert other.is_open


def test_an_address_that_one_pool_names_twice():
    rig = Rig([0, 0], capacity=2)
    leases = [rig.acquire(0), rig.acquire(0)]
    assert [host.load for host in rig.pools[0].hosts] == [2, 2]
    assert rig.acquire(0) is None
    waiter = rig.wait(0)
    for lease in leases:
        rig.pools[0].release(lease)
    rig.pools[0].release(waiter.lease)
    assert [host.load for host in rig.pools[0].hosts] == [0, 0]


# Procs that come and go


def test_a_proc_that_is_added_serves_who_waits():
    rig = Rig([0])
    rig.acquire(0)
    waiter = rig.wait(0)
    (pool,) = rig.pools
    pool.add(pool.hosts[0], rig.procs[1])
    assert waiter.lease.proc is rig.procs[1]


def test_a_proc_that_is_removed_finishes_its_requests_and_keeps_no_connection():
    rig = Rig([0], capacity=3)
    (pool,) = rig.pools
    lease, kept = rig.acquire(0), rig.acquire(0)
    pool.release(kept, keep="kept")
    pool.add(pool.hosts[0], rig.procs[1])
    assert list(pool.remove(pool.hosts[0], rig.procs[0])) == ["kept"]
    assert {rig.acquire(0).proc for _ in range(3)} == {rig.procs[1]}
    assert list(pool.release(lease, keep="late")) == ["late"]
    assert (rig.procs[0].load, pool.hosts[0].load) == (0, 3)


def test_a_proc_that_one_of_two_hosts_gives_up_stays_with_the_other():
    rig = Rig([0], [0], capacity=3)
    lease = rig.acquire(1)
    rig.pools[1].release(rig.acquire(1), keep="kept")
    assert list(rig.pools[0].remove(rig.pools[0].hosts[0], rig.procs[0])) == []
    assert (rig.pools[0].hosts[0].load, rig.pools[1].hosts[0].load) == (0, 1)
    assert rig.acquire(1).connection == "kept"
    rig.pools[1].release(lease)
    with pytest.raises(NoBackendAvailable, match="0 has no address"):
        rig.acquire(0)


def test_who_waits_for_the_last_proc_fails_when_it_goes():
    rig = Rig([0])
    rig.acquire(0)
    waiter = rig.wait(0)
    rig.pools[0].remove(rig.pools[0].hosts[0], rig.procs[0])
    assert waiter.error is not None


def test_a_resting_proc_that_joins_or_leaves():
    rig = Rig([0], [1])
    lease = rig.acquire(0)
    rig.pools[0].failed(lease)
    rig.pools[0].release(lease)
    rig.pools[1].add(rig.pools[1].hosts[0], rig.procs[0])
    rig.pools[0].remove(rig.pools[0].hosts[0], rig.procs[0])
    assert rig.pools[0].tick() is None
    rig.now += 1
    assert rig.pools[1].tick() is None
    assert rig.procs[0].state is State.RUNNING
