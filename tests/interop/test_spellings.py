"""A conditional that shuts a door holds however a client spells what it looks at."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway

SITE = """
server.document-root = "{root}"
server.port = 0
server.bind = "127.0.0.1"
{condition} {{ url.access-deny = ( "" ) }}
"""


@pytest.fixture
def site(tmp_path: Path, gateway: Callable[..., Gateway]) -> Callable[..., Gateway]:
    (tmp_path / "a.txt").write_text("inside")
    return lambda condition: gateway(SITE.format(root=tmp_path, condition=condition))


@pytest.mark.parametrize(
    "condition",
    [
        '$HTTP["host"] == "private.example"', '$HTTP["host"] == "private.example:80"',
        '$HTTP["host"] =~ "^private\\.example$"', '$HTTP["host"] =$ ".example."', '$HTTP["host"] =^ "private."',
    ],
)  # fmt: skip
def test_host(condition: str, site: Callable[..., Gateway]) -> None:
    running = site(condition)
    spellings = ["private.example", "PRIVATE.example.", "private.example:80", "private.example:080", "private.example:"]
    assert {each: running.get("/a.txt", Host=each).status for each in spellings} == dict.fromkeys(spellings, 403)
    assert running.get("/a.txt", Host="public.test").status == 200


def test_an_ipv6_host(site: Callable[..., Gateway]) -> None:
    running = site('$HTTP["host"] == "[0::1]"')
    spellings = ["[::1]", "[0::1]", "[0:0:0:0:0:0:0:1]:80", "[::0.0.0.1]:81"]
    assert {each: running.get("/a.txt", Host=each).status for each in spellings} == dict.fromkeys(spellings, 403)
    assert running.get("/a.txt", Host="[::2]").status == 200


def test_query(site: Callable[..., Gateway]) -> None:
    running = site('$HTTP["querystring"] =~ "(^|&)action=admin(&|$)"')
    spellings = ["action=admin", "action=%61dmin", "x=1&%61%63tion=admin&y"]
    assert {each: running.get(f"/a.txt?{each}").status for each in spellings} == dict.fromkeys(spellings, 403)
    assert running.get("/a.txt?action=%41dmin").status == 200


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.1", "[0::1]"])
def test_a_second_socket(name: str, site: Callable[..., Gateway]) -> None:
    """It listens there, and holds there, whatever the kernel calls the address."""
    family = socket.AF_INET6 if name.startswith("[") else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        port = sock.getsockname()[1]
    running = site(f'$SERVER["socket"] == "{name}:{port}"')
    assert running.get("/a.txt").status == 200
    with socket.create_connection((name.strip("[]"), port), 10) as client:
        client.sendall(b"GET /a.txt HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").readline().split()[1] == b"403"
