"""`Client` and `Pool`: what is sent, what comes back, and what is left when it goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from peers.backend import (
    CANT_MPX_CONN,
    OVERLOADED,
    STDERR,
    UNKNOWN_ROLE,
    Reply,
    answer,
    end,
    record,
    stdout,
)  # fmt: skip
from procrig import wait_until

from gfastcgi import Client, HostConfig, Pool
from gfastcgi.errors import (
    BackendClosed,
    BackendTimeout,
    BadCGIResponse,
    BadRecord,
    ConnectError,
    ConnectTimeout,
    InvalidValue,
    LocalProtocolError,
    NoBackendAvailable,
    Overloaded,
    UnknownRole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from peers.backend import BackendConnection, ScriptedBackend

HELLO = "Content-Type: text/plain\r\n\r\nhello"


def address_of(peer: ScriptedBackend) -> str:
    if isinstance(peer.address, str):
        return f"unix:{peer.address}"
    return f"tcp://{peer.address[0]}:{peer.address[1]}"


@pytest.fixture
def client(backend: Callable[..., ScriptedBackend]) -> Iterator[Callable[..., tuple[Client, ScriptedBackend]]]:
    made: list[Client] = []

    def make(*arguments: Any, tcp: bool = False, **options: Any) -> tuple[Client, ScriptedBackend]:
        talk = options.pop("talk", None)
        peer = backend(*arguments, tcp=tcp, talk=talk)
        made.append(Client(address_of(peer), **options))
        return made[-1], peer

    yield make
    for each in made:
        each.stop()
        wait_until(lambda each=each: not (each.backend.hosts[0].load or each.backend.waiting), "all leases to end")


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("tcp", [False, True])
def test_an_answer(client: Callable[..., tuple[Client, ScriptedBackend]], tcp: bool) -> None:
    told = "Status: 418 Teapot\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Type: text/plain\r\n\r\nshort"
    asked, peer = client(lambda seen: answer(told, stderr=b"a warning") if seen.params else b"", tcp=tcp)
    response = asked.request({"SCRIPT_FILENAME": "/srv/a.php", "X": "caf\u00e9", "N": 7, b"B": b"\xff"})  # type: ignore[dict-item]
    assert (response.status, response.headers.getall("Set-Cookie")) == ("418 Teapot", ["a=1", "b=2"])
    assert (response.text, response.stderr, response.app_status) == ("short", b"a warning", 0)
    assert response.is_complete
    sent = peer.last
    assert (sent.role, sent.keep_conn, sent.stdin_size) == (1, False, 0)
    assert (sent.params["X"], sent.params["N"], sent.params["B"]) == ("caf\u00e9".encode(), b"7", b"\xff")
    assert (sent.text("REQUEST_METHOD"), sent.text("CONTENT_LENGTH"), sent.text("QUERY_STRING")) == ("GET", "0", "")


def test_usual_variables_can_be_replaced_and_taken_away(
    client: Callable[..., tuple[Client, ScriptedBackend]],
) -> None:
    asked, peer = client()
    asked.request({"REQUEST_METHOD": "PUT", "SERVER_NAME": None, "CONTENT_LENGTH": None}, b"x").close()
    assert peer.last.text("REQUEST_METHOD") == "PUT"
    assert not {"SERVER_NAME", "CONTENT_LENGTH"} & peer.last.params.keys()
    asked.request({}, b"x").close()
    assert (peer.last.text("REQUEST_METHOD"), peer.last.text("CONTENT_LENGTH")) == ("POST", "1")


class Unseekable:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


DATA = os.urandom(300_000)
PIECES = [DATA[at : at + 7777] for at in range(0, len(DATA), 7777)]


@pytest.mark.parametrize(
    "body",
    [
        lambda folder: DATA, lambda folder: bytearray(DATA), lambda folder: memoryview(DATA),
        lambda folder: io.BytesIO(DATA), lambda folder: Unseekable(DATA), lambda folder: PIECES,
        lambda folder: iter([b"", *PIECES, b""]), lambda folder: (folder / "data").open("rb"),
    ],
    ids=["bytes", "bytearray", "memoryview", "seekable", "unseekable", "list", "iterator", "file"],
)  # fmt: skip
@pytest.mark.parametrize("promised", [False, True])
def test_bodies(
    client: Callable[..., tuple[Client, ScriptedBackend]],
    tmp_path: Path, body: Callable[[Path], Any], promised: bool,
) -> None:  # fmt: skip
    asked, peer = client()
    (tmp_path / "data").write_bytes(DATA)
    given = body(tmp_path)
    told = asked.request({"CONTENT_LENGTH": len(DATA)} if promised else {}, given).json
    assert (told["size"], told["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert peer.last.text("CONTENT_LENGTH") == str(len(DATA))
    if hasattr(given, "close"):
        assert not given.closed
        given.close()


def failing() -> Iterator[bytes]:
    yield b"abc"
    raise KeyError("the program's own")


@pytest.mark.parametrize(
    ("params", "body", "error", "words"),
    [
        ({"CONTENT_LENGTH": 6}, iter([b"abc", b"defg"]), LocalProtocolError, "1 bytes more than the 6"),
        ({"CONTENT_LENGTH": 6}, iter([b"abc"]), LocalProtocolError, "3 bytes less than the 6"),
        ({"CONTENT_LENGTH": 6}, io.BytesIO(b"abc"), LocalProtocolError, "3 bytes less"),
        ({"CONTENT_LENGTH": 6}, failing(), KeyError, "own"),
        ({}, failing(), KeyError, "own"),
        ({"CONTENT_LENGTH": 6}, b"abc", ValueError, "has 3 bytes, and CONTENT_LENGTH says 6"),
        ({"CONTENT_LENGTH": "six"}, b"abc", ValueError, "CONTENT_LENGTH is a number"),
        ({}, "text", TypeError, "expected a bytes-like object, str found"),
        ({}, 7, TypeError, "not iterable"),
        ({"A": 1.5}, b"", TypeError, "text, bytes or a number"),
    ],
)
def test_bodies_that_fail(
    client: Callable[..., tuple[Client, ScriptedBackend]],
    params: Any, body: Any, error: type[Exception], words: str,
) -> None:  # fmt: skip
    asked, peer = client(max_connections=1)
    with pytest.raises(error, match=words):
        asked.request(params, body)
    assert asked.request({}).status_int == 200
    peer.wait_for(lambda peer: peer.open == 1, "only the kept connection to be open")


def test_a_filter_whose_body_fails(
    client: Callable[..., tuple[Client, ScriptedBackend]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked, _ = client()
    with pytest.raises(KeyError, match="own"):
        asked.request({"CONTENT_LENGTH": 6}, failing(), role="filter", data=b"data")
    with pytest.raises(KeyError, match="own"):
        asked.request({"FCGI_DATA_LENGTH": 6}, b"body", role="filter", data=failing())
    assert capsys.readouterr().err == ""


def test_a_body_that_fails_behind_the_head(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    def talk(connection: BackendConnection) -> None:
        connection.read_request(until="params")
        connection.sock.sendall(stdout(b"A: 1\r\n\r\nbegun"))
        connection.wait_for_end()

    asked, _ = client(talk=talk)
    go_on = gevent.event.Event()

    def body() -> Iterator[bytes]:
        yield b"abc"
        go_on.wait()
        raise KeyError("later")

    response = asked.request({"CONTENT_LENGTH": 6}, body())
    go_on.set()
    with pytest.raises(KeyError, match="later"):
        assert response.body


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(b"", "close"), BackendClosed),
        (Reply(stdout(b"A: 1"), "close"), BackendClosed),
        (end(), BadCGIResponse),
        (stdout(b"no field\r\n\r\n") + end(), BadCGIResponse),
        (b"\x07" * 64, BadRecord),
        (end(protocol_status=OVERLOADED), Overloaded),
        (end(protocol_status=CANT_MPX_CONN), Overloaded),
        (end(protocol_status=UNKNOWN_ROLE), UnknownRole),
        (Reply(b"", "hang"), BackendTimeout),
    ],
)
def test_what_is_no_answer_raises(
    client: Callable[..., tuple[Client, ScriptedBackend]], reply: bytes | Reply, error: type[Exception]
) -> None:
    asked, _ = client(lambda seen: reply, read_timeout=0.2, disable_time=0)
    with pytest.raises(error):
        asked.request({})


def test_a_program_that_takes_nothing(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    def talk(connection: BackendConnection) -> None:
        connection.backend.wait_for(lambda peer: ended, "the test")

    ended: list[bool] = []
    asked, _ = client(talk=talk, write_timeout=0.2)
    with pytest.raises(BackendTimeout, match="takes no more of the body") as caught:
        asked.request({}, bytes(10_000_000))
    ended.append(True)
    assert caught.value.cause == "write_timeout"


def test_a_program_that_accepts_nobody(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "full.sock"))
    listener.listen(0)
    with listener, socket.socket(socket.AF_UNIX) as first:
        first.connect(str(tmp_path / "full.sock"))
        with Client(f"unix:{tmp_path}/full.sock", connect_timeout=0.1) as asked, pytest.raises(ConnectTimeout):
            asked.request({})


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(stdout(b"A: 1\r\n\r\nhalf"), "close"), BackendClosed),
        (Reply(stdout(b"A: 1\r\n\r\nhalf"), "hang"), BackendTimeout),
        (Reply(stdout(b"Content-Length: 9\r\n\r\nhalf") + end(), "close"), BackendClosed),
        (Reply(stdout(b"A: 1\r\n\r\nhalf") + b"\x07" * 64, "close"), BadRecord),
    ],
)
def test_an_answer_that_breaks_off_never_looks_whole(
    client: Callable[..., tuple[Client, ScriptedBackend]], reply: Reply, error: type[Exception]
) -> None:
    asked, _ = client(lambda seen: reply, read_timeout=0.2)
    with pytest.raises(error):
        assert asked.request({}).body


def test_content_length_is_where_an_answer_ends(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, peer = client(lambda seen: answer("Content-Length: 3\r\n\r\nfour"))
    assert asked.request({}).body == b"fou"
    for params in ({"REQUEST_METHOD": "HEAD"}, {}):
        peer.script = lambda seen: answer("Status: 304\r\nContent-Length: 5\r\n\r\n")
        assert asked.request(params).body == b""


def test_errors_say_what_the_program_said(
    client: Callable[..., tuple[Client, ScriptedBackend]], caplog: pytest.LogCaptureFixture
) -> None:
    asked, _ = client(lambda seen: Reply(record(STDERR, b"out of luck\n"), "close"))
    with pytest.raises(BackendClosed):
        asked.request({})
    assert "FastCGI-stderr: out of luck" in caplog.text


def test_stderr_without_end_takes_bounded_room(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, _ = client(lambda seen: answer("A: 1\r\n\r\nwhole", stderr=b"ab" * 1_000_000))
    response = asked.request({})
    assert (response.body, response.stderr) == (b"whole", b"ab" * 32768)


def test_app_status_comes_with_the_end(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(b"A: 1\r\n\r\nbegun"))
        assert not connection.backend.ending.is_set()
        connection.backend.wait_for(lambda peer: go_on, "the test")
        connection.sock.sendall(stdout(b", ended") + record(STDERR, b"late") + end(app_status=3))

    go_on: list[bool] = []
    asked, _ = client(talk=talk)
    with asked.request({}) as response:
        pieces = iter(response.app_iter)
        assert (next(pieces), response.app_status, response.is_complete) == (b"begun", None, False)
        go_on.append(True)
        assert b"".join(pieces) == b", ended"
        assert (response.app_status, response.stderr) == (3, b"late")


def test_interim_answers_are_passed_over(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, _ = client(lambda seen: answer("Status: 103 Early\r\nLink: </a>\r\n\r\nStatus: 200 OK\r\n\r\nx"))
    response = asked.request({})
    assert (response.status, response.body) == ("200 OK", b"x")


def test_connections_are_kept_and_requests_wait_for_them(
    client: Callable[..., tuple[Client, ScriptedBackend]],
) -> None:
    asked, peer = client(max_connections=2)
    greenlets = [gevent.spawn(lambda: asked.request({}).json["size"]) for _ in range(20)]
    assert [greenlet.get() for greenlet in greenlets] == [0] * 20
    assert peer.connections <= 2
    assert all(seen.keep_conn for seen in peer.requests)


def test_the_queue_has_a_deadline(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, _ = client(lambda seen: Reply(stdout(b"A: 1\r\n\r\n"), "hang"), max_connections=1, queue_timeout=0.1)
    with asked.request({}), pytest.raises(Overloaded, match="no free connection"):
        asked.request({})


def test_an_answer_that_is_closed_is_aborted(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(b"A: 1\r\n\r\nbegun"))
        connection.read_request()

    asked, peer = client(talk=talk, max_connections=1)
    asked.request({}).close()
    peer.wait_for(lambda peer: peer.aborts == 1, "ABORT_REQUEST")


def test_an_answer_that_is_forgotten_gives_its_connection_back(
    client: Callable[..., tuple[Client, ScriptedBackend]],
) -> None:
    asked, peer = client(lambda seen: Reply(stdout(b"A: 1\r\n\r\nbegun"), "hang"), max_connections=1)
    with pytest.warns(ResourceWarning, match="neither read nor closed"):
        del [asked.request({})][:]
    wait_until(lambda: not asked.backend.hosts[0].load, "the lease to be given back")
    peer.wait_for(lambda peer: not peer.open, "the connection to end")


def test_killed_greenlets_leave_nothing(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    """200 of them, in every state: connecting, queued, sending, waiting for a head, reading a body."""

    def talk(connection: BackendConnection) -> None:
        seen = connection.read_request(until="params")
        if seen is not None and seen.text("KIND") == "body":
            connection.sock.sendall(stdout(b"A: 1\r\n\r\nbegun"))
        connection.wait_for_end()

    asked, peer = client(talk=talk, max_connections=50)
    asked.start()
    before = fds()

    def ask(kind: str) -> None:
        body = (b"x" * 65536 for _ in range(100)) if kind == "send" else b""
        params = {"KIND": kind} | ({"CONTENT_LENGTH": 6553600} if kind == "send" else {})
        assert asked.request(params, body).body

    for delay in (None, 0.0, 0.05, 0.2):
        greenlets = [gevent.spawn(ask, kind) for kind in ("head", "body", "send", "head", "body") * 10]
        if delay is not None:
            gevent.sleep(delay)
        gevent.killall(greenlets)
        assert all(isinstance(greenlet.value, gevent.GreenletExit) for greenlet in greenlets)
    host = asked.backend.hosts[0]
    assert (host.load, asked.backend.waiting, host.procs[0].idle) == (0, 0, [])
    peer.wait_for(lambda peer: not peer.open, "the connections to end")
    wait_until(lambda: fds() == before, "the descriptors to be closed")


def test_a_timeout_of_the_program_leaves_nothing(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, peer = client(lambda seen: Reply(stdout(b"A: 1\r\n\r\nbegun"), "hang"), max_connections=1)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
        assert asked.request({}).body
    assert asked.backend.hosts[0].load == 0
    peer.wait_for(lambda peer: not peer.open, "the connection to end")


def test_the_other_roles(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, peer = client(lambda seen: answer("Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\n\r\n"))
    response = asked.request({"REQUEST_URI": "/private"}, role="authorizer")
    assert (response.headers["Variable-REMOTE_USER"], peer.last.role) == ("ada", 2)
    assert "CONTENT_LENGTH" not in peer.last.params
    with pytest.raises(ValueError, match="FCGI_DATA is for a filter"):
        asked.request({}, data=b"x")
    with pytest.raises(KeyError):
        asked.request({}, role="actor")  # type: ignore[arg-type]


def test_values(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, peer = client()
    peer.values = b"\x0e\x01FCGI_MAX_CONNS4"
    assert asked.get_values() == {"FCGI_MAX_CONNS": "4"}
    assert asked.get_values(["FCGI_MAX_CONNS"]) == {"FCGI_MAX_CONNS": "4"}


def test_a_pool_shares_requests(backend: Callable[..., ScriptedBackend]) -> None:
    peers = [backend(), backend(tcp=True)]
    with Pool(map(address_of, peers), balance="round-robin", max_connections=4) as pool:
        for _ in range(10):
            assert pool.request({}).json["size"] == 0
        assert [len(peer.requests) for peer in peers] == [5, 5]
        assert pool.statistics()["fastcgi.requests"] == 10
        peers[0].stop()
        for _ in range(4):
            assert pool.request({}).json["size"] == 0
    assert len(peers[1].requests) == 9


def test_weights_and_keys(backend: Callable[..., ScriptedBackend]) -> None:
    peers = [backend(), backend()]
    hosts = [HostConfig(socket=str(peer.address), weight=weight) for peer, weight in zip(peers, (1, 3), strict=True)]
    with Pool(hosts, balance="round-robin") as pool:
        for _ in range(8):
            pool.request({}).close()
    assert [len(peer.requests) for peer in peers] == [2, 6]
    with Pool([address_of(peer) for peer in peers], balance="sticky") as pool:
        counts = [len(peer.requests) for peer in peers]
        for _ in range(6):
            pool.request({"REMOTE_ADDR": "192.0.2.1"}).close()
    assert sorted(len(peer.requests) - count for peer, count in zip(peers, counts, strict=True)) == [0, 6]


def test_entries_of_one_address_keep_their_own_timeouts(backend: Callable[..., ScriptedBackend]) -> None:
    peer = backend()
    hosts = [HostConfig(socket=str(peer.address), max_connections=1, read_timeout=seconds) for seconds in (5, 7)]
    found = set()
    with Pool(hosts, balance="round-robin") as pool:
        for _ in hosts:
            pool.request({}).close()
            (kept,) = pool.backend.hosts[0].procs[0].idle
            found.add(kept.stream.read_timeout)
    assert (found, peer.connections) == ({5, 7}, 1)


def test_nobody_there(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/none.sock") as nobody:
        with pytest.raises(ConnectError):
            nobody.request({})
        with pytest.raises(NoBackendAvailable):
            nobody.request({})
        with pytest.raises(ConnectError):
            nobody.get_values()
    with pytest.raises(NoBackendAvailable, match="it was stopped"):
        nobody.request({})
    nobody.stop()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Client("php-fpm.sock"), "neither unix:PATH nor HOST:PORT"),
        (lambda: Client("unix:"), "names no path"),
        (lambda: Client("unix:/a", read_timout=1), "read_timout"),
        (lambda: Client(HostConfig(socket="/a"), weight=3), "options beside a HostConfig: weight"),
        (lambda: Pool([]), "without a host"),
        (lambda: Pool(["unix:/a"], balance="none"), 'no balance named "none"'),
    ],
)
def test_what_makes_no_pool(make: Callable[[], Pool], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        make()


def test_a_start_that_fails_is_told_to_all(tmp_path: Path) -> None:
    pool = Pool([HostConfig(socket=f"{tmp_path}/x.sock", bin_path="/no/such/program", max_procs=1)])
    greenlets = [gevent.spawn(pool.request, {}) for _ in range(3)]
    gevent.sleep(0)
    greenlets[0].kill()
    for greenlet in greenlets[1:]:
        with pytest.raises(Exception, match="/no/such/program"):
            greenlet.get()


def test_the_answer_is_told_by_json(client: Callable[..., tuple[Client, ScriptedBackend]]) -> None:
    asked, _ = client(lambda seen: answer("Content-Type: application/json\r\n\r\n" + json.dumps({"a": 1})))
    assert asked.request({}).json == {"a": 1}
    assert repr(asked).startswith("<Client of ")
