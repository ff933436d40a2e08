"""Supervisors under load: processes that come with the requests that wait, and go when there is nothing to do."""

from __future__ import annotations

import errno
import os
import signal
import time

import gevent
import pytest
from gevent import socket
from peers.processes import free_port
from procrig import DEAF, TELLER, ask, connect, is_alive, wait_until

from gfastcgi.backend.states import State
from gfastcgi.config import HostConfig
from gfastcgi.errors import NoBackendAvailable
from gfastcgi.supervise import supervisor as module


@pytest.fixture
def host(script, tmp_path):
    """Makes the options of a spawned host."""

    def make(source=TELLER, **options):
        return HostConfig(socket=f"{tmp_path}/s", bin_path=script(source), **options)

    return make


@pytest.fixture
def _looks_often(monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.02)


def sockets_in(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("s-"))


# More


def test_without_min_procs_the_first_request_starts_one_and_waits(supervise, host, tmp_path):
    rig = supervise(host(min_procs=0, max_procs=1))
    assert sockets_in(tmp_path) == []
    waiting = [gevent.spawn(rig.lease) for _ in range(3)]
    for _ in range(3):
        (done,) = gevent.wait(waiting, count=1)
        waiting.remove(done)
        lease = done.get()
        assert rig.running() == [0]
        assert lease.proc.pid == ask(lease.proc.address)["pid"]
        rig.pool.release(lease)


def test_who_waits_gets_one_more_at_once_up_to_max_procs(supervise, host):
    rig = supervise(host(min_procs=1, max_procs=3))
    began = time.monotonic()
    leases = [rig.lease() for _ in range(3)]
    assert time.monotonic() - began < 0.9, "lighttpd starts one a second"
    assert [lease.proc.id for lease in leases] == [0, 1, 2]
    fourth = gevent.spawn(rig.lease)
    wait_until(lambda: rig.pool.waiting, "the fourth to wait")
    rig.pool.release(leases[1])
    assert fourth.get(timeout=5).proc.id == 1
    assert rig.running() == [0, 1, 2]
    assert [line for line in rig.lines if "was started, since requests wait" in line] == [
        f"{rig.procs[id].name}: process {rig.procs[id].pid} was started, since requests wait" for id in (1, 2)
    ]


def test_the_next_one_more_comes_only_if_somebody_still_waits_a_little_later(supervise, host, monkeypatch):
    monkeypatch.setattr(module, "GROWTH_PAUSE", 60)
    rig = supervise(host(min_procs=1, max_procs=10))

    def serve():
        lease = rig.lease()
        gevent.sleep(0)
        rig.pool.release(lease)

    held = rig.lease()
    burst = [gevent.spawn(serve) for _ in range(200)]
    wait_until(lambda: len(rig.running()) == 2, "one more")
    gevent.joinall(burst, raise_error=True)
    rig.pool.release(held)
    assert len(rig.running()) == 2, "the burst is over"


@pytest.mark.parametrize(
    ("most", "requests", "running"), [(0, 1, 2), (0, 2, 3), (1, 3, 2), (1, 4, 3), (3, 7, 2), (3, 8, 3)]
)
def test_one_more_is_started_when_all_have_more_than_max_load_per_proc(supervise, host, most, requests, running):
    """Of two processes, each serves four requests at once."""
    environment = (("PHP_FCGI_CHILDREN", "4"),)
    rig = supervise(host(min_procs=2, max_procs=5, max_load_per_proc=most, bin_environment=environment))
    leases = [rig.lease() for _ in range(requests)]
    wait_until(lambda: len(rig.running()) >= running, f"{running} processes")
    gevent.sleep(module.GROWTH_PAUSE * 2)
    assert len(rig.running()) == running
    assert not rig.pool.waiting
    assert sum(proc.load for proc in rig.procs[:2]) == len(leases)


def test_a_program_that_cannot_be_started_is_a_no_and_a_log_line(supervise, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path="/nowhere/app", min_procs=0))
    with pytest.raises(NoBackendAvailable, match="s-0 cannot be started"):
        rig.lease()
    assert "/nowhere/app: No such file or directory" in rig.text()
    assert sockets_in(tmp_path) == []


def test_a_program_that_ends_at_once_is_a_no_and_rests(supervise, host):
    """The pauses hold whoever asks: not one start a request."""
    rig = supervise(host("", min_procs=0, max_procs=4), shortest=2)
    rig.pool.release(rig.lease())
    wait_until(lambda: rig.procs[0].died, "its end")
    for _ in range(20):
        with pytest.raises(NoBackendAvailable, match="s-0 died \\(exit status 0\\)"):
            rig.lease()
    assert rig.procs[0].died == 1
    assert [proc.state for proc in rig.procs[1:]] == [State.UNSET] * 3


def test_a_process_that_nobody_wants_any_more_is_not_started_again(supervise, host):
    rig = supervise(host("", min_procs=0), shortest=0.05)
    rig.pool.release(rig.lease())
    wait_until(lambda: rig.procs[0].died, "its end")
    wait_until(lambda: rig.procs[0].state is State.KILLED, "the end of the pause")
    gevent.sleep(0.1)
    assert (rig.procs[0].died, rig.running()) == (1, [])
    assert "ended (exit status 0), it is not needed now" in rig.text()


# Fewer


@pytest.mark.usefixtures("_looks_often")
def test_idle_processes_are_ended_down_to_min_procs_and_leave_no_file(supervise, host, tmp_path):
    rig = supervise(host(min_procs=1, max_procs=3, idle_timeout=0))
    leases = [rig.lease() for _ in range(3)]
    pids = [lease.proc.pid for lease in leases]
    gevent.sleep(0.1)
    assert rig.running() == [0, 1, 2], "those with load are not idle"
    for lease in (leases[0], leases[2]):
        rig.pool.release(lease)
    wait_until(lambda: len(rig.running()) == 1, "two to be ended")
    gevent.sleep(0.1)
    assert rig.running() == [1]
    assert sockets_in(tmp_path) == ["s-1"]
    wait_until(lambda: not (is_alive(pids[0]) or is_alive(pids[2])), "both to be gone and reaped")
    assert f"{rig.procs[2].name}: process {pids[2]} was idle for 0 s, it is ended" in rig.lines
    assert "ended (" not in rig.text(), "it is no accident"
    rig.pool.release(leases[1])
    gevent.sleep(0.1)
    assert rig.running() == [1], "min-procs"
    again = [rig.lease() for _ in range(2)]
    assert [lease.proc.id for lease in again] == [1, 0]


@pytest.mark.usefixtures("_looks_often")
def test_kept_connections_of_an_ended_process_are_closed(supervise, host):
    rig = supervise(host(min_procs=0, max_procs=1, idle_timeout=0))
    lease = rig.lease()
    kept = connect(lease.proc.address)
    rig.pool.release(lease, keep=kept)
    wait_until(lambda: not rig.running(), "its end")
    assert kept.closed


def test_a_process_is_ended_only_after_its_time(supervise, host, monkeypatch):
    rig = supervise(host(min_procs=0, max_procs=2, idle_timeout=100))
    leases = [rig.lease(), rig.lease()]
    for lease in leases:
        rig.pool.release(lease)
    rig.procs[1].idle_since -= 99
    rig.supervisor._news.set()
    gevent.sleep(0.05)
    assert rig.running() == [0, 1]
    rig.procs[1].idle_since -= 1
    rig.supervisor._news.set()
    wait_until(lambda: rig.running() == [0], "the end of the one that was idle for 100 s")


@pytest.mark.parametrize("is_tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.usefixtures("_looks_often")
def test_a_deaf_process_is_not_in_the_way_of_the_next(supervise, script, tmp_path, is_tcp, left):
    """It is ended by force only after a while; its address serves again at once."""
    address = {"host": "127.0.0.1", "port": free_port()} if is_tcp else {"socket": f"{tmp_path}/s"}
    options = {"min_procs": 0, "max_procs": 1, "idle_timeout": 0, "kill_signal": signal.SIGUSR1}
    program = script(DEAF)
    rig = supervise(HostConfig(bin_path=program, **address, **options))
    lease = rig.lease()
    deaf = lease.proc.pid
    (line,) = wait_until(lambda: rig.lines[1:], "the child's pid")
    grandchild = int(line.split()[-1])
    rig.pool.release(lease)
    wait_until(lambda: not rig.running(), "the end of the idle one")
    with pytest.raises(OSError, match=r".") as refused:
        connect(lease.proc.address)
    assert refused.value.errno in (errno.ECONNREFUSED, errno.ENOENT)
    script(TELLER)
    again = rig.lease()
    assert ask(again.proc.address)["pid"] == again.proc.pid != deaf
    assert is_alive(deaf)
    rig.supervisor.stop(timeout=0.3)
    wait_until(lambda: not any(map(is_alive, (deaf, grandchild))), "the deaf ones to be killed")
    assert not left()


# Dying under load


def test_a_process_that_served_is_replaced_at_once_and_nobody_is_sent_away(supervise, host):
    rig = supervise(host(min_procs=1, max_procs=1), shortest=0.01)
    (proc,) = rig.procs
    lease = rig.lease()
    waiting = [gevent.spawn(rig.lease) for _ in range(5)]
    wait_until(lambda: rig.pool.waiting == 5, "five to wait")
    proc.has_served = True
    gevent.sleep(0.02)
    pid = proc.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: proc.died, "its end to be seen")
    rig.pool.release(lease)
    while waiting:
        (done,) = gevent.wait(waiting, count=1)
        waiting.remove(done)
        rig.pool.release(done.get())
    assert proc.pid not in (0, pid)
    wait_until(lambda: rig.lines, "a line")
    assert f"{proc.name}: process {pid} ended (signal 9 (SIGKILL)), it is started again" in rig.lines


def test_connections_wait_for_the_next_process_of_one_that_served(supervise, host):
    """While no process runs the socket is ours, and accepts what comes."""
    rig = supervise(host(min_procs=1, max_procs=1), shortest=0.3)
    (proc,) = rig.procs
    ask(proc.address)
    proc.has_served = True
    os.kill(proc.pid, signal.SIGKILL)
    wait_until(lambda: proc.state is State.DIED, "its end to be seen")
    with connect(proc.address) as early:
        assert early.recv(65536)
    assert proc.state is State.RUNNING


def test_connections_to_one_that_crashed_do_not_wait_for_ever(supervise, host):
    rig = supervise(host("import time; time.sleep(0.3)", min_procs=1, max_procs=1), shortest=60)
    with connect(rig.procs[0].address) as early:
        assert early.recv(1) == b""
    assert rig.procs[0].died == 1
    assert rig.supervisor._seats[0].listener.fileno() > 0, "the socket stays ours"


def test_beyond_min_procs_nobody_takes_the_place_of_one_that_died(supervise, host, tmp_path):
    rig = supervise(host(min_procs=1, max_procs=2))
    leases = [rig.lease(), rig.lease()]
    for lease in leases:
        rig.pool.release(lease)
        lease.proc.has_served = True
    pid = rig.procs[1].pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: rig.procs[1].state is State.KILLED, "its end")
    assert sockets_in(tmp_path) == ["s-0"]
    wait_until(lambda: f"process {pid} ended (signal 9 (SIGKILL)), it is not needed now" in rig.text(), "a line")
    assert [rig.lease().proc.id, rig.lease().proc.id] == [0, 1]


# What somebody else serves


def test_what_somebody_else_serves_is_taken_over_when_he_is_gone(supervise, host):
    first = supervise(host(min_procs=1, max_procs=1))
    second = supervise(host(min_procs=1, max_procs=1, disable_time=30))
    (proc,) = second.procs
    assert (proc.is_local, proc.pid) == (False, 0)
    first.supervisor.stop()
    lease = second.lease()
    with pytest.raises(OSError, match="No such file"):
        connect(lease.proc.address)
    second.pool.failed(lease, "connect_refused")
    second.pool.release(lease)
    wait_until(lambda: proc.is_local, "a process of our own")
    assert ask(proc.address)["pid"] == proc.pid == second.lease().proc.pid
    assert f"{proc.name} is served no longer, a process is started there" in second.lines


def test_what_somebody_else_serves_too_slowly_stays_his(supervise, host):
    first = supervise(host(min_procs=1, max_procs=1))
    second = supervise(host(min_procs=1, max_procs=1, disable_time=0))
    lease = second.lease()
    second.pool.failed(lease, "connect_timeout")
    second.pool.release(lease)
    gevent.sleep(0.05)
    assert not second.procs[0].is_local
    assert ask(second.procs[0].address)["pid"] == first.procs[0].pid


@pytest.mark.usefixtures("_looks_often")
def test_what_was_ill_and_somebody_elses_is_taken_over_when_he_is_gone(supervise, host):
    first = supervise(host(min_procs=1, max_procs=1))
    second = supervise(host(min_procs=1, max_procs=1))
    (proc,) = second.procs
    second.pool.unhealthy(proc, "/ping answered 500")
    gevent.sleep(0.05)
    assert (proc.state, proc.is_local) == (State.UNHEALTHY, False)
    first.supervisor.stop()
    wait_until(lambda: proc.is_local, "a process of our own")
    assert ask(proc.address)["pid"] == proc.pid == second.lease().proc.pid


def test_out_of_descriptors_what_somebody_else_serves_is_looked_at_later(supervise, host, monkeypatch):
    first = supervise(host(min_procs=1, max_procs=1))
    second = supervise(host(min_procs=1, max_procs=1, disable_time=30))
    (proc,) = second.procs

    def fail(_address):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "is_served", fail)
    lease = second.lease()
    second.pool.failed(lease, "connect_failed")
    second.pool.release(lease)
    wait_until(lambda: "Too many open files" in second.text(), "a line")
    monkeypatch.undo()
    wait_until(lambda: proc.state is State.RUNNING, "its return")
    assert ask(proc.address)["pid"] == first.procs[0].pid


def test_what_a_killed_server_left_is_replaced_and_told(supervise, host, tmp_path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{tmp_path}/s-0")
        stale.listen()
    rig = supervise(host(min_procs=1, max_procs=1))
    assert ask(rig.procs[0].address)["pid"] == rig.procs[0].pid
    assert f"{tmp_path}/s-0 was left behind by a server that is gone, it is replaced" in rig.lines
