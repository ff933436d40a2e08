"""The fixtures: factories, so that a test makes as many as it needs; all is ended with the test, gateways first."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from gfastcgi.config import Config
from gfastcgi.conformance.peer import Script
from gfastcgi.conformance.rows import Row
from gfastcgi.testing.backends import FakeAuthorizer, FakeFPM
from gfastcgi.testing.gateway import GatewayProcess, write_config

__all__ = ["MakeFPM", "MakeGateway", "gfastcgi_authorizer", "gfastcgi_folder", "gfastcgi_fpm", "gfastcgi_gateway"]


class MakeFPM(Protocol):
    """What `gfastcgi_fpm` gives."""

    def __call__(self, script: Script | None = None, *, tcp: bool = False, **options: Any) -> FakeFPM:
        """A `FakeFPM` on a unix socket, or with `tcp` on a free port of 127.0.0.1."""


class MakeGateway(Protocol):
    """What `gfastcgi_gateway` gives."""

    def __call__(
        self, config: str | Config = "", *, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> GatewayProcess:
        """A gateway with this lighttpd.conf or `Config`, in the folder `tmp_path`."""


@pytest.fixture
def gfastcgi_folder() -> Iterator[Path]:
    """A folder with a short name, for unix sockets: their paths have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gfastcgi-") as folder:
        yield Path(folder)


@pytest.fixture
def gfastcgi_fpm(gfastcgi_folder: Path) -> Iterator[MakeFPM]:
    """Makes fake FastCGI responders: `gfastcgi_fpm(page("hello"))`."""
    made: list[FakeFPM] = []

    def make(script: Script | None = None, *, tcp: bool = False, **options: Any) -> FakeFPM:
        address = ("127.0.0.1", 0) if tcp else str(gfastcgi_folder / f"fpm-{len(made)}.sock")
        made.append(FakeFPM(address, script, **options))
        return made[-1]

    yield make
    _end([fpm.stop for fpm in made])


@pytest.fixture
def gfastcgi_authorizer(gfastcgi_folder: Path) -> Iterator[Callable[[str | Row | Script], FakeAuthorizer]]:
    """Makes fake authorizers, by a script or by a row's name: `gfastcgi_authorizer("az-403")`."""
    made: list[FakeAuthorizer] = []

    def make(rule: str | Row | Script) -> FakeAuthorizer:
        made.append(FakeAuthorizer(rule, gfastcgi_folder))
        return made[-1]

    yield make
    _end([authorizer.stop for authorizer in made])


@pytest.fixture
def gfastcgi_gateway(tmp_path: Path, gfastcgi_fpm: object, gfastcgi_authorizer: object) -> Iterator[MakeGateway]:
    """Starts gateways: `gfastcgi_gateway(config)`. They find the modules that the test finds."""
    made: list[GatewayProcess] = []

    def make(
        config: str | Config = "", *, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> GatewayProcess:
        path = write_config(config, tmp_path, f"gateway-{len(made)}.conf")
        modules = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {"PYTHONPATH": modules, **(env or {})}
        made.append(GatewayProcess(["-D", "-f", str(path)], cwd=tmp_path, env=environment, log=log))
        return made[-1]

    yield make
    _end([gateway.stop for gateway in made])


def _end(stops: list[Callable[[], None]]) -> None:
    """Ends all of them, whatever goes wrong with one; then says what did."""
    faults = []
    for stop in stops:
        try:
            stop()
        except AssertionError as error:
            faults.append(str(error))
    if faults:
        raise AssertionError("\n".join(faults))
