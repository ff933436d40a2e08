"""Backends and descriptors that fail under load: how many of 200 requests fail, and of what; then all is well again."""

from __future__ import annotations

import resource
import struct
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, ScriptedBackend, answer, end, record, stdout
from peers.load import CLIENTS, REQUESTS, Load, assert_at_rest, at_rest, counters, failures, outcome
from peers.processes import free_port
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import BackendConnection, Seen
    from peers.gateway import Gateway

OK = "Content-Type: text/plain\r\n\r\nok"
HEAD = b"Content-Type: text/plain\r\n\r\n"


def site_of(*hosts: str, options: str = "", more: str = "") -> str:
    entries = ", ".join(f'( {host}, "check-local" => "disable"{options} )' for host in hosts)
    return f'fastcgi.server = ( "/" => ( {entries} ) )\nstatus.statistics-url = "/statistics"\n{more}'


def good(seen: Seen) -> bytes:
    return answer(OK)


# What a backend may say


def header(kind: int, size: int, *, version: int = 1, padding: int = 0) -> bytes:
    return struct.pack("!BBHHBB", version, kind, 1, size, padding, 0)


BROKEN: dict[str, tuple[Reply, set[str]]] = {
    "truncated-record": (Reply(header(6, 1000) + HEAD, "close"), {"502 bad_record"}),
    "truncated-header": (Reply(header(6, 100)[:5], "close"), {"502 bad_record"}),
    "truncated-body": (Reply(stdout(HEAD + b"half") + header(6, 1000) + b"x", "close"), {"cut", "502 bad_record"}),
    "reset": (Reply(stdout(HEAD), "reset"), {"cut", "502 eof_in_body", "502 eof_before_headers"}),
    "no-end": (Reply(stdout(HEAD + b"all of it"), "close"), {"cut", "502 eof_in_body"}),
    "no-end-with-length": (
        Reply(stdout(b"Content-Length: 2\r\n" + HEAD + b"ok"), "close"), {"200", "cut", "502 eof_in_body"},
    ),
    "unknown-type": (Reply(record(99, b"x") + answer(OK)), {"502 bad_record"}),
    "unknown-type-inside": (Reply(stdout(HEAD) + record(250) + stdout(b"ok") + end()), {"cut", "502 bad_record"}),
    "wrong-version": (Reply(header(6, len(HEAD), version=9) + HEAD + end()), {"502 bad_record"}),
    "short-end": (Reply(stdout(OK.encode()) + record(3, b"\0\0")), {"cut", "502 bad_record"}),
    "huge-length": (Reply(answer(f"Content-Length: {'9' * 40}\r\n" + OK)), {"502 bad_cgi_response"}),
    "length-past-the-end": (Reply(answer("Content-Length: 99999\r\n" + OK)), {"cut"}),
    "negative-length": (Reply(answer("Content-Length: -1\r\n" + OK)), {"502 bad_cgi_response"}),
    "huge-padding": (Reply(header(6, len(HEAD), padding=255) + HEAD + bytes(255) + end()), {"200"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def broken_site(module_backend: Callable[..., ScriptedBackend], module_gateway: Callable[..., Gateway]) -> Gateway:
    """Two backends, one whose connections are kept and one that gets new ones; the query names what they say."""

    def say(seen: Seen) -> bytes | Reply:
        return BROKEN.get(seen.text("QUERY_STRING") or "", (good(seen),))[0]

    new, kept = (f'{module_backend(say).option}, "check-local" => "disable"' for _ in range(2))
    return module_gateway(
        f'fastcgi.server = ( "/new" => (( {new} )), "/kept" => (( {kept}, "max-connections" => 4 )) )\n'
        'status.statistics-url = "/statistics"\n'
    )


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers_cost_only_their_own_requests(broken_site: Gateway, name: str) -> None:
    """Every second request is answered in a broken way: those fail, each of its cause, and no other one."""
    expected = BROKEN[name][1]
    for path in ("/new", "/kept"):
        broken_site.get(path)
    fds, before = at_rest(broken_site), Counter(failures(broken_site))
    load = Load(broken_site, lambda number: f"/{'kept' if number // 2 % 2 else 'new'}?{name if number % 2 else 'good'}")
    load.join()
    fine = Counter(told for number, told in load.by_number.items() if not number % 2)
    broken = Counter(told for number, told in load.by_number.items() if number % 2)
    assert fine == {"200": REQUESTS // 2}
    assert sum(broken.values()) == REQUESTS // 2
    assert set(broken) <= expected, broken
    assert load.reconnects == 0 or name == "no-end-with-length"
    assert_at_rest(broken_site, fds)
    counted = Counter(failures(broken_site)) - before
    if name == "no-end-with-length":  # its client may be gone before the backend
        assert counted.keys() <= {"eof_in_body", "client_closed"}
        assert counted.total() == REQUESTS // 2
    elif name != "length-past-the-end":  # known to the client alone, by its length
        assert counted.total() == REQUESTS // 2 - broken["200"], counted


# A backend that does not accept


def test_a_short_listen_queue_delays_and_loses_nothing(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """One connection is served at a time, one waits in the kernel, the others in the gateway until there is room."""
    peer = backend(good, is_serial=True, backlog=1)
    site = gateway(site_of(peer.option))
    fds = at_rest(site)
    assert Load(site, clients=24).join() == {"200": REQUESTS}
    assert failures(site) == {}
    assert_at_rest(site, fds)


def test_a_full_listen_queue(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """Who is in the queue waits for an answer, who is not for a connection; when both took too long, nobody waits."""
    works_again = threading.Event()

    def stuck(connection: BackendConnection) -> None:
        works_again.wait()
        peer.answer_all(connection)

    peer = backend(good, talk=stuck, is_serial=True, backlog=1)
    site = gateway(site_of(peer.option, options=', "connect-timeout" => 1, "read-timeout" => 1, "disable-time" => 1'))
    fds = at_rest(site)
    outcomes = Load(site).join()
    assert set(outcomes) <= {"504 connect_timeout", "504 read_timeout", "503 no_backend"}
    assert {"504 connect_timeout", "503 no_backend"} <= set(outcomes)
    assert outcomes["504 connect_timeout"] + outcomes["504 read_timeout"] <= 4 * CLIENTS
    assert failures(site) == {told.split()[1]: count for told, count in outcomes.items()}
    works_again.set()
    wait_until(lambda: site.get("/").status == 200, "the backend to be found again", 5)
    assert_at_rest(site, fds)


def test_a_backend_that_refuses(gateway: Callable[..., Gateway]) -> None:
    """Every request is told at once, the log only now and then."""
    site = gateway(site_of(f'"host" => "127.0.0.1", "port" => {free_port()}'))
    fds = at_rest(site)
    outcomes = Load(site).join()
    assert set(outcomes) == {"503 connect_refused", "503 no_backend"}
    assert outcomes["503 connect_refused"] <= 2 * CLIENTS
    assert failures(site) == {told.split()[1]: count for told, count in outcomes.items()}
    assert site.log.count("\n") < 4 * CLIENTS
    assert_at_rest(site, fds)


def test_a_host_that_refuses_beside_one_that_does_not(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """Nothing was sent to it: a POST finds the other host as a GET does, with its whole body."""
    peer = backend(good)
    site = gateway(site_of(f'"host" => "127.0.0.1", "port" => {free_port()}', peer.option))
    fds = at_rest(site)
    assert Load(site, requests=100).join() == {"200": 100}
    assert Load(site, method="POST", body=b"body", requests=100).join() == {"200": 100}
    assert Counter(seen.stdin_size for seen in peer.requests) == {0: 100, 4: 100}
    assert_at_rest(site, fds)


# A host that goes away and comes back


@pytest.mark.parametrize(
    ("method", "options"),
    [("GET", ""), ("GET", ', "max-connections" => 8'), ("POST", ', "max-connections" => 8')],
    ids=["get-new", "get-kept", "post-kept"],
)
def test_a_host_goes_away_and_comes_back(
    tmp_path: Path,
    backend: Callable[..., ScriptedBackend],
    gateway: Callable[..., Gateway],
    method: str,
    options: str,
) -> None:
    """No GET fails. A POST that the host had in hand when it went fails, and is never sent to the other one."""
    path = str(tmp_path / "moving.sock")
    moving = ScriptedBackend(path, good)
    staying = backend(good)
    site = gateway(site_of(f'"socket" => "{path}"', staying.option, options=options + ', "disable-time" => 1'))
    fds = at_rest(site)
    numbers = 2 * REQUESTS
    load = Load(site, lambda number: f"/?{number}", method=method, body=b"" if method == "POST" else None,
                requests=numbers)  # fmt: skip
    load.wait_for(numbers // 4)
    moving.stop()
    load.wait_for(numbers // 2)
    back = ScriptedBackend(path, good)
    try:
        outcomes = load.join()
        failed = {number for number, told in load.by_number.items() if told != "200"}
        had = Counter(seen.text("QUERY_STRING") for peer in (moving, staying, back) for seen in peer.requests)
        if method == "GET":
            assert outcomes == {"200": numbers}
        else:
            assert {told for told in outcomes if told != "200"} <= {"502 eof_before_headers", "502 bad_record"}
            assert len(failed) <= CLIENTS
            assert set(had.values()) == {1}, "a request that may have been seen was sent again"
        assert {int(number or 0) for number in had} | failed == set(range(numbers))
        wait_until(lambda: site.get("/").status == 200 and back.requests, "the host to be used again", 5)
        assert_at_rest(site, fds)
    finally:
        site.stop()
        back.stop()


# The gateway's own descriptors


def test_more_clients_than_descriptors(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """64 descriptors, 70 clients: some wait to be accepted, everybody is answered, no backend is blamed."""
    peer = backend(good)
    site = gateway(site_of(peer.option, more="server.max-fds = 64\nserver.max-keep-alive-idle = 1\n"))
    fds = at_rest(site)
    assert Load(site, clients=70).join() == {"200": REQUESTS}
    assert failures(site) == {}
    assert_at_rest(site, fds)


def test_out_of_descriptors(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """Not one is left: who is accepted is told 503 and Retry-After, who is not waits; the log has a line a moment."""
    (tmp_path / "file.txt").write_text("text")
    peer = backend(good)
    site = gateway('$HTTP["url"] == "/file.txt" { fastcgi.server = () }\n' + site_of(peer.option))
    fds = at_rest(site)
    held = [site.connect() for _ in range(4)]
    for connection in held:
        assert connection.request("GET", "/").status == 200
    _, hard = resource.prlimit(site.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (4, hard))
    waiting = [threading.Thread(target=lambda: told.append(site.get("/").status)) for _ in range(4)]
    told: list[int] = []
    for thread in waiting:
        thread.start()
    outcomes: Counter[str] = Counter()
    for number in range(REQUESTS):
        got = held[number % 4].request("GET", "/file.txt" if number % 8 == 7 else "/")
        outcomes[outcome(got)] += 1
        assert got.get("Retry-After") == "1"
    assert outcomes == {"503 overloaded": REQUESTS}
    site.wait_for_log("no client can be accepted: Too many open files")
    resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (hard, hard))
    for thread in waiting:
        thread.join()
    assert told == [200] * 4
    for connection in held:
        assert connection.request("GET", "/").status == 200
        connection.sock.close()
    assert failures(site) == {"overloaded": REQUESTS}
    assert counters(site)[f"gw.backend.{peer.address}.0.disabled"] == 0
    assert site.log.count("\n") < 20
    assert_at_rest(site, fds)
