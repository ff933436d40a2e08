"""One byte stream over a socket: raw non-blocking calls that wait on the hub only after the kernel said EAGAIN.

Contract: OSError and time-outs leave here as `StreamClosed` and `StreamTimeout`. Who waits for bytes goes on when all
that came in this round of the hub is read; what is posted leaves at the round's end, before anything sent later.
"""

from __future__ import annotations

import _socket
import contextlib
import fcntl
import socket as _constants
import struct
import termios
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent import get_hub, getcurrent
from greenlet import greenlet

from gfastcgi.errors import StreamClosed, StreamTimeout
from gfastcgi.net.rounds import Round

__all__ = ["Stream", "reason"]

READ, WRITE = 1, 2
SIZE = 65536
"""Bytes that are read at once."""
_HELD = struct.Struct("i")
_RESET = struct.pack("ii", 1, 0)


class Stream:
    """A connected stream socket. `read_timeout` and `write_timeout` are seconds without progress; 0: none."""

    __slots__ = (
        "_came", "_hub", "_is_enough", "_is_watching", "_pile", "_posted", "_readable", "_reader", "_sock", "_stalled",
        "_writable", "begins_work", "has_stalled", "is_closed", "on_close", "read_timeout", "round", "taken",
        "write_timeout",
    )  # fmt: skip

    def __init__(self, sock: _socket.socket, *, read_timeout: float = 0, write_timeout: float = 0) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._hub = get_hub()
        self.round = Round.here()
        """That of the hub that the stream belongs to."""
        self._readable = self._hub.loop.io(sock.fileno(), READ)
        self._writable: Any = None
        self._reader: greenlet | None = None
        self._is_watching = False
        # What the hub has read for the reader; an error is raised by the next `recv`.
        self._came: bytes | OSError | None = None
        self._is_enough: Callable[[bytes], bool] | None = None
        self._pile: list[bytes] = []
        self._posted: bytes | memoryview = b""
        self._stalled: Any = None
        self.is_closed = False
        self.has_stalled = False
        """Whether the peer was hung up on, since it read nothing of what was posted for `write_timeout` seconds."""
        self.taken = 0
        """How many bytes the kernel has taken to send them."""
        self.begins_work = False
        """What is read next is a new request: it comes behind what is under way."""
        self.on_close: Callable[[bool], None] | None = None
        """See `watch_close`; None: nobody wants to know."""
        self.read_timeout = read_timeout
        self.write_timeout = write_timeout

    @classmethod
    def adopt(cls, sock: Any, **timeouts: float) -> Stream:
        """Takes over the descriptor of a socket object, gevent's or the standard library's."""
        family, kind, proto = sock.family, sock.type, sock.proto
        return cls(_socket.socket(family, kind, proto, sock.detach()), **timeouts)

    def __repr__(self) -> str:
        return f"<Stream fd={self._sock.fileno()}{' closed' if self.is_closed else ''}>"

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._sock.fileno()

    def no_delay(self) -> None:
        """Sends small segments at once (TCP_NODELAY); nothing to do for other sockets."""
        if self._sock.family != _constants.AF_UNIX:
            self._sock.setsockopt(_constants.IPPROTO_TCP, _constants.TCP_NODELAY, 1)

    # Receiving

    def recv(self, size: int = SIZE) -> bytes:
        """The next bytes, at most `size`; b"" at the peer's end. Raises `StreamClosed`, `StreamTimeout`."""
        while self._came is None:
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                self.wait_readable()
            except OSError as error:
                raise StreamClosed(reason(error)) from error
        came, self._came = self._came, None
        if isinstance(came, OSError):
            raise StreamClosed(reason(came)) from came
        if len(came) > size:
            came, self._came = came[:size], came[size:]
        return came

    def wait_readable(self) -> None:
        """Waits until `recv` has something; one greenlet at a time. Raises `StreamTimeout`."""
        if self._came is not None:
            return
        if not self._is_watching:
            self._watch()
        self._reader = getcurrent()
        try:
            if self.read_timeout:
                self.round.deadlines.park(self.read_timeout)
            else:
                self._hub.switch()
        finally:
            self._reader = None

    def collect(self, seconds: float, is_enough: Callable[[bytes], bool]) -> bool:
        """Lets bytes pile up until `is_enough` says so of the newest, or for `seconds`; nobody is woken for each.

        Returns whether `recv` has something: all of it, at once.
        """
        if self._came is not None:
            return True
        if not self._is_watching:
            self._watch()
        self._is_enough = is_enough
        self._reader = me = getcurrent()
        timer = self._hub.loop.timer(seconds)
        timer.start(me.switch)
        try:
            self._hub.switch()
        finally:
            timer.close()
            self._reader = self._is_enough = None
            self._take_pile()
        return self._came is not None

    def _take_pile(self) -> None:
        if self._pile:
            # An end or an error behind it is told again.
            self._came = b"".join(self._pile)
            self._pile.clear()

    def _watch(self) -> None:
        self._is_watching = True
        self._readable.start(self._on_readable)

    def rest(self) -> None:
        """Nobody is going to wait for a while: until then the stream does not keep the hub's loop alive."""
        if self._is_watching:
            self._is_watching = False
            self._readable.stop()

    def _on_readable(self) -> None:
        if self._reader is not None:
            if self._came is not None:
                return  # he has not had his turn yet
            try:
                self._came = self._sock.recv(SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self._came = error
            if self._is_enough is None or self._is_piled(self._is_enough):
                self.round.resume(self, is_new=self.begins_work)
            return
        # What came is for later, and would be told again and again.
        self.rest()
        if self.on_close is not None:
            self._look()

    def _is_piled(self, is_enough: Callable[[bytes], bool]) -> bool:
        """Puts what came on the pile; whether that is all that the reader waits for."""
        came = self._came
        if not isinstance(came, bytes) or not came:
            return True
        self._pile.append(came)
        self._came = None
        if not is_enough(came):
            return False
        self._take_pile()
        return True

    def resume(self) -> None:
        """Lets the reader go on, unless its wait has ended otherwise."""
        if self._reader is not None and self._came is not None:
            self._reader.switch()

    def is_readable(self) -> bool:
        """Whether `recv` would return at once, with bytes, the end, or an error: nothing good on an idle stream."""
        if self._came is not None:
            return True
        try:
            self._sock.recv(1, _constants.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def watch_close(self, on_close: Callable[[bool], None]) -> None:
        """Calls `on_close` from the hub when the peer ends its side, until it is None; nobody may `recv` meanwhile.

        Its argument: whether the connection was reset, so that nothing can be sent any more either.
        """
        self.on_close = on_close
        if not self._is_watching:
            self._watch()

    def _look(self) -> None:
        """Something can be read: more than the end of the stream is for later, but says that the peer is there."""
        is_reset = False
        try:
            if self._sock.recv(1, _constants.MSG_PEEK):
                return
        except BlockingIOError:
            return
        except OSError:
            is_reset = True
        if self.on_close is not None:
            self.on_close(is_reset)

    # Sending

    def post(self, data: bytes, *, is_request: bool = False) -> None:
        """Sends every byte, when this round of the hub ends and without a wait: for the last words before a wait.

        `is_request`: somebody has to work on it. Raises `StreamClosed`, `StreamTimeout` of what was posted before.
        """
        if self._posted:
            self.settle()
        self._posted = data
        self.round.post(self, is_request=is_request)

    def send_posted(self) -> None:
        """Sends what the kernel takes of what was posted. The rest follows from the hub, as the peer reads.

        One that reads nothing for `write_timeout` seconds is hung up on: that wakes whoever waits for it.
        """
        posted = self._posted
        if not posted:
            return
        try:
            sent = self._sock.send(posted)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Nothing may follow what never left. Whoever waits for the peer, or sends more, is told by the kernel.
            self.hang_up()
            sent = len(posted)
        self.taken += sent
        if sent == len(posted):
            self._posted = b""
            if self._stalled is not None:
                self._end_stall()
        else:
            self._posted = memoryview(posted)[sent:]
            if sent or self._stalled is None:
                self._begin_stall()

    def _begin_stall(self) -> None:
        self._end_stall()
        self._can_write().start(self.send_posted)
        self._stalled = self._hub.loop.timer(self.write_timeout)
        if self.write_timeout:
            self._stalled.start(self._give_up)

    def _give_up(self) -> None:
        self.has_stalled = True
        self.hang_up()

    @property
    def is_settled(self) -> bool:
        """Whether all that was posted has left."""
        return not self._posted

    @property
    def has_come(self) -> bool:
        """Whether bytes were read that nobody has taken yet."""
        return self._came is not None

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.close()
            self._stalled = None
            self._writable.stop()

    def settle(self) -> None:
        """Waits until the kernel has all that was posted. Raises `StreamClosed`, `StreamTimeout`."""
        posted, self._posted = self._posted, b""
        self._end_stall()
        if posted:
            self.send_all(posted)

    def send(self, data: bytes | memoryview) -> int:
        """Sends what the kernel takes now; 0 when it takes nothing. Raises `StreamClosed`."""
        if self._posted:
            self.send_posted()
            if self._posted:
                return 0
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamClosed(reason(error)) from error
        self.taken += sent
        return sent

    def send_all(self, data: bytes | memoryview) -> None:
        """Sends every byte. Raises `StreamClosed`, `StreamTimeout`."""
        if self._posted:
            self.settle()
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise StreamClosed(reason(error)) from error
        self.taken += sent
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                self.wait_writable()
                rest = rest[self.send(rest) :]

    def wait_writable(self) -> None:
        """Waits until the kernel takes bytes again. Raises `StreamTimeout`."""
        self.round.deadlines.wait(self._can_write(), self.write_timeout)

    def _can_write(self) -> Any:
        if self._writable is None:
            self._writable = self._hub.loop.io(self._sock.fileno(), WRITE)
        return self._writable

    def is_behind(self) -> bool:
        """Whether the peer has yet to take bytes that the kernel holds for it (SIOCOUTQ)."""
        held = bytearray(_HELD.size)
        try:
            fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, held)
        except OSError:
            return False
        return bool(_HELD.unpack(held)[0])

    def shutdown_write(self) -> None:
        """Ends our direction; the peer reads an end of file. Raises `StreamClosed`, `StreamTimeout`."""
        self.settle()
        try:
            self._sock.shutdown(_constants.SHUT_WR)
        except OSError as error:
            raise StreamClosed(reason(error)) from error

    def hang_up(self) -> None:
        """Ends both directions, so that whoever waits on this stream wakes up."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(_constants.SHUT_RDWR)

    def reset_on_close(self) -> None:
        """Lets the peer find a reset instead of an end (SO_LINGER of 0 seconds); unix sockets know none."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(_constants.SOL_SOCKET, _constants.SO_LINGER, _RESET)

    def linger(self, seconds: float, limit: int) -> None:
        """Ends our direction and drops what still comes, so that the peer reads our last bytes before a reset."""
        end = monotonic() + seconds
        try:
            self.shutdown_write()
            while limit > 0 and (left := end - monotonic()) > 0:
                self.read_timeout = left
                data = self.recv()
                if not data:
                    return
                limit -= len(data)
        except (StreamClosed, StreamTimeout):
            pass

    def close(self) -> None:
        """Closes the descriptor; again: nothing happens. What the kernel does not take now is lost."""
        if not self.is_closed:
            self.is_closed = True
            self.send_posted()
            self._posted = b""
            self._end_stall()
            for watcher in (self._readable, self._writable):
                if watcher is not None:
                    watcher.stop()
                    watcher.close()
            self._sock.close()


def reason(error: OSError) -> str:
    """What went wrong, in words."""
    return error.strerror or str(error)
