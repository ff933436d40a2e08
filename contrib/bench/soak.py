#!/usr/bin/env python3
"""A soak: mixed load while a spawned process is killed every second, and what is left of it afterwards.

    apt-get install php-cgi
    .venv/bin/python contrib/bench/soak.py [MINUTES] [--rate 120] [--kill-every 1]

PHP pages, uploads, files, an authorizer, and clients that leave early are asked for at a fixed rate. Every answer is
compared with what it should be. The end waits until all is quiet, then counts: exit status 1 when a descriptor,
process, greenlet or connection is left, memory grew, an answer was wrong, or somebody got past the authorizer.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

AUTHORIZER = Path(__file__).parents[1] / "authorizers" / "authorizer.py"
SESSION = "a" * 32
BIG_FILE = os.urandom(300_000)
PAGE = "line of the page\n" * 3000
UPLOAD = os.urandom(100_000)
DIGEST = hashlib.sha256(UPLOAD).hexdigest()

# Runs the gateway, and writes how many greenlets live into a file when SIGUSR1 asks.
WRAPPER = """
import gc, os, runpy, signal, sys
import greenlet
def tell(number, frame):
    gc.collect()
    alive = sum(1 for each in gc.get_objects() if isinstance(each, greenlet.greenlet) and each)
    with open(told + ".new", "w") as file:
        file.write(str(alive))
    os.rename(told + ".new", told)
told = sys.argv.pop(1)
sys.argv[0] = "gfastcgi"
signal.signal(signal.SIGUSR1, tell)
runpy.run_module("gfastcgi", run_name="__main__", alter_sys=True)
"""
SITE = """
server.document-root = "{folder}/www"
server.bind = "127.0.0.1"
server.port = 0
mimetype.assign = ( ".bin" => "application/octet-stream" )
status.statistics-url = "/statistics"
fastcgi.server = (
  ".php" => ( "php" => (
    "socket" => "{folder}/php.sock", "bin-path" => "{php}", "max-procs" => 4,
    "bin-environment" => ( "PHP_FCGI_CHILDREN" => "1", "PHP_FCGI_MAX_REQUESTS" => "500" ) ) ),
  "/guarded/" => ( "guard" => (
    "socket" => "{folder}/guard.sock", "bin-path" => "{python} {authorizer}", "max-procs" => 2,
    "mode" => "authorizer", "check-local" => "disable",
    "bin-environment" => ( "SESSIONS" => "{folder}/sessions" ) ) )
)
"""
PAGES = {
    "hello.php": "Hello World!",
    "page.php": f"<?php echo {PAGE!r};".replace("'", '"'),
    "post.php": "<?php echo hash('sha256', file_get_contents('php://input'));",
    "slow.php": "<?php for ($i = 0; $i < 50; $i++) { echo str_repeat('x', 10000); flush(); usleep(20000); }",
}


class Gateway:
    """The gateway under test, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.told = folder / "greenlets"
        self.log = folder / "error.log"
        with self.log.open("wb") as log:
            command = [sys.executable, "-c", WRAPPER, str(self.told), "-D", "-f", str(folder / "site.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.port = int(self.wait_for(r"listening on http://127\.0\.0\.1:(\d+)")[1])

    def wait_for(self, pattern: str) -> re.Match[str]:
        for _ in range(1200):
            if found := re.search(pattern, self.log.read_text("utf-8", "replace")):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"the gateway did not start:\n{self.log.read_text('utf-8', 'replace')}")

    def counters(self) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/statistics")
            text = connection.getresponse().read().decode()
        return {name: int(value) for name, value in (line.rsplit(": ", 1) for line in text.splitlines())}

    def children(self) -> dict[int, str]:
        """Its direct children, each with the letter of its state."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid:
                    found[int(stat.parent.name)] = state
        return found

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss(self) -> int:
        """Resident memory in KiB."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) if found else 0

    def greenlets(self) -> int:
        self.told.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(100):
            if self.told.exists():
                return int(self.told.read_text())
            time.sleep(0.05)
        return -1


@dataclass
class Tally:
    """What became of the requests of each kind."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str) -> None:
        with self.lock:
            self.outcomes.setdefault(kind, Counter())[outcome] += 1


class Client:
    """One client: a kept connection, and one request of a random kind after the other."""

    def __init__(self, port: int, tally: Tally, chance: random.Random) -> None:
        self.port, self.tally, self.chance = port, tally, chance
        self.connection = self._connect()
        self.kinds = {
            "hello": (60, self.hello), "page": (15, self.page), "post": (10, self.post), "file": (10, self.file),
            "guarded": (10, self.guarded), "denied": (5, self.denied), "abort": (3, self.abort),
            "half upload": (2, self.half_upload),
        }  # fmt: skip

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def run(self, stop: threading.Event, pause: float) -> None:
        names = list(self.kinds)
        weights = [weight for weight, _ in self.kinds.values()]
        while not stop.wait(self.chance.expovariate(1 / pause)):
            kind = self.chance.choices(names, weights)[0]
            started = time.monotonic()
            try:
                outcome = self.kinds[kind][1]()
            except http.client.IncompleteRead:
                outcome = "cut"
                self._renew()
            except (OSError, http.client.HTTPException) as error:
                outcome = f"closed ({type(error).__name__})"
                self._renew()
            self.tally.milliseconds.append((time.monotonic() - started) * 1000)
            self.tally.add(kind, outcome)
        self.connection.close()

    def _renew(self) -> None:
        self.connection.close()
        self.connection = self._connect()

    def _ask(self, method: str, target: str, body: bytes | None = None, **fields: str) -> tuple[int, str, bytes]:
        self.connection.request(method, target, body, fields)
        answer = self.connection.getresponse()
        told = re.search(r'details="(\w+)"', answer.headers.get("Proxy-Status", ""))
        return answer.status, told[1] if told else "", answer.read()

    def _expect(self, expected: bytes, method: str, target: str, body: bytes | None = None, **fields: str) -> str:
        status, cause, content = self._ask(method, target, body, **fields)
        if status == 200 and content != expected:
            self.tally.wrong.append(f"{method} {target}: {len(content)} bytes, not those expected")
        return "200" if status == 200 else f"{status} {cause}".strip()

    def hello(self) -> str:
        return self._expect(b"Hello World!", "GET", "/hello.php")

    def page(self) -> str:
        return self._expect(PAGE.encode(), "GET", "/page.php")

    def post(self) -> str:
        return self._expect(DIGEST.encode(), "POST", "/post.php", UPLOAD)

    def file(self) -> str:
        return self._expect(BIG_FILE, "GET", "/file.bin")

    def guarded(self) -> str:
        return self._expect(BIG_FILE, "GET", "/guarded/file.bin", Cookie=f"SID={SESSION}")

    def denied(self) -> str:
        status, cause, content = self._ask("GET", "/guarded/file.bin", Cookie="SID=" + "b" * 32)
        if status == 200 or BIG_FILE[:100] in content:
            self.tally.wrong.append("somebody got past the authorizer")
        return f"{status} {cause}".strip()

    def abort(self) -> str:
        """Leaves inside an answer, by RST."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(b"GET /slow.php HTTP/1.1\r\nHost: a\r\n\r\n")
            sock.recv(1000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        return "left"

    def half_upload(self) -> str:
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(b"POST /post.php HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + UPLOAD[:50_000])
        return "left"


def build(folder: Path) -> None:
    www = folder / "www"
    (www / "guarded").mkdir(parents=True)
    (folder / "sessions").mkdir()
    (folder / "sessions" / SESSION).write_text("alice\n")
    for name, source in PAGES.items():
        (www / name).write_text(source)
    for name in ("file.bin", "guarded/file.bin"):
        (www / name).write_bytes(BIG_FILE)
    php = shutil.which("php-cgi") or sys.exit("php-cgi is not installed: apt-get install php-cgi")
    text = SITE.format(folder=folder, php=php, python=sys.executable, authorizer=AUTHORIZER)
    (folder / "site.conf").write_text(text)


def kill_one_each(
    stop: threading.Event, seconds: float, gateway: Gateway, chance: random.Random, killed: Counter[str]
) -> None:
    while not stop.wait(seconds):
        running = [pid for pid, state in gateway.children().items() if state != "Z"]
        if running:
            pid = chance.choice(sorted(running))
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                os.kill(pid, signal.SIGKILL)
                killed["guard" if len(command) > 2 else "php"] += 1


def sample(stop: threading.Event, gateway: Gateway, samples: list[dict[str, int]]) -> None:
    began = time.monotonic()
    while not stop.is_set():
        children = gateway.children()
        zombies = sum(1 for state in children.values() if state == "Z")
        samples.append({
            "second": round(time.monotonic() - began), "rss": gateway.rss(), "fds": gateway.fds(),
            "processes": len(children) - zombies, "zombies": zombies,
        })  # fmt: skip
        stop.wait(10)


def rest(gateway: Gateway, most: float = 30) -> dict[str, int]:
    """What is held once nothing has been asked for a while: taken when two looks agree, at the latest after `most`."""
    last: dict[str, int] = {}
    end = time.monotonic() + most
    while True:
        time.sleep(6)  # past server.max-keep-alive-idle
        counters = gateway.counters()
        kept = sum(value for name, value in counters.items() if name.startswith("gw.") and name.endswith(".idle"))
        children = gateway.children()
        now = {
            "fds": gateway.fds() - kept, "processes": len(children), "zombies": list(children.values()).count("Z"),
            "greenlets": gateway.greenlets(),
            "requests": counters["gw.active-requests"] + counters["gw.waiting-requests"],
        }  # fmt: skip
        if now == last or time.monotonic() > end:
            return now
        last = now


def report(tally: Tally, samples: list[dict[str, int]], killed: Counter[str], seconds: float) -> None:
    total = sum(counter.total() for counter in tally.outcomes.values())
    print(f"{total} requests in {seconds:.0f} s ({total / seconds:.0f}/s), killed: {dict(killed)}")
    if len(tally.milliseconds) > 100:
        cuts = statistics.quantiles(tally.milliseconds, n=100)
        print(f"milliseconds: median {cuts[49]:.1f}, p99 {cuts[98]:.1f}, most {max(tally.milliseconds):.0f}")
    for kind, counter in tally.outcomes.items():
        print(f"  {kind:12} " + ", ".join(f"{outcome}: {count}" for outcome, count in counter.most_common()))
    print("second  RSS KiB  fds  processes  zombies")
    step = max(1, len(samples) // 12)
    for row in samples[::step]:
        print(f"{row['second']:6}  {row['rss']:7}  {row['fds']:3}  {row['processes']:9}  {row['zombies']:7}")


def memory_grew(samples: list[dict[str, int]]) -> str:
    """Compares the last fifth of the time with the second: the first is warming up."""
    fifth = len(samples) // 5
    if fifth < 2:
        return ""
    early = statistics.median(row["rss"] for row in samples[fifth : 2 * fifth])
    late = statistics.median(row["rss"] for row in samples[-fifth:])
    print(f"memory: {early:.0f} KiB in the second fifth of the time, {late:.0f} KiB in the last")
    return f"memory grew from {early:.0f} to {late:.0f} KiB" if late > early * 1.05 + 1024 else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=10)
    parser.add_argument("--rate", type=float, default=120, help="requests a second (default: 120)")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kill-every", type=float, default=1, help="seconds (default: 1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        build(folder)
        gateway = Gateway(folder)
        try:
            return soak(gateway, options, chance)
        finally:
            gateway.process.terminate()
            status = gateway.process.wait(40)
            log = gateway.log.read_text("utf-8", "replace")
            print(f"the gateway ended with {status}; its log has {log.count(chr(10))} lines")
            for line in [line for line in log.splitlines() if "Traceback" in line or "internal" in line][:10]:
                print(f"  {line}")


class Workers:
    """Threads that work until the end of the block; each is told to stop by its first argument."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=(self._stop, *arguments), daemon=True))
        self._threads[-1].start()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)


def soak(gateway: Gateway, options: argparse.Namespace, chance: random.Random) -> int:
    samples: list[dict[str, int]] = []
    killed: Counter[str] = Counter()
    pause = options.clients / options.rate
    with Workers() as workers:
        for _ in range(options.clients):
            workers.start(Client(gateway.port, Tally(), chance).run, pause)
        time.sleep(5)
    before = rest(gateway)
    tally, began = Tally(), time.monotonic()
    with Workers() as workers:
        workers.start(kill_one_each, options.kill_every, gateway, chance, killed)
        workers.start(sample, gateway, samples)
        for _ in range(options.clients):
            workers.start(Client(gateway.port, tally, chance).run, pause)
        while time.monotonic() - began < options.minutes * 60 and gateway.process.poll() is None:
            time.sleep(0.5)
        seconds = time.monotonic() - began
    if gateway.process.poll() is not None:
        print("the gateway ended by itself")
        return 1
    # Those that were killed last are there again before it is counted.
    after = rest(gateway)
    report(tally, samples, killed, seconds)
    failed = {name: value for name, value in gateway.counters().items() if name.startswith("gw.failed.") and value}
    print(f"causes: {json.dumps(failed)}")
    print(f"at rest before: {json.dumps(before)}")
    print(f"at rest after:  {json.dumps(after)}")
    faults = [*dict.fromkeys(tally.wrong)]
    faults += [f"{name}: {before[name]} before, {after[name]} after" for name in after if after[name] > before[name]]
    faults += [fault for fault in (memory_grew(samples),) if fault]
    for fault in faults:
        print(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
