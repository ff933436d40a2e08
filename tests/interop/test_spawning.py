"""Spawned backends behind a whole gateway: real php-cgi and libfcgi programs, started, killed and left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.processes import can_connect, children
from peers.programs import find_peer, spawn_fcgi
from peers.waiting import wait_until
from peers.worker import build_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.gateway import Gateway
    from peers.processes import Processes


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_worker(tmp_path_factory.mktemp("worker"))


def site_of(folder: Path, program: object, options: str = "", key: str = "/") -> str:
    return (
        f'fastcgi.server = ( "{key}" => (( "socket" => "{folder}/s", "bin-path" => "{program}", '
        f'"check-local" => "disable"{options} )) )\n'
    )


def sockets_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("s-*"))


def pids_of(site: Gateway, target: str, requests: int) -> set[int]:
    """The processes that served so many requests at once."""
    with ThreadPoolExecutor(requests) as pool:
        answers = list(pool.map(lambda _: site.get(target), range(requests)))
    assert [answer.status for answer in answers] == [200] * requests
    return {int(answer.body[:8]) for answer in answers}


def is_alive(pid: int) -> bool:
    """Zombies are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Started as the configuration says


def test_php_cgi_with_quoted_arguments_and_its_children(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    (tmp_path / "page.php").write_text(
        "<?php error_log('said by php'); echo json_encode([ini_get('user_agent'), getmypid(), posix_getppid(),"
        " getenv('PHP_FCGI_CHILDREN'), getenv('GREETING'), getenv('HOME')]);"
    )
    options = (
        ', "max-procs" => 2, "bin-environment" => ( "PHP_FCGI_CHILDREN" => "3", "GREETING" => "hello" )'
        ', "bin-copy-environment" => ( "PATH" )'
    )
    program = find_peer("php-cgi") + " -d 'user_agent=two words'"
    site = gateway(site_of(tmp_path, program, options, key=".php"))
    assert sockets_in(tmp_path) == ["s-0", "s-1"]
    got = [site.get("/page.php").json() for _ in range(8)]
    assert {tuple(each[:1] + each[3:]) for each in got} == {("two words", "3", "hello", False)}
    assert {each[2] for each in got} <= children(site.pid), "children of the processes that we started"
    assert len(children(site.pid)) == 2
    site.wait_for_log("said by php")
    site.stop()
    assert sockets_in(tmp_path) == []


def test_a_libfcgi_program_and_what_it_says(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    options = ', "max-procs" => 1, "kill-signal" => 10, "bin-environment" => ( "GREETING" => "hello" )'
    site = gateway(site_of(tmp_path, f"{worker} 'two words' third", options))
    answer = site.get("/")
    assert (answer.status, answer.get("X-Greeting")) == (200, "hello")
    site.wait_for_log(rf"{tmp_path}/s-0: worker \[two words\] \[third\]")


def test_by_default_four_run(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    site = gateway(site_of(tmp_path, worker))
    assert sockets_in(tmp_path) == ["s-0", "s-1", "s-2", "s-3"]
    assert len(children(site.pid)) == 4
    assert pids_of(site, "/?sleep=200", 4) == children(site.pid)


@pytest.mark.parametrize(
    ("name", "text", "mode", "cause"),
    [
        ("gone", None, 0, r"site.conf:\d+: \"bin-path\": 'PROGRAM': No such file or directory$"),
        ("plain", "#!/bin/sh\n", 0o644, r"site.conf:\d+: \"bin-path\": 'PROGRAM': Permission denied$"),
        (
            "script",
            "#!/nowhere/perl -w\n",
            0o755,
            "gw-backend failed to start: PROGRAM: No such file or directory: .* first line names: #!/nowhere/perl -w$",
        ),
        ("text", "no program\n", 0o755, "gw-backend failed to start: PROGRAM: Exec format error"),
    ],
)
def test_what_cannot_be_executed_is_named_with_the_cause(
    tmp_path: Path, name: str, text: str | None, mode: int, cause: str
) -> None:
    program = tmp_path / name
    if text is not None:
        program.write_text(text)
        program.chmod(mode)
    config = tmp_path / "site.conf"
    config.write_text(f'server.document-root = "{tmp_path}"\nserver.port = 0\n' + site_of(tmp_path, program))
    done = subprocess.run(
        [sys.executable, "-m", "gfastcgi", "-D", "-f", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 255
    assert re.search(cause.replace("PROGRAM", str(program)), done.stderr, re.MULTILINE), done.stderr
    assert sockets_in(tmp_path) == []


# As many as are needed


def test_processes_come_with_the_load_and_go_when_idle(
    tmp_path: Path, gateway: Callable[..., Gateway], worker: Path
) -> None:
    options = ', "min-procs" => 1, "max-procs" => 4, "idle-timeout" => 1'
    site = gateway(site_of(tmp_path, worker, options))
    (first,) = children(site.pid)
    pids = pids_of(site, "/?sleep=300", 8)
    assert first in pids
    assert len(pids) == 4
    wait_until(lambda: len(children(site.pid)) == 1, "the idle ones to be ended")
    assert len(sockets_in(tmp_path)) == 1
    assert site.get("/").status == 200
    assert len(re.findall("was idle for . s, it is ended", site.log)) == 3


def test_without_min_procs_php_starts_with_the_first_request_and_ends_when_idle(
    tmp_path: Path, gateway: Callable[..., Gateway]
) -> None:
    (tmp_path / "page.php").write_text("<?php echo 'hello';")
    options = ', "min-procs" => 0, "max-procs" => 2, "idle-timeout" => 1'
    site = gateway(site_of(tmp_path, find_peer("php-cgi"), options, key=".php"))
    assert not children(site.pid)
    assert sockets_in(tmp_path) == []
    for _ in range(2):
        assert site.get("/page.php").body == b"hello"
        assert len(children(site.pid)) == 1
        wait_until(lambda: not children(site.pid), "its end")
        assert sockets_in(tmp_path) == []


# Dying


def test_a_process_that_leaves_after_its_answer_is_replaced_unseen(
    tmp_path: Path, gateway: Callable[..., Gateway], worker: Path
) -> None:
    """As PHP does after PHP_FCGI_MAX_REQUESTS."""
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 1'))
    answers = [site.get("/?exit") for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20
    assert len({answer.body for answer in answers}) == 20


def test_a_program_that_ends_at_once_costs_its_requests_alone(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    """503 while it rests; the gateway and its other backends serve."""
    program = tmp_path / "app"
    program.write_text("#!/bin/sh\necho no database >&2\nexit 3\n")
    program.chmod(0o755)
    (tmp_path / "page.txt").write_text("hello")
    site = gateway(site_of(tmp_path, program, ', "max-procs" => 2', key="/app"))
    site.wait_for_log(rf"{tmp_path}/s-.: process \d+ ended \(exit status 3\), it is started again in 2 s")
    answer = site.get("/app")
    assert answer.status == 503
    assert site.get("/page.txt").body == b"hello"
    assert site.log.count(": no database\n") <= 4


def test_a_program_that_was_mended_serves_again(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    program = tmp_path / "app"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    site = gateway(site_of(tmp_path, program, ', "max-procs" => 1'))
    site.wait_for_log(r"ended \(exit status 3\), it is started again in 1 s")
    program.write_text(f"#!/bin/sh\nexec {worker}\n")
    wait_until(lambda: site.get("/").status == 200, "the mended program", 5)


# Left behind


def kill_gateway(site: Gateway) -> set[int]:
    """As an out-of-memory killer does it; returns the processes that it had."""
    pids = children(site.pid)
    site.process.kill()
    site.process.wait()
    return pids


@pytest.mark.parametrize("kind", ["php-cgi", "libfcgi"])
def test_the_processes_of_a_killed_gateway_end_and_its_sockets_are_replaced(
    tmp_path: Path, gateway: Callable[..., Gateway], worker: Path, kind: str
) -> None:
    (tmp_path / "page.php").write_text("<?php echo 'hello';")
    program = find_peer("php-cgi") if kind == "php-cgi" else worker
    config = site_of(tmp_path, program, ', "max-procs" => 2', key=".php")
    site = gateway(config)
    assert site.get("/page.php").status == 200
    pids = kill_gateway(site)
    grandchildren = {child for pid in pids for child in children(pid)}
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids | grandchildren)), "its processes to end")
    site.kill()
    assert sockets_in(tmp_path) == ["s-0", "s-1"]
    again = gateway(config)
    for number in range(2):
        again.wait_for_log(f"{tmp_path}/s-{number} was left behind by a server that is gone, it is replaced")
    assert again.get("/page.php").status == 200


def test_a_deaf_process_of_a_killed_gateway_is_used_until_it_is_gone(
    tmp_path: Path, gateway: Callable[..., Gateway], worker: Path
) -> None:
    config = site_of(tmp_path, f"/bin/sh -c 'trap : TERM; {worker}; wait'", ', "max-procs" => 1')
    site = gateway(config)
    pid = int(site.get("/").body[:8])
    kill_gateway(site)
    assert is_alive(pid)
    again = gateway(config)
    again.wait_for_log(f"{tmp_path}/s-0 is served already, it is used as it is")
    assert int(again.get("/").body[:8]) == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not can_connect(f"{tmp_path}/s-0"), "its end")
    wait_until(lambda: again.get("/").status == 200, "a process of our own")
    again.wait_for_log(f"{tmp_path}/s-0 is served no longer, a process is started there")
    site.kill()


def test_what_another_program_serves_is_used_not_replaced(
    tmp_path: Path, gateway: Callable[..., Gateway], processes: Processes, worker: Path
) -> None:
    path = spawn_fcgi(processes, tmp_path, str(worker), env={})
    os.rename(path, tmp_path / "s-0")
    inode = (tmp_path / "s-0").stat().st_ino
    site = gateway(site_of(tmp_path, worker, ', "max-procs" => 1'))
    assert site.get("/").status == 200
    assert not children(site.pid)
    site.stop()
    assert (tmp_path / "s-0").stat().st_ino == inode
    assert can_connect(str(tmp_path / "s-0"))


# The end


def test_a_second_signal_ends_deaf_processes_too(tmp_path: Path, gateway: Callable[..., Gateway], worker: Path) -> None:
    site = gateway(site_of(tmp_path, f"/bin/sh -c 'trap : TERM; {worker}; wait; sleep 100'", ', "max-procs" => 1'))
    pid = int(site.get("/").body[:8])
    site.terminate()
    site.wait_for_log("stopping")
    os.kill(pid, 0)
    site.terminate()
    assert site.process.wait(8) == 128 + signal.SIGTERM
    assert not is_alive(pid)
    assert sockets_in(tmp_path) == []
    site.kill()
