"""Balances under any coming and going of hosts."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.balance import POLICIES, RoundRobin, Sticky
from gfastcgi.balance.conformance import Host
from gfastcgi.balance.conformance import Request as Key

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=8)
KEYS = st.builds(Key, st.text(), st.text(), st.text())


def make_hosts(weights: list[int]) -> list[Host]:
    return [Host(f"host-{number}", weight) for number, weight in enumerate(weights)]


@given(weights=WEIGHTS, rounds=st.lists(st.tuples(st.integers(0, 255), KEYS)), name=st.sampled_from(sorted(POLICIES)))
def test_the_choice_is_one_of_those_that_are_up(weights, rounds, name):
    hosts, policy = make_hosts(weights), POLICIES[name](random.Random(1))
    for mask, key in rounds:
        up = [host for number, host in enumerate(hosts) if mask >> number & 1]
        if up:
            assert policy.select(up, key) in up


@given(weights=st.lists(st.just(1), min_size=1, max_size=8), masks=st.lists(st.integers(1, 255), max_size=12))
def test_round_robin_is_even_after_any_coming_and_going(weights, masks):
    hosts, policy, key = make_hosts(weights), RoundRobin(random.Random(1)), Key("", "", "")
    for mask in masks:
        up = [host for number, host in enumerate(hosts) if mask >> number & 1] or hosts
        served: Counter[str] = Counter(policy.select(up, key).name for _ in range(len(up) * 3))
        assert all(abs(served[host.name] - 3) <= 2 for host in up)


@given(weights=WEIGHTS, key=KEYS, gone=st.integers(0, 7))
def test_sticky_stays_unless_its_host_goes(weights, key, gone):
    hosts, policy = make_hosts(weights), Sticky(random.Random(1))
    chosen = policy.select(hosts, key)
    rest = [host for number, host in enumerate(hosts) if number != gone or host is chosen]
    assert policy.select(rest, key) is chosen
