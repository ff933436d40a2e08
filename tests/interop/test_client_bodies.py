"""Bodies of any size, both ways: whole, in chunks, streamed as they come, in memory that stays flat."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

import pytest
from peers.backend import BackendConnection, ScriptedBackend, Seen, answer, end, stdout
from peers.http import Connection, encode_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

MIB = 1 << 20
LARGE = 200 * MIB
FLAT = 40 * MIB  # how much memory one large body may cost, both ways
PIECE = os.urandom(MIB)

SITE = 'server.document-root = "{root}"\nfastcgi.server = ( "/" => (( {backend}, "check-local" => "disable" )) )\n'


def read_content(connection: Connection, length: int) -> str:
    """Reads content behind a head without keeping it: its SHA-256."""
    digest = hashlib.sha256(connection.buffer)
    length -= len(connection.buffer)
    connection.buffer = b""
    while length:
        data = connection.sock.recv(min(length, MIB))
        assert data, f"{length} bytes are missing"
        digest.update(data)
        length -= len(data)
    return digest.hexdigest()


def sha256_of_pieces(count: int) -> str:
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(PIECE)
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("streamed", "chunked"), [(0, False), (1, False), (0, True)], ids=["spooled", "streamed", "spooled-chunks"]
)
def test_large_upload(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway],
    streamed: int, chunked: bool,
) -> None:  # fmt: skip
    peer = backend(keep_stdin=False)
    site = gateway(SITE.format(root=tmp_path, backend=peer.option) + f"server.stream-request-body = {streamed}\n")
    site.request("POST", "/", b"warm")
    site.reset_peak()
    before = site.rss()
    with site.connect() as connection:
        if chunked:
            connection.send(encode_request("POST", "/", Transfer_Encoding="chunked"))
            for _ in range(LARGE // MIB):
                connection.send(b"%x\r\n%b\r\n" % (MIB, PIECE))
            connection.send(b"0\r\n\r\n")
        else:
            connection.send(encode_request("POST", "/", Content_Length=str(LARGE)))
            for _ in range(LARGE // MIB):
                connection.send(PIECE)
        told = connection.read_answer().json()
    assert (told["size"], told["sha256"]) == (LARGE, sha256_of_pieces(LARGE // MIB))
    assert told["params"]["CONTENT_LENGTH"] == str(LARGE)
    assert site.peak_rss() - before < FLAT


def send_large(connection: BackendConnection) -> None:
    """Answers LARGE bytes, with their length when the client asks for /length."""
    while (seen := connection.read_request()) is not None:
        length = f"Content-Length: {LARGE}\r\n" if seen.text("SCRIPT_NAME") == "/length" else ""
        connection.sock.sendall(stdout(f"Content-Type: a/b\r\n{length}\r\n".encode()))
        for _ in range(LARGE // MIB):
            connection.sock.sendall(stdout(PIECE))
        connection.sock.sendall(end())


def test_large_download(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend(talk=send_large)
    site = gateway(SITE.format(root=tmp_path, backend=peer.option))
    site.get("/none")
    site.reset_peak()
    before = site.rss()
    with site.connect() as connection:
        connection.send(encode_request("GET", "/length"))
        head = connection.read_head()
        assert head is not None
        assert head.get("Content-Length") == str(LARGE)
        assert read_content(connection, LARGE) == sha256_of_pieces(LARGE // MIB)
    assert site.peak_rss() - before < FLAT


def test_large_files(tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """A file and the same by X-Sendfile, and a part from its end."""
    with open(tmp_path / "large.bin", "wb") as file:
        file.writelines(PIECE for _ in range(LARGE // MIB))
    peer = backend(lambda seen: answer(f"X-Sendfile: {tmp_path}/large.bin\r\nContent-Type: x/y\r\n\r\n"))
    site = gateway(
        f'server.document-root = "{tmp_path}"\n'
        f'fastcgi.server = ( "/by-backend" => (( {peer.option},'
        ' "check-local" => "disable", "x-sendfile" => "enable" )) )\n'
    )
    site.get("/none")
    site.reset_peak()
    before = site.rss()
    for target in ("/large.bin", "/by-backend"):
        with site.connect() as connection:
            connection.send(encode_request("GET", target))
            head = connection.read_head()
            assert head is not None
            assert (head.status, head.get("Content-Length")) == (200, str(LARGE))
            assert read_content(connection, LARGE) == sha256_of_pieces(LARGE // MIB)
            part = connection.request("GET", target, Range=f"bytes={LARGE - 1000}-")
            assert (part.status, part.body) == (206, PIECE[-1000:])
            assert part.get("Content-Range") == f"bytes {LARGE - 1000}-{LARGE - 1}/{LARGE}"
    assert site.peak_rss() - before < FLAT


def test_slow_reader(tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """A client that does not read holds its backend back, not the gateway's memory, and nobody else."""
    (tmp_path / "small.txt").write_text("small")
    peer = backend(talk=send_large)
    site = gateway(
        f'server.document-root = "{tmp_path}"\n'
        f'fastcgi.server = ( "/length" => (( {peer.option}, "check-local" => "disable" )) )\n'
    )
    site.get("/small.txt")
    before = site.rss()
    with site.connect() as connection:
        connection.send(encode_request("GET", "/length"))
        assert connection.read_head() is not None
        for _ in range(50):
            assert site.get("/small.txt").body == b"small"
        assert site.rss() - before < FLAT
        assert read_content(connection, LARGE) == sha256_of_pieces(LARGE // MIB)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_answer_is_streamed(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], version: str
) -> None:
    """What the backend has said is with the client before the backend says more."""
    arrived = threading.Event()

    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(b"Content-Type: text/event-stream\r\n\r\nfirst\n"))
        arrived.wait(10)
        connection.sock.sendall(stdout(b"second\n") + end())

    peer = backend(talk=talk)
    site = gateway(SITE.format(root=tmp_path, backend=peer.option))
    with site.connect() as connection:
        connection.send(encode_request("GET", "/", version=version))
        while b"first\n" not in connection.buffer:
            assert connection._receive(), "the connection ended"
        arrived.set()
        got = connection.read_answer()
        assert (got.whole, got.body) == (True, b"first\nsecond\n")
        assert got.get("Transfer-Encoding") == ("chunked" if version == "1.1" else None)


def test_body_is_streamed(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """With `server.stream-request-body` the backend has the first half before the client sends the second."""
    half = threading.Event()

    def talk(connection: BackendConnection) -> None:
        seen = connection.read_request(until="params")
        size = 0
        while isinstance(seen, Seen) and (got := connection.read_record()) is not None:
            size += len(got[2])
            if size >= 5:
                half.set()
            if not got[2]:
                break
        connection.sock.sendall(answer(f"Content-Type: a/b\r\n\r\n{size}"))

    peer = backend(talk=talk)
    site = gateway(SITE.format(root=tmp_path, backend=peer.option) + "server.stream-request-body = 2\n")
    with site.connect() as connection:
        connection.send(encode_request("POST", "/", Content_Length="10") + b"first")
        assert half.wait(10), "the backend waits for what it was to have already"
        connection.send(b"other")
        assert connection.read_answer().body == b"10"


def test_unfinished_body_never_looks_whole(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """A client that leaves inside its body: no backend gets a complete body of CONTENT_LENGTH bytes."""
    peer = backend()
    site = gateway(SITE.format(root=tmp_path, backend=peer.option))
    for sent in (
        encode_request("POST", "/", Content_Length="100") + b"half",
        encode_request("POST", "/", Transfer_Encoding="chunked") + b"5\r\nhello\r\n",
        encode_request("POST", "/", Transfer_Encoding="chunked") + b"5\r\nhello\r\n0\r\n",
    ):
        with site.connect() as connection:
            connection.send(sent)
            connection.half_close()
            got = connection.try_answer()
            assert got is None or got.status in (400, 408)
            assert connection.is_closed()
    assert site.request("POST", "/", b"whole").json()["size"] == 5
    assert [seen.stdin for seen in peer.requests] == [b"whole"]


def test_max_request_size(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """`server.max-request-size` (KiB) holds for both framings, at its edge."""
    peer = backend()
    site = gateway(SITE.format(root=tmp_path, backend=peer.option) + "server.max-request-size = 64\n")
    assert site.request("POST", "/", b"x" * 65536).json()["size"] == 65536
    assert site.request("POST", "/", b"x" * 65537).status == 413
    with site.connect() as connection:
        body = b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n"
        assert connection.request("POST", "/", body, Transfer_Encoding="chunked").json()["size"] == 65536
        body = b"10000\r\n" + b"x" * 65536 + b"\r\n1\r\nx\r\n0\r\n\r\n"
        assert connection.request("POST", "/", body, Transfer_Encoding="chunked").status == 413
        assert connection.is_closed()
    assert len(peer.requests) == 2
