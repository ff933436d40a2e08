"""What a host's latency is said to be, by itself and as the pool measures it."""

from __future__ import annotations

import random
from math import exp

import pytest
from poolrig import REQUEST, Clock

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.latency import DECAY, Latency
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import PeakEwma
from gfastcgi.config import HostConfig


def test_nothing_is_known_at_first():
    assert Latency(Clock()).seconds == 0.0


def test_a_peak_counts_at_once_and_is_forgiven_slowly():
    clock = Clock()
    latency = Latency(clock)
    latency.observe(0.01)
    assert latency.seconds == pytest.approx(0.01)
    latency.observe(2.0)
    assert latency.seconds == pytest.approx(2.0)
    clock.now += 1
    latency.observe(0.01)
    weight = exp(-1 / DECAY)
    assert latency.seconds == pytest.approx(2.0 * weight + 0.01 * (1 - weight))
    for _ in range(100):
        clock.now += 1
        latency.observe(0.01)
    assert latency.seconds == pytest.approx(0.01, rel=0.05)


def test_who_is_not_asked_is_forgotten():
    clock = Clock()
    latency = Latency(clock)
    latency.observe(2.0)
    clock.now += DECAY
    assert latency.seconds == pytest.approx(2.0 / exp(1))
    clock.now += 1e6
    assert latency.seconds == 0.0


def test_no_answer_is_news_only_if_it_took_long():
    latency = Latency(Clock())
    latency.observe(0.5)
    latency.give_up(0.01)
    assert latency.seconds == pytest.approx(0.5)
    latency.give_up(8.0)
    assert latency.seconds == pytest.approx(8.0)


# In the pool


def make_pool(*, measures: bool = True, count: int = 2) -> tuple[Pool, Clock]:
    clock = Clock()
    hosts = make_hosts(HostConfig(host="127.0.0.1", port=9000 + number) for number in range(count))
    return Pool(hosts, PeakEwma(random.Random(1)), clock=clock, measures=measures), clock


def test_the_time_until_the_head_counts_and_not_the_body():
    pool, clock = make_pool()
    lease = pool.acquire(REQUEST)
    clock.now += 0.25
    pool.answered(lease)
    assert lease.host.latency == pytest.approx(0.25)
    clock.now += 3  # a client that takes its time
    pool.release(lease)
    assert lease.host.latency == pytest.approx(0.25 * exp(-3 / DECAY))


def test_a_request_without_an_answer_counts_when_it_took_longer():
    pool, clock = make_pool()
    lease = pool.acquire(REQUEST)
    clock.now += 30
    pool.release(lease)
    assert lease.host.latency == pytest.approx(30)
    lease = pool.acquire(REQUEST, [lease.proc])
    pool.release(lease)
    assert lease.host.latency == 0.0


def test_a_slow_host_is_left_alone_until_it_is_forgotten():
    pool, clock = make_pool()
    seconds = dict(zip(pool.hosts, (0.01, 1.0), strict=True))
    served = []
    for _ in range(1000):
        lease = pool.acquire(REQUEST)
        clock.now += seconds[lease.host]
        pool.answered(lease)
        pool.release(lease)
        served.append(lease.host)
    slow = pool.hosts[1]
    assert slow in served[:2], "a host of which nothing is known is tried"
    assert served.count(slow) == 1
    clock.now += DECAY * 5
    pool.hosts[0].measured.observe(0.01)
    assert pool.acquire(REQUEST).host is slow, "it may have recovered"


def test_nothing_is_measured_unless_a_policy_wants_it():
    pool, clock = make_pool(measures=False)
    lease = pool.acquire(REQUEST)
    assert lease.since == 0.0
    clock.now += 5
    pool.answered(lease)
    pool.release(lease)
    assert lease.host.latency == 0.0


def test_our_own_questions_are_not_measured():
    pool, clock = make_pool()
    host = pool.hosts[0]
    lease = pool.probe(host, host.procs[0])
    clock.now += 5
    pool.release(lease)
    assert host.latency == 0.0
