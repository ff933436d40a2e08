"""`gfastcgi top` without a gateway: what an overview tells, rates by a fake clock, and the table."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import webob

from gfastcgi import assemble
from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.gate import Counts, Gate
from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import POLICIES
from gfastcgi.cli.top import Looks
from gfastcgi.cli.top_table import SORTS, Line, table
from gfastcgi.config import Config, Extension, HostConfig, Settings
from gfastcgi.control import ControlError
from gfastcgi.errors import ConnectError, StreamError
from gfastcgi.status import authorizers_of, backends_of
from gfastcgi.status.rates import with_rates

REQUEST = SimpleNamespace(authority="example.org", path="/", remote_addr="192.0.2.1")
BASE = {"version": "1.2", "pid": 7, "seconds": 90061.5, "clients": 4, "requests": 100, "failed": {}}


def make_pool(*configs: HostConfig) -> Pool:
    return Pool(make_hosts(configs), POLICIES["least-connection"](random.Random(1)), clock=lambda: 0.0)


def overview(pools: dict[Pool, list[str]], gates: Any = (), **changed: Any) -> dict[str, Any]:
    return {**BASE, **backends_of(pools), **authorizers_of(gates), **changed}


def decided(allowed: int, denied: int, failed: int, kept: int) -> Counts:
    counts = Counts()
    counts.allowed, counts.denied, counts.failed, counts.kept = allowed, denied, failed, kept
    return counts


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


# What a gateway tells


def test_backends() -> None:
    pool = make_pool(HostConfig(name="a", socket="/run/a", bin_path="/bin/a", min_procs=2, max_procs=2))
    one, other = pool.hosts[0].procs
    pool.started(one, pid=11, is_local=True, capacity=1)
    pool.exited(other, "signal 9", 5.0)
    leases = [pool.acquire(REQUEST) for _ in range(2)]
    assert leases[0] is not None
    assert leases[1] is None
    told = backends_of({pool: ["/a", "/b"]})
    assert (told["active"], told["waiting"], told["backend_requests"]) == (1, 0, 1)
    [of_pool] = told["pools"]
    assert (of_pool["keys"], of_pool["mode"], of_pool["requests"]) == (["/a", "/b"], "responder", 1)
    running, died = of_pool["hosts"][0]["procs"]
    assert (running["state"], running["load"], running["capacity"], running["requests"]) == ("running", 1, 1, 0)
    assert (died["state"], died["died"], died["cause"], died["pid"]) == ("died", 1, "signal 9", 0)
    pool.release(leases[0], keep=object())
    [of_pool] = backends_of({pool: []})["pools"]
    ended = of_pool["hosts"][0]["procs"][0]
    assert (ended["load"], ended["requests"], ended["kept"]) == (0, 1, 1)
    assert of_pool["hosts"][0]["requests"] == 1


def test_a_question_of_our_own_is_no_request() -> None:
    pool = make_pool(HostConfig(port=1, max_connections=2))
    probe = pool.probe(pool.hosts[0], pool.hosts[0].procs[0])
    assert probe is not None
    pool.release(probe)
    assert pool.hosts[0].procs[0].requests == 0


def test_authorizers() -> None:
    told = authorizers_of(
        [
            ("/a", "fastcgi", decided(5, 2, 1, 3)),
            ("/a", "fastcgi", decided(1, 0, 0, 0)),
            ("/a", "url", decided(0, 0, 0, 0)),
        ]
    )
    assert told["decisions"] == {"requests": 9, "allowed": 6, "denied": 2, "failed": 1, "kept": 3}
    assert [gate["requests"] for gate in told["authorizers"]] == [9, 0]


def test_an_app_tells_all_of_it() -> None:
    hosts = (HostConfig(name="php", socket="/run/php.sock"), HostConfig(mode="authorizer", docroot="/", port=1))
    app = assemble.build(Config(settings=Settings(document_root="/", extensions=(Extension(".php", hosts),))))
    told = json.loads(json.dumps(app.overview()))
    assert {(tuple(pool["keys"]), pool["mode"]) for pool in told["pools"]} == {
        ((".php",), "responder"),
        ((".php",), "authorizer"),
    }
    assert with_rates(told, None, 0)["per_second"] is None


YES, NO = Allow(), Deny(webob.Response(status=403))


@pytest.mark.parametrize("audit", [None, lambda request, verdict: None])
def test_a_gate_counts_what_it_decides(audit: Any) -> None:
    answers: list[Any] = [YES, NO, ConnectError("nobody"), "what", StreamError("the client left"), YES]

    class Told:
        def check(self, request: object, root: str) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    gate = Gate("/", Told(), audit=audit)
    request: Any = SimpleNamespace(id="1")
    assert [gate.decide(request, "/") for _ in range(2)] == [YES, NO]
    for expected in (ConnectError, TypeError, StreamError):
        with pytest.raises(expected):
            gate.decide(request, "/")
    assert repr(gate.counts) == "<Counts 1 allowed, 1 denied, 2 failed, 0 kept>"
    assert gate.decide_anew(request, "/") is YES
    assert gate.counts.allowed == 1


def test_decisions_without_a_question_are_counted_apart() -> None:
    counts = Counts()
    for decision, source in ((YES, "asked"), (YES, "memory"), (NO, "shared"), (YES, "grant"), (YES, "stale")):
        counts.add(decision, source)  # type: ignore[arg-type]
    assert (counts.allowed, counts.denied, counts.failed, counts.kept) == (4, 1, 0, 4)


# Rates


@pytest.fixture
def before() -> dict[str, Any]:
    return overview({make_pool(HostConfig(name="a", port=1), HostConfig(name="b", port=2)): ["/"]})


def test_rates(before: dict[str, Any]) -> None:
    now = deepcopy(before)
    now["requests"] += 5
    now["pools"][0]["hosts"][1]["procs"][0]["requests"] = 3
    told = with_rates(now, before, 2.0)
    assert told["per_second"] == 2.5
    assert told["pools"][0]["per_second"] == told["decisions"]["per_second"] == 0.0
    assert [host["procs"][0]["per_second"] for host in told["pools"][0]["hosts"]] == [0.0, 1.5]
    assert "per_second" not in now


@pytest.mark.parametrize(
    ("changed", "seconds"), [({"pid": 8}, 1.0), ({"seconds": 1.0}, 1.0), ({"requests": 99}, 1.0), ({}, 0.0)]
)
def test_rates_that_nobody_saw(before: dict[str, Any], changed: dict[str, Any], seconds: float) -> None:
    assert with_rates({**before, **changed}, before, seconds)["per_second"] is None
    assert with_rates(before, None, 1.0)["per_second"] is None


def test_a_process_that_came_has_no_rate_yet(before: dict[str, Any]) -> None:
    now = deepcopy(before)
    now["pools"][0]["hosts"][0]["procs"][0]["address"] = "127.0.0.1:3"
    told = with_rates(now, before, 1.0)
    assert [host["procs"][0]["per_second"] for host in told["pools"][0]["hosts"]] == [None, 0.0]


def test_looks_take_the_clock_s_time() -> None:
    told = [overview({}, requests=count) for count in (100, 130, 150)]
    times = iter([10.0, 12.0, 22.0])
    answers: list[Any] = [told[0], told[1], ControlError("gone"), told[2]]

    def look() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    looks = Looks(look, lambda: next(times))
    assert [looks.take()["per_second"] for _ in range(2)] == [None, 15.0]
    with pytest.raises(ControlError):
        looks.take()
    assert looks.take()["per_second"] == 2.0


# The table


def test_a_table() -> None:
    pool = make_pool(HostConfig(name="php", port=9000, max_connections=4), HostConfig(port=9001))
    leases = [pool.acquire(REQUEST) for _ in range(2)]
    pool.failed(next(lease for lease in leases if lease is not None and lease.host.name != "php"))
    told = with_rates(overview({pool: [".php"]}, [("/p", "url", decided(3, 1, 1, 2))], failed={"internal": 2}), None, 0)
    assert texts(table(told)) == [
        "gfastcgi 1.2, pid 7, up 1d 1:01:01",
        "requests 100 (-/s), from 4 connected clients",
        "backends: 2 at work, 0 waiting, 2 so far",
        "failed 2: internal 2",
        "decisions 5 (-/s): allowed 3, denied 1, failed 1; 2 without asking",
        "",
        "BACKEND          STATE    LOAD MAX KEPT QUEUE REQ/S REQUESTS CONNECTED DIED DOWN OVER PID ADDRESS",
        ".php                                        0     -        2",
        "  php            running     1   4    0           -        0         0    0    0    0   - 127.0.0.1:9000",
        "  127.0.0.1:9001 disabled    1   -    0           -        0         0    0    1    0   - 127.0.0.1:9001"
        " (connect_failed)",
        "",
        "AUTHORIZER HOW REQ/S ASKED FOR ALLOWED DENIED FAILED KEPT",
        "/p         url     -         5       3      1      1    2",
    ]
    styles = {line.text.split()[0]: line.style for line in table(told) if line.style}
    assert styles["127.0.0.1:9001"] == "red"
    assert "php" not in styles


def test_an_address_that_is_not_known() -> None:
    pool = make_pool(HostConfig(name="far", host="app.example.org", port=1))
    pool.hosts[0].fault = "no such name"
    lines = texts(table(with_rates(overview({pool: ["/"]}), None, 0)))
    assert lines[-1].split() == ["far", "unknown", "0", "-", "0", "-", *["0"] * 5, "-", "(no", "such", "name)"]


@pytest.mark.parametrize("width", [0, 1, 20, 60])
def test_lines_are_cut(width: int, before: dict[str, Any]) -> None:
    told = with_rates(before, None, 0)
    assert texts(table(told, width=width)) == [line[:width] for line in texts(table(told))]


def test_nothing_steers_the_terminal() -> None:
    pool = make_pool(HostConfig(name="a\x1b[2J\n\udcff", port=1))
    lines = texts(table(with_rates(overview({pool: ["/\x9b"]}, failed={"\r": 1}), None, 0)))
    assert any("a?[2J??" in line for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("sort", [*SORTS])
def test_sorting(sort: str) -> None:
    told = with_rates(overview({make_pool(*(HostConfig(name=name, port=1) for name in "abc")): ["/"]}), None, 0)
    assert texts(table(told, sort=sort)) == texts(table(told))
    field = "per_second" if sort == "rate" else sort
    for host, value in zip(told["pools"][0]["hosts"], (1, 3, 2), strict=True):
        host["procs"][0][field] = value
    names = [line.split()[0] for line in texts(table(told, sort=sort)) if line.startswith("  ")]
    assert names == ["b", "c", "a"]
