"""The catalogue of bad inputs, from clients and from backends, against one gateway that lives through them all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from peers.cases import load
from peers.waiting import wait_until

if TYPE_CHECKING:
    from conftest import Rig
    from peers.cases import Case

KINDS = ("http1/bad_requests.json", "fcgi/replies.json", "xsendfile.json")
CASES = [(kind, case) for kind in KINDS for case in load(kind)]
ROUNDS = 3
MIB = 1 << 20


@pytest.mark.parametrize(("kind", "case"), CASES, ids=[case["name"] for _, case in CASES])
def test_bad_input(rig: Rig, kind: str, case: Case) -> None:
    rig.check(kind, case)
    if "log" in case["expected"]:
        rig.gateway.wait_for_log("PHP Warning: x")


def test_shuffled(rig: Rig) -> None:
    """Sequences find what single cases miss; what a case costs is given back."""
    cases = [(kind, case) for kind, case in CASES if case.get("then") != "hang"]
    fds = rss = 0
    for seed in range(ROUNDS):
        random.Random(seed).shuffle(cases)
        for kind, case in cases:
            try:
                rig.check(kind, case)
            except AssertionError as error:
                raise AssertionError(f"round {seed}, {case['name']}: {error}") from error
        if not seed:
            fds, rss = rig.gateway.fds(), rig.gateway.rss()
    wait_until(lambda: rig.gateway.fds() <= fds + 2, f"descriptors to come down to {fds}", 5)
    assert rig.gateway.rss() < rss + 10 * MIB
