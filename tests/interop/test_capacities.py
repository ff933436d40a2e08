"""Capacities with real peers: kept where known, never exceeded, shared by keys, fair between gateways."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from peers.backend import BackendConnection, ScriptedBackend, answer, record
from peers.http import Connection
from peers.programs import find_peer, start_php_fpm
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway
    from peers.processes import Processes

OK = "Content-Type: text/plain\r\n\r\nok"
PAGE = "<?php usleep((int) ($_GET['us'] ?? 0)); echo 'pid ', getmypid();"


def values(**said: str) -> bytes:
    return b"".join(bytes([len(name), len(value)]) + name.encode() + value.encode() for name, value in said.items())


def site_of(option: str, more: str = "") -> str:
    return f'fastcgi.server = ( "/" => (( {option}, "check-local" => "disable"{more} )) )\n'


def load(ports: list[int], target: str, *, clients: int, each: int) -> tuple[list[float], list[int], float]:
    """`each` requests of every client, one after the other: seconds of each, its status, and seconds in all."""
    seconds: list[float] = []
    statuses: list[int] = []

    def work(port: int) -> None:
        with Connection(("127.0.0.1", port), 30) as connection:
            for _ in range(each):
                started = time.monotonic()
                got = connection.request("GET", target)
                seconds.append(time.monotonic() - started)
                statuses.append(got.status if got.whole else 0)

    threads = [threading.Thread(target=work, args=(ports[number % len(ports)],)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, statuses, time.monotonic() - began


# Asking


def test_a_backend_that_tells_its_capacity_is_asked_once_and_kept(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend(lambda seen: answer(OK), values=values(FCGI_MAX_CONNS="2"))
    site = gateway(site_of(peer.option))
    site.wait_for_log("serves 2 connections at once")
    with site.connect() as connection:
        for _ in range(5):
            assert connection.request("GET", "/").body == b"ok"
    assert peer.asked == 1
    assert peer.connections < 5
    assert any(seen.keep_conn for seen in peer.requests)


@pytest.mark.parametrize("said", [b"", values(FCGI_MPXS_CONNS="0"), values(FCGI_MAX_CONNS="lots")])
def test_one_that_does_not_is_not_kept(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], said: bytes
) -> None:
    peer = backend(lambda seen: answer(OK), values=said)
    site = gateway(site_of(peer.option))
    with site.connect() as connection:
        for _ in range(3):
            assert connection.request("GET", "/").body == b"ok"
    peer.wait_for(lambda peer: peer.asked and not peer.open, "the question and its end")
    assert (peer.asked, peer.connections) == (1, 3)


def test_a_backend_that_is_silent_or_talks_nonsense_serves_meanwhile(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """The answer to the question never comes, or is none; requests do not wait for it."""

    class Odd(BackendConnection):
        def read_request(self, **options: str) -> None:
            if self.backend.values == b"silent":
                self.wait_for_end()
            else:
                self.sock.sendall(record(3, b"\0" * 8, 77))

    peers = [backend(lambda seen: answer(OK), values=value) for value in (b"silent", b"odd")]
    for peer in peers:
        peer.converse = lambda *given, peer=peer: (BackendConnection if given[1] else Odd)(peer, *given)
        site = gateway(site_of(peer.option))
        peer.wait_for(lambda peer: peer.asked, "the question")
        for _ in range(3):
            assert site.get("/").body == b"ok"
        assert peer.connections == 3


def test_php_cgi_tells_it(tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway]) -> None:
    (tmp_path / "page.php").write_text(PAGE)
    path = str(tmp_path / "php.sock")
    environment = {**os.environ, "PHP_FCGI_CHILDREN": "3"}
    processes.start([find_peer("php-cgi"), "-b", path], until=path, env=environment, stderr=subprocess.DEVNULL)
    site = gateway(f'fastcgi.server = ( ".php" => (( "socket" => "{path}" )) )\n')
    site.wait_for_log("serves 3 connections at once")
    fds = site.fds()
    with site.connect() as connection:
        for _ in range(5):
            assert connection.request("GET", "/page.php").body.startswith(b"pid ")
        assert site.fds() <= fds + 2, "a client, and one connection at a time"
    _, statuses, _ = load([site.port], "/page.php?us=1000", clients=12, each=5)
    assert statuses == [200] * 60
    wait_until(lambda: site.fds() <= fds + 3, "the clients to be gone, at most 3 connections kept")


def test_two_gateways_that_believe_it_share_it(
    tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway]
) -> None:
    """Both keep as many connections as there are children: each has them renewed, so that the other gets its turn."""
    (tmp_path / "page.php").write_text(PAGE)
    path = str(tmp_path / "php.sock")
    environment = {**os.environ, "PHP_FCGI_CHILDREN": "1"}
    processes.start([find_peer("php-cgi"), "-b", path], until=path, env=environment, stderr=subprocess.DEVNULL)
    sites = [gateway(f'fastcgi.server = ( ".php" => (( "socket" => "{path}" )) )\n') for _ in range(2)]
    sites[0].wait_for_log("serves 1 connections at once")
    for _ in range(2):
        for site in sites:
            assert site.get("/page.php").status == 200
    seconds, statuses, _ = load([site.port for site in sites], "/page.php?us=1000", clients=8, each=20)
    assert statuses == [200] * 160
    assert max(seconds) < 10


def test_php_fpm_does_not(tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway]) -> None:
    (tmp_path / "page.php").write_text(PAGE)
    path = start_php_fpm(processes, tmp_path / "fpm", workers=2)
    site = gateway(f'fastcgi.server = ( ".php" => (( "socket" => "{path}" )) )\n')
    fds = site.fds()
    for _ in range(6):
        assert site.get("/page.php").body.startswith(b"pid ")
    wait_until(lambda: site.fds() <= fds, "all connections to be closed")
    assert "connections at once" not in site.log


# Sharing


def test_keys_that_share_an_address_share_its_capacity(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """Two connections at the most, and both are kept, whichever key a request comes by."""
    most, lock, at_once = 0, threading.Lock(), 0

    def script(seen: object) -> bytes:
        nonlocal most, at_once
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.005)
        with lock:
            at_once -= 1
        return answer(OK)

    peer = backend(script)
    entry = f'(( {peer.option}, "check-local" => "disable", "max-connections" => 2 ))'
    site = gateway(f'fastcgi.server = ( "/a" => {entry}, "/b" => {entry}, "/c" => {entry} )\n')
    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda key=key: results.append(load([site.port], key, clients=6, each=10)[1]))
        for key in ("/a", "/b", "/c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[200] * 60] * 3
    assert (most, peer.connections, peer.open) == (2, 2, 2)


@pytest.mark.parametrize("capacity", [', "max-connections" => 2', ""], ids=["known", "unknown"])
def test_two_gateways_share_one_php_fpm(
    tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway], capacity: str
) -> None:
    """4 children, 2 gateways, 64 clients: nobody fails, and nobody waits longer than the queue explains."""
    (tmp_path / "page.php").write_text(PAGE)
    path = start_php_fpm(processes, tmp_path / "fpm", workers=4)
    config = f'fastcgi.server = ( ".php" => (( "socket" => "{path}"{capacity} )) )\n'
    sites = [gateway(config), gateway(config)]
    clients, each = 64, 6
    ports = [site.port for site in sites]
    seconds, statuses, total = load(ports, "/page.php?us=10000", clients=clients, each=each)
    assert statuses == [200] * (clients * each)
    # First come first served, each request waits for those before it: at most one of every client.
    fair = total * clients / len(seconds)
    assert max(seconds) < 3 * fair, f"{max(seconds):.2f} s, where {fair:.2f} s are fair"
    for site in sites:
        assert " 50" not in site.log
