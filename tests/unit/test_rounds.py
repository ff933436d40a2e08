"""Rounds of the hub: in which order things are read, go on and are sent, and that nothing posted is ever lost."""

from __future__ import annotations

import errno
import gc
import socket
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import get_hub

from gfastcgi.errors import StreamClosed, StreamTimeout
from gfastcgi.net import rounds
from gfastcgi.net.deadlines import TICK
from gfastcgi.net.rounds import Round
from gfastcgi.net.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 0.01
LARGE = bytes(range(256)) * 16384


@pytest.fixture
def make_pair() -> Iterator[Callable[..., tuple[Stream, socket.socket]]]:
    """Makes streams, each with the plain socket at its other end."""
    made: list[Stream | socket.socket] = []

    def make(*, begins_work: bool = False) -> tuple[Stream, socket.socket]:
        ours, theirs = socket.socketpair()
        stream = Stream.adopt(ours)
        stream.begins_work = begins_work
        made.extend((stream, theirs))
        return stream, theirs

    yield make
    for each in made:
        each.close()


class Going:
    """Somebody who goes on, and writes that down."""

    def __init__(self, name: str, story: list[str], then: Callable[[], None] = lambda: None) -> None:
        self.name, self.story, self.then = name, story, then

    def resume(self) -> None:
        self.story.append(self.name)
        self.then()

    def send_posted(self) -> None:
        self.story.append(f"{self.name} sent")


def run_round() -> None:
    gevent.sleep(SOON)


def test_what_is_under_way_is_sent_before_anything_new_begins() -> None:
    here, story = Round(get_hub()), list[str]()
    here.post(Going("answer", story))
    here.resume(Going("new", story, lambda: here.post(Going("second", story))), is_new=True)
    here.post(Going("request", story), is_request=True)
    here.resume(Going("under way", story, lambda: here.resume(Going("let go on", story))))
    assert repr(here) == "<Round of 2 waiting, 2 posts>"
    run_round()
    assert story == ["under way", "let go on", "request sent", "answer sent", "new", "second sent"]
    assert repr(here) == "<Round of 0 waiting, 0 posts>"


def test_whom_the_new_let_go_on_goes_on_at_once() -> None:
    here, story = Round(get_hub()), list[str]()
    later = Going("under way", story, lambda: here.post(Going("request", story), is_request=True))
    here.resume(Going("new", story, lambda: here.resume(later)), is_new=True)
    run_round()
    assert story == ["new", "under way", "request sent"]


def test_a_long_round_sends_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    here, story, now = Round(get_hub()), list[str](), [0.0]
    monkeypatch.setattr(rounds, "monotonic", lambda: now[0])

    def take(seconds: float) -> Callable[[], None]:
        def go_on() -> None:
            now[0] += seconds
            here.post(Going(f"{seconds:g}", story))

        return go_on

    for seconds in (rounds.LONGEST / 4, rounds.LONGEST, 0):
        here.resume(Going("goes on", story, take(seconds)))
    run_round()
    assert story == ["goes on", "goes on", "0.00025 sent", "0.001 sent", "goes on", "0 sent"]


def test_one_that_fails_holds_up_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    here, story = Round(get_hub()), list[str]()

    def fail() -> None:
        raise LookupError("told by the hub")

    for name, then in (("fails", fail), ("goes on", lambda: here.post(Going("answer", story)))):
        here.resume(Going(name, story, then))
    run_round()
    here.resume(Going("another round", story))
    run_round()
    assert story == ["fails", "goes on", "answer sent", "another round"]
    assert "told by the hub" in capfd.readouterr().err


def test_an_interrupt_loses_nothing() -> None:
    here, story = Round(get_hub()), list[str]()

    class Interrupted(Going):
        def send_posted(self) -> None:
            super().send_posted()
            if len(story) == 2:
                raise KeyboardInterrupt

    here._is_due = True  # it is run by hand
    here.resume(Going("under way", story, lambda: here.post(Going("request", story), is_request=True)))
    here.resume(Going("new", story), is_new=True)
    here.post(Interrupted("answer", story), is_request=True)
    with pytest.raises(KeyboardInterrupt):
        here._run()
    run_round()
    assert story == ["under way", "answer sent", "answer sent", "request sent", "new"]


def test_all_is_read_before_anybody_goes_on(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    pairs = [make_pair(begins_work=number < 2) for number in range(4)]
    story: list[object] = []

    def read(number: int) -> None:
        stream = pairs[number][0]
        stream.wait_readable()
        story.append((number, [other.fileno() >= 0 and other._came is not None for other, _ in pairs]))
        story.append(stream.recv())

    readers = [gevent.spawn(read, number) for number in range(4)]
    gevent.sleep(0)
    for number, (_, peer) in enumerate(pairs):
        peer.sendall(b"%d" % number)
    gevent.joinall(readers, timeout=5)
    told = [each for each in story if isinstance(each, tuple)]
    assert sorted(number for number, _ in told[:2]) == [2, 3], "those who begin nothing come first"
    assert told[0][1] == [True] * 4
    assert sorted(each for each in story if isinstance(each, bytes)) == [b"0", b"1", b"2", b"3"]


def let_the_deadline_pass(reader: gevent.Greenlet[..., object]) -> None:
    """Between the hub's reading and the reader's turn."""

    def let_it_pass() -> None:
        deadlines = Round.here().deadlines
        deadlines._waits[reader] = 0
        deadlines._tick()

    Round.here().resume(Going("", [], let_it_pass))


def test_a_wait_that_ended_otherwise_loses_nothing(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    """The bytes are there for the next."""
    stream, peer = make_pair()
    stream.read_timeout = 5
    reader = gevent.spawn(stream.recv)
    gevent.sleep(0)
    let_the_deadline_pass(reader)
    peer.sendall(b"abc")
    stream._on_readable()
    with pytest.raises(StreamTimeout):
        reader.get(timeout=5)
    assert stream.is_readable()
    assert stream.collect(60, lambda piece: False)
    stream.wait_readable()
    assert (stream.recv(1), stream.recv(1), stream.recv()) == (b"a", b"b", b"c")


def test_who_waits_again_is_not_woken_for_what_he_has(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    stream, peer = make_pair()
    stream.read_timeout = 5

    def read() -> tuple[bytes, bytes]:
        with pytest.raises(StreamTimeout):
            stream.wait_readable()
        first = stream.recv()
        stream.wait_readable()
        assert stream._came is not None, "woken for nothing"
        return first, stream.recv()

    reader = gevent.spawn(read)
    gevent.sleep(0)
    let_the_deadline_pass(reader)
    peer.sendall(b"first")
    stream._on_readable()
    gevent.sleep(SOON)
    peer.sendall(b"second")
    assert reader.get(timeout=5) == (b"first", b"second")


def test_what_comes_before_the_reader_has_had_his_turn_is_for_later(
    make_pair: Callable[..., tuple[Stream, socket.socket]],
) -> None:
    stream, peer = make_pair()
    reader = gevent.spawn(lambda: (stream.recv(), stream.recv()))
    gevent.sleep(0)
    for piece in (b"first", b"second"):
        peer.sendall(piece)
        stream._on_readable()
    assert reader.get(timeout=5) == (b"first", b"second")


def test_an_error_that_the_hub_reads_is_told_to_the_reader() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = Stream.adopt(socket.create_connection(listener.getsockname()))
        peer, _ = listener.accept()
        reader = gevent.spawn(stream.recv)
        gevent.sleep(0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(StreamClosed, match="reset by peer"):
            reader.get(timeout=5)
        stream.close()


def test_post(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    stream, peer = make_pair()
    peer.setblocking(False)
    stream.post(b"first")
    with pytest.raises(BlockingIOError):
        peer.recv(9)
    run_round()
    assert peer.recv(9) == b"first"


@pytest.mark.parametrize("then", ["post", "send", "send_all", "shutdown", "close", "settle"])
def test_what_was_posted_leaves_first(make_pair: Callable[..., tuple[Stream, socket.socket]], then: str) -> None:
    stream, peer = make_pair()
    stream.post(b"first ")
    if then == "shutdown":
        stream.shutdown_write()
    elif then in ("close", "settle"):
        getattr(stream, then)()
    else:
        getattr(stream, then)(b"second")
    run_round()
    second = b"second" if then in ("post", "send", "send_all") else b""
    assert peer.recv(99) == b"first " + second


@pytest.mark.parametrize("then", ["wait", "post", "send_all", "close"])
def test_a_slow_reader_gets_all_of_it(make_pair: Callable[..., tuple[Stream, socket.socket]], then: str) -> None:
    stream, peer = make_pair()
    stream.write_timeout = 60

    def answer() -> None:
        stream.post(LARGE)
        if then == "wait":
            assert stream.recv() == b"more"
        elif then == "close":
            stream.shutdown_write()
        else:
            run_round()
            getattr(stream, then)(b"end")

    answering = gevent.spawn(answer)
    reader, got = Stream.adopt(peer.dup()), b""
    reader.read_timeout = 10
    run_round()
    assert not answering.ready()
    assert stream.send(b"never before the rest") == 0 or then != "wait"
    while len(got) < len(LARGE) + (3 if then in ("post", "send_all") else 0):
        got += reader.recv()
    peer.sendall(b"more")
    answering.get(timeout=5)
    assert got == LARGE + (b"end" if then in ("post", "send_all") else b"")
    assert stream._stalled is None, "no timer is left"
    reader.close()


def test_one_that_reads_nothing_is_hung_up_on(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    """Whoever waits for its next words wakes up, though that wait has no deadline of its own."""
    stream, _ = make_pair()
    stream.write_timeout = TICK
    stream.post(LARGE)
    with gevent.Timeout(5):
        assert stream.recv() == b""
    stream.post(b"to nobody")
    run_round()
    with pytest.raises(StreamClosed):
        stream.send_all(b"x")


def test_nothing_follows_what_never_left(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    """The kernel is out of memory for one answer: the next must not be taken for it."""
    stream, peer = make_pair()

    class Short:
        def __init__(self, sock: object) -> None:
            self.sock = sock

        def send(self, data: bytes) -> int:
            stream._sock = self.sock
            raise OSError(errno.ENOBUFS, "No buffer space available")

    stream._sock = Short(stream._sock)
    stream.post(b"lost")
    run_round()
    with pytest.raises(StreamClosed):
        stream.send_all(b"next")
    assert peer.recv(9) == b""


def test_settle_has_a_deadline(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    stream, _ = make_pair()
    stream.write_timeout = 2 * TICK
    stream.post(LARGE)
    with pytest.raises(StreamTimeout):
        stream.settle()
    stream.settle()  # it has been told


def test_close_with_a_rest(make_pair: Callable[..., tuple[Stream, socket.socket]]) -> None:
    stream, peer = make_pair()
    stream.post(LARGE)
    run_round()
    stream.close()
    got = b""
    while piece := peer.recv(65536):
        got += piece
    assert 0 < len(got) < len(LARGE)
    assert LARGE.startswith(got)
    gc.collect()
