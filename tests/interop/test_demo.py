"""`gfastcgi demo` as a visitor uses it, and what it leaves behind: nothing."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.gateway import Gateway
from peers.programs import find_peer
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POSTCARD = "/private/postcard.svg"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A TMPDIR that is short enough for unix sockets, and must be empty at the end."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []


@pytest.fixture
def start(tmp_path: Path, temporary: Path) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def start(*arguments: str) -> Gateway:
        started.append(Gateway(["demo", "--port", "0", *arguments], cwd=tmp_path, env={"TMPDIR": str(temporary)}))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.stop()


def folder_of(gateway: Gateway) -> Path:
    return Path(gateway.wait_for_log(r"configuration +(\S+)")[1]).parent


def log_in(gateway: Gateway, password: str = "lovelace") -> str:
    answer = gateway.request(
        "POST", "/app/login", b"user=ada&password=" + password.encode(),
        **{"X-Demo": "1", "Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    return (answer.get("set-cookie") or "").partition(";")[0]


def test_the_page_and_the_balance(start: Callable[..., Gateway]) -> None:
    gateway = start("--no-php")
    page = gateway.get("/")
    assert (page.status, page.get("content-type")) == (200, "text/html; charset=utf-8")
    assert b"The gateway is running." in page.body
    answers = [gateway.get("/app/who/round-robin/").json() for _ in range(8)]
    assert sorted(answer["name"] for answer in answers) == sorted(["north", "east", "south", "west"] * 2)
    assert len({answer["pid"] for answer in answers}) == 4
    for balance in ("least-connection", "hash", "sticky"):
        assert gateway.get(f"/app/who/{balance}/").json()["pid"] in {answer["pid"] for answer in answers}
    sticky = {gateway.get("/app/who/sticky/").json()["name"] for _ in range(8)}
    assert len(sticky) == 1
    assert b'"mode" => "authorizer"' in gateway.get("/site.conf.txt").body
    assert gateway.get("/hello.php").status == 404


def test_a_login_turns_403_into_a_download(start: Callable[..., Gateway]) -> None:
    gateway = start("--no-php")
    assert gateway.get(POSTCARD).status == 403
    assert log_in(gateway, "wrong") == ""
    cookie = log_in(gateway)
    answer = gateway.get(POSTCARD, Cookie=cookie)
    assert (answer.status, answer.get("content-type"), answer.get("x-served-for")) == (200, "image/svg+xml", "ada")
    assert answer.get("x-sendfile") is None
    part = gateway.get(POSTCARD, Cookie=cookie, Range="bytes=0-63")
    assert (part.status, part.body) == (206, answer.body[:64])
    assert part.get("content-range") == f"bytes 0-63/{len(answer.body)}"
    for path in ("/private/none.svg", "/private/../state/session.key", "/private/%2e%2e/%2e%2e/state/session.key"):
        assert gateway.get(path, Cookie=cookie).status in (403, 404)
    assert gateway.get(POSTCARD, Cookie=cookie[:-1] + "x").status == 403


def test_the_gate_stays_shut_when_its_authorizers_die(start: Callable[..., Gateway]) -> None:
    """Others take their place; until then requests wait, or get 503."""
    gateway = start("--no-php")
    cookie = log_in(gateway)
    assert gateway.get(POSTCARD, Cookie=cookie).status == 200
    state = folder_of(gateway) / "state"
    wait_until(lambda: len(list(state.glob("authorizer-*.pid"))) == 2, "both authorizers", 20)
    killed = gateway.request("POST", "/app/kill", b"", **{"X-Demo": "1"}).json()["killed"]
    assert len(killed) == 2
    statuses = {gateway.get(POSTCARD).status}
    for pid in killed:
        gateway.wait_for_log(rf"process {pid} ended")
        statuses.add(gateway.get(POSTCARD).status)
    assert statuses <= {403, 502, 503}
    wait_until(lambda: gateway.get(POSTCARD, Cookie=cookie).status == 200, "new authorizers", 20)
    assert gateway.get(POSTCARD).status == 403


def test_php_where_it_is_installed(start: Callable[..., Gateway]) -> None:
    find_peer("php-cgi")
    gateway = start()
    answer = gateway.get("/hello.php")
    assert answer.status == 200
    assert answer.body.startswith(b"PHP ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left(start: Callable[..., Gateway], temporary: Path, number: int) -> None:
    gateway = start()
    folder = folder_of(gateway)
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    gateway.terminate(number)
    gateway.process.wait(15)
    gateway.stop()
    assert not folder.exists()
