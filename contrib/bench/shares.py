#!/usr/bin/env python3
"""Who gets how much: the shares of 3 and 5 hosts under every balance, lighttpd and gfastcgi on the same lighttpd.conf.

    apt-get install lighttpd
    .venv/bin/python contrib/bench/shares.py [--requests 2000]

The backends answer with their number. `hash` is asked for paths that all differ, `sticky` from as many client addresses
(127.1.0.0/16), the others one request after the other and 8 at once. A line has the share of each host in percent,
the first one first, and how far the worst is from an even share.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

BALANCES = ("least-connection", "fair", "round-robin", "hash", "sticky", "p2c", "ewma")
OF_LIGHTTPD = frozenset(BALANCES[:5])
CLIENTS = 8
BEGIN_REQUEST, END_REQUEST, STDIN, STDOUT = 1, 3, 5, 6
REQUEST_COMPLETE = struct.pack("!BBHHBBIB3x", 1, END_REQUEST, 1, 8, 0, 0, 0, 0)


class Backend:
    """A FastCGI application on a unix socket that answers every request with its name (FastCGI 1.0 section 5)."""

    def __init__(self, path: Path, name: str, seconds: float) -> None:
        content = f"Content-Type: text/plain\r\n\r\n{name}".encode()
        self._answer = struct.pack("!BBHHBB", 1, STDOUT, 1, len(content), 0, 0) + content + REQUEST_COMPLETE
        self._seconds = seconds
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1024)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError), sock.makefile("rb") as stream:
            keeps = True
            while keeps:
                for kind, content in _records(stream.read):
                    if kind == BEGIN_REQUEST:
                        keeps = bool(content[2] & 1)
                    elif kind == STDIN and not content:
                        break
                else:
                    return
                time.sleep(self._seconds)
                sock.sendall(self._answer)


def _records(read: Callable[[int], bytes]) -> Iterator[tuple[int, bytes]]:
    while len(head := read(8)) == 8:
        _, kind, _, size, padding, _ = struct.unpack("!BBHHBB", head)
        yield kind, read(size + padding)[:size]


def configuration(folder: Path, hosts: int, port: int) -> str:
    entries = ", ".join(
        f'( "socket" => "{folder}/{number}.sock", "check-local" => "disable" )' for number in range(hosts)
    )
    return f'server.document-root = "{folder}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n' + "".join(
        f'$HTTP["url"] =^ "/{balance}/" {{\n'
        f'  fastcgi.balance = "{balance}"\n  fastcgi.server = ( "/{balance}/" => ( {entries} ) )\n}}\n'
        for balance in BALANCES
    )


class Server:
    """lighttpd or gfastcgi with one configuration."""

    def __init__(self, name: str, folder: Path, hosts: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        text = configuration(folder, hosts, self.port)
        if name == "lighttpd":
            program = [shutil.which("lighttpd") or sys.exit("lighttpd is not installed: apt-get install lighttpd")]
            text = 'server.modules = ( "mod_fastcgi" )\n' + text
            for balance in set(BALANCES) - OF_LIGHTTPD:
                text = re.sub(rf'\$HTTP\["url"\] =\^ "/{balance}/" {{.*?\n}}\n', "", text, flags=re.DOTALL)
        else:
            program = [sys.executable, "-m", "gfastcgi"]
        path = folder / f"{name}-{hosts}.conf"
        path.write_text(text)
        with (folder / f"{name}-{hosts}.log").open("wb") as log:
            self._process = subprocess.Popen([*program, "-D", "-f", str(path)], stdout=log, stderr=log)
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        sys.exit(f"{name} did not start:\n{log.name}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(40)

    def ask(self, targets: list[str], counts: Counter[int], *, sources: bool = False) -> None:
        """Asks for each target in turn; with `sources` each from another client address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        for number, target in enumerate(targets):
            if sources:
                connection.close()
                source = (f"127.1.{number >> 8}.{number & 255}", 0)
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=source)
            connection.request("GET", target)
            answer = connection.getresponse()
            content = answer.read()
            counts[int(content) if answer.status == 200 else -1] += 1
        connection.close()


def measure(server: Server, balance: str, requests: int, *, at_once: bool) -> Counter[int]:
    counts: Counter[int] = Counter()
    if not at_once:
        targets = [f"/{balance}/{number}.html" for number in range(requests)]
        server.ask(targets, counts, sources=balance == "sticky")
        return counts
    each = [Counter[int]() for _ in range(CLIENTS)]
    targets = [f"/{balance}/same"] * (requests // CLIENTS)
    threads = [threading.Thread(target=server.ask, args=(targets, count)) for count in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(each, counts)


def row(counts: Counter[int], hosts: int) -> str:
    total = counts.total()
    shares = [100 * counts[number] / total for number in range(hosts)]
    worst = max(abs(share - 100 / hosts) for share in shares)
    failed = f"  {counts[-1]} failed" if counts[-1] else ""
    return f"{' / '.join(f'{share:4.1f}' for share in shares):34} {worst:5.1f}{failed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000, help="of each line (default: 2000)")
    parser.add_argument("--seconds", type=float, default=0.002, help="that a backend works for an answer")
    options = parser.parse_args()
    print(f"{'hosts':5} {'balance':17} {'requests':10} {'server':9} {'shares in percent':34} worst")
    for hosts in (3, 5):
        with tempfile.TemporaryDirectory(prefix="shares-") as name:
            folder = Path(name)
            for number in range(hosts):
                Backend(folder / f"{number}.sock", str(number), options.seconds)
            servers = {name: Server(name, folder, hosts) for name in ("lighttpd", "gfastcgi")}
            for balance in BALANCES:
                for at_once in (False,) if balance in ("hash", "sticky") else (False, True):
                    for server in servers:
                        if server == "gfastcgi" or balance in OF_LIGHTTPD:
                            counts = measure(servers[server], balance, options.requests, at_once=at_once)
                            how = f"{CLIENTS} at once" if at_once else "in turn"
                            print(f"{hosts:5} {balance:17} {how:10} {server:9} {row(counts, hosts)}", flush=True)
            for server in servers.values():
                server.stop()


if __name__ == "__main__":
    main()
