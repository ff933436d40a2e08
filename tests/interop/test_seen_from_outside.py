"""What can be seen from outside: the counters at `status.statistics-url`, and the cause of every failure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from peers.backend import CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE, Reply, answer, end, record, stdout
from peers.http import encode_request
from peers.load import counters
from peers.processes import free_port
from peers.programs import start_php_fpm
from peers.waiting import wait_until

from gfastcgi.status.proxy_status import proxy_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend, Seen
    from peers.gateway import Gateway
    from peers.processes import Processes

OK = "Content-Type: text/plain\r\n\r\nok"
HEAD = b"Content-Type: text/plain\r\n\r\n"


def site_of(backend: ScriptedBackend, more: str = "", options: str = "") -> str:
    return (
        f'fastcgi.server = ( "/app" => ( "app" => ( {backend.option}, "check-local" => "disable"{options} ) ) )\n'
        f'status.statistics-url = "/statistics"\n{more}'
    )


def test_counters(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    peer = backend()
    site = gateway(site_of(peer, options=', "max-connections" => 2'))
    before = counters(site)
    assert before["fastcgi.requests"] == before["gw.backend.app.0.connected"] == 0
    for _ in range(3):
        site.get("/app")
    after = counters(site)
    assert (after["fastcgi.requests"], after["gw.active-requests"]) == (3, 0)
    for prefix in ("gw", "fastcgi"):
        found = {
            name.rpartition(".")[2]: value
            for name, value in after.items()
            if name.startswith(f"{prefix}.backend.app.0.")
        }
        assert found == {"connected": 1, "died": 0, "disabled": 0, "load": 0, "overloaded": 0, "idle": 1}


def test_a_request_under_way_is_a_load(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend(lambda seen: Reply(b"", "hang"))
    site = gateway(site_of(peer, options=', "max-connections" => 1'))
    with site.connect() as first, site.connect() as second:
        first.send(encode_request("GET", "/app"))
        wait_until(lambda: counters(site)["gw.active-requests"] == 1, "the request to be counted")
        second.send(encode_request("GET", "/app"))
        wait_until(lambda: counters(site)["gw.waiting-requests"] == 1, "the next one to wait")
    wait_until(lambda: counters(site)["gw.waiting-requests"] == 0, "both to be forgotten")
    after = counters(site)
    assert (after["gw.active-requests"], after["gw.backend.app.load"], after["gw.failed.client_closed"]) == (0, 0, 2)


def test_the_answer(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    site = gateway(site_of(backend()))
    got = site.get("/statistics?x")
    assert (got.status, got.get("Content-Type"), got.get("Cache-Control")) == (200, "text/plain", "no-store")
    head = site.request("HEAD", "/statistics")
    assert (head.status, head.get("Content-Length")) == (200, got.get("Content-Length"))
    refused = site.request("POST", "/statistics", b"x")
    assert (refused.status, refused.get("Allow")) == (405, "GET, HEAD")
    assert site.get("/statistics/").status == 404


def test_without_a_backend_it_is_204(gateway: Callable[..., Gateway]) -> None:
    site = gateway('status.statistics-url = "/statistics"\n')
    assert (site.get("/statistics").status, site.get("/other").status) == (204, 404)


def test_what_keeps_others_out(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """A conditional, an authorizer, a denial: the path of the counters is guarded as any other."""
    guard = backend(lambda seen: answer("Status: 403\r\nContent-Type: text/plain\r\n\r\nno"))
    site = gateway(
        f"""
        $HTTP["remoteip"] == "10.0.0.0/8" {{ status.statistics-url = "/statistics" }}
        $HTTP["url"] =^ "/guarded" {{ status.statistics-url = "/guarded" }}
        $HTTP["url"] =^ "/denied" {{
          status.statistics-url = "/denied.inc"
          url.access-deny = ( ".inc" )
        }}
        fastcgi.server = ( "/guarded" => (( {guard.option}, "mode" => "authorizer", "check-local" => "disable" )) )
        """
    )
    assert site.get("/statistics").status == 404
    assert (site.get("/guarded").status, site.get("/denied.inc").status) == (403, 403)
    guard.script = lambda seen: answer("Status: 200\r\n\r\n")
    assert site.get("/guarded").body.startswith(b"fastcgi.requests: 2\n")


def hang(seen: Seen) -> Reply:
    return Reply(b"", "hang")


FAILURES: dict[str, tuple[int, Callable[[Seen], bytes | Reply]]] = {
    "eof_before_headers": (502, lambda seen: Reply(b"", "close")),
    "bad_record": (502, lambda seen: Reply(b"HTTP/1.1 200 OK\r\n\r\n", "close")),
    "bad_cgi_response": (502, lambda seen: answer("no head\r\n\r\n")),
    "header_too_big": (502, lambda seen: answer(f"X: {'x' * 70_000}\r\n\r\n")),
    "read_timeout": (504, hang),
    "overloaded": (503, lambda seen: end(protocol_status=OVERLOADED)),
    "cant_multiplex": (503, lambda seen: end(protocol_status=CANT_MPX_CONN)),
    "unknown_role": (502, lambda seen: end(protocol_status=UNKNOWN_ROLE)),
    "app_status": (502, lambda seen: end(protocol_status=9)),
}


@pytest.fixture(scope="module")
def failing(module_backend: Callable[..., ScriptedBackend], module_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway with a backend for each cause, at a path of its name."""
    options = '"check-local" => "disable", "read-timeout" => 1'
    keys = [
        f'"/{cause}" => (( {module_backend(script).option}, {options} ))' for cause, (_, script) in FAILURES.items()
    ]
    return module_gateway(f'fastcgi.server = ( {", ".join(keys)} )\nstatus.statistics-url = "/statistics"\n')


@pytest.mark.parametrize("cause", FAILURES)
def test_a_failure_tells_its_cause(failing: Gateway, cause: str) -> None:
    """On the page, in the field, in the log and in the counters; and nothing of where the backend is."""
    got = failing.request("POST", f"/{cause}", b"x")
    assert (got.status, got.get("Proxy-Status")) == (FAILURES[cause][0], proxy_status(cause))
    assert cause.encode() in got.body
    assert b".sock" not in got.head + got.body
    assert counters(failing)[f"gw.failed.{cause}"] == 1
    failing.wait_for_log(rf"\({cause}\)$")


def test_nobody_listens(gateway: Callable[..., Gateway]) -> None:
    host = f'"host" => "127.0.0.1", "port" => {free_port()}, "check-local" => "disable"'
    site = gateway(f'fastcgi.server = ( "/" => (( {host} )) )\nstatus.statistics-url = "/statistics"\n')
    first, second = site.get("/"), site.get("/")
    assert (first.status, first.get("Proxy-Status")) == (503, proxy_status("connect_refused"))
    assert (second.status, second.get("Proxy-Status")) == (503, proxy_status("no_backend"))
    after = counters(site)
    assert (after["gw.failed.connect_refused"], after["gw.failed.no_backend"]) == (1, 1)


def test_an_answer_that_breaks_off(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    peer = backend(lambda seen: Reply(stdout(HEAD + b"half"), "close"))
    site = gateway(site_of(peer))
    assert site.get("/app").status in (200, 502)
    assert counters(site)["gw.failed.eof_in_body"] == 1
    site.wait_for_log(r"\(eof_in_body\)$")


def test_a_client_that_leaves_inside_its_answer(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    site = gateway(site_of(backend(lambda seen: Reply(stdout(HEAD + b"half"), "hang"))))
    with site.connect() as connection:
        connection.send(encode_request("GET", "/app"))
        connection.read_head()
    wait_until(lambda: counters(site)["gw.failed.client_closed"] == 1, "it to be counted")
    assert site.request("HEAD", "/app").status == 200
    assert counters(site)["gw.failed.client_closed"] == 1


def test_a_bad_request_is_counted_too(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    site = gateway(site_of(backend()))
    with site.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        got = connection.read_answer()
    assert (got.status, got.get("Proxy-Status")) == (400, proxy_status("bad_request"))
    assert counters(site)["gw.failed.bad_request"] == 1


def test_what_is_no_failure(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """A backend's own errors are answers; a file that is not there is one of ours."""
    peer = backend(lambda seen: answer("Status: 503 Busy\r\n\r\n", stderr=b"Primary script unknown"))
    site = gateway(site_of(peer))
    for target, status in (("/app", 503), ("/none", 404)):
        got = site.get(target)
        assert (got.status, got.get("Proxy-Status")) == (status, None)
    assert not any(value for name, value in counters(site).items() if name.startswith("gw.failed."))


def test_debug_lines(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """As lighttpd's documentation shows them: the table before each choice and behind each release."""
    peers = [backend(tcp=True) for _ in range(2)]
    options = '"check-local" => "disable", "max-connections" => 4'
    hosts = ", ".join(f"( {peer.option}, {options} )" for peer in peers)
    site = gateway(f'fastcgi.debug = 1\nfastcgi.balance = "round-robin"\nfastcgi.server = ( "/" => ( {hosts} ) )\n')
    site.get("/")
    site.wait_for_log("release proc")
    site.stop()
    lines = [line.split(": ", 1)[1] for line in site.log.splitlines() if "proc: " in line]
    table = [f"proc: 127.0.0.1 {peer.address[1]}  0 1 0 0" for peer in peers]
    assert [line for line in lines if line.startswith("proc")] == [*table, *table]
    got, release = (next(line for line in lines if line.startswith(word)) for word in ("got", "release"))
    assert re.fullmatch(r"got proc: \d+ 0", got)
    assert release == got.replace("got", "release")


def test_the_field_can_be_switched_off(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend(lambda seen: Reply(record(6, b"x"), "close"))
    site = gateway(site_of(peer, 'fastcgi.proxy-status = "disable"\n'))
    got = site.get("/app")
    assert (got.status, got.get("Proxy-Status")) == (502, None)


def test_php_fpm_does_not_find_the_script(
    tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway]
) -> None:
    address = start_php_fpm(processes, tmp_path / "fpm", workers=1)
    site = gateway(
        f'fastcgi.server = ( ".php" => (( "socket" => "{address}", "check-local" => "disable" )) )\n'
        'status.statistics-url = "/statistics"\n'
    )
    got = site.get("/none.php")
    assert (got.status, got.get("Proxy-Status")) == (404, proxy_status("script_unknown", received=404))
    assert counters(site)["gw.failed.script_unknown"] == 1
    site.wait_for_log(r"Primary script unknown \(tried .*/none\.php; script_unknown\)$")
