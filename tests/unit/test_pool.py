"""The pool: leases, kept connections, the queue, and procs that go down and come back."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from poolrig import REQUEST, Clock, Waiter

from gfastcgi.backend.backend import Proc, make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.balance import POLICIES
from gfastcgi.config import Address, HostConfig
from gfastcgi.errors import LocalProtocolError, NoBackendAvailable


def make_pool(*configs, policy="least-connection", log=None, level=1):
    clock = Clock()
    return Pool(make_hosts(configs), POLICIES[policy](random.Random(1)), clock=clock, log=log, level=level), clock


def remote(number=0, **options):
    return HostConfig(host="127.0.0.1", port=9000 + number, **options)


def spawned(**options):
    return HostConfig(socket="/run/app", bin_path="/bin/app", **{"min_procs": 2, "max_procs": 2, **options})


def start_all(pool, capacity=1):
    for host in pool.hosts:
        for number, proc in enumerate(host.procs):
            pool.started(proc, pid=1000 + number, is_local=True, capacity=capacity)


# Leases


def test_a_lease_counts_until_it_is_released():
    pool, _ = make_pool(remote())
    (host,) = pool.hosts
    leases = [pool.acquire(REQUEST) for _ in range(3)]
    assert (host.load, host.procs[0].load) == (3, 3)
    for lease in leases:
        assert pool.release(lease) == ()
    assert (host.load, host.procs[0].load) == (0, 0)


def test_a_lease_is_released_once():
    pool, _ = make_pool(remote())
    lease = pool.acquire(REQUEST)
    pool.release(lease)
    with pytest.raises(LocalProtocolError, match="released again"):
        pool.release(lease)
    assert pool.hosts[0].load == 0


def test_the_least_loaded_proc_of_a_host_is_taken():
    pool, _ = make_pool(spawned(min_procs=3, max_procs=3))
    start_all(pool, capacity=5)
    assert sorted(pool.acquire(REQUEST).proc.id for _ in range(3)) == [0, 1, 2]
    assert sorted(pool.acquire(REQUEST).proc.id for _ in range(3)) == [0, 1, 2]


def test_hosts_are_balanced_not_procs():
    pool, _ = make_pool(spawned(min_procs=4, max_procs=4), remote())
    for proc in pool.hosts[0].procs:
        pool.started(proc, pid=1, is_local=True, capacity=9)
    hosts = [pool.acquire(REQUEST).host for _ in range(8)]
    assert [hosts.count(host) for host in pool.hosts] == [4, 4]


def test_capacity_is_never_exceeded_and_counts_over_hosts():
    pool, _ = make_pool(remote(0, max_connections=2), remote(1, max_connections=1))
    leases = [pool.acquire(REQUEST) for _ in range(3)]
    assert all(leases)
    assert pool.acquire(REQUEST) is None
    pool.release(leases[0])
    assert pool.acquire(REQUEST).proc is leases[0].proc


def test_a_tried_proc_is_not_taken_again():
    pool, _ = make_pool(remote(0), remote(1))
    first = pool.acquire(REQUEST)
    second = pool.acquire(REQUEST, [first.proc])
    assert second.proc is not first.proc
    with pytest.raises(NoBackendAvailable, match=r"127\.0\.0\.1:9000 was tried, 127\.0\.0\.1:9001 was tried"):
        pool.acquire(REQUEST, [first.proc, second.proc])


def test_counts_connections_made():
    pool, _ = make_pool(remote())
    lease = pool.acquire(REQUEST)
    pool.connected(lease)
    assert lease.proc.connected == 1


# Kept connections


def test_the_last_kept_connection_is_used_first():
    pool, _ = make_pool(remote(max_connections=3))
    leases = [pool.acquire(REQUEST) for _ in range(3)]
    assert [lease.connection for lease in leases] == [None] * 3
    for number, lease in enumerate(leases):
        assert pool.release(lease, keep=f"connection {number}") == ()
    assert [pool.acquire(REQUEST).connection for _ in range(3)] == ["connection 2", "connection 1", "connection 0"]


def test_a_proc_with_a_kept_connection_comes_first_among_equals():
    pool, _ = make_pool(spawned(min_procs=3, max_procs=3))
    start_all(pool)
    leases = [pool.acquire(REQUEST) for _ in range(3)]
    pool.release(leases[1], keep="kept")
    pool.release(leases[0])
    pool.release(leases[2])
    assert pool.acquire(REQUEST).connection == "kept"


@pytest.mark.parametrize("max_connections", [None, 4])
def test_idle_addresses_of_a_name_take_turns(max_connections):
    pool, _ = make_pool(HostConfig(host="app.example", port=9000, max_connections=max_connections))
    procs = [
        Proc(Address(f"192.0.2.{number}", 9000), state=State.RUNNING, capacity=max_connections) for number in range(3)
    ]
    for proc in procs:
        pool.add(pool.hosts[0], proc)
    taken = []
    for _ in range(6):
        lease = pool.acquire(REQUEST)
        taken.append(lease.proc)
        pool.release(lease, keep=object())
    assert taken == procs * 2


@pytest.mark.parametrize("options", [{}, {"keep_alive": True}, {"keep_alive": False, "max_connections": 3}])
def test_a_connection_is_not_kept_where_the_capacity_is_unknown_or_keep_alive_off(options):
    pool, _ = make_pool(remote(**options))
    assert list(pool.release(pool.acquire(REQUEST), keep="connection")) == ["connection"]
    assert pool.acquire(REQUEST).connection is None


def test_a_connection_is_not_kept_to_a_proc_that_rests():
    pool, clock = make_pool(remote(max_connections=3))
    first, second = pool.acquire(REQUEST), pool.acquire(REQUEST)
    pool.failed(first)
    assert list(pool.release(second, keep="connection")) == ["connection"]
    pool.release(first)
    clock.now += 1
    assert pool.acquire(REQUEST).connection is None


def test_kept_connections_of_a_failing_proc_are_given_up():
    pool, _ = make_pool(remote(max_connections=3))
    leases = [pool.acquire(REQUEST) for _ in range(3)]
    pool.release(leases[0], keep="a")
    pool.release(leases[1], keep="b")
    assert list(pool.failed(leases[2])) == ["a", "b"]
    assert list(pool.failed(leases[2])) == []


def test_drain_gives_up_all_kept_connections():
    pool, _ = make_pool(remote(0, max_connections=1), remote(1, max_connections=1))
    for lease in [pool.acquire(REQUEST), pool.acquire(REQUEST)]:
        pool.release(lease, keep=lease.proc.name)
    assert sorted(pool.drain()) == ["127.0.0.1:9000", "127.0.0.1:9001"]
    assert pool.drain() == []
    assert pool.acquire(REQUEST).connection is None


# Down and back


@pytest.mark.parametrize("disable_time", [1, 5])
def test_a_failed_proc_comes_back_after_disable_time_also_when_it_is_the_last(disable_time):
    pool, clock = make_pool(remote(disable_time=disable_time))
    lease = pool.acquire(REQUEST)
    pool.failed(lease, "connect_refused")
    pool.release(lease)
    expected = r"127\.0\.0\.1:9000 is disabled \(connect_refused\)"
    with pytest.raises(NoBackendAvailable, match=expected) as caught:
        pool.acquire(REQUEST)
    assert (caught.value.status_hint, caught.value.cause) == (503, "no_backend")
    clock.now += disable_time - 0.01
    with pytest.raises(NoBackendAvailable):
        pool.acquire(REQUEST)
    clock.now += 0.01
    assert pool.acquire(REQUEST).proc is lease.proc
    assert lease.proc.disabled == 1


def test_disable_time_0_never_takes_a_proc_away():
    pool, _ = make_pool(remote(disable_time=0, max_connections=2))
    lease, kept = pool.acquire(REQUEST), pool.acquire(REQUEST)
    pool.release(kept, keep="stale")
    assert list(pool.failed(lease)) == ["stale"]
    pool.release(lease)
    assert pool.acquire(REQUEST) is not None


def test_an_overloaded_proc_rests():
    pool, clock = make_pool(remote(0), remote(1))
    lease = pool.acquire(REQUEST)
    pool.overloaded(lease)
    pool.release(lease)
    assert (lease.proc.state, lease.proc.overloaded, lease.proc.disabled) == (State.OVERLOADED, 1, 0)
    other = pool.acquire(REQUEST)
    assert other.proc is not lease.proc
    pool.overloaded(other)
    with pytest.raises(NoBackendAvailable) as caught:
        pool.acquire(REQUEST)
    assert caught.value.cause == "overloaded"
    clock.now += 1
    assert pool.acquire(REQUEST) is not None


def test_a_late_failure_does_not_wake_or_disable_a_dead_process():
    pool, clock = make_pool(spawned(min_procs=1, max_procs=1))
    start_all(pool, capacity=2)
    lease, late = pool.acquire(REQUEST), pool.acquire(REQUEST)
    pool.release(lease, keep="kept")
    assert list(pool.exited(lease.proc, "exit status 1", clock.now + 4)) == ["kept"]
    assert list(pool.failed(late)) == []
    pool.release(late)
    clock.now += 2
    with pytest.raises(NoBackendAvailable, match=r"/run/app-0 died \(exit status 1\)"):
        pool.acquire(REQUEST)
    pool.started(lease.proc, pid=7, is_local=True, capacity=2)
    assert (pool.acquire(REQUEST).proc.pid, lease.proc.died, lease.proc.cause) == (7, 1, "")


def test_a_process_that_was_not_started_is_named():
    pool, _ = make_pool(spawned(min_procs=1, max_procs=1))
    with pytest.raises(NoBackendAvailable, match="/run/app-0 is not started"):
        pool.acquire(REQUEST)


def test_a_stopped_process_is_named():
    pool, _ = make_pool(spawned(min_procs=1, max_procs=1))
    start_all(pool)
    pool.stopped(pool.hosts[0].procs[0])
    with pytest.raises(NoBackendAvailable, match=r"/run/app-0 was ended \(stopped\)$"):
        pool.acquire(REQUEST)


def test_tick_tells_when_the_next_proc_comes_back():
    pool, clock = make_pool(remote(0, disable_time=1), remote(1, disable_time=3))
    assert pool.tick() is None
    for lease in [pool.acquire(REQUEST), pool.acquire(REQUEST)]:
        pool.failed(lease)
        pool.release(lease)
    assert pool.tick() == 101.0
    clock.now = 101.0
    assert pool.tick() == 103.0
    clock.now = 103.0
    assert pool.tick() is None


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("up", [0, 1, 4, 5])
def test_every_policy_with_0_1_all_but_one_and_all_hosts_up(policy, up):
    pool, _ = make_pool(*[remote(number) for number in range(5)], policy=policy)
    for host in pool.hosts[up:]:
        lease = pool.acquire(REQUEST, [proc for other in pool.hosts if other is not host for proc in other.procs])
        pool.failed(lease)
        pool.release(lease)
    if not up:
        with pytest.raises(NoBackendAvailable):
            pool.acquire(REQUEST)
        return
    for number in range(20):
        lease = pool.acquire(SimpleNamespace(authority="", path=f"/{number}", remote_addr=f"{number}"))
        assert lease.host in pool.hosts[:up]
        pool.release(lease)


# The queue


def full_pool(**options):
    pool, clock = make_pool(remote(max_connections=1, **options))
    return pool, clock, pool.acquire(REQUEST)


def test_waiters_are_served_first_come_first_served():
    pool, _, lease = full_pool()
    waiters = [Waiter() for _ in range(3)]
    for waiter in waiters:
        pool.enqueue(waiter)
    assert pool.waiting == 3
    for waiter in waiters:
        pool.release(lease, keep="connection")
        lease = waiter.lease
        assert lease.connection == "connection"
    assert (pool.waiting, pool.hosts[0].load) == (0, 1)


def test_a_waiter_that_left_is_not_served():
    pool, _, lease = full_pool()
    first, second = Waiter(), Waiter()
    pool.enqueue(first)
    pool.enqueue(second)
    pool.leave(first)
    pool.leave(first)
    pool.release(lease)
    assert (first.lease, second.lease.is_open) == (None, True)


def test_a_waiter_is_skipped_by_a_proc_that_it_tried():
    pool, _ = make_pool(remote(0, max_connections=1), remote(1, max_connections=1))
    leases = [pool.acquire(REQUEST), pool.acquire(REQUEST)]
    picky, plain = Waiter([leases[0].proc]), Waiter()
    pool.enqueue(picky)
    pool.enqueue(plain)
    pool.release(leases[0])
    assert (picky.lease, plain.lease.proc) == (None, leases[0].proc)
    pool.release(leases[1])
    assert picky.lease.proc is leases[1].proc


def test_a_waiter_is_served_at_once_when_a_slot_is_free():
    pool, _ = make_pool(remote(max_connections=1))
    waiter = Waiter()
    pool.enqueue(waiter)
    assert waiter.lease is not None


def test_waiters_fail_when_the_last_proc_goes_down():
    pool, _, lease = full_pool()
    waiter = Waiter()
    pool.enqueue(waiter)
    pool.failed(lease, "connect_refused")
    assert "connect_refused" in str(waiter.error)
    pool.release(lease)
    assert (pool.waiting, waiter.lease) == (0, None)


def test_waiters_fail_when_the_process_dies_and_when_all_are_tried():
    pool, clock = make_pool(spawned())
    start_all(pool)
    leases = [pool.acquire(REQUEST), pool.acquire(REQUEST)]
    picky, plain = Waiter([leases[0].proc]), Waiter()
    pool.enqueue(picky)
    pool.enqueue(plain)
    pool.exited(leases[1].proc, "signal 9", clock.now + 1)
    assert (picky.error is None, plain.error) == (False, None)
    pool.stopped(leases[0].proc)
    assert plain.error is not None


def test_a_waiter_that_comes_when_all_are_down_fails_at_once():
    pool, _, lease = full_pool()
    pool.failed(lease)
    waiter = Waiter()
    pool.enqueue(waiter)
    assert waiter.error is not None


def test_waiters_are_served_by_a_proc_that_comes_back():
    pool, clock = make_pool(remote(0, max_connections=1), remote(1, max_connections=1))
    first, second = pool.acquire(REQUEST), pool.acquire(REQUEST)
    pool.failed(first)
    pool.release(first)
    waiter = Waiter()
    pool.enqueue(waiter)
    pool.release(second)
    assert waiter.lease.proc is second.proc
    late = Waiter()
    pool.enqueue(late)
    clock.now += 1
    assert pool.tick() is None
    assert late.lease.proc is first.proc


def test_waiters_are_served_by_a_process_that_starts():
    pool, _ = make_pool(spawned())
    pool.started(pool.hosts[0].procs[0], pid=1, is_local=True, capacity=1)
    pool.acquire(REQUEST)
    waiters = [Waiter(), Waiter(), Waiter()]
    for waiter in waiters:
        pool.enqueue(waiter)
    pool.started(pool.hosts[0].procs[1], pid=2, is_local=True, capacity=2)
    assert [waiter.lease is not None for waiter in waiters] == [True, True, False]


def test_a_newcomer_does_not_overtake_waiters_of_a_proc_that_came_back():
    pool, clock = make_pool(remote(0, max_connections=1), remote(1, max_connections=1))
    first, second = pool.acquire(REQUEST), pool.acquire(REQUEST)
    pool.failed(first)
    pool.release(first)
    waiter = Waiter()
    pool.enqueue(waiter)
    clock.now += 1
    assert pool.acquire(REQUEST) is None
    assert waiter.lease.proc is first.proc
    assert second.is_open


# Debug


@pytest.mark.parametrize(("causes", "told"), [
    (["spawn_failed", "spawn_failed"], "spawn_failed"), (["spawn_failed"], "spawn_failed"),
    (["spawn_failed", "signal 9"], "no_backend"), (["signal 9", "signal 9"], "no_backend"), ([], "no_backend"),
])  # fmt: skip
def test_what_cannot_be_started_is_told_apart(causes, told):
    pool, _ = make_pool(spawned(max_procs=2))
    for proc, cause in zip(pool.hosts[0].procs, causes, strict=False):
        pool.exited(proc, cause, 200.0)
    with pytest.raises(NoBackendAvailable) as caught:
        pool.acquire(REQUEST)
    assert caught.value.cause == told
    assert str(caught.value).count("cannot be started") == causes.count("spawn_failed")


def test_debug_lines_tell_the_choice_and_the_release():
    """The list stands before the choice, which is its first line, and after the release."""
    lines: list[str] = []
    pool, _ = make_pool(spawned(), log=lines.append)
    start_all(pool)
    first = pool.acquire(REQUEST)
    assert lines == ["proc:  0 /run/app-0 1 1 0 1000", "proc:  0 /run/app-1 1 1 0 1001", "got proc: 1 1000"]
    lines.clear()
    pool.connected(first)
    pool.acquire(REQUEST)
    assert lines == ["proc:  0 /run/app-1 1 1 0 1001", "proc:  0 /run/app-0 1 1 1 1000", "got proc: 2 1001"]
    lines.clear()
    pool.release(first)
    assert lines == ["release proc: 1 1000", "proc:  0 /run/app-0 1 1 0 1000", "proc:  0 /run/app-1 1 1 1 1001"]


def test_debug_lines_of_a_tcp_backend_are_those_of_the_documentation():
    lines: list[str] = []
    pool, _ = make_pool(remote(), log=lines.append)
    pool.acquire(REQUEST)
    assert lines == ["proc: 127.0.0.1 9000  0 1 0 0", "got proc: 1 0"]


def test_higher_debug_levels_tell_connections_and_states():
    lines: list[str] = []
    pool, _ = make_pool(remote(), log=lines.append, level=3)
    lease = pool.acquire(REQUEST)
    lines.clear()
    pool.connected(lease)
    assert lines == ["connect succeeded: 1 127.0.0.1:9000"]
    lines.clear()
    pool.failed(lease, "connect_refused")
    assert lines == ["proc: 127.0.0.1 9000  0 3 1 0"]
    lines.clear()
    pool, _ = make_pool(remote(), log=lines.append, level=2)
    pool.failed(pool.acquire(REQUEST), "connect_refused")
    assert lines == ["proc: 127.0.0.1 9000  0 1 0 0", "got proc: 1 0"]
