"""The table of states, hosts made from configuration, and the lines of fastcgi.debug."""

from __future__ import annotations

import pytest

from gfastcgi.backend.backend import Host, Proc, make_hosts
from gfastcgi.backend.debug import format_got, format_release, format_table
from gfastcgi.backend.states import Event, State, next_state
from gfastcgi.config import Address, HostConfig
from gfastcgi.errors import LocalProtocolError


def test_numbers_are_lighttpds():
    assert (State.UNSET, State.RUNNING) == (0, 1)


@pytest.mark.parametrize("state", State)
def test_a_process_can_start_unless_one_runs(state):
    """Also where somebody else served, who could not be reached any more."""
    if state is not State.RUNNING:
        assert next_state(state, Event.STARTED) is State.RUNNING
    else:
        with pytest.raises(LocalProtocolError, match=f"{state.name} cannot be STARTED"):
            next_state(state, Event.STARTED)


@pytest.mark.parametrize("state", State)
def test_only_who_rests_comes_back_by_time(state):
    if state in (State.OVERLOADED, State.DISABLED):
        assert next_state(state, Event.RESTED) is State.RUNNING
    else:
        with pytest.raises(LocalProtocolError):
            next_state(state, Event.RESTED)


@pytest.mark.parametrize("state", State)
def test_everything_can_be_stopped(state):
    assert next_state(state, Event.STOPPED) is State.KILLED


@pytest.mark.parametrize("event", [Event.FAILED, Event.OVERLOADED, Event.EXITED])
def test_a_killed_proc_stays_killed(event):
    assert next_state(State.KILLED, event) is State.KILLED


def test_hosts_that_are_not_spawned_run_at_once():
    tcp, unix = make_hosts(
        [HostConfig(host="10.0.0.2", port=1030, max_connections=7), HostConfig(socket="/run/php.sock")]
    )
    assert [proc.address for proc in tcp.procs + unix.procs] == [
        Address("10.0.0.2", 1030),
        Address(path="/run/php.sock"),
    ]
    assert [proc.state for proc in tcp.procs + unix.procs] == [State.RUNNING] * 2
    assert [proc.capacity for proc in tcp.procs + unix.procs] == [7, None]
    assert (tcp.name, unix.name) == ("10.0.0.2:1030", "/run/php.sock")


def test_spawned_procs_are_numbered_from_0():
    unix, tcp = make_hosts(
        [
            HostConfig(socket="/run/php.sock", bin_path="/bin/app", min_procs=1, max_procs=3),
            HostConfig(port=1026, bin_path="/bin/app", min_procs=2, max_procs=2),
        ]
    )
    assert [proc.name for proc in unix.procs] == ["/run/php.sock-0", "/run/php.sock-1", "/run/php.sock-2"]
    assert [proc.name for proc in tcp.procs] == ["127.0.0.1:1026", "127.0.0.1:1027"]
    assert {proc.state for proc in unix.procs + tcp.procs} == {State.UNSET}


def test_equal_entries_are_two_hosts_with_two_names():
    config = {"host": "10.0.0.2", "port": 1030, "weight": 3}
    hosts = make_hosts([HostConfig(**config), HostConfig(**config), HostConfig(name="php"), HostConfig(name="php")])
    assert [host.name for host in hosts] == ["10.0.0.2:1030", "10.0.0.2:1030#2", "php", "php#2"]
    assert hosts[0].weight == 3


def test_keep_alive_off_is_known_to_the_proc():
    off, unset = make_hosts([HostConfig(port=1, keep_alive=False), HostConfig(port=2)])
    assert (off.procs[0].keep_alive, unset.procs[0].keep_alive) == (False, True)


def make_proc(port: int, load: int, pid: int) -> Proc:
    proc = Proc(Address("127.0.0.1", port), state=State.RUNNING, capacity=None)
    proc.load, proc.pid, proc.is_local = load, pid, True
    return proc


def test_table_is_that_of_the_documentation():
    rows = [(1029, 2, 31447), (1031, 1, 31454), (1028, 1, 31442), (1026, 2, 31438)]
    host = Host(HostConfig(), [make_proc(*row) for row in rows])
    assert format_table([host]) == [
        "proc: 127.0.0.1 1031  1 1 1 31454",
        "proc: 127.0.0.1 1028  1 1 1 31442",
        "proc: 127.0.0.1 1029  1 1 2 31447",
        "proc: 127.0.0.1 1026  1 1 2 31438",
    ]
    assert format_got(34, host.procs[1]) == "got proc: 34 31454"
    assert format_release(40, host.procs[3]) == "release proc: 40 31438"


def test_table_of_a_unix_socket_that_somebody_else_serves():
    host = Host(HostConfig(), [Proc(Address(path="/run/x"), state=State.RUNNING, capacity=None)])
    assert format_table([host]) == ["proc:  0 /run/x 0 1 0 0"]


def test_reprs_fit_a_log():
    proc = make_proc(1029, 2, 31447)
    assert repr(proc) == "<Proc 127.0.0.1:1029 RUNNING load 2 idle 0 pid 31447>"
    assert repr(Host(HostConfig(), [proc])) == "<Host 127.0.0.1:1029 load 0 procs 1>"
