"""`"tcp-fin-propagate"`: a client that ends its side of the connection, and still wants its answer, or has left."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from peers.backend import BackendConnection, ScriptedBackend, answer, end, stdout
from peers.http import Connection, encode_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

OK = "Content-Type: text/plain\r\n\r\nok"


def site_of(peer: ScriptedBackend, option: str = "") -> str:
    value = f', "tcp-fin-propagate" => "{option}"' if option else ""
    return f'fastcgi.server = ( "/" => (( {peer.option}, "check-local" => "disable"{value} )) )\n'


class Slow:
    """A backend that answers when it is let; `left` is set when the gateway gives up."""

    def __init__(self) -> None:
        self.may_answer, self.left = threading.Event(), threading.Event()

    def talk(self, connection: BackendConnection) -> None:
        if connection.read_request() is None:
            return
        watch = threading.Thread(target=self._watch, args=(connection,), daemon=True)
        watch.start()
        self.may_answer.wait(20)
        connection.sock.sendall(answer(OK))
        watch.join()

    def _watch(self, connection: BackendConnection) -> None:
        connection.read_record()  # ABORT_REQUEST, or the end
        if not self.may_answer.is_set():
            self.left.set()
        self.may_answer.set()


@pytest.mark.parametrize("option", ["", "disable"])
def test_a_quick_answer_reaches_it(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], option: str
) -> None:
    site = gateway(site_of(backend(lambda seen: answer(OK)), option))
    with site.connect() as connection:
        connection.send(encode_request("GET", "/"))
        connection.half_close()
        assert connection.read_answer().body == b"ok"
        assert connection.is_closed()


@pytest.mark.parametrize("option", ["", "enable"])
def test_the_work_for_one_that_waits_in_vain_ends(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], option: str
) -> None:
    slow = Slow()
    peer = backend(talk=slow.talk)
    site = gateway(site_of(peer, option))
    with site.connect() as connection:
        connection.send(encode_request("GET", "/"))
        peer.wait_for(lambda peer: peer.requests, "the request")
        connection.half_close()
        assert slow.left.wait(10), "the backend works on for nobody"
        assert connection.try_answer() is None


def test_disabled_it_goes_on(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    slow = Slow()
    peer = backend(talk=slow.talk)
    site = gateway(site_of(peer, "disable"))
    with site.connect() as connection:
        connection.send(encode_request("POST", "/", b"body"))
        connection.half_close()
        peer.wait_for(lambda peer: peer.requests, "the request")
        assert not slow.left.wait(1.5), "a client that only ended its side was given up"
        slow.may_answer.set()
        assert connection.read_answer().body == b"ok"


@pytest.mark.parametrize("is_local", [False, True])
def test_an_answer_that_goes_on_is_not_cut(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], tmp_path: Path, is_local: bool
) -> None:
    """For longer than a second bytes come now and then."""

    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(b"Content-Type: text/plain\r\n\r\n"))
        for _ in range(8):
            connection.sock.sendall(stdout(b"x"))
            threading.Event().wait(0.25)
        connection.sock.sendall(end())

    text = site_of(backend(talk=talk))
    if is_local:
        text += f'$SERVER["socket"] == "{tmp_path}/http" {{ }}\n'
    site = gateway(text)
    with Connection(f"{tmp_path}/http") if is_local else site.connect() as connection:
        connection.send(encode_request("GET", "/"))
        connection.half_close()
        got = connection.read_answer()
        assert (got.whole, got.body) == (True, b"x" * 8)


@pytest.mark.parametrize("is_local", [False, True])
def test_one_that_reads_slowly_is_not_cut(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], tmp_path: Path, is_local: bool
) -> None:
    """What it was sent lies there for longer than a second: that it is slow does not say that it left."""
    size = 16 << 20
    peer = backend(lambda seen: answer(f"Content-Length: {size}\r\n\r\n" + "x" * size))
    site = gateway(site_of(peer) + (f'$SERVER["socket"] == "{tmp_path}/http" {{ }}\n' if is_local else ""))
    with Connection(f"{tmp_path}/http") if is_local else site.connect() as connection:
        connection.send(encode_request("GET", "/"))
        connection.half_close()
        head = connection.read_head()
        assert head is not None
        threading.Event().wait(2.5)
        connection._read_body(head, "GET")
    assert (head.whole, len(head.body)) == (True, size)
