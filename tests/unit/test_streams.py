"""Streams over socket pairs, their waits and their deadlines."""

from __future__ import annotations

import gc
import socket
import threading
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from gfastcgi.config import Address
from gfastcgi.errors import ConnectError, StreamClosed, StreamTimeout
from gfastcgi.net.connecting import connect
from gfastcgi.net.deadlines import TICK
from gfastcgi.net.listeners import address_of, listen
from gfastcgi.net.rounds import Round
from gfastcgi.net.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 0.01


@pytest.fixture
def pair() -> Iterator[tuple[Stream, socket.socket]]:
    """A stream, and the plain socket at its other end."""
    ours, theirs = socket.socketpair()
    stream = Stream.adopt(ours)
    yield stream, theirs
    stream.close()
    theirs.close()


def test_recv(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    gevent.spawn_later(SOON, peer.sendall, b"late")
    assert stream.recv() == b"late"
    peer.sendall(b"abc")
    assert (stream.recv(2), stream.recv()) == (b"ab", b"c")
    peer.shutdown(socket.SHUT_WR)
    assert (stream.recv(), stream.recv()) == (b"", b"")


def test_send_all_waits_for_a_slow_reader(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    data = bytes(range(256)) * 8192
    sender = gevent.spawn(stream.send_all, data)
    reader, got = Stream.adopt(peer.dup()), b""
    gevent.sleep(SOON)
    assert not sender.ready()
    while len(got) < len(data):
        got += reader.recv()
    sender.get()
    reader.close()
    assert got == data


def test_send_takes_what_the_kernel_takes(pair: tuple[Stream, socket.socket]) -> None:
    stream, _ = pair
    while stream.send(b"x" * 65536):
        pass
    assert stream.send(b"x") == 0


@pytest.mark.parametrize("wait", ["recv", "wait_readable", "send_all"])
def test_a_deadline(pair: tuple[Stream, socket.socket], wait: str) -> None:
    stream, _ = pair
    stream.read_timeout = stream.write_timeout = 2 * TICK
    with pytest.raises(StreamTimeout):
        stream.send_all(b"x" * (1 << 24)) if wait == "send_all" else getattr(stream, wait)()


def test_a_reset_and_a_broken_pipe(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    peer.close()
    with pytest.raises(StreamClosed, match="Broken pipe"):
        stream.send(b"x")
    assert stream.is_readable()


def test_is_readable(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    assert not stream.is_readable()
    peer.sendall(b"x")
    assert stream.is_readable()  # bytes that nobody asked for
    assert stream.recv() == b"x"
    assert not stream.is_readable()


def test_collect(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    pieces: list[bytes] = []
    left = [b"three ", b"pieces.", b" more"]

    def is_enough(piece: bytes) -> bool:
        pieces.append(piece)
        if left:
            peer.sendall(left.pop(0))
        return piece.endswith(b".")

    assert not stream.collect(SOON, is_enough)
    peer.sendall(b"in ")
    assert stream.collect(60, is_enough)
    assert (stream.recv(), pieces) == (b"in three pieces.", [b"in ", b"three ", b"pieces."])
    assert stream.collect(5 * SOON, is_enough), "time passed, and some had come"
    assert stream.collect(60, is_enough), "it is still there"
    assert stream.recv() == b" more"


def test_collect_ends_with_the_stream(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    gevent.spawn_later(SOON, peer.sendall, b"last words")
    gevent.spawn_later(2 * SOON, peer.shutdown, socket.SHUT_WR)
    assert stream.collect(60, lambda piece: False)
    assert (stream.recv(), stream.recv()) == (b"last words", b"")


def test_who_is_killed_while_he_collects_loses_nothing(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    peer.sendall(b"abc")
    collecting = gevent.spawn(stream.collect, 60, lambda piece: False)
    gevent.sleep(SOON)
    collecting.kill()
    assert stream.recv() == b"abc"


def test_bytes_for_later_are_told_once(pair: tuple[Stream, socket.socket]) -> None:
    """Who waited leaves the watcher running; it ends with what nobody reads yet, and begins with the next wait."""
    stream, peer = pair
    gevent.spawn_later(SOON, peer.sendall, b"first")
    assert stream.recv() == b"first"
    peer.sendall(b"second")
    looks = []
    stream.watch_close(looks.append)
    gevent.sleep(SOON)
    stream.wait_readable()
    assert (stream.recv(), looks) == (b"second", [])


def test_a_stream_at_rest_keeps_no_loop_alive() -> None:
    ours, theirs = socket.socketpair()
    read: list[object] = []

    def program() -> None:
        stream = Stream.adopt(ours)
        gevent.spawn_later(SOON, theirs.sendall, b"x")
        read.append(stream.recv())
        stream.rest()
        read.append(gevent.wait(timeout=30))  # True: nothing is left to wait for
        theirs.sendall(b"y")
        read.append(stream.recv())
        stream.close()
        gevent.get_hub().destroy()

    # In a thread with a loop of its own: other tests may have left something to the loop of this one.
    thread = threading.Thread(target=program)
    thread.start()
    thread.join(60)
    theirs.close()
    assert read == [b"x", True, b"y"]


@pytest.mark.parametrize("then", ["close", "data", "unwatch"])
def test_watch_close(pair: tuple[Stream, socket.socket], then: str) -> None:
    stream, peer = pair
    left = Event()
    stream.watch_close(lambda is_reset: left.set())
    if then == "unwatch":
        stream.on_close = None
    peer.sendall(b"x") if then == "data" else peer.shutdown(socket.SHUT_RDWR)
    assert bool(left.wait(5 if then == "close" else 3 * TICK)) is (then == "close")


def test_hang_up_wakes_who_waits(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    reader = gevent.spawn(stream.recv)
    gevent.sleep(SOON)
    stream.hang_up()
    assert reader.get(timeout=5) == b""
    assert peer.recv(1) == b""


@pytest.mark.parametrize("limit", [1 << 20, 3])
def test_linger_lets_the_last_bytes_be_read(pair: tuple[Stream, socket.socket], limit: int) -> None:
    stream, peer = pair
    stream.send_all(b"last")
    peer.sendall(b"unread")
    peer.shutdown(socket.SHUT_WR)
    stream.linger(5, limit)
    assert stream.recv() == b""  # what came was dropped
    assert (peer.recv(9), peer.recv(9)) == (b"last", b"")


def test_close_twice(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    stream.close()
    stream.close()
    assert (stream.is_closed, stream.fileno(), peer.recv(1)) == (True, -1, b"")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_connect(kind: str, tmp_path: Path) -> None:
    with listen(Address("127.0.0.1", 0) if kind == "tcp" else Address(path=str(tmp_path / "s"))) as listener:
        stream = connect(address_of(listener), 5)
        accepted, _ = listener.accept()
        stream.send_all(b"hello")
        assert accepted.recv(9) == b"hello"
        accepted.close()
        stream.close()


@pytest.mark.parametrize("kind", ["tcp", "stale", "none"])
def test_connect_refused(kind: str, tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    if kind != "none":
        with listen(Address("127.0.0.1", 0) if kind == "tcp" else address) as listener:
            address = address_of(listener)
    with pytest.raises(ConnectError, match=str(address)) as caught:
        connect(address, 5)
    assert caught.value.cause == "connect_refused"
    gc.collect()  # nothing is left open: a ResourceWarning is an error


def test_each_wait_has_its_own_deadline() -> None:
    """One is met, one passes, one has none; the timer ends with the last."""
    deadlines, ended = Round.here().deadlines, []

    def wait(name: str, seconds: float) -> None:
        watcher = gevent.get_hub().loop.timer(1000)
        try:
            with gevent.Timeout(3 * TICK, False):
                deadlines.wait(watcher, seconds)
        except StreamTimeout:
            ended.append(name)
        finally:
            watcher.close()

    gevent.joinall([gevent.spawn(wait, *args) for args in (("late", 60.0), ("passed", TICK), ("none", 0.0))])
    assert ended == ["passed"]
    assert repr(deadlines) == "<Deadlines of 0 waits>"
