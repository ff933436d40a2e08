"""Health checks: who is asked, who rests and comes back, and how its share grows."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent import queue

from gfastcgi.backend.backend import Host, Proc, make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.backend.slow_start import SlowStart
from gfastcgi.backend.states import State
from gfastcgi.balance import POLICIES
from gfastcgi.client.health import HealthChecks, ask_status
from gfastcgi.config import Address, HealthCheck, HostConfig
from gfastcgi.errors import BackendError, BackendTimeout, ConnectError, NoBackendAvailable
from gfastcgi.fcgi import constants

if TYPE_CHECKING:
    from fcgirig import Rig as Server


class Key:
    authority, path, remote_addr, balance = "", "/", "", "fair"


class Rig:
    """Hosts with checks; `says` holds what each address answers next: a status, or an error."""

    def __init__(self, count: int = 1, policy: str = "fair", mode: Any = "responder", **options: Any) -> None:
        self.now = 100.0
        check = HealthCheck(path="/ping", interval=5, rise=2, fall=3)
        configs = [
            HostConfig(host="127.0.0.1", port=9000 + n, mode=mode, health_check=check, **options) for n in range(count)
        ]
        self.hosts = make_hosts(configs)
        rng = random.Random(1)
        clock = self.tell
        self.pool = Pool(self.hosts, POLICIES[policy](rng), clock=clock, slow_start=SlowStart(clock, rng))
        self.says: dict[int, int | Exception] = {9000 + number: 200 for number in range(count)}
        self.asked: queue.Queue[int] = queue.Queue()
        self.checks = [HealthChecks(host, "/www", ask=self._ask) for host in self.hosts]

    def tell(self) -> float:
        return self.now

    def _ask(self, address: Address) -> int:
        self.asked.put(address.port)
        said = self.says[address.port]
        if isinstance(said, Exception):
            raise said
        return said

    def check(self, times: int = 1) -> None:
        for _ in range(times):
            for checks in self.checks:
                checks.check_all()

    @property
    def proc(self) -> Proc:
        return self.hosts[0].procs[0]

    def serve(self, count: int = 1000) -> dict[str, int]:
        """How many of `count` requests, one at a time, each host gets."""
        shares = {host.name: 0 for host in self.hosts}
        for _ in range(count):
            lease = self.pool.acquire(Key)
            shares[lease.host.name] += 1
            self.pool.release(lease)
        return shares


@pytest.mark.parametrize("fault", [404, 500, 199, ConnectError("refused"), BackendTimeout("silent")])
def test_three_failures_in_a_row_let_a_proc_rest(fault: int | Exception) -> None:
    rig = Rig()
    rig.says[9000] = fault
    rig.check(2)
    rig.says[9000] = 200
    rig.check()
    rig.says[9000] = fault
    rig.check(2)
    assert rig.proc.state is State.RUNNING
    rig.check()
    assert rig.proc.state is State.UNHEALTHY
    with pytest.raises(NoBackendAvailable, match=r"127\.0\.0\.1:9000 is unhealthy \("):
        rig.pool.acquire(Key)
    rig.now += 1e6
    with pytest.raises(NoBackendAvailable):
        rig.pool.acquire(Key)


def test_want_of_descriptors_here_is_no_fault_of_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.says[9000] = OSError(errno.EMFILE, "Too many open files")
    rig.check(9)
    assert (rig.proc.state, rig.proc.load) == (State.RUNNING, 0)
    assert "127.0.0.1:9000 is not checked: Too many open files" in caplog.text


def test_two_passes_in_a_row_bring_it_back() -> None:
    rig = Rig()
    rig.says[9000] = 503
    rig.check(3)
    for status in (200, 503, 200):
        rig.says[9000] = status
        rig.check()
        assert rig.proc.state is State.UNHEALTHY
    rig.check()
    assert rig.proc.state is State.RUNNING
    assert rig.pool.acquire(Key) is not None


@pytest.mark.parametrize("status", [200, 204, 302])
def test_sound_answers(status: int) -> None:
    rig = Rig()
    rig.says[9000] = status
    rig.check(5)
    assert rig.proc.state is State.RUNNING


def test_an_authorizer_that_denies_is_well() -> None:
    rig = Rig(mode="authorizer")
    rig.says[9000] = 403
    rig.check(5)
    assert rig.proc.state is State.RUNNING
    rig.says[9000] = 500
    rig.check(3)
    assert rig.proc.state is State.UNHEALTHY


def test_busy_is_healthy() -> None:
    rig = Rig(max_connections=1)
    rig.says[9000] = 500
    lease = rig.pool.acquire(Key)
    rig.check(5)
    assert (rig.proc.state, rig.asked.qsize()) == (State.RUNNING, 0)
    rig.pool.release(lease)
    rig.check(3)
    assert rig.proc.state is State.UNHEALTHY


def test_a_kept_connection_makes_room_for_the_check() -> None:
    rig = Rig(max_connections=1)
    closed: list[str] = []
    kept = type("Kept", (), {"close": lambda _: closed.append("closed")})()
    rig.pool.release(rig.pool.acquire(Key), keep=kept)
    rig.check()
    assert closed == ["closed"]
    assert (rig.proc.load, rig.proc.idle, rig.asked.qsize()) == (0, [], 1)


def test_kept_connections_and_waiters_of_an_unhealthy_proc() -> None:
    rig = Rig(max_connections=2)
    closed: list[str] = []
    lease, other = rig.pool.acquire(Key), rig.pool.acquire(Key)
    kept = type("Kept", (), {"close": lambda _: closed.append("closed")})()
    rig.pool.release(other, keep=kept)
    assert list(rig.pool.unhealthy(rig.proc, "it is ill")) == [kept]
    assert list(rig.pool.release(lease, keep="late")) == ["late"]


def test_a_process_that_is_not_running_is_not_checked() -> None:
    rig = Rig()
    rig.pool.stopped(rig.proc)
    rig.check()
    assert rig.asked.qsize() == 0


def test_a_proc_that_rests_after_a_failure_is_checked_too() -> None:
    rig = Rig(disable_time=60)
    lease = rig.pool.acquire(Key)
    rig.pool.failed(lease)
    rig.pool.release(lease)
    rig.says[9000] = ConnectError("refused")
    rig.check(3)
    assert rig.proc.state is State.UNHEALTHY
    rig.says[9000] = 200
    rig.check(2)
    assert rig.proc.state is State.RUNNING


def test_checks_go_on_until_they_are_stopped() -> None:
    rig = Rig()
    rig.checks[0].start()
    assert rig.asked.get(timeout=5) == 9000
    rig.checks[0].stop()
    gevent.idle()
    assert rig.proc.load == 0


# Slow start


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_share_grows_with_every_policy(policy: str) -> None:
    rig = Rig(count=2, policy=policy)
    rig.pool.unhealthy(rig.proc, "ill")
    rig.pool.healthy(rig.proc, ramp=50)
    requests = [type("Key", (Key,), {"path": f"/{n}", "remote_addr": f"10.0.0.{n}"}) for n in range(400)]

    def share() -> float:
        got = 0
        for request in requests:
            lease = rig.pool.acquire(request)
            got += lease.host is rig.hosts[0]
            rig.pool.release(lease)
        return got / len(requests)

    assert share() == 0
    shares = []
    for seconds in (12.5, 12.5, 25):
        rig.now += seconds
        shares.append(share())
    assert shares[0] < shares[2]
    assert 0.02 < shares[0] < 0.3
    assert 0.1 < shares[1] < 0.45
    assert 0.35 < shares[2] < 0.65
    assert rig.proc.recovering is None


def test_the_only_one_serves_at_once() -> None:
    rig = Rig()
    rig.pool.unhealthy(rig.proc, "ill")
    rig.pool.healthy(rig.proc, ramp=50)
    assert rig.serve(10) == {rig.hosts[0].name: 10}


def test_it_serves_whom_nobody_else_can_serve() -> None:
    rig = Rig(count=2, max_connections=1)
    rig.pool.unhealthy(rig.proc, "ill")
    rig.pool.healthy(rig.proc, ramp=50)
    assert {rig.pool.acquire(Key).host.name for _ in range(2)} == {host.name for host in rig.hosts}


def test_inside_a_host_the_recovered_proc_is_not_overrun() -> None:
    now = 100.0
    procs = [Proc(Address("127.0.0.1", 9000 + n), state=State.RUNNING, capacity=None) for n in range(2)]
    rng = random.Random(1)
    slow = SlowStart(lambda: now, rng)
    pool = Pool([Host(HostConfig(), procs)], POLICIES["fair"](rng), clock=lambda: now, slow_start=slow)
    busy = [pool.acquire(Key) for _ in range(20)]
    pool.unhealthy(procs[0], "ill")
    for lease in busy:
        if lease.proc is procs[0]:
            pool.release(lease)
    pool.healthy(procs[0], ramp=50)
    assert {pool.acquire(Key).proc for _ in range(20)} == {procs[1]}


# The question


def application(status: str) -> Any:
    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["SCRIPT_NAME"] + environ.get("PATH_INFO", "") == "/ping"
        assert (environ["SCRIPT_FILENAME"], environ["QUERY_STRING"]) == ("/www/ping", "full=1")
        start_response(status, [("Content-Type", "text/plain")])
        return [b"pong"]

    return answer


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_the_status_of_a_path(rig: Server, status: str) -> None:
    rig.serve(application(status))
    config = HostConfig(socket=rig.path, health_check=HealthCheck(path="/ping?full=1"))
    checks = HealthChecks(make_hosts([config])[0], "/www/")
    assert checks._ask_backend(Address(path=rig.path)) == int(status[:3])


def test_an_answer_that_is_cut_off(tmp_path: Any) -> None:
    from gevent.server import StreamServer

    server = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.recv(65536))
    server.start()
    try:
        with pytest.raises(BackendError, match="closed the connection before its answer was complete"):
            ask_status(Address(*server.address), constants.RESPONDER, b"", seconds=5)
    finally:
        server.stop()
