"""X-Accel-Redirect and X-Accel-Buffering through the whole gateway, as an application written for nginx uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.backend import BackendConnection, answer, end, stdout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

CONTENT = b"0123456789" * 100_000


@pytest.fixture
def site(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> tuple[Gateway, ScriptedBackend]:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "big file.bin").write_bytes(CONTENT)
    (tmp_path / "secret").write_text("SECRET")
    (tmp_path / "private" / "out").symlink_to("../secret")
    peer = backend()
    option = f'"x-accel-redirect" => ( "/protected/" => "{tmp_path}/private" )'
    text = f"""
        server.document-root = "{tmp_path}"
        server.stream-response-body = 0
        fastcgi.server = (
            "/app" => (( {peer.option}, "check-local" => "disable", {option} )),
            "/plain" => (( {peer.option}, "check-local" => "disable" )),
        )
    """
    return gateway(text), peer


def reply(*fields: str) -> bytes:
    return answer("\r\n".join([*fields, "", "the application's own"]))


def test_a_file(site: tuple[Gateway, ScriptedBackend]) -> None:
    gateway, peer = site
    fields = ("X-Accel-Redirect: /protected/big%20file.bin", "Content-Type: application/x-big", "Set-Cookie: a=1")
    whole = reply(*fields, "X-Accel-Limit-Rate: 1", "X-Accel-Expires: off")
    peer.script = lambda seen: whole
    got = gateway.get("/app/x")
    assert (got.status, got.body == CONTENT, got.get("Content-Type"), got.get("Set-Cookie")) == (
        200, True, "application/x-big", "a=1",
    )  # fmt: skip
    assert b"x-accel" not in got.head.lower()
    got = gateway.get("/app/x", Range="bytes=10-19")
    assert (got.status, got.body, got.get("Content-Range")) == (206, CONTENT[:10], f"bytes 10-19/{len(CONTENT)}")
    assert gateway.get("/app/x", If_None_Match=got.get("ETag") or "").status == 304
    got = gateway.request("HEAD", "/app/x")
    assert (got.status, got.get("Content-Length"), got.body) == (200, str(len(CONTENT)), b"")
    assert gateway.request("POST", "/app/x", b"body").body == CONTENT


def test_what_is_not_sent(site: tuple[Gateway, ScriptedBackend]) -> None:
    gateway, peer = site
    for uri, status in (("/protected/out", 403), ("/protected/missing", 404), ("/other", 404), ("@name", 502)):
        peer.script = lambda seen, uri=uri: reply(f"X-Accel-Redirect: {uri}")
        got = gateway.get("/app/x")
        assert (got.status, b"SECRET" in got.body, b"own" in got.body) == (status, False, False), uri
    peer.script = lambda seen: reply("X-Accel-Redirect: /protected/out")
    got = gateway.get("/plain")
    assert (got.status, got.body, got.get("X-Accel-Redirect")) == (200, b"the application's own", None)


def test_an_answer_that_is_not_to_be_collected(
    site: tuple[Gateway, ScriptedBackend],
) -> None:
    """The client has the first words before the application says the last ones."""
    gateway, peer = site
    talks: list[BackendConnection] = []

    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(b"X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"))
        talks.append(connection)
        connection.wait_for_end()

    peer.talk = talk
    with gateway.connect() as client:
        client.send(b"GET /app/events HTTP/1.1\r\nHost: a\r\n\r\n")
        head = client.read_head()
        assert head is not None
        assert (head.status, head.get("X-Accel-Buffering"), head.get("Transfer-Encoding")) == (200, None, "chunked")
        while b"data: 1" not in client.buffer:
            assert client._receive()
        talks[0].sock.sendall(stdout(b"data: 2\n\n") + end())
        while b"data: 2" not in client.buffer:
            assert client._receive()
