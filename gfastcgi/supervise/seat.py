"""A proc's listening socket, where one process after another takes its place.

Contract: it is bound once and stays open while its process is replaced, so that connections wait in its backlog; after
`close` nothing listens there, whoever may still hold the socket, and its file is gone.
"""

from __future__ import annotations

import contextlib
import os

from gevent import socket

from gfastcgi.backend.backend import Proc
from gfastcgi.config import Address
from gfastcgi.net.listeners import SocketFile, listen
from gfastcgi.supervise.process import Process

__all__ = ["Seat", "is_served"]

PROBE_TIMEOUT = 1.0
"""Seconds to find out whether somebody serves an address."""


class Seat:
    """The socket of `proc`, and the process that runs on it since `started`."""

    def __init__(self, proc: Proc, backlog: int) -> None:
        """Raises `ListenError`."""
        self.proc = proc
        self.listener = listen(proc.address, backlog)
        self.file = SocketFile(proc.address)
        self.process: Process | None = None
        self.started = 0.0
        self.hand_over()

    def __repr__(self) -> str:
        return f"<Seat {self.proc.name} {self.process!r}>"

    def hand_over(self) -> None:
        """Makes the socket as a process expects it, which shares the open file: accept() waits."""
        os.set_blocking(self.listener.fileno(), True)

    def turn_away(self) -> None:
        """Closes the connections that wait: no process will take them soon, and they might wait for ever."""
        os.set_blocking(self.listener.fileno(), False)
        self.listener.settimeout(0.0)
        with contextlib.suppress(OSError):
            while True:
                self.listener.accept()[0].close()

    def close(self) -> None:
        """Listens no more."""
        # A process that is still on its way out holds the socket, too: closing ours would not be enough.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.file.remove()


def is_served(address: Address) -> bool:
    """Whether somebody listens on `address`. Raises `OSError` when that cannot be found out."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(address.path or (address.host, address.port))
        except (TimeoutError, BlockingIOError):
            return True  # somebody listens, and has a full backlog
        except OSError:
            return False
        return True
