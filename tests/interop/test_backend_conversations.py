"""What is said to a backend and what is made of its answers, seen by a backend that writes everything down."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

from peers.backend import BackendConnection, Reply, ScriptedBackend, Seen, answer, end, record, stdout
from peers.http import encode_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

OK = "Content-Type: text/plain\r\n\r\nok"


def site_of(*hosts: str, options: str = "", key: str = "/", more: str = "") -> str:
    entries = ", ".join(f'( {host}, "check-local" => "disable"{options} )' for host in hosts)
    return f'fastcgi.server = ( "{key}" => ( {entries} ) )\n{more}\n'


def test_stdin_is_sent_while_stdout_is_read(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """A backend that writes 10 MB before it reads 10 MB: write-all-then-read would stand still."""
    size = 10_000_000

    def talk(connection: BackendConnection) -> None:
        seen = connection.read_request(until="params")
        connection.sock.sendall(stdout(b"Content-Type: a/b\r\n\r\n" + b"o" * size))
        got = 0
        while seen is not None and (one := connection.read_record()) is not None and one[2]:
            got += len(one[2])
        connection.sock.sendall(stdout(b"%d" % got) + end())

    site = gateway(site_of(backend(talk=talk).option))
    got = site.request("POST", "/", b"i" * size)
    assert got.body == b"o" * size + b"%d" % size


def test_large_params(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """Meta-variables of more than 65,535 bytes in all span records."""
    peer = backend()
    site = gateway(site_of(peer.option, key="/app"))
    fields = {f"X_Big_{number}": chr(97 + number) * 7900 for number in range(7)}
    path = "/app/" + "p" * 3000
    told = site.get(f"{path}?{'q' * 4000}", **fields).json()["params"]
    for name, value in fields.items():
        assert told[f"HTTP_{name.upper()}"] == value
    assert (told["PATH_INFO"], told["QUERY_STRING"]) == ("/" + "p" * 3000, "q" * 4000)
    assert peer.last.params_records > 1


def test_lengths_of_names_and_values(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """One length byte up to 127, four from 128 (section 3.4)."""
    peer = backend()
    site = gateway(site_of(peer.option))
    for size in (0, 1, 126, 127, 128, 129, 255, 256):
        name = "X_" + "N" * max(size - 7, 1)
        told = site.get("/", **{name: "v" * size}).json()["params"]
        assert told.get(f"HTTP_{name}", "") == "v" * size


def test_empty_stdin_ends_every_request(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peer = backend()
    site = gateway(site_of(peer.option))
    site.get("/")
    site.request("POST", "/", b"")
    with site.connect() as connection:
        connection.request("POST", "/", b"0\r\n\r\n", Transfer_Encoding="chunked")
    assert [(seen.stdin_ended, seen.stdin_size, seen.params["CONTENT_LENGTH"]) for seen in peer.requests] == [
        (True, 0, b"0")
    ] * 3


def test_padding_and_split_answers(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """An answer in pieces of one byte, in records of one byte, each with padding."""
    text = b"Status: 201 Made\r\nX-A: b\n\r\nbody of the answer"
    records = b"".join(
        b"\x01\x06\x00\x01\x00\x01" + bytes([7 + at % 249, 0]) + text[at : at + 1] + b"\xee" * (7 + at % 249)
        for at in range(len(text))
    )

    def talk(connection: BackendConnection) -> None:
        connection.read_request()
        for byte in records + end():
            connection.sock.sendall(bytes([byte]))

    site = gateway(site_of(backend(talk=talk).option))
    got = site.get("/")
    assert (got.status, got.get("X-A"), got.body) == (201, "b", b"body of the answer")


def test_stderr_goes_to_the_log(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """Line by line, with controls escaped: nobody writes lines of their own into the log."""
    peer = backend(lambda seen: answer(OK, stderr=b"first line\nsecond \x1b[31mline\r\n"))
    site = gateway(site_of(peer.option))
    assert site.get("/").body == b"ok"
    site.wait_for_log("first line")
    site.wait_for_log("second .*line")
    assert "\x1b" not in site.log


def test_informational_answers(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """1xx heads are relayed as they come; a client of HTTP/1.0 gets none."""
    peer = backend(lambda seen: answer(f"Status: 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n{OK}"))
    site = gateway(site_of(peer.option))
    got = site.get("/")
    assert (got.interim, got.status, got.body) == ([103], 200, b"ok")
    got = site.request("GET", "/", version="1.0")
    assert (got.interim, got.status, got.body) == ([], 200, b"ok")


def test_informational_answers_keep_secrets(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """What a program says to the gateway, no client is told before the answer either."""
    secrets = "X-Accel-Redirect: /hidden/a\r\nX-Sendfile: /srv/a\r\nX-LIGHTTPD-send-file: /srv/b\r\n"
    peer = backend(lambda seen: answer(f"Status: 103 Early Hints\r\n{secrets}Link: </a.css>\r\n\r\n{OK}"))
    with gateway(site_of(peer.option)).connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        interim = connection.read_head()
    assert interim is not None
    assert (interim.status, interim.fields) == (103, [("Link", "</a.css>")])


def test_redirects(tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """RFC 3875 sections 6.2.2 to 6.2.4: a local redirect is served, a client redirect is sent, a loop ends."""
    (tmp_path / "page.txt").write_text("the page")
    answers = {
        "/go/file": "Location: /page.txt\r\n\r\n",
        "/go/script": "Location: /go/end?x=1\r\n\r\n",
        "/go/end": OK,
        "/go/loop": "Location: /go/loop\r\n\r\n",
        "/go/out": "Location: http://elsewhere.example/x\r\n\r\n",
        "/go/with-status": "Status: 303 See Other\r\nLocation: /page.txt\r\n\r\n",
        "/go/created": "Status: 201 Created\r\nLocation: /page.txt\r\n\r\nmade",
    }
    peer = backend(lambda seen: answer(answers[(seen.text("SCRIPT_NAME") or "") + (seen.text("PATH_INFO") or "")]))
    site = gateway(
        site_of(peer.option, key="/go", more=f'server.document-root = "{tmp_path}"')
        + 'mimetype.assign = ( ".txt" => "text/plain" )\n'
    )
    got = site.get("/go/file")
    assert (got.status, got.body, got.get("Location")) == (200, b"the page", None)
    got = site.request("POST", "/go/script", b"body")
    assert (got.status, got.body) == (200, b"ok")
    assert (peer.last.text("REQUEST_METHOD"), peer.last.text("QUERY_STRING"), peer.last.stdin_size) == ("GET", "x=1", 0)
    begun = peer.begun
    assert site.get("/go/loop").status in (500, 502)
    assert peer.begun - begun <= 6
    got = site.get("/go/out")
    assert (got.status, got.get("Location")) == (302, "http://elsewhere.example/x")
    got = site.get("/go/with-status")
    assert (got.status, got.get("Location")) == (303, "/page.txt")
    got = site.get("/go/created")
    assert (got.status, got.get("Location"), got.body) == (201, "/page.txt", b"made")


def test_kept_connections(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """Kept where the capacity is known, and never more than it; not kept where it is not."""
    known, unknown = backend(), backend()
    site = gateway(
        'fastcgi.server = (\n'
        f'  "/known" => (( {known.option}, "check-local" => "disable", "max-connections" => 2 )),\n'
        f'  "/unknown" => (( {unknown.option}, "check-local" => "disable" )) )\n'
    )  # fmt: skip
    with site.connect() as connection:
        for number in range(20):
            assert connection.request("POST", "/known", b"x" * number).json()["size"] == number
            assert connection.request("HEAD", "/known").status == 200
            assert connection.request("GET", "/unknown").status == 200
    assert known.connections == 1
    assert all(seen.keep_conn for seen in known.requests)
    assert (unknown.connections, any(seen.keep_conn for seen in unknown.requests)) == (20, False)
    # What followed the end of an answer would bear an id that nobody waits for any more.
    assert [seen.request_id for seen in known.requests] == [*range(1, 41)]


def test_backend_closes_a_kept_connection(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """Closed behind an answer, before the next request or while it is sent: the client never notices."""
    peer = backend(lambda seen: Reply(answer(OK), "close"))
    site = gateway(site_of(peer.option, options=', "max-connections" => 1'))
    with site.connect() as connection:
        for _ in range(20):
            assert connection.request("GET", "/").body == b"ok"
    assert peer.begun == 20


def test_queue(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """At its capacity a backend gets one request after the other, first come first served."""
    at_once, most, lock, gate = 0, 0, threading.Lock(), threading.Event()

    def script(seen: Seen) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        gate.wait(10)
        with lock:
            at_once -= 1
        return answer(OK)

    peer = backend(script)
    site = gateway(site_of(peer.option, options=', "max-connections" => 2'))
    connections = [site.connect() for _ in range(8)]
    for number, connection in enumerate(connections):
        connection.send(encode_request("GET", f"/{number}"))
        peer.wait_for(lambda peer: peer.begun >= min(number + 1, 2), "the first two")  # noqa: B023
    gate.set()
    for connection in connections:
        assert connection.read_answer().body == b"ok"
        connection.sock.close()
    assert (most, peer.connections) == (2, 2)
    assert Counter(seen.text("REQUEST_URI") for seen in peer.requests) == Counter(f"/{number}" for number in range(8))


def test_queue_timeout(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    gate = threading.Event()

    def script(seen: Seen) -> bytes:
        gate.wait(10)
        return answer(OK)

    peer = backend(script)
    site = gateway(site_of(peer.option, options=', "max-connections" => 1, "queue-timeout" => 1'))
    with site.connect() as first:
        first.send(encode_request("GET", "/"))
        peer.wait_for(lambda peer: peer.begun, "the first request")
        got = site.get("/")
        assert got.status == 503
        assert int(got.get("Retry-After") or "0") > 0
        gate.set()
        assert first.read_answer().body == b"ok"
    assert site.get("/").body == b"ok"


def test_balances(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """The balances as a client sees them, over three hosts."""
    peers = [backend() for _ in range(3)]
    options = [peer.option for peer in peers]
    spread = gateway(site_of(*options, more='fastcgi.balance = "round-robin"'))
    for number in range(9):
        spread.get(f"/{number}")
    assert [len(peer.requests) for peer in peers] == [3, 3, 3]

    hashed = gateway(site_of(*options, more='fastcgi.balance = "hash"'))
    chosen = {}
    for _ in range(3):
        for number in range(8):
            before = [len(peer.requests) for peer in peers]
            hashed.get(f"/{number}")
            took = next(at for at, peer in enumerate(peers) if len(peer.requests) > before[at])
            assert chosen.setdefault(number, took) == took
    assert len(set(chosen.values())) > 1


def test_authorizer(tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """What an authorizer is sent (section 6.3), and what its Variables become for the responder."""
    guard = backend(lambda seen: answer(
        "Variable-REMOTE_USER: ali\r\nVariable-TEAM: red\r\nSet-Cookie: seen=1\r\n\r\n"
        if seen.text("HTTP_COOKIE") == "key=open"
        else "Status: 403\r\nContent-Type: text/plain\r\n\r\nlocked out"
    ))  # fmt: skip
    app = backend()
    site = gateway(
        'fastcgi.server = (\n'
        f'  "/app" => (( {guard.option}, "mode" => "authorizer", "check-local" => "disable",'
        f' "docroot" => "{tmp_path}" )) )\n'
        'fastcgi.server += (\n'
        f'  "/" => (( {app.option}, "check-local" => "disable" )) )\n'
    )  # fmt: skip
    got = site.request("POST", "/app/x?y", b"body", Remote_User="evil", Team="evil")
    assert (got.status, got.body, len(app.requests)) == (403, b"locked out", 0)
    asked = guard.last
    assert (asked.role, asked.stdin_size, asked.stdin_ended) == (2, 0, True)
    assert not {"CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"} & set(asked.params)
    assert (asked.text("REQUEST_METHOD"), asked.text("REQUEST_URI")) == ("POST", "/app/x?y")
    told = site.request("POST", "/app/x?y", b"body", Cookie="key=open", Remote_User="evil").json()
    assert (told["params"]["REMOTE_USER"], told["params"]["TEAM"], told["size"]) == ("ali", "red", 4)
    assert hashlib.sha256(b"body").hexdigest() == told["sha256"]


def test_management_records_are_answered(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """An unknown management record inside a conversation disturbs nothing (section 4.2)."""
    peer = backend(lambda seen: record(11, b"\x07\0\0\0\0\0\0\0", 0) + answer(OK))
    assert gateway(site_of(peer.option)).get("/").body == b"ok"
