"""`gfastcgi call` and `gfastcgi ping`: what is asked, what is printed, and how they exit."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from peers.backend import AUTHORIZER, FILTER, RESPONDER, Reply, answer, end, stdout
from peers.processes import free_port

from gfastcgi.cli.command import run
from gfastcgi.testing import cannot_multiplex, overloaded, page, unknown_role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[bytes]


def params_of(out: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(out)["params"]
    return found


def test_a_path(backend: Callable[..., Any], capfdbinary: Capture) -> None:
    peer = backend()
    assert run(["call", peer.url, "/a%20b.php?x=%41", "--root", "/srv/www/"]) == 0
    out, err = capfdbinary.readouterr()
    assert err == b""
    found = params_of(out)
    assert {name: found[name] for name in sorted(found) if name.startswith(("SCRIPT", "RE", "QU", "DOC", "PATH"))} == {
        "DOCUMENT_ROOT": "/srv/www/", "QUERY_STRING": "x=%41", "REDIRECT_STATUS": "200", "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "GET", "REQUEST_URI": "/a%20b.php?x=%41", "SCRIPT_FILENAME": "/srv/www/a b.php",
        "SCRIPT_NAME": "/a b.php",
    }  # fmt: skip
    assert peer.last.role == RESPONDER
    assert not peer.last.keep_conn
    assert (peer.connections, peer.asked) == (1, 0), "one connection, and no question beside it"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/x"], {"SCRIPT_FILENAME": "/x", "DOCUMENT_ROOT": None, "PATH_INFO": None}),
        ([], {"SCRIPT_NAME": "/", "REQUEST_URI": "/"}),
        (["/x", "--script", "/srv/y.php"], {"SCRIPT_FILENAME": "/srv/y.php", "SCRIPT_NAME": "/x"}),
        (["/app/x?q", "--mount", "/app"], {"SCRIPT_NAME": "/app", "PATH_INFO": "/x", "QUERY_STRING": "q"}),
        (["/x", "--mount", "/"], {"SCRIPT_NAME": "", "PATH_INFO": "/x"}),
        (["-X", "OPTIONS"], {"REQUEST_METHOD": "OPTIONS", "CONTENT_LENGTH": "0"}),
        (["-H", "Cookie: a=b; c", "-H", "X-Y:z"], {"HTTP_COOKIE": "a=b; c", "HTTP_X_Y": "z"}),
        (["-d", "ä=1"], {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "4",
                         "CONTENT_TYPE": "application/x-www-form-urlencoded"}),
        (["-d", "{}", "-H", "content-type: application/json"], {"CONTENT_TYPE": "application/json"}),
        (["-e", "A=b=c", "-e", "SERVER_NAME", "-e", "SCRIPT_NAME="], {"A": "b=c", "SERVER_NAME": None,
                                                                     "SCRIPT_NAME": ""}),
    ],
)  # fmt: skip
def test_what_is_asked(
    arguments: list[str], expected: dict[str, str | None], backend: Callable[..., Any], capfdbinary: Capture
) -> None:
    assert run(["call", backend().url, *arguments]) == 0
    found = params_of(capfdbinary.readouterr().out)
    assert {name: found.get(name) for name in expected} == expected


def test_bodies(
    backend: Callable[..., Any], tmp_path: Path, capfdbinary: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = backend()
    data = os.urandom(200_000)
    (tmp_path / "body").write_bytes(data)
    assert run(["call", peer.url, "/", "--body", str(tmp_path / "body"), "-X", "PUT"]) == 0
    assert (peer.last.stdin, peer.last.text("REQUEST_METHOD")) == (data, "PUT")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert run(["call", peer.url, "/", "--body", "-"]) == 0
    assert (peer.last.stdin, peer.last.text("CONTENT_LENGTH")) == (b"piped", "5")


def test_a_filter(backend: Callable[..., Any], tmp_path: Path, capfdbinary: Capture) -> None:
    (tmp_path / "data").write_bytes(b"to be filtered")
    peer = backend(answers_at="params")
    assert run(["call", peer.url, "/", "--role", "filter", "--data", str(tmp_path / "data")]) == 0
    assert peer.last.role == FILTER
    assert peer.last.text("FCGI_DATA_LENGTH") == "14"


def test_what_is_printed(backend: Callable[..., Any], capfdbinary: Capture) -> None:
    peer = backend(page("body", status="404 Not Found", fields=[("X-A", "1"), ("X-A", "2")], log="oops"))
    assert run(["call", peer.url]) == 0
    assert capfdbinary.readouterr() == (b"body", b"oops\n")
    assert run(["call", "-i", peer.url]) == 0
    head = b"Status: 404 Not Found\nContent-Type: text/html; charset=UTF-8\nX-A: 1\nX-A: 2\n\n"
    assert capfdbinary.readouterr() == (head + b"body", b"oops\n")


def test_a_large_answer_comes_whole(backend: Callable[..., Any], capfdbinary: Capture) -> None:
    data = os.urandom(3_000_000)
    peer = backend(lambda seen: answer(b"Content-Type: x/y\r\n\r\n" + data))
    assert run(["call", peer.url]) == 0
    assert capfdbinary.readouterr().out == data


ANSWERS: dict[str, tuple[list[str], Any, int]] = {
    "ok": ([], page("x"), 0),
    "app_status": ([], lambda seen: stdout("Content-Type: x/y\r\n\r\nx") + end(app_status=3), 1),
    "404": ([], page(status="404 Not Found"), 0),
    "404 --fail": (["--fail"], page(status="404 Not Found"), 1),
    "503 --fail": (["--fail"], page(status="503 Service Unavailable"), 1),
    "302 --fail": (["--fail"], page(status="302 Found"), 0),
    "a yes --fail": (["--fail", "--role", "authorizer"], page(status="200 OK"), 0),
    "a no --fail": (["--fail", "--role", "authorizer"], page(status="302 Found"), 1),
    "silence": (["--timeout", "0.2"], lambda seen: Reply(b"", "hang"), 4),
    "half an answer, then silence": (
        ["--timeout", "0.2"], lambda seen: Reply(stdout("Content-Type: x/y\r\n\r\nx"), "hang"), 4
    ),
    "no records": ([], lambda seen: Reply(b"HTTP/1.1 200 OK\r\n\r\n", "close"), 5),
    "no CGI": ([], lambda seen: answer("no head\r\n\r\n"), 5),
    "closed": ([], lambda seen: Reply(b"", "close"), 5),
    "broken off": ([], lambda seen: Reply(stdout("Content-Type: x/y\r\n\r\nx"), "close"), 5),
    "overloaded": ([], overloaded(), 6),
    "cannot multiplex": ([], cannot_multiplex(), 6),
    "unknown role": (["--role", "authorizer"], unknown_role(), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_exit_statuses(name: str, backend: Callable[..., Any], capfdbinary: Capture) -> None:
    arguments, script, status = ANSWERS[name]
    assert run(["call", backend(script).url, *arguments]) == status
    err = capfdbinary.readouterr().err
    assert err.startswith(b"gfastcgi: ") == (status > 2), err


@pytest.mark.parametrize("address", ["unix:{folder}/none.sock", "tcp://127.0.0.1:{port}", "tcp://no-such.invalid:9"])
def test_nobody_is_there(address: str, tmp_path: Path, capfdbinary: Capture) -> None:
    where = address.format(folder=tmp_path, port=free_port())
    assert run(["call", where]) == 3
    assert run(["ping", where]) == 2
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["call", "nowhere"], b"neither unix:PATH nor HOST:PORT"),
        (["call", "unix:x", "--data", "y"], b"--role filter"),
        (["call", "unix:x", "--body", "/nonexistent"], b"--body: '/nonexistent'"),
        (["call", "unix:x", "-H", "Cookie"], b"is not 'Name: value'"),
        (["call", "unix:x", "-e", "=v"], b"has no name"),
        (["call", "unix:x", "/a", "--mount", "/b"], b"'/a' is not below '/b'"),
        (["ping", "unix:x", "--expect", "y"], b"--path names it"),
        (["ping", "nowhere"], b"neither unix:PATH nor HOST:PORT"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], words: bytes, capfdbinary: Capture) -> None:
    assert run(arguments) == 2
    assert words in capfdbinary.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["call"], ["ping"], ["ping", "unix:x", "--timeout", "0"], ["call", "unix:x", "--role", "king"],
        ["call", "x", "-d", "", "--body", ""],
    ],
)  # fmt: skip
def test_what_argparse_refuses(arguments: list[str], capfdbinary: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    assert b"usage: gfastcgi " in capfdbinary.readouterr().err


VALUES = b"\x0e\x02FCGI_MAX_CONNS16"


@pytest.mark.parametrize(
    ("script", "values", "arguments", "status", "said"),
    [
        (None, VALUES, [], 0, b"FCGI_MAX_CONNS=16\n"),
        (None, VALUES, ["-q"], 0, b""),
        (None, b"", [], 0, b"it tells no limits\n"),
        (page("pong"), b"", ["--path", "/ping"], 0, b"/ping answered 200 OK\n"),
        (page("pong"), b"", ["--path", "/ping", "--expect", "pong"], 0, b"/ping answered 200 OK\n"),
        (page("nope"), b"", ["--path", "/ping", "--expect", "pong"], 1, b""),
        (page(status="404 Not Found"), b"", ["--path", "/ping"], 1, b""),
        (page(status="302 Found"), b"", ["--path", "/ping"], 0, b"/ping answered 302 Found\n"),
        (overloaded(), b"", ["--path", "/ping"], 1, b""),
        (lambda seen: Reply(b"", "hang"), b"", ["--path", "/ping", "--timeout", "0.2"], 1, b""),
    ],
)  # fmt: skip
def test_ping(
    script: Any, values: bytes, arguments: list[str], status: int, said: bytes,
    backend: Callable[..., Any], capfdbinary: Capture,
) -> None:  # fmt: skip
    assert run(["ping", backend(script, values=values).url, *arguments]) == status
    out, err = capfdbinary.readouterr()
    assert out.endswith(said)
    assert bool(out) == (status == 0 and "-q" not in arguments)
    assert bool(err) == (status != 0)


@pytest.fixture
def raw_peer(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """Listens, and has one answer ready for whoever connects first; None: it never accepts."""
    listeners = []

    def serve(listener: socket.socket, said: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(said)

    def make(said: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(listener, said)) if said is not None else None
        if thread is not None:
            thread.start()
        listeners.append((listener, thread))
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

    yield make
    for listener, thread in listeners:
        if thread is not None:
            thread.join(10)
        listener.close()


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (b"", 1, b"closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n", 1, b"bad_record"),
        (b"\x01\x0b\x00\x00\x00\x08\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00", 0, b"does not know FCGI_GET_VALUES"),
        (None, 1, b"read_timeout"),
    ],
    ids=["closes", "http", "unknown type", "silent"],
)
def test_ping_of_peers_that_are_odd(
    said: bytes | None, status: int, words: bytes, raw_peer: Callable[[bytes | None], str], capfdbinary: Capture
) -> None:
    assert run(["ping", raw_peer(said), "--timeout", "0.3" if said is None else "5"]) == status
    out, err = capfdbinary.readouterr()
    assert words in (err if status else out)


def test_role_of_an_authorizer(backend: Callable[..., Any], capfdbinary: Capture) -> None:
    peer = backend(page(status="200 OK", content_type="", fields=[("Variable-USER", "ada")]), answers_at="params")
    assert run(["call", "-i", peer.url, "/private/", "--role", "authorizer"]) == 0
    assert b"Variable-USER: ada\n" in capfdbinary.readouterr().out
    assert (peer.last.role, peer.last.text("CONTENT_LENGTH")) == (AUTHORIZER, None)
