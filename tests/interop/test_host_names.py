"""Backends named by a host name, and health checks, through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.backend import ScriptedBackend, Seen, answer
from peers.programs import start_php_fpm
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway
    from peers.processes import Processes

OK = "Content-Type: text/plain\r\n\r\nok"


def test_a_name_is_served_by_whichever_of_its_addresses_listens(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """`localhost` may be 127.0.0.1 and ::1, and the backend listens on one of them."""
    peer = backend(lambda seen: answer(OK), tcp=True)
    assert isinstance(peer.address, tuple)
    site = gateway(
        f'fastcgi.server = ( "/" => (( "host" => "localhost", "port" => {peer.address[1]},'
        ' "check-local" => "disable", "max-connections" => 2 )) )\n'
    )
    for _ in range(10):
        assert site.request("POST", "/", b"body").body == b"ok"
    assert peer.connections == 1
    site.wait_for_log(r"the backend localhost is at .*127\.0\.0\.1")


def test_a_name_that_is_not_found_does_not_stop_the_gateway(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend(lambda seen: answer(OK))
    site = gateway(
        'fastcgi.server = (\n'
        '  "/lost" => (( "host" => "php.invalid", "port" => 9000, "check-local" => "disable" )),\n'
        '  "/both" => (( "host" => "php.invalid", "port" => 9000, "check-local" => "disable" ),\n'
        f'             ( {peer.option}, "check-local" => "disable" )) )\n'
    )  # fmt: skip
    site.wait_for_log(r"the backend php\.invalid is not found: ")
    got = site.get("/lost")
    assert (got.status, got.get("Retry-After")) == (503, "1")
    assert site.get("/both").body == b"ok"


def test_an_ill_backend_gets_no_request_until_it_is_well(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    is_ill = True

    def script(seen: Seen) -> bytes:
        if seen.text("SCRIPT_NAME") == "/ping" and is_ill:
            return answer("Status: 503\r\n\r\n")
        return answer(OK)

    ill, well = backend(script), backend(lambda seen: answer(OK))
    check = ', "check-local" => "disable", "health-check" => ( "path" => "/ping", "interval" => 1, "fall" => 1 )'
    site = gateway(f'fastcgi.server = ( "/" => (( {ill.option}{check} ), ( {well.option}{check} )) )\n')
    site.wait_for_log("is unhealthy and rests: /ping answered 503")

    def asked(peer: ScriptedBackend) -> int:
        return sum(seen.text("REQUEST_URI") == "/page" for seen in peer.requests)

    for _ in range(10):
        assert site.get("/page").body == b"ok"
    assert (asked(ill), asked(well)) == (0, 10)
    is_ill = False
    site.wait_for_log("is healthy again", 20)
    wait_until(lambda: site.get("/page").body == b"ok" and asked(ill), "its first request", 20)
    assert "unhealthy" not in site.log.rpartition("is healthy again")[2]


def test_the_ping_of_php_fpm(tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway]) -> None:
    (tmp_path / "page.php").write_text("<?php echo 'page';")
    path = start_php_fpm(processes, tmp_path / "fpm", workers=2, ping="/ping")
    host = f'"socket" => "{path}", "health-check" => ( "path" => "{{}}", "interval" => 1, "fall" => 1 )'
    site = gateway(f'fastcgi.server = ( ".php" => (( {host.format("/ping")} )) )\n')
    wrong = gateway(f'fastcgi.server = ( ".php" => (( {host.format("/nothing")} )) )\n')
    wrong.wait_for_log("is unhealthy and rests: /nothing answered 40[34]")
    assert wrong.get("/page.php").status == 503
    for _ in range(5):
        assert site.get("/page.php").body == b"page"
    assert "unhealthy" not in site.log
