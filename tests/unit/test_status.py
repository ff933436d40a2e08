"""What is counted, under which names, and what a failure tells of its cause."""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from gfastcgi import assemble
from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import POLICIES
from gfastcgi.config import Config, Extension, HostConfig, Settings
from gfastcgi.errors import CAUSES
from gfastcgi.status import proxy_status, render, snapshot
from gfastcgi.status.proxy_status import ERROR_TYPES

PACKAGE = Path(__file__).parents[2] / "gfastcgi"
DOCS = PACKAGE.parent / "docs" / "status.md"
REQUEST = SimpleNamespace(authority="example.org", path="/", remote_addr="192.0.2.1")

# RFC 9209 section 2.3.
REGISTERED = {
    "dns_timeout", "dns_error", "destination_not_found", "destination_unavailable", "destination_ip_prohibited",
    "destination_ip_unroutable", "connection_refused", "connection_terminated", "connection_timeout",
    "connection_read_timeout", "connection_write_timeout", "connection_limit_reached", "tls_protocol_error",
    "tls_certificate_error", "tls_alert_received", "http_request_error", "http_request_denied",
    "http_response_incomplete", "http_response_header_section_size", "http_response_header_size",
    "http_response_body_size", "http_response_trailer_section_size", "http_response_trailer_size",
    "http_response_transfer_coding", "http_response_content_coding", "http_response_timeout", "http_upgrade_failed",
    "http_protocol_error", "proxy_internal_response", "proxy_internal_error", "proxy_configuration_error",
    "proxy_loop_detected",
}  # fmt: skip


def make_pool(*configs: HostConfig) -> Pool:
    return Pool(make_hosts(configs), POLICIES["least-connection"](random.Random(1)), clock=lambda: 0.0)


def lease(pool: Pool):  # type: ignore[no-untyped-def]
    lease = pool.acquire(REQUEST)
    assert lease is not None
    pool.connected(lease)
    return lease


def test_without_a_backend_there_is_nothing_to_tell():
    assert snapshot([], {"bad_request": 3}) == {}
    assert render({}) == b""


def test_every_counter_is_there_from_the_start():
    counters = snapshot([make_pool(HostConfig(name="php", socket="/run/php.sock"))], {})
    assert set(counters.values()) == {0}
    of_backend = [name for name in counters if name.startswith("gw.backend.")]
    assert of_backend == [
        "gw.backend.php.load",
        *(f"gw.backend.php.0.{name}" for name in ("connected", "died", "disabled", "load", "overloaded", "idle")),
    ]
    for name in of_backend:
        assert name.replace("gw.", "fastcgi.", 1) in counters
    assert {name.removeprefix("gw.failed.") for name in counters if name.startswith("gw.failed.")} == CAUSES
    assert list(counters)[:3] == ["fastcgi.requests", "gw.active-requests", "gw.waiting-requests"]


def test_the_counters_follow_what_happens():
    pool = make_pool(HostConfig(name="a", port=1, max_connections=4), HostConfig(name="b", port=2))
    leases = [lease(pool) for _ in range(3)]
    held = {host: sum(1 for lease in leases if lease.host.name == host) for host in "ab"}
    counters = snapshot([pool], {"read_timeout": 2})
    assert (counters["fastcgi.requests"], counters["gw.active-requests"]) == (3, 3)
    for host, count in held.items():
        for prefix in ("gw", "fastcgi"):
            assert counters[f"{prefix}.backend.{host}.load"] == count
            assert counters[f"{prefix}.backend.{host}.0.load"] == count
            assert counters[f"{prefix}.backend.{host}.0.connected"] == count
    assert (counters["gw.failed.read_timeout"], counters["gw.failed.internal"]) == (2, 0)

    pool.failed(next(lease for lease in leases if lease.host.name == "b"))
    pool.overloaded(next(lease for lease in leases if lease.host.name == "a"))
    for one in leases:
        pool.release(one, keep=object() if one.host.name == "a" else None)
    counters = snapshot([pool], {})
    assert counters["gw.active-requests"] == 0
    assert counters["gw.backend.b.0.disabled"] == 1
    assert counters["gw.backend.a.0.overloaded"] == 1
    assert counters["fastcgi.requests"] == 3


def test_kept_connections_are_counted():
    pool = make_pool(HostConfig(name="a", port=1, max_connections=4))
    pool.release(lease(pool), keep=object())
    assert snapshot([pool], {})["gw.backend.a.0.idle"] == 1


def test_procs_have_their_numbers_and_hosts_without_a_name_their_address():
    spawned = HostConfig(socket="/run/app", bin_path="/bin/app", min_procs=2, max_procs=2)
    pool = make_pool(spawned, HostConfig(port=9000))
    for number, proc in enumerate(pool.hosts[0].procs):
        pool.started(proc, pid=1000 + number, is_local=True, capacity=1)
    pool.exited(pool.hosts[0].procs[1], "signal 9", 1.0)
    counters = snapshot([pool], {})
    died = {name: value for name, value in counters.items() if name.endswith(".died") and name.startswith("gw.")}
    assert died == {
        "gw.backend./run/app-0.0.died": 0,
        "gw.backend./run/app-0.1.died": 1,
        "gw.backend.127.0.0.1:9000.0.died": 0,
    }


def test_entries_of_one_name_add_up():
    pools = [make_pool(HostConfig(name="php", port=1)), make_pool(HostConfig(name="php", port=2))]
    for pool in pools:
        lease(pool)
    counters = snapshot(pools, {})
    assert counters["gw.backend.php.load"] == counters["gw.backend.php.0.connected"] == 2


def test_a_proc_that_entries_share_counts_once():
    procs = make_hosts([HostConfig(port=1)])[0].procs
    hosts = [make_hosts([HostConfig(name=name, port=1)], lambda _: procs) for name in ("php", "php", "other")]
    pools = [Pool(each, POLICIES["least-connection"](random.Random(1)), clock=lambda: 0.0) for each in hosts]
    lease(pools[0])
    counters = snapshot(pools, {})
    assert counters["gw.active-requests"] == counters["gw.backend.php.load"] == counters["gw.backend.other.load"] == 1
    assert counters["gw.backend.php.0.connected"] == 1


def test_an_app_tells_its_counters():
    host = HostConfig(name="php", socket="/run/php.sock")
    app = assemble.build(Config(settings=Settings(document_root="/", extensions=(Extension(".php", (host,)),))))
    assert app.statistics()["gw.backend.php.load"] == 0
    assert assemble.build(Config(settings=Settings(document_root="/"))).statistics() == {}


def test_lines():
    assert render({"fastcgi.requests": 3, "gw.backend.php.load": 0}) == b"fastcgi.requests: 3\ngw.backend.php.load: 0\n"


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_every_cause_has_a_registered_error_type(cause: str) -> None:
    """The field is a list of one token with parameters (RFC 9209 section 2, RFC 8941 section 3.1)."""
    match = re.fullmatch(r'gfastcgi(?:; error=([a-z_]+))?; details="([a-z_]+)"', proxy_status(cause))
    assert match is not None
    assert match[2] == cause
    assert (match[1] in REGISTERED) != (cause == "script_unknown")


def test_every_error_type_has_its_cause():
    assert ERROR_TYPES.keys() == CAUSES


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_the_page_names_every_cause_beside_its_error_type(cause: str) -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `") and f"`{cause}`" in line]
    assert len(rows) == 1
    assert cause == "client_closed" or ERROR_TYPES[cause] in rows[0]


def test_proxy_status_of_an_answer():
    assert proxy_status("connect_refused") == 'gfastcgi; error=connection_refused; details="connect_refused"'
    assert proxy_status("script_unknown", received=404) == 'gfastcgi; received-status=404; details="script_unknown"'


def causes_in(path: Path) -> set[str]:
    """The words that a module gives as a cause of a failure: `cause="..."`, and `cause = "a" if ... else "b"`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        is_argument = isinstance(node, ast.keyword) and node.arg == "cause"
        is_name = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "cause"
        if is_argument or is_name:
            values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            found |= {str(value.value) for value in values if isinstance(value, ast.Constant) and value.value}
    return found


def test_no_cause_is_outside_of_the_set():
    named = {path: causes_in(path) for path in PACKAGE.rglob("*.py")}
    assert set().union(*named.values()) >= {"connect_refused", "eof_before_headers", "overloaded"}
    strangers = {path.name: causes - CAUSES for path, causes in named.items() if causes - CAUSES}
    assert strangers == {}
