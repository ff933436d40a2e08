"""Balances under any coming and going of hosts."""

from __future__ import annotations

import random
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfastcgi.balance import POLICIES, RoundRobin, Sticky
from gfastcgi.balance.conformance import Host, check
from gfastcgi.balance.conformance import Request as Key

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=8)
KEYS = st.builds(Key, st.text(), st.text(), st.text())
LOADS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1000), st.floats(0, 100)), max_size=3)


def load_example():
    path = Path(__file__).parents[2] / "contrib/plugin-example/gfastcgi_balance_first.py"
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.First


FACTORIES = {**POLICIES, "first": load_example()}


def make_hosts(weights: list[int]) -> list[Host]:
    return [Host(f"host-{number}", weight) for number, weight in enumerate(weights)]


@pytest.mark.parametrize("name", FACTORIES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers())
def test_every_balance_conforms_ours_and_a_plugin(name, seed):
    check(FACTORIES[name], seed=seed)


@pytest.mark.parametrize("name", FACTORIES)
@settings(max_examples=50)
@given(weights=WEIGHTS, rounds=st.lists(st.tuples(st.integers(0, 255), KEYS, LOADS)), is_tuple=st.booleans())
def test_the_choice_is_one_of_those_that_are_up(name, weights, rounds, is_tuple):
    hosts, policy = make_hosts(weights), FACTORIES[name](random.Random(1))
    up = ()
    for mask, key, loads in rounds:
        for number, load, latency in loads:
            host = hosts[number % len(hosts)]
            host.load, host.latency = load, latency
        if mask:  # else the same candidates again
            up = [host for number, host in enumerate(hosts) if mask >> number & 1]
            up = tuple(up) if is_tuple else up
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
