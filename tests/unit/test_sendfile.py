"""File bodies over real sockets, with readers that are slow, gone or watching."""

from __future__ import annotations

import _socket
import os
import random
import select
import socket
import threading
from typing import TYPE_CHECKING

import gevent
import pytest

from gfastcgi.errors import StreamClosed, StreamError, StreamTimeout
from gfastcgi.net.beneath import OpenedFile
from gfastcgi.net.sendfile import READ_SIZE, TURN, FileBody
from gfastcgi.net.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTENT = random.Random(5).randbytes(3 * TURN + 12345)


class Wire:
    """A sink over a socket whose waits block the thread."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.taken = 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def send_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                self.wait_writable()

    def wait_writable(self) -> None:
        assert select.select([], [self.sock], [], 20)[1]


class Reader(threading.Thread):
    """Reads everything from the other end."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.received = bytearray()
        self.start()

    def run(self) -> None:
        while data := self.sock.recv(READ_SIZE):
            self.received += data

    def all(self, wire: Wire) -> bytes:
        wire.sock.close()
        self.join(20)
        self.sock.close()
        return bytes(self.received)


@pytest.fixture
def wire() -> Iterator[tuple[Wire, Reader]]:
    ours, theirs = socket.socketpair()
    reader = Reader(theirs)
    wire = Wire(ours)
    yield wire, reader
    reader.all(wire)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], OpenedFile]]:
    files: list[OpenedFile] = []

    def make(content: bytes) -> OpenedFile:
        path = tmp_path / f"file{len(files)}"
        path.write_bytes(content)
        files.append(OpenedFile(os.open(path, os.O_RDWR)))
        return files[-1]

    yield make
    for file in files:
        file.close()


def test_whole_file(wire: tuple[Wire, Reader], opened: Callable[[bytes], OpenedFile]) -> None:
    body = FileBody([(opened(CONTENT), 0, len(CONTENT))])
    assert body.length == len(CONTENT)
    body.send_to(wire[0])
    assert wire[0].taken == len(CONTENT)
    assert wire[1].all(wire[0]) == CONTENT


def test_waits_for_a_reader_that_starts_late(opened: Callable[[bytes], OpenedFile]) -> None:
    ours, theirs = socket.socketpair()
    readers: list[Reader] = []

    class LateWire(Wire):
        def wait_writable(self) -> None:
            if not readers:
                readers.append(Reader(theirs))
            super().wait_writable()

    wire = LateWire(ours)
    FileBody([(opened(CONTENT), 0, len(CONTENT))]).send_to(wire)
    assert readers[0].all(wire) == CONTENT


def test_pieces_sent_and_read_are_the_same(wire: tuple[Wire, Reader], opened: Callable[[bytes], OpenedFile]) -> None:
    file, other = opened(CONTENT), opened(b"0123456789")
    body = FileBody([b"<", (file, 5, 5), (file, TURN - 1, 2 * TURN + 1), b"|", (other, 8, 10), (file, 0, 1), b">"])
    expected = b"<" + CONTENT[TURN - 1 : 2 * TURN + 1] + b"|89" + CONTENT[:1] + b">"
    assert body.length == len(expected)
    pieces = list(body)
    assert b"".join(pieces) == expected
    assert max(map(len, pieces)) == READ_SIZE
    body.send_to(wire[0])
    assert wire[1].all(wire[0]) == expected


def test_small(opened: Callable[[bytes], OpenedFile]) -> None:
    file = opened(b"0123456789")
    assert FileBody([(file, 0, 10)]).small(10) == b"0123456789"
    assert FileBody([(file, 2, 5)]).small(10) == b"234"
    assert FileBody([(file, 0, 0)]).small(10) == b""
    assert FileBody([(file, 0, 10)]).small(9) is None
    assert FileBody([(file, 0, 1), (file, 2, 3)]).small(9) is None
    assert FileBody([b"x"]).small(9) is None
    os.truncate(file.fd, 5)
    assert FileBody([(file, 0, 10)]).small(10) is None


def test_empty(wire: tuple[Wire, Reader], opened: Callable[[bytes], OpenedFile]) -> None:
    body = FileBody([(opened(b""), 0, 0)])
    assert body.length == 0
    assert list(body) == []
    body.send_to(wire[0])
    assert wire[1].all(wire[0]) == b""


def test_close_closes_every_file_once(opened: Callable[[bytes], OpenedFile]) -> None:
    file, other = opened(b"a"), opened(b"b")
    fds = [file.fd, other.fd]
    body = FileBody([(file, 0, 1), b"x", (other, 0, 1), (file, 0, 1)])
    body.close()
    body.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert file.fd == -1


@pytest.mark.parametrize("keep", [0, 4, TURN, TURN + 1])
def test_a_file_that_shrank_breaks_off(
    wire: tuple[Wire, Reader], opened: Callable[[bytes], OpenedFile], keep: int
) -> None:
    file = opened(CONTENT)
    body = FileBody([(file, 0, len(CONTENT)), b"end"])
    os.truncate(file.fd, keep)
    with pytest.raises(StreamError, match=f"ends at byte {keep}"):
        body.send_to(wire[0])
    assert wire[1].all(wire[0]) == CONTENT[:keep]
    with pytest.raises(StreamError, match=f"ends at byte {keep}"):
        list(body)


def test_a_file_that_grew_keeps_its_length(wire: tuple[Wire, Reader], opened: Callable[[bytes], OpenedFile]) -> None:
    file = opened(b"old")
    body = FileBody([(file, 0, 3)])
    os.pwrite(file.fd, b"old and new", 0)
    body.send_to(wire[0])
    assert wire[1].all(wire[0]) == b"old"
    assert b"".join(body) == b"old"


def test_the_peer_is_gone(opened: Callable[[bytes], OpenedFile]) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(StreamClosed):
        FileBody([(opened(CONTENT), 0, len(CONTENT))]).send_to(Wire(ours))


def test_our_side_is_closed(opened: Callable[[bytes], OpenedFile]) -> None:
    ours, theirs = socket.socketpair()
    sink = Wire(ours)
    ours.close()
    theirs.close()
    with pytest.raises(StreamClosed):
        FileBody([(opened(CONTENT), 0, 9)]).send_to(sink)


def test_sparse_beyond_4_gib(wire: tuple[Wire, Reader], opened: Callable[[bytes], OpenedFile]) -> None:
    file = opened(b"")
    size = (5 << 30) + 7
    os.truncate(file.fd, size)
    os.pwrite(file.fd, b"tail", size - 4)
    body = FileBody([(file, size - 6, size)])
    body.send_to(wire[0])
    assert wire[1].all(wire[0]) == b"\0\0tail"
    assert FileBody([(file, 0, size)]).length == size


def test_over_a_stream_of_ours_to_a_slow_greenlet(opened: Callable[[bytes], OpenedFile]) -> None:
    pairs = [_socket.socket(end.family, end.type, end.proto, end.detach()) for end in socket.socketpair()]
    ours, theirs = (Stream(pair, read_timeout=20, write_timeout=20) for pair in pairs)
    received = bytearray()

    def read() -> None:
        while data := theirs.recv(50_000):
            received.extend(data)
            gevent.sleep(0)

    reader = gevent.spawn(read)
    body = FileBody([b"<", (opened(CONTENT), 0, len(CONTENT)), b">"])
    body.send_to(ours)
    ours.close()
    reader.join(20)
    theirs.close()
    assert received == b"<" + CONTENT + b">"


def test_a_reader_that_stalls_ends_in_a_timeout(opened: Callable[[bytes], OpenedFile]) -> None:
    pairs = [_socket.socket(end.family, end.type, end.proto, end.detach()) for end in socket.socketpair()]
    ours, theirs = (Stream(pair, write_timeout=0.05) for pair in pairs)
    with pytest.raises(StreamTimeout):
        FileBody([(opened(CONTENT), 0, len(CONTENT))]).send_to(ours)
    ours.close()
    theirs.close()


def test_others_get_their_turn_each_mib(
    opened: Callable[[bytes], OpenedFile], monkeypatch: pytest.MonkeyPatch, wire: tuple[Wire, Reader]
) -> None:
    sent: list[int] = []
    turns: list[int] = []

    def sendfile(out: int, source: int, offset: int, count: int) -> int:
        sent.append(count)
        return count

    monkeypatch.setattr("gfastcgi.net.sendfile.os.sendfile", sendfile)

    def other() -> None:
        while True:
            turns.append(sum(sent))
            gevent.sleep(0)

    watcher = gevent.spawn(other)
    FileBody([(opened(CONTENT), 0, len(CONTENT))]).send_to(wire[0])
    watcher.kill()
    assert sum(sent) == len(CONTENT)
    assert {TURN, 2 * TURN, 3 * TURN} <= set(turns)


def test_others_get_their_turn_when_it_is_read(opened: Callable[[bytes], OpenedFile]) -> None:
    read: list[int] = []
    turns: set[int] = set()

    def other() -> None:
        while True:
            turns.add(sum(read))
            gevent.sleep(0)

    watcher = gevent.spawn(other)
    body = FileBody([(opened(CONTENT), 0, len(CONTENT))])
    read.extend(map(len, body))
    watcher.kill()
    body.close()
    assert {TURN, 2 * TURN, 3 * TURN} <= turns


def test_repr(opened: Callable[[bytes], OpenedFile]) -> None:
    file = opened(b"abc")
    assert repr(FileBody([(file, 0, 3)])) == "<FileBody 3 bytes in 1 pieces>"
    assert repr(file) == f"<OpenedFile fd={file.fd} size=3>"
