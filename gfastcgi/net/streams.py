"""One byte stream over a socket: raw non-blocking calls that wait on the hub only after the kernel said EAGAIN.

Contract: OSError and time-outs leave here as `StreamClosed` and `StreamTimeout`, and nowhere else in the package;
but for want of descriptors or memory here.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import socket as _constants
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from greenlet import greenlet

from gfastcgi.config import Address
from gfastcgi.errors import SHORTAGES, ConnectError, ConnectTimeout, StreamClosed, StreamTimeout
from gfastcgi.net.deadlines import Deadlines

__all__ = ["Stream", "connect"]

READ, WRITE = 1, 2
# struct tcp_info of linux/tcp.h, up to tcpi_last_data_sent (milliseconds).
_LAST_SENT = struct.Struct("44xI")


class Stream:
    """A connected stream socket. `read_timeout` and `write_timeout` are seconds without progress; 0: none."""

    __slots__ = (
        "_deadlines", "_hub", "_is_watching", "_readable", "_reader", "_sock", "_writable", "is_closed", "on_close",
        "read_timeout", "write_timeout",
    )  # fmt: skip

    def __init__(self, sock: _socket.socket, *, read_timeout: float = 0, write_timeout: float = 0) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._hub = get_hub()
        self._deadlines = Deadlines.here()
        self._readable = self._hub.loop.io(sock.fileno(), READ)
        self._writable: Any = None
        self._reader: greenlet | None = None
        self._is_watching = False
        self.is_closed = False
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

    def recv(self, size: int = 65536) -> bytes:
        """The next bytes, at most `size`; b"" at the peer's end. Raises `StreamClosed`, `StreamTimeout`."""
        while True:
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                self.wait_readable()
            except OSError as error:
                raise StreamClosed(_reason(error)) from error

    def wait_readable(self) -> None:
        """Waits until `recv` has something; one greenlet at a time. Raises `StreamTimeout`."""
        if not self._is_watching:
            self._watch()
        self._reader = getcurrent()
        try:
            if self.read_timeout:
                self._deadlines.park(self.read_timeout)
            else:
                self._hub.switch()
        finally:
            self._reader = None

    def comes_within(self, seconds: float) -> bool:
        """Whether `recv` has something, waiting for it so long at most."""
        if not self._is_watching:
            self._watch()
        self._reader = me = getcurrent()
        timer = self._hub.loop.timer(seconds)
        timer.start(me.switch, False)
        try:
            return self._hub.switch() is not False
        finally:
            self._reader = None
            timer.close()

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
            self._reader.switch()
            return
        # What came is for later, and would be told again and again.
        self.rest()
        if self.on_close is not None:
            self._look()

    def send(self, data: bytes | memoryview) -> int:
        """Sends what the kernel takes now; 0 when it takes nothing. Raises `StreamClosed`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamClosed(_reason(error)) from error

    def send_all(self, data: bytes | memoryview) -> None:
        """Sends every byte. Raises `StreamClosed`, `StreamTimeout`."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise StreamClosed(_reason(error)) from error
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                self.wait_writable()
                rest = rest[self.send(rest) :]

    def wait_writable(self) -> None:
        """Waits until the kernel takes bytes again. Raises `StreamTimeout`."""
        if self._writable is None:
            self._writable = self._hub.loop.io(self._sock.fileno(), WRITE)
        self._deadlines.wait(self._writable, self.write_timeout)

    def is_readable(self) -> bool:
        """Whether `recv` would return at once, with bytes, the end, or an error: nothing good on an idle stream."""
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

    def seconds_since_sent(self) -> float:
        """How long ago bytes were last sent; infinite where the kernel does not tell, as for unix sockets."""
        try:
            info = self._sock.getsockopt(_constants.IPPROTO_TCP, _constants.TCP_INFO, _LAST_SENT.size)
        except OSError:
            return float("inf")
        return float(_LAST_SENT.unpack(info)[0]) / 1000

    def shutdown_write(self) -> None:
        """Ends our direction; the peer reads an end of file."""
        try:
            self._sock.shutdown(_constants.SHUT_WR)
        except OSError as error:
            raise StreamClosed(_reason(error)) from error

    def hang_up(self) -> None:
        """Ends both directions, so that whoever waits on this stream wakes up."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(_constants.SHUT_RDWR)

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
        """Closes the descriptor; again: nothing happens."""
        if not self.is_closed:
            self.is_closed = True
            for watcher in (self._readable, self._writable):
                if watcher is not None:
                    watcher.stop()
                    watcher.close()
            self._sock.close()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def connect(address: Address, timeout: float) -> Stream:
    """A stream to `address`, a unix path or a numeric host, within `timeout` seconds.

    Raises `ConnectError` with the reason, `ConnectTimeout`; OSError when descriptors or memory are short here.
    """
    try:
        family, target = _sockaddr(address)
        sock = _socket.socket(family, _constants.SOCK_STREAM | _constants.SOCK_NONBLOCK | _constants.SOCK_CLOEXEC)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        raise ConnectError(f"{address}: {_reason(error)}", cause="connect_failed") from error
    stream = Stream(sock, write_timeout=timeout)
    try:
        _connect(stream, sock, target, timeout)
        stream.no_delay()
        stream.write_timeout = 0
    except BaseException as error:
        stream.close()
        if isinstance(error, StreamTimeout):
            raise ConnectTimeout(f"{address}: no connection within {timeout:g} s") from error
        if isinstance(error, OSError):
            cause = "connect_refused" if error.errno in (errno.ECONNREFUSED, errno.ENOENT) else "connect_failed"
            raise ConnectError(f"{address}: {_reason(error)}", cause=cause) from error
        raise
    return stream


def _connect(stream: Stream, sock: _socket.socket, target: Any, timeout: float) -> None:
    end = monotonic() + timeout
    pause = 0.001
    while (code := sock.connect_ex(target)) == errno.EAGAIN:
        # A unix socket whose backlog is full: no event tells when it has room again (unix(7)).
        if timeout and monotonic() >= end:
            raise StreamTimeout("the listen queue stays full")
        gevent.sleep(pause)
        pause = min(2 * pause, 0.05)
    if code == errno.EINPROGRESS:
        stream.wait_writable()
        code = sock.getsockopt(_constants.SOL_SOCKET, _constants.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _sockaddr(address: Address) -> tuple[int, Any]:
    if address.path:
        return _constants.AF_UNIX, address.path
    if ":" in address.host:
        return _constants.AF_INET6, (address.host, address.port)
    return _constants.AF_INET, (address.host, address.port)
