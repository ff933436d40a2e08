"""Supervisors with real processes: how they are started, watched, started again and ended."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import gevent
import pytest
from gevent import socket
from peers.processes import free_port
from peers.programs import compile_c, find_peer
from procrig import DEAF, REQUEST, TELLER, Rig, ask, connect, fastcgi_get, is_alive, wait_until

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.states import State
from gfastcgi.config import HostConfig
from gfastcgi.errors import NoBackendAvailable, SpawnError
from gfastcgi.net.listeners import listen

SKELETON = """
#include <fcgi_stdio.h>
int main(void) {
    while (FCGI_Accept() >= 0)
        printf("Status: 200 OK\\r\\n\\r\\nHello World!\\n");
    return 0;
}
"""


# Starting


def test_processes_get_what_the_configuration_says(supervise, script, tmp_path):
    config = HostConfig(
        socket=f"{tmp_path}/app.sock",
        bin_path=f"{script(TELLER)} 'two words'",
        min_procs=2,
        max_procs=2,
        bin_copy_environment=("PATH",),
        bin_environment=(("GREETING", "hello"),),
    )
    umask = os.umask(0)
    os.umask(umask)
    rig = supervise(config, environ={"PATH": "/usr/bin", "SECRET": "x"})
    assert [proc.name for proc in rig.procs] == [f"{tmp_path}/app.sock-0", f"{tmp_path}/app.sock-1"]
    for proc in rig.procs:
        seen = ask(proc.address)
        assert (proc.state, proc.is_local, proc.capacity) == (State.RUNNING, True, 1)
        assert seen["pid"] == proc.pid == seen["sid"] == seen["pgid"]
        assert seen["cwd"] == str(tmp_path)
        assert set(seen["environ"]) - {"LC_CTYPE"} == {"PATH", "GREETING", "PHP_FCGI_CHILDREN"}
        assert int(seen["umask"], 8) == umask
        assert seen["fds"][:3] == ["0", "1", "2"]
        assert len(seen["fds"]) <= 5  # the client, and the folder that is being listed
        assert seen["blocking"]
    wait_until(lambda: len(rig.lines) == 2, "both first lines")
    assert sorted(rig.lines) == [f"{tmp_path}/app.sock-{id}: teller two words" for id in (0, 1)]


def test_tcp_procs_count_ports(supervise, script):
    rig = supervise(HostConfig(port=free_port(), bin_path=script(TELLER), min_procs=1, max_procs=1))
    assert ask(rig.procs[0].address)["pid"] == rig.procs[0].pid


def test_signals_and_descriptors_of_the_gateway_stay_with_it(supervise, tmp_path):
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path="sleep 1000", min_procs=1, max_procs=1))
    finally:
        signal.signal(signal.SIGUSR2, before[0])
        signal.signal(signal.SIGHUP, before[1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        os.close(reading)
        os.close(writing)
    process = Path(f"/proc/{rig.procs[0].pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert {name: int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")} == dict.fromkeys(
        ("SigBlk", "SigIgn", "SigCgt"), 0
    )
    # Its loader has a library open now and then, until it runs.
    wait_until(lambda: sorted(os.listdir(process / "fd")) == ["0", "1", "2"], "no other descriptor")


@pytest.mark.parametrize(
    ("bin_path", "reason"),
    [
        ("/nowhere/app", "No such file or directory$"),
        ("/etc/passwd", "Permission denied$"),
        ("/etc", "Permission denied$"),
    ],
)
def test_a_program_that_cannot_be_started_is_fatal_and_leaves_nothing(tmp_path, bin_path, reason, left):
    rig = Rig(HostConfig(socket=f"{tmp_path}/s", bin_path=bin_path, min_procs=2, max_procs=2))
    with pytest.raises(SpawnError, match=f"gw-backend failed to start: {bin_path}: .*{reason}"):
        rig.supervisor.start()
    assert os.listdir(tmp_path) == []
    assert not left()


@pytest.mark.parametrize(
    ("first_line", "reason"),
    [
        ("#!/nowhere/python -u", "No such file or directory: not the file, but what its first line names: #!/nowhere/"),
        ("no program", "Exec format error: neither a program for this machine nor a script that begins with #!$"),
    ],
)
def test_a_script_that_names_no_interpreter_says_so(tmp_path, first_line, reason, left):
    script = tmp_path / "app"
    script.write_text(first_line + "\n")
    script.chmod(0o755)
    with pytest.raises(SpawnError, match=f"gw-backend failed to start: {script} -x: {reason}"):
        Rig(HostConfig(socket=f"{tmp_path}/s", bin_path=f"{script} -x")).supervisor.start()
    assert os.listdir(tmp_path) == ["app"]
    assert not left()


def test_when_a_later_one_cannot_be_started_the_first_is_ended(script, tmp_path, left):
    (tmp_path / "s-1").write_text("not a socket")
    rig = Rig(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=2, max_procs=2))
    with pytest.raises(SpawnError, match="Address already in use"):
        rig.supervisor.start()
    assert sorted(os.listdir(tmp_path)) == ["app.py", "s-1"]
    assert not left()


def test_a_folder_that_is_not_there(tmp_path):
    rig = Rig(HostConfig(socket=f"{tmp_path}/no/s", bin_path="sleep 9"))
    with pytest.raises(SpawnError, match=r"sleep 9: cannot listen on .*/no/s-0: No such file"):
        rig.supervisor.start()


def test_a_stale_socket_file_is_replaced(supervise, script, tmp_path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{tmp_path}/s-0")
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1))
    assert ask(rig.procs[0].address)["pid"] == rig.procs[0].pid


def test_an_address_that_is_served_already_is_used_and_left_alone(supervise, script, tmp_path):
    first = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1))
    second = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1))
    (proc,) = second.procs
    assert (proc.state, proc.is_local, proc.pid, proc.capacity) == (State.RUNNING, False, 0, None)
    assert "is served already" in second.text()
    second.supervisor.stop()
    assert ask(proc.address)["pid"] == first.procs[0].pid


def test_a_full_backlog_is_somebody_too(supervise, tmp_path):
    listener = listen(make_hosts([HostConfig(socket=f"{tmp_path}/s-0")])[0].procs[0].address, 0)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(f"{tmp_path}/s-0")
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path="sleep 9", min_procs=1, max_procs=1))
    assert rig.procs[0].is_local is False
    for sock in (listener, *waiting):
        sock.close()


# Real programs


def test_php_cgi(supervise, tmp_path, left):
    page = tmp_path / "page.php"
    page.write_text("<?php echo 'pid ', getmypid(), ' ', $_SERVER['QUERY_STRING'];")
    environment = (("PHP_FCGI_CHILDREN", "3"),)
    config = HostConfig(
        socket=f"{tmp_path}/php", bin_path=find_peer("php-cgi"), bin_environment=environment, min_procs=1
    )
    rig = supervise(config)
    assert rig.procs[0].capacity == 3
    params = [
        (b"SCRIPT_FILENAME", str(page).encode()), (b"REQUEST_METHOD", b"GET"), (b"QUERY_STRING", b"a=1"),
        (b"REDIRECT_STATUS", b"200"),
    ]  # fmt: skip
    answer = fastcgi_get(rig.procs[0].address, params)
    assert answer.endswith(b" a=1")
    worker = int(answer.split()[-2])
    master = rig.procs[0].pid
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), "the orphaned worker to be killed")
    wait_until(lambda: rig.procs[0].pid not in (0, master), "the restart")
    assert fastcgi_get(rig.procs[0].address, params).endswith(b" a=1")
    rig.supervisor.stop()
    wait_until(lambda: not left(), "no process left")


def test_a_libfcgi_program(supervise, tmp_path):
    program = compile_c(SKELETON, tmp_path / "skeleton.fcgi", "fcgi")
    rig = supervise(
        HostConfig(socket=f"{tmp_path}/s", bin_path=str(program), min_procs=2, max_procs=2, kill_signal=signal.SIGUSR1)
    )
    for proc in rig.procs:
        assert fastcgi_get(proc.address, []).endswith(b"Hello World!\n")
    began = time.monotonic()
    rig.supervisor.stop(timeout=30)
    assert time.monotonic() - began < 8


# Dying and coming back


def test_a_process_that_dies_is_started_again_on_the_same_socket(supervise, script, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1), shortest=0.2)
    (proc,) = rig.procs
    pid, inode = proc.pid, os.stat(f"{tmp_path}/s-0").st_ino
    ask(proc.address)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: proc.state is State.DIED, "its end to be seen")
    assert proc.cause == "signal 9 (SIGKILL)"
    assert rig.pool.acquire(REQUEST) is None, "it is worth waiting"
    with connect(proc.address) as early:  # waits in the backlog meanwhile
        wait_until(lambda: proc.state is State.RUNNING, "the restart")
        assert json.loads(early.recv(65536))["pid"] == proc.pid
    assert proc.pid != pid
    assert proc.died == 1
    assert os.stat(f"{tmp_path}/s-0").st_ino == inode
    assert f"{proc.name}: process {pid} ended (signal 9 (SIGKILL)), it is started again in 0.2 s" in rig.lines


def test_a_crash_loop_pauses_and_says_so_once_a_step(supervise, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path="false", min_procs=1, max_procs=1), shortest=0.02)
    wait_until(lambda: len(rig.lines) >= 5, "five deaths")
    assert rig.procs[0].died == 5
    assert [line.split("(")[1].split(")")[0] for line in rig.lines[:5]] == ["exit status 1"] * 5
    assert len(rig.lines) == 5
    assert rig.supervisor.pids == []


def test_a_program_that_is_gone_is_tried_again_until_it_is_back(supervise, script, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1))
    (proc,) = rig.procs
    os.rename(f"{tmp_path}/app.py", f"{tmp_path}/away.py")
    os.kill(proc.pid, signal.SIGKILL)
    wait_until(lambda: proc.cause == "spawn_failed", "a failed restart")
    assert "No such file or directory, it is started again" in rig.text()
    os.rename(f"{tmp_path}/away.py", f"{tmp_path}/app.py")
    wait_until(lambda: proc.state is State.RUNNING, "the restart")
    assert ask(proc.address)["pid"] == proc.pid


def test_last_words_come_before_the_end(supervise, script, tmp_path):
    source = 'import os, sys; print("one"); sys.stdout.flush(); os.write(2, b"no newline \\x1b[0m"); sys.exit(3)'
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(source), min_procs=1, max_procs=1), shortest=30)
    wait_until(lambda: len(rig.lines) == 3, "three lines")
    name = rig.procs[0].name
    assert rig.lines[:2] == [f"{name}: one", f"{name}: no newline \\x1B[0m"]
    assert "ended (exit status 3), it is started again in 30 s" in rig.lines[2]


def test_kept_connections_of_a_dead_process_are_closed(supervise, script, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1))
    lease = rig.pool.acquire(REQUEST)
    kept = connect(lease.proc.address)
    rig.pool.release(lease, keep=kept)
    os.kill(lease.proc.pid, signal.SIGKILL)
    wait_until(lambda: kept.closed, "the kept connection to be closed")


def test_a_process_that_writes_without_end_holds_nobody_up(supervise, script, tmp_path, left):
    source = 'import os\nwhile True: os.write(1, b"y\\n" * 4096)'
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(source), min_procs=1, max_procs=1))
    wait_until(lambda: rig.lines, "output")
    before = time.process_time()
    gevent.sleep(0.5)
    assert time.process_time() - before < 0.2
    rig.supervisor.stop()
    wait_until(lambda: not left(), "its end")


# Ending


def test_stop_leaves_no_process_and_no_file(supervise, script, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=3, max_procs=3))
    pids = rig.supervisor.pids
    assert len(pids) == 3
    rig.supervisor.stop()
    assert not any(map(is_alive, pids))
    assert os.listdir(tmp_path) == ["app.py"]
    assert rig.supervisor.pids == []
    with pytest.raises(NoBackendAvailable, match="was ended"):
        rig.pool.acquire(REQUEST)


def test_a_deaf_process_and_its_children_are_ended_by_force(supervise, script, tmp_path):
    config = HostConfig(
        socket=f"{tmp_path}/s", bin_path=script(DEAF), min_procs=1, max_procs=1, kill_signal=signal.SIGUSR1
    )
    rig = supervise(config)
    (line,) = wait_until(lambda: rig.lines, "the child's pid")
    pids = [rig.procs[0].pid, int(line.split()[-1])]
    began = time.monotonic()
    rig.supervisor.stop(timeout=0.6)
    assert 0.4 <= time.monotonic() - began < 5
    wait_until(lambda: not any(map(is_alive, pids)), "both to be gone and reaped")


def test_a_file_that_somebody_else_put_there_is_not_removed(supervise, script, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path=script(TELLER), min_procs=1, max_procs=1))
    os.unlink(f"{tmp_path}/s-0")
    Path(f"{tmp_path}/s-0").write_text("mine")
    rig.supervisor.stop()
    assert Path(f"{tmp_path}/s-0").read_text() == "mine"


def test_descriptors_and_greenlets_do_not_pile_up(supervise, tmp_path):
    rig = supervise(HostConfig(socket=f"{tmp_path}/s", bin_path="true", min_procs=1, max_procs=1), shortest=1e-6)
    wait_until(lambda: rig.procs[0].died == 3, "three deaths")
    before = len(os.listdir("/proc/self/fd"))
    wait_until(lambda: rig.procs[0].died >= 12, "more deaths")
    assert len(os.listdir("/proc/self/fd")) <= before + 2
