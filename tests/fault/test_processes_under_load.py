"""Processes that die, stop or never serve while hundreds of requests come: how many of them fail, and why those.

Every test counts what failed; each failure has a request that explains it.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from peers.http import BadAnswerError
from peers.processes import children
from peers.programs import start_php_fpm
from peers.waiting import wait_until
from peers.worker import build_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from peers.gateway import Gateway
    from peers.processes import Processes

CLIENTS = 8


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_worker(tmp_path_factory.mktemp("worker"))


def site_of(folder: Path, program: object, options: str = "") -> str:
    host = f'"socket" => "{folder}/s", "bin-path" => "{program}", "check-local" => "disable"{options}'
    return f'fastcgi.server = ( "/" => (( {host} )) )\n'


class Load:
    """Requests on a few connections at once; `outcomes` counts what became of them, by target."""

    def __init__(self, site: Gateway, targets: Iterable[str], clients: int = CLIENTS) -> None:
        self.outcomes: dict[str, Counter[object]] = {}
        self.pids: set[int] = set()
        self.done = 0
        self._site = site
        self._targets = iter(targets)
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(clients)
        self._futures = [self._threads.submit(self._run) for _ in range(clients)]

    def _next(self) -> str | None:
        with self._lock:
            return next(self._targets, None)

    def _run(self) -> None:
        while (target := self._next()) is not None:
            outcome, pid = self._ask(target)
            with self._lock:
                self.outcomes.setdefault(target, Counter())[outcome] += 1
                self.done += 1
                if pid:
                    self.pids.add(pid)

    def _ask(self, target: str) -> tuple[object, int]:
        with self._site.connect() as connection:
            try:
                answer = connection.request("GET", target)
            except (BadAnswerError, ConnectionError) as error:
                return f"{error!r}", 0
        if not answer.whole:
            return "cut", 0
        return answer.status, int(answer.body[:8]) if answer.status == 200 and answer.body[:8].strip().isdigit() else 0

    def wait_for(self, requests: int) -> None:
        wait_until(lambda: self.done >= requests, f"{requests} requests", 20)

    def finish(self) -> dict[str, dict[object, int]]:
        """What became of them all."""
        for future in self._futures:
            future.result(30)
        self._threads.shutdown()
        return {target: dict(counts) for target, counts in self.outcomes.items()}


def mixed(bad: str, requests: int = 240, every: int = 24) -> Iterator[str]:
    """Every so many requests one is bad; the first are good."""
    for number in range(1, requests + 1):
        yield bad if not number % every else "/"


def check_order(site: Gateway, processes: int) -> None:
    """After the storm: as many processes as before, and all of them serve."""
    # One that died often is started again after a pause, which doubles with each death.
    wait_until(lambda: len(children(site.pid)) == processes, "all processes to run", 40)
    assert site.get("/").status == 200


def test_killed_while_idle(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """Kept connections of the killed are found closed, and replaced: no request fails."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 3'))
    killed = 0
    outcomes: Counter[object] = Counter()
    for number in range(210):
        if number % 70 == 69:
            # Nobody asks now, so that all three are idle.
            wait_until(lambda: len(children(site.pid)) == 3, "all processes to run")
            victims = sorted(children(site.pid))[: 1 + number // 70]
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            killed += len(victims)
        outcomes[site.get("/").status] += 1
    assert killed == 6
    assert outcomes == {200: 210}, "no request met a death"
    check_order(site, 3)


def test_killed_before_the_answer(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """A GET is asked once more, which kills a second process and no third; then it is 502. The others are served."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 4'))

    def targets() -> Iterator[str]:
        # One that dies before it has served anybody is started after a pause: none shall be hit in its first moments.
        for target in mixed("/?die"):
            if target != "/":
                wait_until(lambda: len(children(site.pid)) == 4, "all processes to run")
            yield target

    outcomes = Load(site, targets()).finish()
    assert outcomes["/"] == {200: 230}, "those that wait for a new process are served by it"
    assert outcomes["/?die"] == {502: 10}
    assert len(re.findall(r"ended \(signal 9", site.log)) <= 20
    check_order(site, 4)


def test_killed_while_answering(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """The answer is cut where the process died, or is 502 where its head had not left: never whole, nor asked again."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 4'))
    outcomes = Load(site, mixed("/?half")).finish()
    assert outcomes["/"] == {200: 230}
    assert set(outcomes["/?half"]) <= {"cut", 502}
    assert outcomes["/?half"]["cut"] > 0
    assert sum(outcomes["/?half"].values()) == 10
    wait_until(lambda: len(re.findall(r"ended \(signal 9", site.log)) == 10, "one death for each")
    check_order(site, 4)


def test_killed_from_outside(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """Requests that do no harm are asked again where the process died under them: none fails."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 4'))
    load = Load(site, ["/?sleep=10"] * 240)
    killed = []
    for requests in range(40, 240, 40):
        load.wait_for(requests)
        killed.append(max(children(site.pid) & load.pids))
        os.kill(killed[-1], signal.SIGKILL)
    outcomes = load.finish()
    assert len(set(killed)) == 5
    assert outcomes == {"/?sleep=10": {200: 240}}
    for pid in killed:
        site.wait_for_log(rf"process {pid} ended \(signal 9 \(SIGKILL\)\)")
    check_order(site, 4)


def test_stopped(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """SIGSTOP: what is at that process waits for its read-timeout, the rest is served by the others."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 4, "read-timeout" => 1'))
    victim = min(children(site.pid))
    load = Load(site, ["/?sleep=5"] * 240)
    load.wait_for(40)
    os.kill(victim, signal.SIGSTOP)
    outcomes = load.finish()["/?sleep=5"]
    os.kill(victim, signal.SIGCONT)
    assert set(outcomes) <= {200, 504}
    assert 1 <= outcomes[504] <= 4, "one at a time, each for a second, while the others serve"
    assert victim in children(site.pid), "slow is not dead"
    wait_until(lambda: {site.get("/").status for _ in range(8)} == {200}, "the process to serve again")


def test_leaving_after_an_answer(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """As PHP does after PHP_FCGI_MAX_REQUESTS: the next process takes over at once, and nobody is sent away."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 4'))
    load = Load(site, mixed("/?exit", every=6))
    assert load.finish() == {"/": {200: 200}, "/?exit": {200: 40}}
    assert len(load.pids) >= 40


def test_exiting_at_once(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    """503 for everybody, 502 for who was at a process when it ended; as few starts as the pauses allow."""
    program = tmp_path / "app"
    program.write_text("#!/bin/sh\necho gone\nexit 7\n")
    program.chmod(0o755)
    site = gateway(site_of(tmp_path, program, ', "min-procs" => 0, "max-procs" => 4'))
    outcomes = Load(site, ["/"] * 240).finish()["/"]
    assert sum(outcomes.values()) == 240
    assert set(outcomes) <= {502, 503}
    assert site.log.count("ended (exit status 7)") <= 10, "the most that a minute may have"


def test_never_accepting(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    """It runs, but serves nobody: 504 by read-timeout for the one at it, 503 by queue-timeout for who waits."""
    options = ', "max-procs" => 2, "read-timeout" => 1, "queue-timeout" => 1, "kill-signal" => 9'
    site = gateway(site_of(tmp_path, "/bin/sleep 1000", options))
    outcomes = Load(site, ["/"] * 200, clients=100).finish()["/"]
    assert set(outcomes) == {503, 504}
    assert sum(outcomes.values()) == 200
    assert len(children(site.pid)) == 2


def test_coming_and_going_with_the_load(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    """Processes are started and ended under way: no request meets a process that is being ended."""
    site = gateway(site_of(tmp_path, worker, ', "min-procs" => 0, "max-procs" => 8, "idle-timeout" => 0'))
    pids: set[int] = set()
    for _ in range(3):
        load = Load(site, ["/?sleep=5"] * 80)
        assert load.finish() == {"/?sleep=5": {200: 80}}
        pids |= load.pids
        wait_until(lambda: not children(site.pid), "the idle ones to be ended")
    assert len(pids) >= 6
    assert not list(tmp_path.glob("s-*"))


def test_php_fpm_is_reloaded(tmp_path: Path, gateway: Callable[..., Gateway], processes: Processes) -> None:
    """SIGUSR2 replaces php-fpm's master and workers; requests that had not been answered are asked again."""
    (tmp_path / "page.php").write_text("<?php usleep(2000); printf('%8d', getmypid());")
    address = start_php_fpm(processes, tmp_path / "fpm", workers=4)
    site = gateway(f'fastcgi.server = ( ".php" => (( "socket" => "{address}", "max-connections" => 4 )) )\n')
    (master,) = processes.pids
    load = Load(site, ["/page.php"] * 400)
    for requests in (80, 200):
        load.wait_for(requests)
        os.kill(master, signal.SIGUSR2)
    assert load.finish() == {"/page.php": {200: 400}}
    assert len(load.pids) > 4, "new workers answered"
