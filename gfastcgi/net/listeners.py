"""Listening sockets: TCP on IPv4 and IPv6, and unix sockets with their mode; a stale socket file is replaced.

Contract: `listen` gives a gevent socket bound and listening, and `address_of` where it really is (port 0 chooses one).
A socket's file is removed by who closes it: `SocketFile` is taken when it listens, and knows it from its successors.
"""

from __future__ import annotations

import os
import stat

from gevent import socket

from gfastcgi.config import Address
from gfastcgi.errors import GfastcgiError

__all__ = ["ListenError", "SocketFile", "address_of", "listen", "remove_stale"]


class ListenError(GfastcgiError):
    """The address cannot be listened on; the message says which and why."""


def listen(address: Address, backlog: int = 1024, *, owner: tuple[int, int] | None = None) -> socket.socket:
    """A socket listening on `address`. `owner`: the user's and the group's id for the file of a unix socket, -1: as is.

    Mode and owner are set before anybody can connect. Raises `ListenError`.
    """
    try:
        return _listen_unix(address, backlog, owner) if address.path else _listen_tcp(address, backlog)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from error


def _listen_tcp(address: Address, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # lighttpd, too, keeps "[::]" from taking IPv4 along, so that both can be listened on.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_unix(address: Address, backlog: int, owner: tuple[int, int] | None) -> socket.socket:
    remove_stale(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address.path)
        if address.mode is not None:
            os.chmod(address.path, address.mode)
        if owner is not None:
            os.chown(address.path, *owner)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def remove_stale(path: str) -> None:
    """Removes the socket file `path` when nobody listens behind it; any other file stays, and binding will say so."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


class SocketFile:
    """The file that stands for a unix listener at this moment; for a TCP address there is none."""

    def __init__(self, address: Address) -> None:
        self.path = address.path
        self._identity = _identity(address.path)

    def __repr__(self) -> str:
        return f"<SocketFile {self.path}>"

    def remove(self) -> None:
        """Removes it; a file that somebody else has put in its place stays."""
        if self._identity and self._identity == _identity(self.path):
            os.unlink(self.path)


def _identity(path: str) -> tuple[int, int] | None:
    if not path:
        return None
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def address_of(sock: socket.socket) -> Address:
    """Where `sock` listens, with the port that the kernel chose for port 0."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Address(path=os.fsdecode(name))
    return Address(host=name[0], port=name[1])
