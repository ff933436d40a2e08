"""Pools built from a configuration: who shares what."""

from __future__ import annotations

from typing import Any

import pytest

from gfastcgi.backend.pool import Pool
from gfastcgi.backend.states import State
from gfastcgi.backends import Backends
from gfastcgi.config import HostConfig, Settings

SETTINGS = Settings(document_root="/www")


def build(*entries: dict[str, Any] | list[dict[str, Any]]) -> tuple[Backends, list[Pool]]:
    """A pool for each argument: one host, or a list of them."""
    backends = Backends(["fair"])
    lists = [entry if isinstance(entry, list) else [entry] for entry in entries]
    return backends, [backends.pool([HostConfig(**host) for host in hosts], SETTINGS) for hosts in lists]


TCP = {"host": "127.0.0.1", "port": 9000}
SPAWNED = {"socket": "/run/s", "bin_path": "/bin/true", "min_procs": 2, "max_procs": 2}


def test_the_same_list_is_the_same_pool() -> None:
    backends = Backends(["fair"])
    hosts = [HostConfig(**TCP)]
    assert backends.pool(hosts, SETTINGS) is backends.pool(hosts, SETTINGS)


def test_entries_of_one_address_share_its_proc() -> None:
    _, (first, second, other) = build(TCP, [TCP, {**TCP, "port": 9001}], {"socket": "/run/x"})
    assert first.hosts[0].procs[0] is second.hosts[0].procs[0]
    assert first.hosts[0].procs[0].hosts == [first.hosts[0], second.hosts[0]]
    assert other.hosts[0].procs[0].hosts == [other.hosts[0]]


@pytest.mark.parametrize(
    ("capacities", "expected"), [((None, None), None), ((4, None), 4), ((None, 4), 4), ((4, 2), 2), ((2, 4), 2)]
)
def test_the_least_capacity_that_is_named_holds(capacities: tuple[int | None, ...], expected: int | None) -> None:
    _, pools = build(*[{**TCP, "max_connections": capacity} for capacity in capacities])
    assert pools[0].hosts[0].procs[0].capacity == expected


def test_keep_alive_off_holds_for_all() -> None:
    _, pools = build(TCP, {**TCP, "keep_alive": False})
    assert not pools[0].hosts[0].procs[0].keep_alive


def test_a_command_is_supervised_once_and_the_first_entry_says_how() -> None:
    backends, pools = build(SPAWNED, {**SPAWNED, "min_procs": 4, "max_procs": 4})
    assert len(backends.supervisors) == 1
    assert backends.supervisors[0].host is pools[0].hosts[0]
    assert [proc.name for proc in pools[1].hosts[0].procs] == ["/run/s-0", "/run/s-1"]
    assert all(proc.hosts == [pool.hosts[0] for pool in pools] for proc in pools[0].hosts[0].procs)


@pytest.mark.parametrize("order", [1, -1])
def test_an_entry_may_name_a_process_of_another(order: int) -> None:
    backends, pools = build(*[SPAWNED, {"socket": "/run/s-1"}][::order])
    spawned, named = pools[::order]
    proc = spawned.hosts[0].procs[1]
    assert named.hosts[0].procs == [proc]
    assert proc.hosts == [spawned.hosts[0], named.hosts[0]], "who supervises it stands first"
    assert (proc.id, proc.state) == (1, State.UNSET)
    assert len(backends.supervisors) == 1


def test_a_name_has_no_proc_before_it_is_looked_up() -> None:
    backends, (pool,) = build({"host": "php.example", "port": 9000, "name": "php"})
    assert (pool.hosts[0].name, pool.hosts[0].procs) == ("php", [])
    backends.stop()
