"""Streams to addresses: TCP and unix sockets, within a time.

Contract: why there is no connection leaves here as `ConnectError` or `ConnectTimeout`, but for want of descriptors or
memory here.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket as _constants
from time import monotonic
from typing import Any

import gevent

from gfastcgi.config import Address
from gfastcgi.errors import SHORTAGES, ConnectError, ConnectTimeout, StreamTimeout
from gfastcgi.net.streams import Stream, reason

__all__ = ["connect"]


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
        raise ConnectError(f"{address}: {reason(error)}", cause="connect_failed") from error
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
            raise ConnectError(f"{address}: {reason(error)}", cause=cause) from error
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
