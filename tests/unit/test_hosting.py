"""The gateway as a WSGI application: requests of a WSGI server, answers to one, and its life inside one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import gevent
import pytest
import webob

from gfastcgi import Address, Config, FastCGIApp, Gateway, ServerConfig, Settings, WSGIMount
from gfastcgi.config import Block, Condition
from gfastcgi.errors import ClientClosed, InvalidValue, SpawnError
from gfastcgi.library.life import Life
from gfastcgi.site import Forwarding
from gfastcgi.wsgi.hosting import body_of, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def environ_of(path: str = "/", method: str = "GET", body: bytes = b"", **more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "wsgi.input": io.BytesIO(body),
        "QUERY_STRING": "",
    }
    environ |= more
    setup_testing_defaults(environ)
    environ["SCRIPT_NAME"] = more.get("SCRIPT_NAME", "")
    return environ


def call(app: Callable[..., Any], environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """What `app` answers, under the eye of wsgiref."""
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        told[:] = [status, dict(headers)]
        return lambda data: None

    result = validator(app)(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        result.close()  # type: ignore[attr-defined]
    return told[0], told[1], body


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(1000)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "x-a"), ("X-A", "1"), ("Upgrade", "b")])
    yield environ["SCRIPT_NAME"].encode()
    yield environ["PATH_INFO"].encode("latin-1")
    yield body


@pytest.fixture
def gateway(tmp_path: Path) -> Iterable[Gateway]:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    settings = Settings(document_root=str(tmp_path), wsgi_server=(WSGIMount("/echo", echo),), max_request_size=100)
    gateway = Gateway(Config(settings=settings))
    yield gateway
    gateway.stop(0)


def test_wsgiref_finds_no_fault(gateway: Gateway) -> None:
    status, fields, body = call(gateway, environ_of("/a.txt"))
    assert (status, fields["Content-Length"], body) == ("200 OK", "10", b"0123456789")
    etag = fields["ETag"]
    status, fields, body = call(gateway, environ_of("/a.txt", HTTP_IF_NONE_MATCH=etag))
    assert (status, "Content-Length" in fields, body) == ("304 Not Modified", False, b"")
    assert call(gateway, environ_of("/a.txt", HTTP_RANGE="bytes=1-3"))[::2] == ("206 Partial Content", b"123")
    status, fields, body = call(gateway, environ_of("/a.txt", "HEAD"))
    assert (status, fields["Content-Length"], body) == ("200 OK", "10", b"")
    assert call(gateway, environ_of("/none"))[0] == "404 Not Found"
    assert call(gateway, environ_of("/a\x00b"))[0] == "400 Bad Request"
    assert call(gateway, environ_of("/txt", SCRIPT_NAME="/a"))[0] == "404 Not Found"


def test_what_concerns_one_connection_stays_behind(gateway: Gateway) -> None:
    status, fields, body = call(gateway, environ_of("/echo/x", "POST", b"hello", CONTENT_LENGTH="5"))
    assert (status, body) == ("200 OK", b"/echo/xhello")
    assert fields == {"Content-Type": "text/plain"}


def test_the_whole_path_counts(gateway: Gateway) -> None:
    assert call(gateway, environ_of("/o/x", SCRIPT_NAME="/ech"))[0] == "404 Not Found"
    assert call(gateway, environ_of("/x", SCRIPT_NAME="/echo"))[2] == b"/echo/x"
    assert call(gateway, environ_of("/../a.txt", SCRIPT_NAME="/echo"))[0] == "400 Bad Request"


class Dribble(io.RawIOBase):
    """Gives what it has in single bytes, then fails or ends."""

    def __init__(self, data: bytes, error: OSError | None = None) -> None:
        self._data, self._error = data, error

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        if not self._data and self._error is not None:
            raise self._error
        first, self._data = self._data[:1], self._data[1:]
        return first


@pytest.mark.parametrize(
    ("environ", "data", "expected"),
    [
        ({}, b"beyond", (0, b"")),
        ({"CONTENT_LENGTH": ""}, b"beyond", (0, b"")),
        ({"CONTENT_LENGTH": "x"}, b"beyond", (0, b"")),
        ({"CONTENT_LENGTH": "3"}, b"beyond", (3, b"bey")),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, b"beyond", (0, b"")),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}, b"all", (None, b"all")),
        ({"wsgi.input_terminated": True}, b"beyond", (0, b"")),
    ],
)
def test_bodies(environ: dict[str, Any], data: bytes, expected: tuple[int | None, bytes]) -> None:
    body = body_of({**environ, "wsgi.input": Dribble(data)})
    assert (body.length, b"".join(iter(body.read, b""))) == expected


@pytest.mark.parametrize("error", [None, OSError("unexpected end of file")])
def test_a_client_that_leaves_inside_its_body(error: OSError | None, gateway: Gateway) -> None:
    body = body_of({"CONTENT_LENGTH": "5", "wsgi.input": Dribble(b"abc", error)})
    assert [body.read(), body.read(), body.read()] == [b"a", b"b", b"c"]
    with pytest.raises(ClientClosed):
        body.read()
    environ = environ_of("/echo", "POST", CONTENT_LENGTH="5")
    environ["wsgi.input"] = Dribble(b"abc", error)
    told: list[str] = []
    gateway(environ, lambda status, headers: told.append(status))
    assert told == ["400 Bad Request"]


def test_a_body_beyond_its_limit(gateway: Gateway) -> None:
    assert call(gateway, environ_of("/echo", "POST", bytes(101), CONTENT_LENGTH="101"))[0].startswith("413 ")


@pytest.mark.parametrize(
    ("status", "fields", "body", "method", "expected"),
    [
        ("200 OK", [], [b"ab", b"c"], "GET", {"Content-Length": "3"}),
        ("200 OK", [("Content-Length", "9")], [b"abc"], "GET", {"Content-Length": "3"}),
        ("200 OK", [], iter([b"abc"]), "GET", {}),
        ("200 OK", [("Content-Length", "3")], iter([b"abc"]), "GET", {"Content-Length": "3"}),
        ("200 OK", [("Content-Length", "9")], [], "HEAD", {"Content-Length": "9"}),
        ("200 OK", [], [b"abc"], "HEAD", {"Content-Length": "3"}),
        ("204 No Content", [("Content-Length", "0")], [b""], "GET", {}),
        ("200 OK", [("Keep-Alive", "5"), ("Transfer-Encoding", "chunked"), ("TE", "a")], [b""], "GET",
         {"Content-Length": "0"}),
    ],
)  # fmt: skip
def test_answers(status: str, fields: list[tuple[str, str]], body: Any, method: str, expected: dict[str, str]) -> None:
    response = webob.Response(status=status, headerlist=fields, app_iter=body)
    told: list[Any] = []
    sent = send(response, {"REQUEST_METHOD": method}, lambda status, headers: told.append((status, dict(headers))))
    assert told == [(status, expected)]
    assert b"".join(sent) == (b"abc" if status[:3] == "200" and method == "GET" and "TE" not in dict(fields) else b"")


def test_a_condition_that_nobody_can_judge_closes_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"secret")
    conditions = ((Condition('SERVER["socket"]', "==", "127.0.0.1:80"), True),)
    config = Config(settings=Settings(document_root=str(tmp_path)), blocks=(Block(conditions, {"access_deny": ("",)}),))
    gateway = Gateway(config)
    for _ in range(2):
        status, _, body = call(gateway, environ_of("/a.txt"))
        assert (status, b"secret" in body) == ("503 Service Unavailable", False)


def test_behind_its_end_it_serves_nobody(gateway: Gateway) -> None:
    assert call(gateway, environ_of("/a.txt"))[0] == "200 OK"
    gateway.stop(0)
    assert call(gateway, environ_of("/a.txt"))[0] == "503 Service Unavailable"


def test_its_own_server_beside(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"both")
    listeners = (Address("127.0.0.1", 0),)
    config = Config(server=ServerConfig(listeners=listeners), settings=Settings(document_root=str(tmp_path)))
    with Gateway(config) as gateway:
        assert call(gateway, environ_of("/a.txt"))[2] == b"both"
        with gevent.socket.create_connection((gateway.addresses[0].host, gateway.addresses[0].port)) as client:
            client.sendall(b"GET /a.txt HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"\r\n\r\nboth")
        assert repr(gateway).startswith("<Gateway on 127.0.0.1:")
    assert repr(Gateway(config)) == "<Gateway on no listener>"


def test_it_serves_by_itself(tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text(
        f'server.document-root = "{tmp_path}"\nserver.port = 0\nserver.bind = "127.0.0.1"\nno.such = 1\n'
    )
    program = (
        'import logging; logging.basicConfig(level="INFO")\nimport gfastcgi; gfastcgi.Gateway("site.conf").serve()'
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "unknown directive no.such" in process.stderr.readline()
    assert "listening on http://127.0.0.1:" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    "options",
    [{"fallback": "/index.php"}, {"document_root": "/srv", "fallback": "x.php"}, {"extensions": ["/app"]}],
)
def test_what_makes_no_application(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        FastCGIApp("unix:/run/php.sock", **options)


def test_without_a_document_root_all_goes_to_the_program(tmp_path: Path) -> None:
    app = FastCGIApp(f"unix:{tmp_path}/none.sock")
    assert call(app, environ_of("/x"))[0] == "503 Service Unavailable"
    site, _ = app._gateway("/mount")._sites.find(None)  # type: ignore[arg-type]
    place = site.locate("/mount/a/b")
    assert isinstance(place.to, Forwarding)
    assert (place.to.route.script_name, place.to.route.path_info) == ("/mount", "/a/b")
    site, _ = app._gateway("")._sites.find(None)  # type: ignore[arg-type]
    place = site.locate("/a/b")
    assert isinstance(place.to, Forwarding)
    assert (place.to.route.script_name, place.to.route.path_info) == ("", "/a/b")
    app.stop()
    assert call(app, environ_of("/x"))[0] == "503 Service Unavailable"


def test_a_life_begins_once_and_ends_once() -> None:
    steps: list[str] = []

    def start() -> None:
        steps.append("start")
        gevent.sleep(0.01)
        steps.append("started")

    life = Life(start, lambda timeout: steps.append(f"stop {timeout}"))
    greenlets = [gevent.spawn(life.start) for _ in range(3)]
    gevent.sleep(0)
    greenlets[0].kill()
    gevent.joinall(greenlets[1:], raise_error=True)
    assert (steps, repr(life)) == (["start", "started"], "<Life running>")
    life.stop(3)
    life.stop(3)
    assert steps[2:] == ["stop 3"]
    with pytest.raises(Exception, match="it was stopped"):
        life.start()


def test_a_life_that_fails_fails_for_good() -> None:
    steps: list[str] = []

    def start() -> None:
        steps.append("start")
        raise SpawnError("no such program")

    life = Life(start, lambda timeout: steps.append(f"stop {timeout}"))
    for _ in range(2):
        with pytest.raises(SpawnError, match="no such program"):
            life.start()
    assert steps == ["start", "stop 0"]


def test_a_program_that_ends_ends_it(tmp_path: Path) -> None:
    program = (
        f"from gfastcgi.library.life import Life\nLife(lambda: None, lambda t: open('{tmp_path}/end', 'w')).start()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert os.path.exists(tmp_path / "end")
