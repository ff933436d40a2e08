"""A supervised host with its pool and log, the programs that it runs, and what a test asks of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import POLICIES
from gfastcgi.client.leasing import obtain
from gfastcgi.fcgi.connection import Stdout, WebServer
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.supervise.restarts import Restarts
from gfastcgi.supervise.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gfastcgi.backend.backend import Proc
    from gfastcgi.backend.lease import Lease
    from gfastcgi.config import Address, HostConfig

# Tells each client what it sees of itself, and ends when asked to.
TELLER = """
import json, os, signal, socket, sys
print("teller", *sys.argv[1:], flush=True)
listener = socket.socket(fileno=0)
while True:
    connection = listener.accept()[0]
    status = open("/proc/self/status").read()
    seen = {
        "pid": os.getpid(), "cwd": os.getcwd(), "environ": dict(os.environ), "sid": os.getsid(0),
        "pgid": os.getpgid(0), "umask": status.split("Umask:")[1].split()[0],
        "fds": sorted(os.listdir("/proc/self/fd"), key=int), "blocking": listener.getblocking(),
    }
    connection.sendall(json.dumps(seen).encode())
    connection.close()
"""

# A child in the process group, and both deaf to SIGTERM and SIGUSR1.
DEAF = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
pid = os.fork()
if pid:
    print("child", pid, flush=True)
while True:
    signal.pause()
"""

REQUEST = SimpleNamespace(authority="", path="/", remote_addr="")


class Rig:
    """A supervised host, its pool and its log."""

    def __init__(self, config: HostConfig, environ: Mapping[str, str] | None = None, shortest: float = 0.05) -> None:
        (self.host,) = make_hosts([config])
        self.procs = self.host.procs
        self.pool = Pool([self.host], POLICIES["fair"](random.Random(1)), clock=time.monotonic)
        self.lines: list[str] = []
        self.supervisor = Supervisor(
            self.host, self.pool, log=self.lines.append, environ=environ, restarts=Restarts(shortest)
        )

    def text(self) -> str:
        return "\n".join(self.lines)

    def lease(self, tried: tuple[Proc, ...] = ()) -> Lease:
        """A lease, also if it has to be waited for."""
        return obtain(self.pool, REQUEST, list(tried))

    def running(self) -> list[int]:
        """The ids of the procs with a process."""
        return [proc.id for proc in self.procs if proc.pid]


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 10.0) -> Any:
    """As `peers.waiting.wait_until`, but the hub runs meanwhile."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        gevent.sleep(0.005)
    return found


def is_alive(pid: int) -> bool:
    """Zombies included."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def connect(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if address.path else socket.AF_INET)
    sock.settimeout(10)
    try:
        sock.connect(address.path or (address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


def ask(address: Address) -> Any:
    """What a teller tells."""
    with connect(address) as sock:
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return json.loads(data)


def fastcgi_get(address: Address, params: list[tuple[bytes, bytes]]) -> bytes:
    """The STDOUT of one request."""
    web = WebServer()
    with connect(address) as sock:
        sock.sendall(web.begin_request(1, 1, encode_pairs(params), keep_conn=False, stdin=b""))
        answer = b""
        while data := sock.recv(65536):
            answer += b"".join(event.data for event in web.receive_data(data) if isinstance(event, Stdout))
    return answer
