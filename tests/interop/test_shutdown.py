"""The end of a gateway: what is under way is finished, nothing new is taken, and nothing is left behind."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, ScriptedBackend, Seen, answer, stdout
from peers.http import encode_request
from peers.processes import can_connect
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.gateway import Gateway

OK = "Content-Type: text/plain\r\n\r\nok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_request_under_way_is_finished(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], number: int
) -> None:
    gate = threading.Event()

    def script(seen: Seen) -> bytes:
        gate.wait(10)
        return answer(OK)

    peer = backend(script)
    site = gateway(f'fastcgi.server = ( "/" => (( {peer.option}, "check-local" => "disable" )) )\n')
    with site.connect() as busy, site.connect() as idle:
        busy.send(encode_request("POST", "/", b"body"))
        peer.wait_for(lambda peer: peer.requests, "the request")
        site.terminate(number)
        wait_until(lambda: not can_connect(site.address), "the listener to close", 2)
        assert site.process.poll() is None
        gate.set()
        got = busy.read_answer()
        assert (got.status, got.body, got.get("Connection")) == (200, b"ok", "close")
        assert busy.is_closed()
        assert idle.is_closed()
    site.process.wait(5)


def test_idle_connections_do_not_hold_it(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend()
    site = gateway(
        f'fastcgi.server = ( "/" => (( {peer.option}, "check-local" => "disable", "max-connections" => 2 )) )\n'
    )
    with site.connect() as kept, site.connect() as fresh:
        assert kept.request("GET", "/").status == 200
        started = time.monotonic()
        site.stop()
        assert time.monotonic() - started < 3
        assert kept.is_closed()
        assert fresh.is_closed()


def test_hanging_request_is_cut_at_the_limit(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend(lambda seen: Reply(stdout(OK.encode()), "hang"))
    site = gateway(
        'server.feature-flags = ( "server.graceful-shutdown-timeout" => 1 )\n'
        f'fastcgi.server = ( "/" => (( {peer.option}, "check-local" => "disable" )) )\n'
    )
    with site.connect() as connection:
        connection.send(encode_request("GET", "/"))
        peer.wait_for(lambda peer: peer.requests, "the request")
        started = time.monotonic()
        site.stop()
        assert 0.5 < time.monotonic() - started < 4
        assert not connection.read_answer().whole


def test_kept_backend_connections_are_closed(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend()
    site = gateway(
        f'fastcgi.server = ( "/" => (( {peer.option}, "check-local" => "disable", "max-connections" => 2 )) )\n'
    )
    assert site.get("/").status == 200
    assert peer.open == 1
    site.stop()
    peer.wait_for(lambda peer: not peer.open, "the kept connection to be closed")
