"""The situations that a gateway has to live through, by the rows of a list: each names the tests that prove it.

L: load. F: faults of backends, processes and clients. 1d: what befell others on the FastCGI wire. The tests of this
file are those that no other one has; `ROWS` says where the others are, and is held true.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.backend import BackendConnection, Reply, ScriptedBackend, answer, end, record, stdout
from peers.http import encode_request
from peers.load import Load, assert_at_rest, at_rest, counters, failures
from peers.waiting import wait_until

from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import EndRequest, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import Seen
    from peers.gateway import Gateway

TESTS = Path(__file__).parents[1]
OK = "Content-Type: text/plain\r\n\r\nok"
HEAD = b"Content-Type: text/plain\r\n\r\n"
NO_CHECK = '"check-local" => "disable"'

ROWS = {
    "L5 fairness": (
        "fault/test_reliability_rows.py::test_loads_differ_by_one_at_most",
        "fault/test_reliability_rows.py::test_round_robin_is_exact",
        "fault/test_reliability_rows.py::test_one_host_away_moves_only_its_share",
        "property/test_balance_property.py::test_sticky_stays_unless_its_host_goes",
    ),
    "F1 killed before the reply": (
        "fault/test_processes_under_load.py::test_killed_before_the_answer",
        "fault/test_retries.py::test_a_safe_request_is_asked_once_more",
        "fault/test_reliability_rows.py::test_a_body_that_was_begun_is_not_sent_again",
    ),
    "F2 killed inside the reply": (
        "fault/test_processes_under_load.py::test_killed_while_answering",
        "fault/test_backend_failures.py::test_broken_answer_never_looks_whole",
    ),
    "F3 hangs": (
        "fault/test_backend_failures.py::test_timeouts",
        "fault/test_retries.py::test_two_connect_timeouts_are_504",
        "fault/test_faults_under_load.py::test_a_full_listen_queue",
    ),
    "F4 half-closes": (
        "fault/test_reliability_rows.py::test_a_half_close_is_an_end",
        "fault/test_backend_failures.py::test_broken_answer_never_looks_whole",
    ),
    "F5 garbage records": (
        "fault/test_reliability_rows.py::test_garbage_is_shown_in_the_log_and_asks_nobody_again",
        "fault/test_faults_under_load.py::test_broken_answers_cost_only_their_own_requests",
    ),
    "F6 OVERLOADED": (
        "fault/test_backend_failures.py::test_refusal_is_tried_elsewhere",
        "fault/test_backend_failures.py::test_all_overloaded",
        "fault/test_reliability_rows.py::test_an_overloaded_backend_is_left_alone",
    ),
    "F7 CANT_MPX_CONN": ("fault/test_backend_failures.py::test_refusal_is_tried_elsewhere",),
    "F8 UNKNOWN_ROLE": (
        "fault/test_backend_failures.py::test_unknown_role",
        "fault/test_retries.py::test_an_unknown_role_is_a_fault_of_the_configuration",
    ),
    "F10 exits at once": (
        "fault/test_processes_under_load.py::test_exiting_at_once",
        "interop/test_spawning.py::test_a_program_that_was_mended_serves_again",
        "unit/test_supervise.py::test_a_crash_loop_costs_at_most_10_starts_in_the_first_minute",
    ),
    "F11 ignores SIGTERM": (
        "unit/test_supervise_processes.py::test_a_deaf_process_and_its_children_are_ended_by_force",
        "interop/test_spawning.py::test_a_second_signal_ends_deaf_processes_too",
    ),
    "F12 out of descriptors": (
        "fault/test_faults_under_load.py::test_out_of_descriptors",
        "fault/test_faults_under_load.py::test_more_clients_than_descriptors",
    ),
    "F14 client gone inside its upload": (
        "fault/test_reliability_rows.py::test_a_client_that_leaves_inside_its_upload_frees_the_backend",
        "interop/test_client_bodies.py::test_unfinished_body_never_looks_whole",
    ),
    "F15 client gone inside its download, or slow": (
        "fault/test_reliability_rows.py::test_a_client_that_reads_nothing_is_given_up",
        "fault/test_backend_failures.py::test_client_leaves_during_the_answer",
    ),
    "F21 stopped": ("fault/test_processes_under_load.py::test_stopped",),
    "F22 a host name that is not found": (
        "interop/test_host_names.py::test_a_name_that_is_not_found_does_not_stop_the_gateway",
    ),
    "1d lengths": (
        "protocol/test_fcgi_connection.py::test_a_length_is_never_cut_to_sixteen_bits",
        "protocol/test_fcgi_connection.py::test_the_largest_record_with_the_largest_padding",
        "property/test_fcgi_property.py::test_streams_hold_all_and_no_record_is_too_long",
        "interop/test_backend_conversations.py::test_lengths_of_names_and_values",
        "interop/test_backend_conversations.py::test_large_params",
    ),
    "1d request ids": ("fault/test_reliability_rows.py::test_the_request_id_is_1_for_ever",),
    "1d reserved bytes": ("protocol/test_fcgi_connection.py::test_golden_bytes",),
    "1d the end of a connection": (
        "protocol/test_fcgi_connection.py::test_eof_inside_a_record",
        "fault/test_reliability_rows.py::test_an_end_costs_no_cpu",
    ),
    "1d headers": (
        "fault/test_reliability_rows.py::test_a_head_of_ten_thousand_fields",
        "interop/test_backend_conversations.py::test_padding_and_split_answers",
    ),
    "1d STDERR": ("fault/test_reliability_rows.py::test_stderr_is_drained_and_its_log_bounded",),
    "1d descriptors of a child": (
        "unit/test_supervise_processes.py::test_signals_and_descriptors_of_the_gateway_stay_with_it",
    ),
    "1d kept connections": ("fault/test_backend_failures.py::test_an_answer_that_nobody_wants",),
    "1d slow backends": ("interop/test_client_bodies.py::test_large_upload",),
    "1d hostile backends": ("property/test_fcgi_property.py::test_any_split_of_anything_has_one_outcome",),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tests(row: str) -> None:
    for name in ROWS[row]:
        path, _, test = name.partition("::")
        assert re.search(rf"^def {test}\(", (TESTS / path).read_text(), re.MULTILINE), name


def site_of(*hosts: str, options: str = "", more: str = "") -> str:
    entries = ", ".join(f"( {host}, {NO_CHECK}{options} )" for host in hosts)
    return f'fastcgi.server = ( "/" => ( {entries} ) )\nstatus.statistics-url = "/statistics"\n{more}'


# L5


def test_loads_differ_by_one_at_most(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """Seven requests are held by three hosts; each that leaves makes room where the next one goes."""
    go_on = threading.Semaphore(0)

    def hold(seen: Seen) -> bytes:
        go_on.acquire()
        return answer(OK)

    peers = [backend(hold) for _ in range(3)]
    site = gateway(site_of(*(peer.option for peer in peers), more='fastcgi.balance = "fair"\n'))
    load = Load(site, clients=7, requests=70)
    try:
        for released in range(0, 63, 7):
            wait_until(lambda begun=released + 7: sum(peer.begun for peer in peers) >= begun, "all to be busy")
            loads = [value for name, value in counters(site).items() if re.match(r"gw\.backend\..*\.0\.load", name)]
            assert sum(loads) == 7
            assert max(loads) - min(loads) <= 1 or released, loads
            go_on.release(7)
    finally:
        go_on.release(70)
    assert load.join() == {"200": 70}


def test_round_robin_is_exact(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    peers = [backend(lambda seen: answer(OK)) for _ in range(5)]
    site = gateway(site_of(*(peer.option for peer in peers), more='fastcgi.balance = "round-robin"\n'))
    assert Load(site, requests=203).join() == {"200": 203}
    counts = [len(peer.requests) for peer in peers]
    assert max(counts) - min(counts) <= 1, counts


def test_one_host_away_moves_only_its_share(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """`hash` by the path: what the others had stays where it was."""
    peers = [backend(lambda seen: answer(OK)) for _ in range(3)]
    site = gateway(site_of(*(peer.option for peer in peers), options=', "disable-time" => 60',
                           more='fastcgi.balance = "hash"\n'))  # fmt: skip
    assert Load(site, lambda number: f"/{number}").join() == {"200": 200}

    def places() -> dict[str | None, int]:
        return {seen.text("REQUEST_URI"): at for at, peer in enumerate(peers) for seen in peer.requests}

    before = places()
    assert all(count > 40 for count in Counter(before.values()).values())
    peers[0].stop()
    for peer in peers:
        peer.requests.clear()
    assert Load(site, lambda number: f"/{number}").join() == {"200": 200}
    after = places()
    assert {target for target in before if after[target] != before[target]} == {
        target for target, at in before.items() if at == 0
    }


# F1 to F8


def site_by_key(pairs: dict[str, list[ScriptedBackend]]) -> str:
    """A site whose key `/name` has the hosts of that name."""
    keys = [
        f'"/{name}" => ( {", ".join(f"( {peer.option}, {NO_CHECK} )" for peer in peers)} )'
        for name, peers in pairs.items()
    ]
    return f'fastcgi.server = ( {", ".join(keys)} )\nstatus.statistics-url = "/statistics"\n'


def test_a_body_that_was_begun_is_not_sent_again(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """The backend leaves after so many records of STDIN, also after none: it may have acted on the request."""

    def leave(connection: BackendConnection, records: int) -> None:
        connection.read_request(until="params")
        for _ in range(records):
            connection.read_record()

    cases = {
        str(records): [backend(talk=lambda connection, records=records: leave(connection, records)) for _ in range(2)]
        for records in (0, 1, 3)
    }
    site = gateway(site_by_key(cases))
    for name, peers in cases.items():
        got = site.request("POST", f"/{name}", b"x" * 200_000)
        assert (got.status, sum(peer.begun for peer in peers)) == (502, 1), name
    assert failures(site) == {"eof_before_headers": 3}


def test_a_half_close_is_an_end(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """The backend shuts its direction down and keeps the connection: nobody waits for more."""
    site = gateway(site_of(backend(lambda seen: Reply(b"", "half")).option))
    fds = at_rest(site)
    assert Load(site, method="POST", body=b"x").join() == {"502 eof_before_headers": 200}
    assert_at_rest(site, fds)


GARBAGE = {
    "version-2": (b"\x02\x06\x00\x01\x00\x04\x00\x00head", r"\\x02\\x06\\x00\\x01\\x00\\x04"),
    "id-0": (record(6, HEAD, 0), "request id 0"),
    "id-7": (record(6, HEAD, 7), "request 7, which is not open"),
    "text": (b"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1"),
}


def test_garbage_is_shown_in_the_log_and_asks_nobody_again(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    cases = {
        name: [backend(lambda seen, data=data: Reply(data, "close")) for _ in range(2)]
        for name, (data, _) in GARBAGE.items()
    }
    site = gateway(site_by_key(cases))
    for name, peers in cases.items():
        assert site.request("POST", f"/{name}", b"pay").status == 502
        assert sum(peer.begun for peer in peers) == 1, name
        site.wait_for_log(rf"{GARBAGE[name][1]}.*\(bad_record\)$")


def test_an_overloaded_backend_is_left_alone(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """For `disable-time` it gets no request: 200 of them find the other host, and none is lost."""
    busy = backend(lambda seen: end(protocol_status=constants.OVERLOADED))
    free = backend(lambda seen: answer(OK))
    site = gateway(site_of(busy.option, free.option, options=', "disable-time" => 60'))
    assert Load(site, method="POST", body=b"body").join() == {"200": 200}
    assert busy.begun <= 8
    assert len(free.requests) == 200
    assert counters(site)[f"gw.backend.{busy.address}.0.overloaded"] == busy.begun


# F14, F15


def test_a_client_that_leaves_inside_its_upload_frees_the_backend(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """The only connection is free again at once, and the backend has never seen the end of the body."""
    peer = backend()
    site = gateway(
        site_of(
            peer.option,
            options=', "max-connections" => 1, "queue-timeout" => 5',
            more='server.stream-request-body = 1\nserver.modules = ( "mod_accesslog" )\n',
        )
    )
    fds = at_rest(site)
    for number in range(20):
        with site.connect() as connection:
            connection.send(encode_request("POST", "/", Content_Length="1000") + b"x" * 500)
            peer.wait_for(lambda peer, begun=number: peer.begun > begun, "the request")
    assert site.get("/").status == 200
    assert [seen.stdin_size for seen in peer.requests] == [0]
    assert failures(site) == {"client_closed": 20}
    wait_until(lambda: site.log.count('"POST / HTTP/1.1" 499') == 20, "their lines in the access log")
    assert_at_rest(site, fds)


def test_a_client_that_reads_nothing_is_given_up(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """After `server.max-write-idle` its backend is free, though the client is still there."""

    def flood(connection: BackendConnection) -> None:
        connection.read_request()
        connection.sock.sendall(stdout(HEAD))
        while True:
            connection.sock.sendall(stdout(b"x" * 65535))

    peer = backend(talk=flood)
    site = gateway(site_of(peer.option, more="server.max-write-idle = 1\n"))
    fds = at_rest(site)
    clients = [site.connect() for _ in range(5)]
    for client in clients:
        client.send(encode_request("GET", "/"))
    peer.wait_for(lambda peer: len(peer.requests) == 5, "all to be asked for")
    peer.wait_for(lambda peer: not peer.open, "the backend to be given back", 5)
    assert_at_rest(site, fds)
    for client in clients:
        client.sock.close()


# 1d


def test_the_request_id_is_1_for_ever() -> None:
    """70,000 requests on one kept connection: more than ids have bits for."""
    core = WebServer()
    head = record(1, b"\0\1\1" + bytes(5))
    done = end()
    for _ in range(70_000):
        sent = core.begin_request(1, constants.RESPONDER, b"", keep_conn=True, stdin=b"")
        assert sent.startswith(head)
        assert core.receive_data(done) == [EndRequest(1, 0, 0)]
    assert core.is_idle


def test_an_end_costs_no_cpu(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]) -> None:
    """In whatever state the connection ended, nothing goes on turning."""
    whole = record(6, HEAD)
    cases = {
        str(len(said)): [backend(lambda seen, said=said: Reply(said, "half"))]
        for said in (b"", whole[:3], whole[:-1], whole)
    }
    site = gateway(site_by_key(cases))
    clients = [site.connect() for _ in cases]
    for client, name in zip(clients, cases, strict=True):
        client.send(encode_request("POST", f"/{name}", b"x"))
        client.try_answer()
    spent = site.cpu_seconds()
    with pytest.raises(AssertionError):
        wait_until(lambda: site.cpu_seconds() > spent + 0.1, "a busy loop", 0.4)
    for client in clients:
        client.sock.close()


def test_a_head_of_ten_thousand_fields(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    fields = "".join(f"X-{number}: {number}\r\n" for number in range(10_000))
    site = gateway(site_of(backend(lambda seen: answer(fields + OK)).option))
    assert site.get("/").status == 502
    assert failures(site) == {"header_too_big": 1}


def test_stderr_is_drained_and_its_log_bounded(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> None:
    """A MiB of it stops no answer, and 64 KiB of a request is all that the log takes."""
    noise = b"".join(record(7, b"%05d " % number + b"x" * 1017 + b"\n") for number in range(1024))
    site = gateway(site_of(backend(lambda seen: noise + answer(OK)).option))
    assert site.get("/").body == b"ok"
    site.wait_for_log("FastCGI-stderr: 00000 ")
    assert len(site.log) < 80_000
