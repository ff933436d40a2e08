"""What a client may do with a connection: keep it, pipeline on it, come by IPv6 or a unix socket, dawdle, leave."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, answer
from peers.http import Connection, encode_request
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend, Seen
    from peers.gateway import Gateway

TEXT = b"0123456789" * 1000
SITE = """
server.document-root = "{root}"
mimetype.assign = ( ".txt" => "text/plain" )
fastcgi.server = ( "/echo" => (( {backend}, "check-local" => "disable" )) )
"""


@pytest.fixture
def echo(backend: Callable[..., ScriptedBackend]) -> ScriptedBackend:
    return backend()


@pytest.fixture
def config(tmp_path: Path, echo: ScriptedBackend) -> str:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/text.txt").write_bytes(TEXT)
    return SITE.format(root=tmp_path / "www", backend=echo.option)


@pytest.fixture
def site(config: str, gateway: Callable[..., Gateway]) -> Gateway:
    return gateway(config)


def test_keep_alive(site: Gateway) -> None:
    with site.connect() as connection:
        for _ in range(3):
            assert connection.request("GET", "/text.txt").body == TEXT
            assert connection.request("POST", "/echo", b"abc").json()["size"] == 3
            assert connection.request("GET", "/none").status == 404
        answer = connection.request("GET", "/text.txt", Connection="close")
        assert (answer.body, answer.get("Connection")) == (TEXT, "close")
        assert connection.is_closed()


def test_http_1_0(site: Gateway) -> None:
    with site.connect() as connection:
        assert connection.request("GET", "/text.txt", version="1.0").body == TEXT
        assert connection.is_closed()
    with site.connect() as connection:
        answer = connection.request("GET", "/echo", version="1.0")
        assert answer.get("Transfer-Encoding") is None
        assert answer.json()["params"]["SERVER_PROTOCOL"] == "HTTP/1.0"
        assert connection.is_closed()
    with site.connect() as connection:
        for _ in range(2):
            answer = connection.request("GET", "/text.txt", version="1.0", Connection="keep-alive")
            assert (answer.body, (answer.get("Connection") or "").lower()) == (TEXT, "keep-alive")


def test_limits_of_keep_alive(config: str, gateway: Callable[..., Gateway]) -> None:
    site = gateway(config + "server.max-keep-alive-requests = 3\nserver.max-keep-alive-idle = 1\n")
    with site.connect() as connection:
        kept = 0
        while connection.request("GET", "/text.txt").get("Connection") != "close":
            kept += 1
            assert kept < 5
        assert connection.is_closed()
    with site.connect() as connection:
        connection.request("GET", "/text.txt")
        assert connection.is_closed()


def test_pipelining(site: Gateway, echo: ScriptedBackend) -> None:
    requests = [
        encode_request("GET", "/echo/1"),
        encode_request("GET", "/text.txt"),
        encode_request("POST", "/echo/2", b"two"),
        encode_request("HEAD", "/text.txt"),
        encode_request("POST", "/echo/3", b"5\r\nthree\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
        encode_request("GET", "/echo/4", Connection="close"),
        encode_request("GET", "/echo/never"),
    ]
    with site.connect() as connection:
        connection.send(b"".join(requests))
        assert connection.read_answer().json()["params"]["PATH_INFO"] == "/1"
        assert connection.read_answer().body == TEXT
        assert connection.read_answer().json()["size"] == 3
        assert connection.read_answer("HEAD").get("Content-Length") == str(len(TEXT))
        assert connection.read_answer().json()["size"] == 5
        assert connection.read_answer().json()["params"]["PATH_INFO"] == "/4"
        assert connection.is_closed()
    assert [seen.text("PATH_INFO") for seen in echo.requests] == ["/1", "/2", "/3", "/4"]


def test_byte_by_byte(site: Gateway) -> None:
    request = encode_request("POST", "/echo?slowly", b"4\r\nslow\r\n0\r\n\r\n", Transfer_Encoding="chunked")
    with site.connect() as connection:
        for byte in request:
            connection.send(bytes([byte]))
        assert connection.read_answer().json()["size"] == 4


def test_head(site: Gateway, echo: ScriptedBackend) -> None:
    """HEAD answers as GET without the content, and the connection goes on behind it."""
    with site.connect() as connection:
        for target in ("/text.txt", "/none", "/echo"):
            get = connection.request("GET", target)
            head = connection.request("HEAD", target)
            assert head.status == get.status
            assert head.get("Content-Type") == get.get("Content-Type")
            assert head.get("ETag") == get.get("ETag")
            if target != "/echo":
                assert head.get("Content-Length") == get.get("Content-Length")
    assert echo.last.text("REQUEST_METHOD") == "HEAD"


def test_options(site: Gateway) -> None:
    with site.connect() as connection:
        answer = connection.request("OPTIONS", "*")
        assert answer.status in (200, 204)
        assert "GET" in (answer.get("Allow") or "")
        assert connection.request("OPTIONS", "/echo").json()["params"]["REQUEST_METHOD"] == "OPTIONS"
        assert connection.request("GET", "/text.txt").body == TEXT


def test_absolute_form(site: Gateway) -> None:
    """RFC 9112 section 3.2.2: the target's authority counts, whatever Host says."""
    answer = site.get("http://Real.Example:81/echo/x?q=1", host="other.example")
    if answer.status == 400:  # a mismatch may be refused; a match may not
        answer = site.get("http://real.example:81/echo/x?q=1", host="real.example:81")
    params = answer.json()["params"]
    assert (params["HTTP_HOST"], params["SERVER_NAME"]) == ("real.example:81", "real.example")
    assert (params["REQUEST_URI"], params["SCRIPT_NAME"], params["PATH_INFO"]) == ("/echo/x?q=1", "/echo", "/x")
    assert site.get(f"http://localhost:{site.port}/text.txt", host=f"localhost:{site.port}").body == TEXT


def test_date_and_server(site: Gateway) -> None:
    for target in ("/text.txt", "/echo", "/none"):
        answer = site.get(target)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.get("Date") or "")
        assert (answer.get("Server") or "").startswith("gfastcgi")


def test_fields_of_the_backend_win(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    own = backend(lambda seen: answer("Date: Sat, 01 Jan 2000 00:00:00 GMT\r\nServer: own\r\nX-Own: 1\r\n\r\nx"))
    site = gateway(f'fastcgi.server = ( "/" => (( {own.option}, "check-local" => "disable" )) )\n')
    got = site.get("/")
    assert (got.get("Date"), got.get("Server"), got.get("X-Own")) == ("Sat, 01 Jan 2000 00:00:00 GMT", "own", "1")


def test_expect_100_continue(config: str, gateway: Callable[..., Gateway]) -> None:
    site = gateway(config + "server.max-request-size = 64\n")
    with site.connect() as connection:
        connection.send(encode_request("POST", "/echo", Expect="100-continue", Content_Length="5"))
        interim = connection.read_head()
        assert interim is not None
        assert interim.status == 100
        connection.send(b"hello")
        assert connection.read_answer().json()["size"] == 5
        # The body is there already: no 100 is needed, and none may come late.
        connection.send(encode_request("POST", "/echo", b"hello", Expect="100-continue"))
        assert connection.read_answer().json()["size"] == 5
        assert connection.request("GET", "/text.txt").interim == []
    with site.connect() as connection:
        connection.send(encode_request("POST", "/echo", Expect="100-continue", Content_Length="70000"))
        refused = connection.read_answer()
        assert (refused.status, refused.interim) == (413, [])
    with site.connect() as connection:
        connection.send(encode_request("POST", "/none", Expect="100-continue", Content_Length="5"))
        refused = connection.read_answer()
        assert refused.status in (404, 405)
    with site.connect() as connection:
        assert connection.request("POST", "/echo", b"x", Expect="200-maybe").status == 417


def test_ipv6(config: str, gateway: Callable[..., Gateway]) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    site = gateway(config + 'server.bind = "[::1]"\n')
    assert site.addresses[0][0] == "::1"
    params = site.get("/echo", host="[::1]:99").json()["params"]
    assert (params["REMOTE_ADDR"], params["SERVER_ADDR"], params["SERVER_NAME"]) == ("::1", "::1", "[::1]")


def test_unix_socket(config: str, tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    site = gateway(config + f'server.bind = "{tmp_path}/front.sock"\n')
    assert site.address == f"{tmp_path}/front.sock"
    assert site.get("/text.txt").body == TEXT
    assert site.get("/echo").status == 200
    site.stop()
    assert not (tmp_path / "front.sock").exists()


def test_several_listeners(config: str, tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/text.txt").write_text("the other")
    site = gateway(
        config + f'$SERVER["socket"] == "{tmp_path}/second.sock" {{ server.document-root = "{tmp_path}/other" }}\n'
    )
    assert site.get("/text.txt").body == TEXT
    with Connection(f"{tmp_path}/second.sock") as connection:
        assert connection.request("GET", "/text.txt").body == b"the other"


def test_silence(config: str, gateway: Callable[..., Gateway]) -> None:
    """A head or a body that does not come ends the connection, before or after the first byte."""
    site = gateway(config + "server.max-read-idle = 1\nserver.max-keep-alive-idle = 1\n")
    for sent in (b"", b"GET /te", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"):
        with site.connect() as connection:
            connection.send(sent)
            answer = connection.try_answer()
            assert answer is None or answer.status == 408
            assert connection.is_closed()
    assert site.get("/text.txt").body == TEXT


def test_client_resets(site: Gateway, echo: ScriptedBackend) -> None:
    """A client that leaves in any state costs one line of log at most, and no descriptor."""
    site.get("/echo")
    fds = site.fds()
    echo.script = lambda seen: Reply(answer(b"Content-Type: a/b\r\n\r\n" + b"x" * 500_000), "close")
    half = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nx"
    for sent in (b"", b"GET /ec", half, encode_request("GET", "/echo")):
        for _ in range(5):
            connection = site.connect()
            connection.send(sent)
            connection.reset()
    echo.wait_for(lambda echo: not echo.open, "the backend to be left")
    assert site.get("/text.txt").body == TEXT
    wait_until(lambda: site.fds() <= fds + 1, "its descriptors to be closed")
    assert site.log.count("\n") < 30


def test_many_connections(site: Gateway) -> None:
    connections = [site.connect() for _ in range(300)]
    for connection in connections:
        connection.send(encode_request("GET", "/text.txt"))
    for connection in connections:
        assert connection.read_answer().body == TEXT
        connection.sock.close()


def test_script_is_never_sent_as_a_file(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """With its backend down a script answers 503, never its source."""
    (tmp_path / "secret.php").write_text("<?php $password = 'x';")

    def script(seen: Seen) -> bytes:
        return answer("Content-Type: a/b\r\n\r\nok")

    peer = backend(script)
    site = gateway(f'server.document-root = "{tmp_path}"\nfastcgi.server = ( ".php" => (( {peer.option} )) )\n')
    assert site.get("/secret.php").body == b"ok"
    peer.stop()
    for target in ("/secret.php", "/secret.php/", "/secret.php/x", "/secret%2ephp", "//secret.php"):
        got = site.get(target)
        assert got.status in (502, 503, 404), got
        assert b"password" not in got.body
