"""Decisions that gateways share in a real Redis, and everything that a Redis can do wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import pytest
import redis
from gevent.event import Event
from gevent.server import StreamServer
from peers.backend import answer
from peers.programs import find_peer
from peers.waiting import wait_until

from gfastcgi.auth.base import Allow
from gfastcgi.auth.cache import KeptDeny
from gfastcgi.auth.shared import SharedDecisions, SharingError
from gfastcgi.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway
    from peers.processes import Processes

SECRET = "0123456789abcdef0123456789abcdef"
YES = answer("Status: 200 OK\r\nVariable-REMOTE_USER: bob\r\n\r\n")
NO = answer("Status: 403 Forbidden\r\n\r\nno")
BOB = Allow({b"REMOTE_USER": b"b\xf6b"})


class Redis:
    """A real Redis on a unix socket, with a client of the tests' own."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.path = str(folder / "redis.sock")
        self._processes = processes
        self._folder = folder
        self.start()

    def start(self) -> None:
        options = {"port": "0", "unixsocket": self.path, "dir": str(self._folder), "save": "", "appendonly": "no"}
        command = [find_peer("redis"), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.process = self._processes.start(command, until=self.path, stdout=subprocess.DEVNULL)
        self.client: Any = redis.Redis(unix_socket_path=self.path)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def kept(self) -> dict[bytes, bytes]:
        """What it holds beside the epoch."""
        names = [name for name in self.client.scan_iter() if not name.endswith(b":epoch")]
        return {name: self.client.get(name) for name in names}

    @property
    def epoch(self) -> bytes:
        (name,) = self.client.keys("*:epoch")
        return bytes(name)

    @contextmanager
    def out_of_reach_of(self, shared: SharedDecisions) -> Iterator[None]:
        """For a while; `shared` looks for nothing by itself any more."""
        shared.stop()
        os.rename(self.path, self.path + "~")
        yield
        os.rename(self.path + "~", self.path)

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def server(processes: Processes, tmp_path: Path) -> Iterator[Redis]:
    server = Redis(processes, tmp_path)
    yield server
    server.client.close()


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def share(server: Redis) -> Iterator[Callable[..., SharedDecisions]]:
    made: list[SharedDecisions] = []

    def make(url: str = "", *, secret: str = SECRET, **options: Any) -> SharedDecisions:
        made.append(SharedDecisions(url or server.url, secret, **{"on_purge": lambda: None, **options}))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_what_one_keeps_another_finds(share: Callable[..., SharedDecisions], server: Redis) -> None:
    one, two = share(), share()
    denial = KeptDeny("401 Who", [("WWW-Authenticate", "Basic"), ("X", "\xe4")], b"\x00\xffno")
    one.keep(b"a", BOB, 60)
    one.keep(b"b", denial, 60)
    found = two.find(b"a")
    assert found is not None
    assert (found[0], 59 < found[1] <= 60) == (BOB, True)
    kept = two.find(b"b")
    assert kept is not None
    assert isinstance(kept[0], KeptDeny)
    assert (kept[0].status, kept[0].fields, kept[0].body) == (denial.status, denial.fields, denial.body)
    assert two.find(b"c") is None
    assert all(0 < server.client.pttl(name) <= 60_000 for name in server.kept())
    one.forget(b"a")
    assert two.find(b"a") is None


def test_it_ends_by_the_clock(share: Callable[..., SharedDecisions], server: Redis) -> None:
    clock = Clock()
    one = share(clock=clock)
    one.keep(b"a", BOB, 60)
    (name,) = server.kept()
    server.client.persist(name)
    clock.ahead = 59
    found = one.find(b"a")
    assert found is not None
    assert found[1] < 1.5
    clock.ahead = 60
    assert one.find(b"a") is None


def test_nothing_else_is_believed(share: Callable[..., SharedDecisions], server: Redis) -> None:
    """Whoever can write to Redis still lets nobody in: neither by values of his own nor by those of others."""
    one = share()
    one.keep(b"a", BOB, 60)
    (name,) = server.kept()
    good = server.kept()[name]
    one.keep(b"b", KeptDeny("403 No", [], b""), 60)
    (other,) = server.kept().keys() - {name}
    for value in (
        b"",
        b"x",
        good[:32],
        good[32:],
        good[:-1],
        good + b" ",
        b"\0" * 32 + good[32:],
        server.kept()[other],
    ):
        server.client.set(name, value)
        assert one.find(b"a") is None
    server.client.set(other, good)
    assert one.find(b"b") is None, "a value holds under its own name alone"
    server.client.set(name, good)
    assert one.find(b"a") is not None
    server.client.delete(name)
    server.client.lpush(name, "not a string")
    assert one.find(b"a") is None
    assert share(secret="another secret, as long as the first").find(b"a") is None


def test_the_names_tell_nothing(share: Callable[..., SharedDecisions], server: Redis) -> None:
    share().keep(b"SID=secret", BOB, 60)
    ((name, value),) = server.kept().items()
    assert b"secret" not in name + value


def test_a_purge_reaches_the_others(share: Callable[..., SharedDecisions]) -> None:
    purged = Event()
    one, two = share(), share(on_purge=purged.set)
    purged.clear()
    one.keep(b"a", BOB, 60)
    one.purge()
    assert one.find(b"a") is None
    assert purged.wait(10), "within a second, without a request"
    one.keep(b"a", BOB, 60)
    assert two.find(b"a") is not None


def test_a_purge_reaches_who_looks(share: Callable[..., SharedDecisions]) -> None:
    purges: list[int] = []
    one, two = share(), share(on_purge=lambda: purges.append(1))
    one.keep(b"a", BOB, 60)
    one.purge()
    before = len(purges)
    assert (two.find(b"a"), len(purges)) == (None, before + 1)


def test_a_lost_epoch_is_a_purge(share: Callable[..., SharedDecisions], server: Redis) -> None:
    purges: list[int] = []
    one = share(on_purge=lambda: purges.append(1))
    one.keep(b"a", BOB, 60)
    server.client.delete(server.epoch)
    before = len(purges)
    assert one.find(b"a") is None
    assert one.find(b"a") is None
    assert len(purges) == before + 1
    one.keep(b"a", BOB, 60)
    assert one.find(b"a") is not None


@pytest.mark.parametrize("epoch", [b"", b"\xff\xfe", b"x" * 32, b"a" * 33, b"x" * 1_000_000])
def test_an_epoch_that_is_none_of_ours_is_lost(
    share: Callable[..., SharedDecisions], server: Redis, epoch: bytes
) -> None:
    """Whoever can write to Redis may be a nuisance for a moment, and no longer."""
    one = share()
    one.keep(b"a", BOB, 60)
    server.client.set(server.epoch, epoch)
    assert one.find(b"a") is None
    one.keep(b"a", BOB, 60)
    assert one.find(b"a") is None, "it was kept in the epoch that was lost"
    one.keep(b"a", BOB, 60)
    assert one.find(b"a") is not None


REPLIES = [
    b":5\r\n", b"$-1\r\n", b"$1\r\na\r\n", b"+OK\r\n", b"-ERR no\r\n", b"*-1\r\n", b"*0\r\n", b"*1\r\n$1\r\na\r\n",
    b"*3\r\n:1\r\n:2\r\n:3\r\n", b"*2\r\n:1\r\n:2\r\n", b"*2\r\n*1\r\n:1\r\n*1\r\n:1\r\n", b"%1\r\n+a\r\n+b\r\n",
    b"*2\r\n$32\r\n" + b"a" * 32 + b"\r\n:1\r\n", b"HTTP/1.1 400 Bad\r\n\r\n", b"$99999999999\r\na\r\n",
]  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES)
def test_what_is_no_redis_finds_nothing(share: Callable[..., SharedDecisions], reply: bytes) -> None:
    def serve(sock: Any, _: object) -> None:
        while sock.recv(65536):
            sock.sendall(reply)

    fake = StreamServer(("127.0.0.1", 0), serve)
    fake.start()
    clock = Monotonic()
    one = share(f"redis://127.0.0.1:{fake.server_port}", monotonic=clock)
    for _ in range(3):
        one.keep(b"a", BOB, 60)
        assert one.find(b"a") is None
        clock.now += 1
    one.stop()
    fake.stop(timeout=1)


class Monotonic:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_purge_that_redis_has_not_heard_of(share: Callable[..., SharedDecisions], server: Redis) -> None:
    """What is there is not believed before the others are told, which happens by itself."""
    clock, purged = Monotonic(), list[int]()
    one, other = share(monotonic=clock, on_purge=lambda: purged.append(1)), share()
    one.keep(b"a", BOB, 60)
    with server.out_of_reach_of(one), pytest.raises(SharingError, match="will be told when it is back"):
        one.purge()
    purged.clear()
    assert one.find(b"a") is None
    assert other.find(b"a") is not None
    clock.now += 1
    assert one.find(b"a") is None
    assert purged == [1], "what was read meanwhile was of the old epoch"
    assert other.find(b"a") is None
    one.keep(b"a", BOB, 60)
    assert one.find(b"a") is not None


def test_what_redis_was_not_told_to_forget(share: Callable[..., SharedDecisions], server: Redis) -> None:
    clock = Monotonic()
    one, other = share(monotonic=clock), share()
    one.keep(b"a", BOB, 60)
    with server.out_of_reach_of(one):
        one.forget(b"a")
    clock.now += 1
    assert one.find(b"a") is None
    assert other.find(b"a") is not None
    one.forget(b"b")
    assert other.find(b"a") is None


@pytest.mark.parametrize("nonsense", [b":x\r\n", b"$x\r\n", b"*x\r\n", b"_\r\n", b"*1\r\n" * 2000 + b":1\r\n"])
def test_nonsense_is_an_outage(nonsense: bytes, share: Callable[..., SharedDecisions]) -> None:
    def answer(sock: Any, _: object) -> None:
        while sock.recv(65536):
            sock.sendall(nonsense)

    listener = StreamServer(("127.0.0.1", 0), answer)
    listener.start()
    try:
        one = share(f"redis://127.0.0.1:{listener.server_port}")
        assert one.find(b"a") is None
        one.keep(b"a", BOB, 60)
        one.forget(b"a")
        with pytest.raises(SharingError):
            one.purge()
    finally:
        listener.stop()


def test_an_outage(share: Callable[..., SharedDecisions], server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    clock = Monotonic()
    one = share(monotonic=clock)
    one.keep(b"a", BOB, 60)
    server.stop()
    for _ in range(3):
        assert one.find(b"a") is None
        one.keep(b"b", BOB, 60)
        one.forget(b"a")
        with pytest.raises(SharingError):
            one.purge()
    assert caplog.text.count("Redis is out of reach, every gateway asks") == 1
    server.start()
    assert one.find(b"a") is None, "it rests after a failure"
    clock.now += 1
    one.find(b"a")
    one.find(b"a")
    one.keep(b"a", BOB, 60)
    assert one.find(b"a") is not None


def test_a_restart_is_no_failure(share: Callable[..., SharedDecisions], server: Redis) -> None:
    """A connection that Redis closed meanwhile is replaced at once."""
    one = share()
    server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    one.keep(b"a", BOB, 60)
    server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert one.find(b"a") is not None


def test_before_redis_is_there(server: Redis, share: Callable[..., SharedDecisions]) -> None:
    server.stop()
    one = share()
    one.keep(b"a", BOB, 60)
    assert one.find(b"a") is None


def test_a_silent_redis_holds_nobody_for_long(share: Callable[..., SharedDecisions]) -> None:
    """It accepts, and says nothing, or dribbles; other greenlets run on meanwhile."""
    came = Event()

    def dribble(sock: Any, _: object) -> None:
        came.set()
        with pytest.raises(OSError):  # noqa: PT011, PT012
            while True:
                sock.sendall(b"*")
                gevent.sleep(0.05)

    fake = StreamServer(("127.0.0.1", 0), dribble)
    fake.start()
    looking = gevent.spawn(share, f"redis://127.0.0.1:{fake.server_port}")
    assert came.wait(5), "the hub goes on"
    one = looking.get(timeout=5)
    assert one.find(b"a") is None
    fake.stop(timeout=1)


@pytest.mark.parametrize("url", ["http://a", "rediss://a", "redis://a:b", "redis://a/0?x=1", "unix:///a?x=1", ""])
def test_bad_urls(url: str) -> None:
    with pytest.raises(InvalidValue, match=r"fastcgi\.cache-redis"):
        SharedDecisions(url, SECRET, on_purge=lambda: None)


def test_over_tcp_with_a_password(processes: Processes, tmp_path: Path) -> None:
    from peers.processes import free_port

    port = free_port()
    command = [find_peer("redis"), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "pw", "--save", ""]
    processes.start(command, until=("127.0.0.1", port), stdout=subprocess.DEVNULL, cwd=tmp_path)
    for url, is_good in (("redis://:pw@127.0.0.1:{}/1", True), ("redis://:no@127.0.0.1:{}", False)):
        one = SharedDecisions(url.format(port), SECRET, on_purge=lambda: None)
        one.start()
        one.keep(b"a", BOB, 60)
        assert (one.find(b"a") is not None) is is_good
        one.stop()


# Gateways


def test_two_gateways(
    server: Redis, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/a.txt").write_text("secret")
    guard = backend(lambda seen: YES)
    sites = [
        gateway(
            f'fastcgi.cache-redis = "{server.url}"\nfastcgi.cache-secret = "{SECRET}"\n'
            f'server.control-socket = "{tmp_path}/control-{number}.sock"\n'
            f'fastcgi.server = ( "/private/" => (( {guard.option}, "mode" => "authorizer", "disable-time" => 0,\n'
            f'"check-local" => 0, "cache" => ( "ttl" => 60, "key" => ( "cookie:SID" ) ){rest} )) )\n'
        )
        for number, rest in enumerate(["", "", ', "require-status" => "enable"'])
    ]
    one, two, other = sites
    for site, asked in ((one, 1), (two, 1), (two, 1), (other, 2)):
        assert site.get("/private/a.txt", cookie="SID=a").body == b"secret"
        assert guard.begun == asked, "another configuration is another authorizer"
    assert not any(b"SID" in name + value for name, value in server.kept().items())

    guard.script = lambda seen: NO
    purge = [sys.executable, "-m", "gfastcgi", "purge", "--socket", f"{tmp_path}/control-0.sock"]
    subprocess.run(purge, check=True, capture_output=True)
    assert one.get("/private/a.txt", cookie="SID=a").status == 403
    wait_until(lambda: two.get("/private/a.txt", cookie="SID=a").status == 403, "the purge to reach the other gateway")

    for name in server.kept():
        server.client.set(name, b"\0" * 32 + b'{"until": 1e12, "epoch": "", "allow": []}')
    assert one.get("/private/a.txt", cookie="SID=a").status == 403
    server.stop()
    for site in sites:
        assert site.get("/private/a.txt", cookie="SID=c").status == 403
    guard.script = lambda seen: YES
    assert two.get("/private/a.txt", cookie="SID=c").status == 200
    told = subprocess.run(purge, capture_output=True, text=True, check=False)
    assert (told.returncode, "Redis is out of reach" in told.stderr) == (1, True)
