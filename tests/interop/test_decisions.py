"""Decisions in a real gateway: kept, granted, chained, asked anew, purged, and what an outage makes of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, answer
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.backend import ScriptedBackend, Seen
    from peers.gateway import Gateway
    from peers.http import Answer

YES = answer("Status: 200 OK\r\n\r\n")
NO = answer("Status: 403 Forbidden\r\n\r\nno")
SID = {"cookie": "SID=a"}
CACHE = '"cache" => ( "ttl" => 60, "key" => ( "cookie:SID" ) )'


class Lab:
    """A site whose `/private/` is guarded by `guard`, and what asks it."""

    def __init__(
        self, gateway: Callable[..., Gateway], guard: ScriptedBackend, root: Path, options: str, rest: str
    ) -> None:
        for path in ("private/a.txt", "private/b.txt", "private/maps/12/tile.txt", "private/maps/13/tile.txt"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)
        self.guard = guard
        self.path = root / "control.sock"
        self.site = gateway(
            f'server.control-socket = "{self.path}"\n'
            f'var.private = (( {guard.option}, "mode" => "authorizer", "check-local" => "disable", '
            f'"disable-time" => 0{options} ))\n{rest or site_of("private")}'
        )

    def says(self, reply: bytes | Reply | Callable[[Seen], bytes | Reply]) -> None:
        self.guard.script = reply if callable(reply) else lambda seen: reply

    def get(self, target: str = "/private/a.txt", **fields: str) -> Answer:
        return self.site.get(target, **(fields or SID))


def site_of(*gates: str) -> str:
    return "fastcgi.server = ( " + ", ".join(f'"/{gate}/" => {gate}' for gate in gates) + " )\n"


@pytest.fixture
def lab(gateway: Callable[..., Gateway], backend: Callable[..., ScriptedBackend], tmp_path: Path) -> Callable[..., Lab]:
    def make(options: str = "", rest: str = "") -> Lab:
        guard = backend(lambda seen: YES)
        return Lab(gateway, guard, tmp_path, f", {options}" if options else "", rest)

    return make


def test_a_thousand_requests_ask_once(lab: Callable[..., Lab]) -> None:
    site = lab(CACHE)
    site.says(answer("Status: 200 OK\r\nVariable-REMOTE_USER: bob\r\n\r\n"))
    with site.site.connect() as connection:
        for number in range(1000):
            target = "/private/a.txt" if number % 2 else "/private/b.txt"
            assert connection.request("GET", target, **SID).body == target[1:].encode()
    assert site.guard.begun == 1
    assert site.get(cookie="SID=b").status == 200
    assert site.get(x="1").status == 200
    assert site.get(x="1").status == 200
    assert site.guard.begun == 4, "another cookie is another client; without one it is always asked"


def test_the_access_log_knows_the_user(lab: Callable[..., Lab], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    form = f'accesslog.filename = "{log}"\naccesslog.format = "%u %{{AUTH_TYPE}}e %s"\n'
    site = lab(CACHE, form + site_of("private"))
    site.says(answer("Status: 200 OK\r\nVariable-REMOTE_USER: bob\r\nVariable-AUTH_TYPE: Session\r\n\r\n"))
    for _ in range(2):
        assert site.get().status == 200
    assert site.get("/open").status == 404
    site.site.terminate(signal.SIGHUP)
    wait_until(lambda: log.read_text() == "bob Session 200\nbob Session 200\n- - 404\n", "the lines of the log")


def test_no_store_is_obeyed(lab: Callable[..., Lab]) -> None:
    site = lab(CACHE)
    site.says(answer("Status: 200 OK\r\nCache-Control: no-store\r\n\r\n"))
    for count in (1, 2, 3):
        assert site.get().status == 200
        assert site.guard.begun == count
    site.says(answer("Status: 200 OK\r\nSet-Cookie: SID=a; path=/\r\n\r\n"))
    for count in (4, 5):
        assert site.get().get_all("Set-Cookie") == ["SID=a; path=/"]
        assert site.guard.begun == count


def test_a_page_with_many_pictures_asks_once(lab: Callable[..., Lab]) -> None:
    site = lab(CACHE)
    go = threading.Event()

    def wait(seen: Seen) -> bytes:
        go.wait(10)
        return YES

    site.says(wait)
    connections = [site.site.connect() for _ in range(100)]
    for connection in connections:
        connection.send(b"GET /private/a.txt HTTP/1.1\r\nHost: x\r\nCookie: SID=a\r\n\r\n")
    site.guard.wait_for(lambda guard: guard.begun, "the question")
    # The last one has come as well when one behind it has been answered.
    assert site.site.get("/nothing").status == 404
    go.set()
    for connection in connections:
        assert connection.read_answer("GET").body == b"private/a.txt"
        connection.sock.close()
    assert site.guard.begun == 1


def test_denials(lab: Callable[..., Lab]) -> None:
    site = lab('"cache" => ( "ttl" => 60, "negative-ttl" => 60, "key" => ( "cookie:SID" ) )')
    site.says(NO)
    for _ in range(3):
        got = site.get()
        assert (got.status, got.body) == (403, b"no")
    assert site.guard.begun == 1
    site.says(Reply(YES[:-10], "close"))
    for _ in range(2):
        assert site.get(cookie="SID=b").status == 502
    assert site.guard.begun > 2, "a failure is nothing to keep"


def test_purge(lab: Callable[..., Lab]) -> None:
    site = lab(CACHE)
    site.get()
    site.says(NO)
    assert site.get().status == 200
    told = subprocess.run(
        [sys.executable, "-m", "gfastcgi", "purge", "--socket", str(site.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "purged: 1 authorizer will be asked anew\n"
    assert site.get().status == 403


def test_purge_without_a_gateway(tmp_path: Path) -> None:
    config = tmp_path / "site.conf"
    for line, fault in (
        ("", "site.conf: server.control-socket is not set"),
        (f'server.control-socket = "{tmp_path}/none.sock"', f"no gateway is running at {tmp_path}/none.sock"),
    ):
        config.write_text(f'server.document-root = "{tmp_path}"\n{line}\n')
        told = subprocess.run(
            [sys.executable, "-m", "gfastcgi", "purge", "-f", str(config)], capture_output=True, text=True, check=False
        )
        assert (told.returncode, fault in told.stderr) == (1, True), told.stderr


def test_tiles(lab: Callable[..., Lab]) -> None:
    site = lab('"cache" => ( "key" => ( "cookie:SID", "path" ) )')
    site.says(answer("Status: 200 OK\r\nVariable-GFASTCGI_GRANT: path=/private/maps/12/; ttl=300\r\n\r\n"))
    with site.site.connect() as connection:
        for number in range(500):
            connection.request("GET", f"/private/maps/12/tile-{number}.png", **SID)
        assert connection.request("GET", "/private/maps/12/tile.txt", **SID).status == 200
        assert site.guard.begun == 1
        assert connection.request("GET", "/private/maps/12/../13/tile.txt", **SID).status == 200
        assert site.guard.begun == 2


def test_what_is_kept_opens_nothing_else(lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]) -> None:
    """A yes for one gate is none for another, though both have the same key and the same client."""
    other = backend(lambda seen: NO)
    rest = (
        f'fastcgi.server = ( "/private/" => private, "/private/maps/" => (( {other.option}, "mode" => "authorizer", '
        f'"check-local" => "disable", {CACHE} )) )\n'
    )
    site = lab(CACHE, rest)
    for _ in range(2):
        assert site.get("/private/a.txt").status == 200
        assert site.get("/private/maps/12/tile.txt").status == 403
        assert site.get("/private/../private/maps/12/tile.txt").status == 403
    assert site.guard.begun == 1


def test_the_first_no_of_two_at_once(lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]) -> None:
    """One that is silent for ever, beside one that denies: the client has its answer, and nothing is left over."""
    silent = backend(lambda seen: Reply(b"", "hang"))
    rest = (
        f'fastcgi.server = ( "/private" => (( {silent.option}, "mode" => "authorizer", "independent" => "enable" )), '
        '"/private/" => private )\n'
    )
    site = lab('"independent" => "enable"', rest)

    def deny(seen: Seen) -> bytes:
        silent.wait_for(lambda other: other.begun, "the other question")
        return NO

    site.says(deny)
    assert site.get().body == b"no"
    silent.wait_for(lambda other: not other.open, "the question to be given up")


def test_any(lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]) -> None:
    other = backend(lambda seen: NO)
    rest = (
        'fastcgi.authorizers = "any"\n'
        f'fastcgi.server = ( "/private" => (( {other.option}, "mode" => "authorizer" )), "/private/" => private )\n'
    )
    site = lab("", rest)
    assert site.get().body == b"private/a.txt"
    site.says(answer("Status: 401\r\n\r\n"))
    assert site.get().status == 403, "the first denial in their order"
    site.guard.stop()
    assert site.get().status == 403
    other.script = lambda seen: YES
    assert site.get().status == 200


def test_an_outage(lab: Callable[..., Lab]) -> None:
    site = lab('"cache" => ( "ttl" => 0, "key" => ( "cookie:SID" ) ), "stale-allow" => 300')
    assert site.get().status == 200
    site.says(lambda seen: YES if b"SID=b" not in seen.params["HTTP_COOKIE"] else NO)
    assert site.get(cookie="SID=b").status == 403
    site.guard.stop()
    assert site.get().body == b"private/a.txt"
    site.site.wait_for_log("let in by an earlier yes of the authorizer /private/")
    for fields in ({"cookie": "SID=b"}, {"cookie": "SID=c"}, {"x": "1"}):
        assert site.get(**fields).status == 503


def test_a_long_download_ends_with_the_right_to_it(lab: Callable[..., Lab], tmp_path: Path) -> None:
    form = f'accesslog.filename = "{tmp_path}/access.log"\naccesslog.format = "%s %b %X %L"\n'
    site = lab('"recheck" => 1', form + site_of("private"))
    size = 64 << 20
    with open(tmp_path / "private/big.bin", "wb") as file:
        file.truncate(size)
    with site.site.connect() as connection:
        connection.send(b"GET /private/big.bin HTTP/1.1\r\nHost: x\r\nCookie: SID=a\r\n\r\n")
        site.guard.wait_for(lambda guard: guard.begun >= 3, "the question to be asked again")
        site.says(NO)
        site.site.wait_for_log(r"GET /private/big\.bin: cut: its authorizers, asked again, denied it \(/private/\)")
        got = connection.read_answer("GET")
    assert (got.status, got.whole) == (200, False)
    assert len(got.body) < size
    assert site.get("/private/a.txt").status == 403
    log = tmp_path / "access.log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "two lines in the access log")
    cut = log.read_text().split()[:4]
    assert (cut[0], cut[2]) == ("200", "X")
    assert len(got.body) <= int(cut[1]) < size, "what it was sent is logged"
    assert f"request {cut[3]}: GET /private/big.bin: cut: " in site.site.log


def test_a_long_stream_ends_with_the_right_to_it(
    lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]
) -> None:
    head = answer("Content-Type: text/event-stream\r\n\r\ndata: 1\n\n")[:-16]
    app = backend(lambda seen: Reply(head, "hang"))
    rest = f'fastcgi.server = ( "/private/" => private, "/private/app" => (( {app.option}, "check-local" => 0 )) )\n'
    site = lab('"recheck" => 1', rest)
    with site.site.connect() as connection:
        connection.send(b"GET /private/app HTTP/1.1\r\nHost: x\r\n\r\n")
        site.guard.wait_for(lambda guard: guard.begun >= 2, "the question to be asked again")
        site.guard.stop()
        got = connection.read_answer("GET")
    assert (got.status, got.whole, got.body) == (200, False, b"data: 1\n\n")
    app.wait_for(lambda app: not app.open, "the application to be told")


def test_a_right_that_ends_before_the_first_byte(
    lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]
) -> None:
    """The backend takes longer than the time in which the authorizers are asked again: then they are, at once."""
    is_denied, never = threading.Event(), threading.Event()

    def work(seen: Seen) -> bytes:
        is_denied.wait(30)
        never.wait(1.01)  # the time in which they are asked again
        return answer("Content-Type: text/plain\r\n\r\nworked")

    app = backend(work)
    rest = f'fastcgi.server = ( "/private/" => private, "/private/app" => (( {app.option}, "check-local" => 0 )) )\n'
    site = lab('"recheck" => 1', rest)
    with site.site.connect() as connection:
        connection.send(b"GET /private/app HTTP/1.1\r\nHost: x\r\n\r\n")
        app.wait_for(lambda app: app.begun == 1, "the application to be asked")
        site.says(NO)
        is_denied.set()
        assert connection.read_answer("GET").status == 403
    site.says(YES)
    assert site.get("/private/app").status == 200


def test_a_silent_authorizer_has_an_end(lab: Callable[..., Lab]) -> None:
    site = lab(f'{CACHE}, "read-timeout" => 1')
    site.says(Reply(b"", "hang"))
    for _ in range(2):
        assert site.get().status == 504
    site.says(YES)
    wait_until(lambda: site.get().status == 200, "the authorizer to be asked again")


def test_behind_a_local_redirect_the_new_path_is_judged(
    lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]
) -> None:
    app = backend(lambda seen: answer("Location: /private/a.txt?x=1\r\n\r\n"))
    rest = f'fastcgi.server = ( "/private/" => private, "/open" => (( {app.option}, "check-local" => "disable" )) )\n'
    site = lab('"cache" => ( "key" => ( "cookie:SID", "path" ) )', rest)
    site.says(lambda seen: YES if seen.params["REQUEST_URI"].startswith(b"/open") else NO)
    assert site.get("/open").status == 403
    site.says(lambda seen: YES if seen.params["REQUEST_URI"] == b"/private/a.txt?x=1" else NO)
    assert site.get("/open").body == b"private/a.txt"


def test_behind_a_local_redirect_the_cookies_of_the_first_yes_are_there(
    lab: Callable[..., Lab], backend: Callable[..., ScriptedBackend]
) -> None:
    app = backend(lambda seen: answer("Location: /open.txt\r\n\r\n"))
    site = lab(
        "", f'fastcgi.server = ( "/in" => private, "/in/app" => (( {app.option}, "check-local" => "disable" )) )\n'
    )
    site.says(answer("Status: 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"))
    told = site.get("/in/app")
    assert (told.status, told.get_all("Set-Cookie")) == (404, ["a=1", "b=2"])


def test_a_key_without_a_credential_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "site.conf"
    config.write_text(
        f'server.document-root = "{tmp_path}"\nfastcgi.server = ( "/p/" => ((\n'
        '"socket" => "/s", "mode" => "authorizer",\n"cache" => ( "ttl" => 60, "key" => ( "path", "address" ) ) )) )\n'
    )
    told = subprocess.run(
        [sys.executable, "-m", "gfastcgi", "-D", "-f", str(config)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 255
    assert 'site.conf:4: "cache": the key needs a credential' in told.stderr
