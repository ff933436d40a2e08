"""`Client` and `Pool` with real FastCGI programs, in plain gevent programs that patch nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from peers.processes import children
from peers.programs import find_peer, start_php_fpm

if TYPE_CHECKING:
    from pathlib import Path

    from peers.processes import Processes

ECHO = """<?php header('Content-Type: application/json'); header('X-Pid: ' . getmypid());
error_log('to the log'); $body = file_get_contents('php://input');
echo json_encode(['server' => $_SERVER, 'size' => strlen($body), 'sha256' => hash('sha256', $body)]);"""
SLOW = "<?php echo str_repeat('x', 1 << 18); flush(); sleep(60);"

HEAD = """
import gevent, hashlib, json, os, socket, sys
from gevent import monkey
from gfastcgi import Client, FastCGIServer, HostConfig, Pool
plain = socket.socket

def fds():
    return len(os.listdir("/proc/self/fd"))

def wait_until(condition, timeout=20):
    with gevent.Timeout(timeout):
        while not condition():
            gevent.sleep(0.01)
"""
END = """
assert socket.socket is plain and not monkey.saved
print("done")
"""


def run(program: str, folder: Path) -> str:
    """The last line that a program in a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", HEAD + program + END],
        cwd=folder, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.endswith("done\n")
    return done.stdout.removesuffix("done\n")


@pytest.mark.parametrize("tcp", [False, True])
def test_php_fpm(tmp_path: Path, processes: Processes, tcp: bool) -> None:
    (tmp_path / "echo.php").write_text(ECHO)
    (tmp_path / "slow.php").write_text(SLOW)
    address = start_php_fpm(processes, tmp_path / "fpm", tcp=tcp, ini={"log_errors": "On"})
    named = f"tcp://localhost:{address[1]}" if tcp else f"unix:{address}"
    program = f"""
with Client({named!r}, max_connections=4, read_timeout=20) as php:
    script = {{"SCRIPT_FILENAME": "{tmp_path}/echo.php", "SCRIPT_NAME": "/echo.php"}}
    response = php.request(script)
    told = response.json
    assert response.status == "200 OK" and response.app_status == 0, response
    assert b"to the log" in response.stderr, response.stderr
    assert told["server"]["SCRIPT_NAME"] == "/echo.php" and told["size"] == 0, told
    body = os.urandom(3_000_000)
    for given in (body, iter([body[:7], body[7:]])):
        told = php.request(script, given).json
        assert told["sha256"] == hashlib.sha256(body).hexdigest(), told["size"]
    answers = [gevent.spawn(lambda: php.request(script).json["size"]) for _ in range(40)]
    assert [answer.get() for answer in answers] == [0] * 40
    assert php.get_values()["FCGI_MPXS_CONNS"] == "0", php.get_values()
    assert php.request({{"SCRIPT_FILENAME": "/none.php"}}).status_int == 404

    with php.request({{"SCRIPT_FILENAME": "{tmp_path}/slow.php"}}) as slow:
        assert next(iter(slow.app_iter)).startswith(b"xxx")
    before = fds()
    slow = {{"SCRIPT_FILENAME": "{tmp_path}/slow.php"}}
    greenlets = [gevent.spawn(lambda: php.request(slow).body) for _ in range(20)]
    wait_until(lambda: php.backend.hosts[0].load == 4 and php.backend.waiting == 16)
    gevent.killall(greenlets)
    wait_until(lambda: fds() <= before)
    assert (php.backend.hosts[0].load, php.backend.waiting) == (0, 0), php
"""
    run(program, tmp_path)


def test_spawned_programs_live_as_long_as_their_pool(tmp_path: Path) -> None:
    (tmp_path / "echo.php").write_text(ECHO)
    before = children(os.getpid())
    program = f"""
host = HostConfig(socket="{tmp_path}/php.sock", bin_path="{find_peer("php-cgi")}", max_procs=2,
                  bin_environment=(("PHP_FCGI_CHILDREN", "0"),))
script = {{"SCRIPT_FILENAME": "{tmp_path}/echo.php"}}
with Pool([host], balance="fair") as pool:
    pids = {{gevent.spawn(pool.request, script) for _ in range(20)}}
    pids = {{int(answer.get().headers["X-Pid"]) for answer in pids if answer.get().body}}
    assert all(os.path.exists(f"/proc/{{pid}}") for pid in pids) and 1 <= len(pids) <= 2, pids
    victim = pids.pop()
    os.kill(victim, 9)
    wait_until(lambda: pool.request(script).headers["X-Pid"] != str(victim))
    wait_until(lambda: all(proc.pid not in (0, victim) for proc in pool.backend.hosts[0].procs))
    left = [proc.pid for proc in pool.backend.hosts[0].procs]
assert not any(os.path.exists(f"/proc/{{pid}}") for pid in left), left
assert not os.path.exists("{tmp_path}/php.sock-0")
other = Pool([HostConfig(socket="{tmp_path}/php.sock", bin_path="{find_peer("php-cgi")}", max_procs=1)])
assert other.request(script).body
"""
    run(program, tmp_path)
    # A pool that was not stopped ends with its program. What it left would be our child now.
    assert children(os.getpid()) <= before
    assert not list(tmp_path.glob("php.sock*"))


def test_a_filter(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_bytes(b"x" * 200_000)
    program = f"""
from gevent import socket as sockets

def app(environ, start_response):
    data = environ["fastcgi.data"].read()
    assert environ["FCGI_DATA_LENGTH"] == str(len(data)) and int(environ["FCGI_DATA_LAST_MOD"]) > 0, environ
    start_response("200 OK", [])
    return [environ["wsgi.input"].read(), data.upper()]

listener = sockets.socket(sockets.AF_UNIX)
listener.bind("filter.sock")
listener.listen()
server = FastCGIServer(listener, None, filter=app)
server.start()
with Client("unix:filter.sock", max_connections=1) as client, open("{tmp_path}/page.txt", "rb") as page:
    for body in (b"", b"in, ", b"y" * 100000):
        page.seek(0)
        assert client.request({{}}, body, role="filter", data=page).body == body + b"X" * 200_000
    assert client.request({{"FCGI_DATA_LAST_MOD": 5}}, role="filter", data=b"abc").body == b"ABC"
server.stop(1)
"""
    run(program, tmp_path)


def test_a_plugin_balance(tmp_path: Path) -> None:
    """A policy of another package, by its entry point."""
    (tmp_path / "last_host.py").write_text(
        "class Last:\n    def __init__(self, rng): pass\n"
        "    def select(self, candidates, request): return candidates[-1]\n"
    )
    info = tmp_path / "last_host-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: last-host\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gfastcgi.balance]\nlast = last_host:Last\n")
    program = """
from gevent import socket as sockets

def serve(name):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [name.encode()]
    listener = sockets.socket(sockets.AF_UNIX)
    listener.bind(name)
    listener.listen()
    server = FastCGIServer(listener, app)
    server.start()
    return server

servers = [serve("a.sock"), serve("b.sock")]
with Pool(["unix:a.sock", "unix:b.sock"], balance="last") as pool:
    assert [pool.request({}).body for _ in range(3)] == [b"b.sock"] * 3
for server in servers:
    server.stop(1)
"""
    run(f"sys.path.insert(0, {str(tmp_path)!r})\n{program}", tmp_path)
