"""Fixtures of the unit tests."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from fcgirig import Rig
from peers.processes import children
from procrig import Rig as ProcessRig
from procrig import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gfastcgi.config import HostConfig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.stop()


@pytest.fixture
def child_watcher() -> Iterator[None]:
    """gevent's child watcher reaps every child: afterwards those of other tests are theirs again."""
    yield
    gevent.get_hub().loop.reset_sigchld()


@pytest.fixture
def left(child_watcher: None) -> Callable[[], set[int]]:
    """The processes that the test left behind, so far."""
    before = children(os.getpid())
    return lambda: children(os.getpid()) - before


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Writes a Python program and gives its path."""

    def write(source: str, name: str = "app.py") -> str:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{source}")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture
def supervise(child_watcher: None) -> Iterator[Callable[..., ProcessRig]]:
    """Makes supervised hosts, and ends their processes."""
    rigs: list[ProcessRig] = []

    def make(config: HostConfig, *, start: bool = True, **options: Any) -> ProcessRig:
        rig = ProcessRig(config, **options)
        rigs.append(rig)
        if start:
            rig.supervisor.start()
        return rig

    yield make
    for rig in rigs:
        rig.supervisor.stop()
        assert not [pid for pid in rig.supervisor.pids if is_alive(pid)]
