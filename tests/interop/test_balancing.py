"""Balances in a running gateway: an installed plugin, and the latency that `ewma` goes by."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.backend import ScriptedBackend, Seen, answer
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.gateway import Gateway

EXAMPLE = Path(__file__).parents[2] / "contrib" / "plugin-example"
OK = "Content-Type: text/plain\r\n\r\nok"


def site_of(balance: str, *peers: ScriptedBackend, options: str = "") -> str:
    entries = ", ".join(f'( {peer.option}, "check-local" => "disable"{options} )' for peer in peers)
    return f'fastcgi.server = ( "/" => ( {entries} ) )\nfastcgi.balance = "{balance}"\n'


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the example is installed, as pip installs it."""
    folder = tmp_path_factory.mktemp("plugin")
    source, target = folder / "source", folder / "target"
    shutil.copytree(EXAMPLE, source)  # building writes beside the sources
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--target", str(target), str(source)),
        ],
        check=True,
        timeout=60,
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(target), os.environ.get("PYTHONPATH"))))}


def test_the_example_serves(
    plugin: dict[str, str], backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    peers = [backend(), backend(), backend()]
    site = gateway(site_of("first", *peers, options=', "disable-time" => 60'), env=plugin)
    assert {site.get(f"/{number}").status for number in range(20)} == {200}
    assert [len(peer.requests) for peer in peers] == [20, 0, 0]
    peers[0].stop()
    assert {site.get(f"/{number}").status for number in range(20)} == {200}
    assert [len(peer.requests) for peer in peers] == [20, 20, 0]


def test_the_example_is_listed_and_passes_its_own_test(plugin: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, **plugin}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    line = "+ first, gfastcgi-balance-first 1.0 (gfastcgi_balance_first:First)"
    assert f"\t{line}\n" in run("gfastcgi", "-V")
    assert line in (EXAMPLE / "README.md").read_text()
    assert "1 passed" in run("pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(EXAMPLE))


def test_without_the_plugin_nothing_starts(tmp_path: Path) -> None:
    file = tmp_path / "site.conf"
    file.write_text('server.document-root = "/srv"\nfastcgi.balance = "first"\n')
    command = [sys.executable, "-m", "gfastcgi", "-D", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 255
    assert f"{file}:2: fastcgi.balance takes one of " in done.stderr


def test_ewma_leaves_a_slow_host_alone(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    go_on = threading.Event()

    def hesitate(seen: Seen) -> bytes:
        go_on.wait(30)
        return answer(OK)

    slow, fast = backend(hesitate), backend(lambda seen: answer(OK))
    site = gateway(site_of("ewma", slow, fast))
    clients = [threading.Thread(target=site.get, args=(f"/{number}",)) for number in range(2)]
    for client in clients:
        client.start()
    wait_until(lambda: slow.requests and fast.requests, "a request at each host, since nothing is known of them")
    began = time.monotonic()
    for number in range(10):
        assert site.get(f"/{number}").body == b"ok"
    wait_until(lambda: time.monotonic() - began > 2, "it to be far slower than the other")
    go_on.set()
    for client in clients:
        client.join()
    # Its load is gone, now its latency speaks.
    for number in range(10):
        assert site.get(f"/{number}").body == b"ok"
    assert len(slow.requests) == 1
