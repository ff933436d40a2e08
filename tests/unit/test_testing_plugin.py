"""`gfastcgi.testing` in its parts: what the fakes answer and note, and that the plugin is light."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gfastcgi import lighttpd
from gfastcgi.config import Address, Config, ServerConfig, Settings
from gfastcgi.errors import ConfigErrors
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import WebServer
from gfastcgi.testing import (
    ROWS,
    Asked,
    FakeAuthorizer,
    FakeFPM,
    Reply,
    allow,
    answer,
    broken,
    cannot_multiplex,
    deny,
    fatal_error,
    in_turn,
    overloaded,
    page,
    script_unknown,
    silent,
    slow,
    unknown_role,
    wait_until,
    write_config,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gfastcgi.testing import Script

PARAMS = b"\x0b\x02REQUEST_URI/x"


def connect(address: str | tuple[str, int]) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(10)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def ask(
    address: str | tuple[str, int], body: bytes = b"", role: int = constants.RESPONDER
) -> tuple[bytes, bytes, int | None]:
    """STDOUT, STDERR, and the protocol status; None when the connection ended before the answer did."""
    said: dict[str, bytes] = {"Stdout": b"", "Stderr": b""}
    core = WebServer()
    with connect(address) as client:
        client.sendall(core.begin_request(1, role, PARAMS, keep_conn=True, stdin=body))
        while True:
            try:
                data = client.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return said["Stdout"], said["Stderr"], None
            for event in core.receive_data(data):
                name = type(event).__name__
                if name in said:
                    said[name] += event.data
                else:
                    return said["Stdout"], said["Stderr"], event.protocol_status


@pytest.fixture
def fpm(tmp_path: Path) -> Iterator[FakeFPM]:
    with FakeFPM(str(tmp_path / "fpm.sock")) as fpm:
        yield fpm


HELLO = b"Content-Type: text/html; charset=UTF-8\r\n\r\nhello"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (page("hello"), (HELLO, b"", 0)),
        (
            page(b"\0", content_type="", status="201 Made", fields=[("A", "1")]),
            (b"Status: 201 Made\r\nA: 1\r\n\r\n\0", b"", 0),
        ),
        (lambda asked: answer("A: 1\r\n\r\n" + asked.text("REQUEST_URI")), (b"A: 1\r\n\r\n/x", b"", 0)),
        (
            script_unknown(),
            (
                b"Status: 404 Not Found\r\nContent-Type: text/html; charset=UTF-8\r\n\r\nFile not found.\n",
                b"Primary script unknown",
                0,
            ),
        ),
        (
            fatal_error("no"),
            (
                b"Status: 500 Internal Server Error\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n",
                b"PHP message: PHP Fatal error:  no",
                0,
            ),
        ),
        (cannot_multiplex(), (b"", b"", 1)),
        (overloaded(), (b"", b"", 2)),
        (unknown_role(), (b"", b"", 3)),
        (allow(REMOTE_USER="ada"), (b"Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\n\r\n", b"", 0)),
        (deny(body="no"), (b"Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nno", b"", 0)),
        (slow(page("hello"), 0.01), (HELLO, b"", 0)),
        (broken(page("hello"), 20), (b"", b"", None)),
        (broken(page("hello"), 20, "reset"), (b"", b"", None)),
        (broken(page("hello"), 20, "half"), (b"", b"", None)),
    ],
)  # fmt: skip
def test_what_scripts_answer(fpm: FakeFPM, script: Script, told: tuple[bytes, bytes, int | None]) -> None:
    fpm.script = script
    found = ask(fpm.address)
    assert found[1:] == told[1:]
    assert found[0] == told[0] or told[2] is None


def test_it_is_slow_by_the_clock(fpm: FakeFPM) -> None:
    """The wait is the reply's, and adds up; stopping does not wait for it."""
    asked = Asked(constants.RESPONDER, 1, True, 1, "/x")
    reply = slow(slow(page("x"), 1), 2)(asked)
    assert isinstance(reply, Reply)
    assert reply.after == 3
    fpm.script = slow(page("late"), 3600)
    with connect(fpm.address) as client:
        client.sendall(WebServer().begin_request(1, constants.RESPONDER, PARAMS, keep_conn=True, stdin=b""))
        fpm.wait_for(lambda fpm: fpm.requests, "the request")
        fpm.stop()


def test_silence_lasts_until_the_end(fpm: FakeFPM) -> None:
    fpm.script = silent()
    with connect(fpm.address) as client:
        client.sendall(WebServer().begin_request(1, constants.RESPONDER, PARAMS, keep_conn=True, stdin=b""))
        fpm.wait_for(lambda fpm: fpm.requests, "the request")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
    fpm.wait_for(lambda fpm: not fpm.open, "the end")


def test_in_turn(fpm: FakeFPM) -> None:
    fpm.script = in_turn(overloaded(), lambda asked: Reply(b"", "close"), page("hello"))
    assert [ask(fpm.address)[2] for _ in range(4)] == [2, None, 0, 0]


def test_what_it_notes(fpm: FakeFPM) -> None:
    ask(fpm.address, b"body")
    assert (fpm.last.stdin, fpm.last.stdin_size, fpm.last.role, fpm.last.keep_conn) == (b"body", 4, 1, True)
    assert (fpm.last.text("REQUEST_URI"), fpm.last.text("HTTP_X")) == ("/x", None)
    assert (fpm.connections, fpm.begun, len(fpm.requests)) == (1, 1, 1)
    assert fpm.url == f"unix:{fpm.address}"
    assert fpm.option == f'"socket" => "{fpm.address}"'
    with FakeFPM(("127.0.0.1", 0)) as other:
        assert other.url == f"tcp://127.0.0.1:{other.address[1]}"
        assert other.option == f'"host" => "127.0.0.1", "port" => {other.address[1]}'


@pytest.mark.parametrize("is_serial", [False, True])
@pytest.mark.parametrize("tcp", [False, True])
def test_down_and_up(tmp_path: Path, tcp: bool, is_serial: bool) -> None:
    address = ("127.0.0.1", 0) if tcp else str(tmp_path / "fpm.sock")
    with FakeFPM(address, page("hello"), is_serial=is_serial) as fpm:
        for _ in range(2):
            assert ask(fpm.address)[0] == HELLO
            fpm.go_down()
            with pytest.raises(ConnectionRefusedError):
                connect(fpm.address)
            fpm.come_up()
        assert ask(fpm.address)[0] == HELLO
    assert tcp or not Path(str(address)).exists()


def test_a_script_that_raises_is_told_of_at_the_end(tmp_path: Path) -> None:
    fpm = FakeFPM(str(tmp_path / "fpm.sock"), lambda asked: 1 // 0)  # type: ignore[arg-type, return-value]
    assert ask(fpm.address) == (b"", b"", None)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        fpm.stop()
    assert wait_until(lambda: not fpm.open, "the end")


def authorize(gate: FakeAuthorizer, proc: int = 0) -> tuple[bytes, bytes, int | None]:
    paths = [entry.split('"')[7] for entry in gate.hosts().split("), (")]
    return ask(paths[proc], role=constants.AUTHORIZER)


def test_authorizers_answer_as_their_rows_say(tmp_path: Path) -> None:
    with FakeAuthorizer("az-403", tmp_path) as gate:
        assert authorize(gate)[0].startswith(b"Status: 403")
        assert (gate.expected.status, gate.requests[-1].role) == (403, constants.AUTHORIZER)
    with FakeAuthorizer("az-overloaded-one", tmp_path) as gate:
        assert [authorize(gate, proc)[2] for proc in (0, 1)] == [2, 0]
    with FakeAuthorizer("az-down", tmp_path) as gate, pytest.raises(FileNotFoundError):
        authorize(gate)
    with FakeAuthorizer("az-200-twice", tmp_path) as gate:
        gate.step = 1
        assert gate.expected.status == 403
        assert authorize(gate)[0].startswith(b"Status: 403")
    with FakeAuthorizer(deny("401 Who"), tmp_path) as gate:
        assert authorize(gate)[0].startswith(b"Status: 401")
        with pytest.raises(AttributeError, match="a script"):
            gate.expected  # noqa: B018
    with pytest.raises(KeyError, match="az-unheard-of"):
        FakeAuthorizer("az-unheard-of", tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_hosts_of_every_row_are_understood(row: object, tmp_path: Path) -> None:
    with FakeAuthorizer(row, tmp_path) as gate:  # type: ignore[arg-type]
        hosts = gate.hosts('"weight" => 2')
        text = f'server.document-root = "/srv"\nfastcgi.server = ( "/" => ( {hosts} ) )'
        config, _ = lighttpd.loads(text, "site.conf")
        [extension] = config.settings.extensions
        assert [host.mode for host in extension.hosts] == ["authorizer"] * gate.row.procs  # type: ignore[union-attr]
        assert {host.weight for host in extension.hosts} == {2}


def test_write_config(tmp_path: Path) -> None:
    def read(config: str | Config) -> Config:
        return lighttpd.load(str(write_config(config, tmp_path)))[0]

    nothing = read("")
    assert nothing.server.listeners == (Address("127.0.0.1", 0),)
    assert nothing.settings.document_root == str(tmp_path)
    said = read('server.bind = "[::1]"\n  server.port=9\nserver.document-root = "/srv"')
    assert said.server.listeners == (Address("::1", 9),)
    assert said.settings.document_root == "/srv"
    assert read(Config(settings=Settings(document_root="/srv"))).server.listeners == (Address("127.0.0.1", 0),)
    at = Config(server=ServerConfig(listeners=(Address(path="/run/x.sock"),)), settings=Settings(document_root="/srv"))
    assert read(at).server.listeners == (Address(path="/run/x.sock"),)
    with pytest.raises(ConfigErrors):
        read("server.document-root = 1")


def test_the_plugin_is_light() -> None:
    program = (
        "import sys, socket\n"
        "plain = socket.socket\n"
        "import gfastcgi.testing\n"
        "assert 'gevent' not in sys.modules and socket.socket is plain\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
