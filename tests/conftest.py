"""Fixtures for tests with real processes; see the rooms in `peers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.backend import ScriptedBackend
from peers.gateway import Gateway
from peers.processes import Processes, become_subreaper

from gfastcgi.testing.gateway import write_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_configure(config: pytest.Config) -> None:
    become_subreaper()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts peers and ends them with the test."""
    started = Processes()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def module_processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.stop()


def _make_backends(folder: Path) -> Iterator[Callable[..., ScriptedBackend]]:
    made: list[ScriptedBackend] = []

    def make(*arguments: object, tcp: bool = False, **options: object) -> ScriptedBackend:
        address = ("127.0.0.1", 0) if tcp else str(folder / f"backend-{len(made)}.sock")
        made.append(ScriptedBackend(address, *arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for backend in made:
        backend.stop()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Callable[..., ScriptedBackend]]:
    """Makes scripted backends: `backend(script)`, on a unix socket or with `tcp=True` on a port of its own."""
    yield from _make_backends(tmp_path)


@pytest.fixture(scope="module")
def module_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ScriptedBackend]]:
    yield from _make_backends(tmp_path_factory.mktemp("backends"))


def _make_gateways(folder: Path) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(config: str = "", *, command: list[str] | None = None, **options: object) -> Gateway:
        path = write_config(config, folder, f"site-{len(made)}.conf")
        made.append(Gateway(command or ["-D", "-f", str(path)], cwd=folder, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    problems = []
    for gateway in made:
        try:
            gateway.stop()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n".join(problems)


@pytest.fixture
def gateway(tmp_path: Path, backend: object, processes: object) -> Iterator[Callable[..., Gateway]]:
    """Starts gfastcgi: `gateway(config)`; it must end in order before its peers do."""
    yield from _make_gateways(tmp_path)


@pytest.fixture(scope="module")
def module_gateway(
    tmp_path_factory: pytest.TempPathFactory, module_backend: object, module_processes: object
) -> Iterator[Callable[..., Gateway]]:
    """As `gateway`, for one long-lived process that serves a whole module."""
    yield from _make_gateways(tmp_path_factory.mktemp("gateway"))
