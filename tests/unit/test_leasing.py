"""Waiting for a lease: who waits is woken by whatever frees a slot, and leaves nothing behind however the wait ends."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import gevent
import pytest
from poolrig import REQUEST

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import POLICIES
from gfastcgi.client.leasing import obtain
from gfastcgi.config import HostConfig
from gfastcgi.errors import NoBackendAvailable, Overloaded

if TYPE_CHECKING:
    from collections.abc import Collection

    from gfastcgi.backend.backend import Proc
    from gfastcgi.backend.lease import Lease


class Rig:
    """Two hosts of one connection each, and a clock that stands still; `queue-timeout` is real time."""

    def __init__(self, queue_timeout: float = 60) -> None:
        self.now = 0.0
        hosts = [
            HostConfig(host="127.0.0.1", port=9000 + number, max_connections=1, queue_timeout=queue_timeout)
            for number in range(2)
        ]
        self.pool = Pool(make_hosts(hosts), POLICIES["round-robin"](random.Random(1)), clock=lambda: self.now)
        self.procs = [host.procs[0] for host in self.pool.hosts]

    def take_all(self) -> list[Lease]:
        """A lease of each proc, in their order."""
        leases = [obtain(self.pool, REQUEST, []) for _ in self.procs]
        return sorted(leases, key=lambda lease: lease.proc.name)

    def wait(self, tried: Collection[Proc] = ()) -> gevent.Greenlet[..., Lease]:
        """A greenlet that waits for a lease."""
        waiting = gevent.spawn(obtain, self.pool, REQUEST, list(tried))
        gevent.sleep(0)
        return waiting

    def rest(self, lease: Lease) -> None:
        """Its proc cannot be reached, and rests."""
        self.pool.failed(lease)
        self.pool.release(lease)


def wait_for(waiting: gevent.Greenlet[..., Lease]) -> Lease:
    return waiting.get(timeout=5)


def test_a_proc_that_has_rested_serves_who_waits():
    rig = Rig()
    _, second = rig.take_all()
    waiting = rig.wait()
    rig.rest(second)
    rig.now = 1.0
    assert wait_for(waiting).proc is rig.procs[1]


def test_a_newcomer_that_finds_others_waiting_is_served_with_them_by_a_proc_that_has_rested():
    rig = Rig()
    first, second = rig.take_all()
    rig.rest(second)
    one = rig.wait()
    rig.now = 1.0
    other = rig.wait()
    assert wait_for(one).proc is rig.procs[1]
    rig.pool.release(first)
    assert wait_for(other).proc is rig.procs[0]


def test_who_waits_too_long_is_told_and_leaves_no_place():
    rig = Rig(queue_timeout=0.01)
    rig.take_all()
    with pytest.raises(Overloaded, match=r"no free connection within 0\.01 s"):
        wait_for(rig.wait())
    assert not rig.pool.waiting


def test_the_last_that_goes_down_fails_who_waits():
    rig = Rig()
    first, second = rig.take_all()
    waiting = rig.wait()
    rig.rest(first)
    rig.rest(second)
    with pytest.raises(NoBackendAvailable):
        wait_for(waiting)


def test_a_waiter_that_is_killed_leaves_its_place_to_the_next():
    rig = Rig()
    first, _ = rig.take_all()
    killed, other = rig.wait(), rig.wait()
    killed.kill()
    rig.pool.release(first)
    assert wait_for(other).proc is rig.procs[0]
    assert (rig.procs[0].load, rig.pool.waiting) == (1, 0)


def test_a_waiter_that_is_killed_on_its_way_to_its_slot_leaves_that_to_the_next():
    rig = Rig()
    first, _ = rig.take_all()
    killed, other = rig.wait(), rig.wait()
    killed.kill(block=False)
    rig.pool.release(first)
    assert wait_for(other).proc is rig.procs[0]
    assert (rig.procs[0].load, rig.pool.waiting) == (1, 0)


def test_one_that_tried_a_proc_waits_for_the_other_and_lets_others_pass():
    rig = Rig()
    first, second = rig.take_all()
    picky, other = rig.wait([rig.procs[0]]), rig.wait()
    rig.pool.release(first)
    assert wait_for(other).proc is rig.procs[0]
    assert not picky.ready()
    rig.pool.release(second)
    assert wait_for(picky).proc is rig.procs[1]


def test_whatever_happens_nobody_is_forgotten_and_no_slot_is_lost():
    """Many wait, hold a lease, meet a failure, are killed: all end, and no proc ever has more than its capacity."""
    rig, rng = Rig(), random.Random(7)
    most = 0

    def ask(tried: list[Proc]) -> None:
        nonlocal most
        try:
            lease = obtain(rig.pool, REQUEST, tried)
        except NoBackendAvailable:
            return
        try:
            most = max(most, *(proc.load for proc in rig.procs))
            gevent.sleep(0)
            if rng.random() < 0.1:
                rig.pool.failed(lease)
        finally:
            rig.pool.release(lease)

    asked = []
    for _ in range(100):
        asked += [gevent.spawn(ask, rng.sample(rig.procs, rng.choice([0, 0, 0, 1]))) for _ in range(10)]
        rig.now += rng.choice([0.0, 0.4])
        gevent.sleep(0)
        for victim in rng.sample(asked, 3):
            victim.kill(block=False)
    rig.now += 1.0
    gevent.joinall(asked, timeout=20)
    assert all(greenlet.successful() for greenlet in asked)
    assert (most, rig.pool.waiting, [proc.load for proc in rig.procs]) == (1, 0, [0, 0])
