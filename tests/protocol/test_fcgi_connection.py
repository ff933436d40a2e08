"""Both ends of a FastCGI connection: golden bytes, whole exchanges in every split, and each move that is forbidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gfastcgi.errors import BadRecord, LocalProtocolError
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import (
    AbortRequest,
    Application,
    BeginRequest,
    Data,
    EndRequest,
    Event,
    GetValues,
    Params,
    Stderr,
    Stdin,
    Stdout,
    UnknownManagement,
    UnknownType,
    Values,
    WebServer,
)
from gfastcgi.fcgi.params import encode_pairs
from gfastcgi.fcgi.records import RecordReader, encode_record, encode_stream, header
from gfastcgi.fcgi.states import ANSWER, REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterable

GOLDEN = json.loads((Path(__file__).parents[1] / "data/fcgi/golden.json").read_text())
PAIRS = [(b"REQUEST_METHOD", b"POST"), (b"EMPTY", b""), (b"LONG", b"v" * 200)]
SIZES = [1, 2, 7, 8, 9, 100, 1 << 20]


def split(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def receive(core: WebServer | Application, data: bytes, size: int) -> list[Event]:
    return [event for chunk in split(data, size) for event in core.receive_data(chunk)]


def opened(*, keep_conn: bool = True, stdin: bytes | None = b"", role: int = c.RESPONDER) -> WebServer:
    core = WebServer()
    core.begin_request(1, role, b"", keep_conn=keep_conn, stdin=stdin)
    return core


def asked(*, stdin: bytes | None = b"", role: int = c.RESPONDER) -> Application:
    core = Application()
    core.receive_data(WebServer().begin_request(1, role, b"", keep_conn=True, stdin=stdin))
    return core


# The bytes themselves


def make_move(core: WebServer | Application, move: list[Any]) -> bytes:
    name, *arguments = move

    def encoded(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("latin-1")
        if isinstance(value, list):
            return [encoded(item) for item in value]
        if isinstance(value, dict):
            return {encoded(key): encoded(item) for key, item in value.items()}
        return value

    arguments = encoded(arguments)
    if name == "begin_request":
        request_id, role, params, keep_conn, stdin = arguments
        assert isinstance(core, WebServer)
        return core.begin_request(request_id, role, params, keep_conn=keep_conn, stdin=stdin)
    data: bytes = getattr(core, name)(*arguments)
    return data


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_bytes(case: dict[str, Any]) -> None:
    core = WebServer() if case["side"] == "web-server" else asked()
    assert b"".join(make_move(core, move) for move in case["moves"]) == bytes.fromhex(case["hex"])


@pytest.mark.parametrize("size", [65527, 65528, 65535, 65536, 200_000])
def test_large_params_and_content_span_records_of_legal_length(size: int) -> None:
    pairs = [(b"BIG", b"v" * size)]
    data = WebServer().begin_request(9, c.RESPONDER, encode_pairs(pairs), keep_conn=False, stdin=b"s" * size)
    kinds: dict[int, list[int]] = {}
    for kind, request_id, content in RecordReader().read(data):
        assert request_id == 9
        kinds.setdefault(kind, []).append(len(content))
    for kind in (c.PARAMS, c.STDIN):
        *lengths, end = kinds[kind]
        assert end == 0 < min(lengths)
        assert sum(lengths) == (size if kind == c.STDIN else len(encode_pairs(pairs)))
    got = Application().receive_data(data)
    assert Params(9, pairs) in got
    assert b"".join(event.data for event in got if isinstance(event, Stdin)) == b"s" * size


def test_a_length_is_never_cut_to_sixteen_bits() -> None:
    with pytest.raises(LocalProtocolError):
        encode_record(c.STDOUT, 1, b"x" * 65536)
    with pytest.raises(LocalProtocolError):
        header(c.STDOUT, 65536, 0)
    with pytest.raises(LocalProtocolError):
        header(c.STDOUT, 1, 0, 256)
    assert len(encode_record(c.STDOUT, 1, b"x" * 65535)) == 65543
    assert encode_stream(c.STDOUT, 1, b"") == b""


# Whole exchanges


@pytest.mark.parametrize("size", SIZES)
def test_a_request_in_any_split(size: int) -> None:
    sent = WebServer().begin_request(1, c.RESPONDER, encode_pairs(PAIRS), keep_conn=True, stdin=b"content")
    assert receive(Application(), sent, size) == [
        BeginRequest(1, c.RESPONDER, True),
        Params(1, PAIRS),
        Stdin(1, b"content"),
        Stdin(1, b""),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_filter_request_in_any_split(size: int) -> None:
    core = WebServer()
    sent = core.begin_request(1, c.FILTER, b"", keep_conn=False)
    sent += core.send_stdin(1, b"in") + core.send_stdin(1, b"") + core.send_data(1, b"file") + core.send_data(1, b"")
    assert receive(Application(), sent, size) == [
        BeginRequest(1, c.FILTER, False),
        Params(1, []),
        Stdin(1, b"in"),
        Stdin(1, b""),
        Data(1, b"file"),
        Data(1, b""),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_in_any_split(size: int) -> None:
    application, server = asked(), opened()
    sent = application.send_stderr(1, b"warning") + application.send_stdout(1, b"head and body")
    sent += application.send_stdout(1, b"") + application.end_request(1, 7)
    assert not server.is_idle
    assert receive(server, sent, size) == [
        Stderr(1, b"warning"),
        Stdout(1, b"head and body"),
        Stdout(1, b""),
        EndRequest(1, 7, c.REQUEST_COMPLETE),
    ]
    assert server.is_idle
    assert not application.open_requests
    server.receive_eof()


@pytest.mark.parametrize("size", SIZES)
def test_padding_is_dropped_and_reserved_bytes_are_ignored(size: int) -> None:
    server = opened()
    sent = b"\x01\x06\x00\x01\x00\x02\xff\x99" + b"ok" + b"\x01" * 255
    sent += b"\x01\x03\x00\x01\x00\x08\x03\x00" + b"\0\0\0\0\0sea" + b"pad"
    assert receive(server, sent, size) == [Stdout(1, b"ok"), EndRequest(1, 0, 0)]
    assert server.is_idle


def test_the_largest_record_with_the_largest_padding() -> None:
    server = opened()
    record = header(c.STDOUT, 1, 65535, 255) + b"x" * (65535 + 255)
    assert receive(server, record, 4096) == [Stdout(1, b"x" * 65535)]


@pytest.mark.parametrize("size", SIZES)
def test_requests_interleaved_on_one_connection(size: int) -> None:
    server, application = WebServer(), Application()
    sent = b"".join(
        server.begin_request(request_id, c.RESPONDER, encode_pairs([(b"N", b"%d" % request_id)]), keep_conn=True)
        for request_id in (1, 2, 65535)
    )
    for request_id in (2, 65535, 1):
        sent += server.send_stdin(request_id, b"to %d" % request_id) + server.send_stdin(request_id, b"")
    events = receive(application, sent, size)
    assert [event for event in events if isinstance(event, Params)] == [
        Params(request_id, [(b"N", b"%d" % request_id)]) for request_id in (1, 2, 65535)
    ]
    answers = application.send_stdout(65535, b"c") + application.send_stdout(1, b"a") + application.end_request(65535)
    answers += application.send_stdout(2, b"b") + application.end_request(1) + application.end_request(2)
    assert receive(server, answers, size) == [
        Stdout(65535, b"c"),
        Stdout(1, b"a"),
        EndRequest(65535, 0, 0),
        Stdout(2, b"b"),
        EndRequest(1, 0, 0),
        EndRequest(2, 0, 0),
    ]
    assert server.is_idle


@pytest.mark.parametrize("size", SIZES)
def test_management_records(size: int) -> None:
    server, application = WebServer(), Application()
    names = [c.MAX_CONNS, c.MPXS_CONNS]
    assert receive(application, server.get_values(names), size) == [GetValues(names)]
    assert not server.is_idle
    answer = application.values({c.MAX_CONNS: b"10", c.MPXS_CONNS: b"0"})
    assert receive(server, answer, size) == [Values({c.MAX_CONNS: b"10", c.MPXS_CONNS: b"0"})]
    assert server.is_idle
    assert receive(application, encode_record(77, 0, b"what?"), size) == [UnknownManagement(77)]
    server.get_values([])
    assert receive(server, application.unknown_type(77) + encode_record(99, 0, b""), size) == [
        UnknownType(77),
        UnknownManagement(99),
    ]


def test_an_abort_is_answered_with_the_end() -> None:
    server, application = opened(stdin=None), asked(stdin=None)
    assert application.receive_data(server.abort_request(1)) == [AbortRequest(1)]
    assert server.receive_data(application.end_request(1, 1)) == [EndRequest(1, 1, 0)]
    assert not server.is_idle, "an application that did not read all of the request is not trusted with another"


def test_an_application_may_end_before_it_has_read_everything() -> None:
    server, application = opened(stdin=None), asked(stdin=None)
    assert server.receive_data(application.end_request(1)) == [EndRequest(1, 0, 0)]
    assert server.send_stdin(1, b"late") == server.send_stdin(1, b"") == server.abort_request(1) == b""
    assert not server.is_idle
    with pytest.raises(LocalProtocolError):
        server.begin_request(1, c.RESPONDER, b"", keep_conn=True)
    # What was on its way meanwhile is dropped by the application.
    late = encode_stream(c.STDIN, 1, b"late") + encode_record(c.STDIN, 1, b"") + encode_record(c.ABORT_REQUEST, 1, b"")
    assert application.receive_data(late) == []


def test_a_request_id_serves_again() -> None:
    server, application = WebServer(), Application()
    for _ in range(3):
        events = application.receive_data(server.begin_request(1, c.RESPONDER, b"", keep_conn=True, stdin=b""))
        assert events[0] == BeginRequest(1, c.RESPONDER, True)
        assert server.receive_data(application.end_request(1)) == [EndRequest(1, 0, 0)]
        assert server.is_idle


# What must not be

END = b"\0" * 8
BAD_ANSWERS = {
    "version 0": b"\x00\x06\x00\x01\x00\x00\x00\x00",
    "version 2": b"\x02\x06\x00\x01\x00\x00\x00\x00",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "stdout with id 0": encode_record(c.STDOUT, 0, b"x"),
    "stdout of another request": encode_record(c.STDOUT, 2, b"x"),
    "end of another request": encode_record(c.END_REQUEST, 2, END),
    "a web server's record": encode_record(c.BEGIN_REQUEST, 1, END),
    "params": encode_record(c.PARAMS, 1, b""),
    "stdin": encode_record(c.STDIN, 1, b"x"),
    "abort": encode_record(c.ABORT_REQUEST, 1, b""),
    "unknown type of a request": encode_record(12, 1, b""),
    "type 0 of a request": encode_record(0, 1, b"x"),
    "stdout behind its end": encode_record(c.STDOUT, 1, b"") + encode_record(c.STDOUT, 1, b"x"),
    "stderr behind its end": encode_record(c.STDERR, 1, b"") + encode_record(c.STDERR, 1, b"x"),
    "stdout behind both ends": b"".join(encode_record(kind, 1, b"") for kind in (6, 7)) + encode_record(6, 1, b"x"),
    "short end": encode_record(c.END_REQUEST, 1, END[:7]),
    "long end": encode_record(c.END_REQUEST, 1, END + b"x"),
    "empty end": encode_record(c.END_REQUEST, 1, b""),
    "get_values": encode_record(c.GET_VALUES, 0, b""),
    "values out of bounds": encode_record(c.GET_VALUES_RESULT, 0, b"\xff" * 8 + b"A"),
    "empty unknown_type": encode_record(c.UNKNOWN_TYPE, 0, b""),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_bad_answers(data: bytes, size: int) -> None:
    with pytest.raises(BadRecord):
        receive(opened(), data + b"trailing" * 2, size)


BAD_REQUESTS = {
    "version 2": b"\x02\x01\x00\x01\x00\x00\x00\x00",
    "begin with id 0": encode_record(c.BEGIN_REQUEST, 0, b"\0\1" + b"\0" * 6),
    "begin twice": encode_record(c.BEGIN_REQUEST, 1, b"\0\1" + b"\0" * 6),
    "short begin": encode_record(c.BEGIN_REQUEST, 2, b"\0\1"),
    "params behind their end": encode_record(c.PARAMS, 1, b"") * 2,
    "stdin before params": encode_record(c.STDIN, 1, b"x"),
    "stdin behind its end": b"".join(encode_record(kind, 1, b"") for kind in (4, 5)) + encode_record(5, 1, b"x"),
    "data for a responder": encode_record(c.PARAMS, 1, b"") + encode_record(c.DATA, 1, b"x"),
    "abort twice": encode_record(c.ABORT_REQUEST, 1, b"") * 2,
    "an application's record": encode_record(c.STDOUT, 1, b"x"),
    "unknown type of a request": encode_record(200, 1, b"x"),
    "params out of bounds": encode_record(c.PARAMS, 1, b"\x7f\x7fx") + encode_record(c.PARAMS, 1, b""),
    "params with id 0": encode_record(c.PARAMS, 0, b""),
    "values out of bounds": encode_record(c.GET_VALUES, 0, b"\x01"),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_requests(data: bytes, size: int) -> None:
    core = Application()
    core.receive_data(encode_record(c.BEGIN_REQUEST, 1, b"\0\1" + b"\0" * 6))
    with pytest.raises(BadRecord):
        receive(core, data, size)


def test_records_of_requests_that_are_not_open_are_dropped_by_the_application() -> None:
    stray = b"".join(encode_record(kind, 5, b"x") for kind in (c.PARAMS, c.STDIN, c.DATA, c.ABORT_REQUEST, 99))
    assert Application().receive_data(stray) == []


def test_params_are_bounded() -> None:
    core = Application(max_params=1000)
    core.receive_data(encode_record(c.BEGIN_REQUEST, 1, b"\0\1" + b"\0" * 6))
    assert core.receive_data(encode_record(c.PARAMS, 1, b"x" * 1000)) == []
    with pytest.raises(BadRecord, match="1000 bytes"):
        core.receive_data(encode_record(c.PARAMS, 1, b"x"))


@pytest.mark.parametrize("cut", range(1, 12))
def test_eof_inside_a_record(cut: int) -> None:
    server = opened()
    server.receive_data(encode_record(c.STDOUT, 1, b"data")[:cut])
    with pytest.raises(BadRecord):
        server.receive_eof()


def test_eof_between_records() -> None:
    server = opened()
    server.receive_data(encode_record(c.STDOUT, 1, b"data"))
    server.receive_eof()
    assert not server.is_idle


def test_bytes_that_nobody_asked_for_spoil_the_connection() -> None:
    for data in (b"x", encode_record(c.STDOUT, 1, b"late"), encode_record(c.END_REQUEST, 1, END)):
        server = opened()
        server.receive_data(encode_record(c.END_REQUEST, 1, END))
        assert server.is_idle
        assert server.receive_data(data) == []
        assert not server.is_idle
        with pytest.raises(LocalProtocolError):
            server.begin_request(1, c.RESPONDER, b"", keep_conn=True)


@pytest.mark.parametrize("behind", [b"\1", b"\1\6\0\1\0\4\0\0da", encode_record(c.STDOUT, 1, b"late")])
def test_bytes_behind_the_end_spoil_the_connection(behind: bytes) -> None:
    server = opened()
    assert server.receive_data(encode_record(c.END_REQUEST, 1, END) + behind) == [EndRequest(1, 0, 0)]
    assert not server.is_idle


@pytest.mark.parametrize("request_id", [0, -1, 65536, 1])
def test_our_own_request_ids(request_id: int) -> None:
    with pytest.raises(LocalProtocolError):
        opened().begin_request(request_id, c.RESPONDER, b"", keep_conn=True)


def test_our_own_illegal_moves() -> None:
    server = opened()
    for move in (lambda: server.send_stdin(1, b"x"), lambda: server.send_data(1, b"x")):
        with pytest.raises(LocalProtocolError):
            move()
    server.abort_request(1)
    with pytest.raises(LocalProtocolError):
        server.abort_request(1)
    application = asked()
    application.send_stdout(1, b"")
    application.send_stderr(1, b"")
    moves = (
        lambda: application.send_stdout(1, b"x"),
        lambda: application.send_stderr(1, b"x"),
        lambda: application.send_stdout(2, b"x"),
        lambda: application.end_request(2),
    )
    for move in moves:
        with pytest.raises(LocalProtocolError):
            move()
    application.end_request(1)
    with pytest.raises(LocalProtocolError):
        application.end_request(1)


def test_the_reader_holds_one_record_and_no_more() -> None:
    server = opened()
    for chunk in split(header(c.STDOUT, 1, 65535, 255) + b"x" * 65000, 1000):
        assert server.receive_data(chunk) == []
    reader = server._reader
    assert len(reader._pending) <= 65535 + 255 + 8
    server.receive_data(b"x" * (535 + 255))
    assert not reader._pending


def test_tables_have_no_dead_states() -> None:
    for table in (REQUEST, ANSWER):
        reachable = {state for state, _ in table}
        assert set(table.values()) <= reachable | {7}


def test_repr_is_one_line() -> None:
    server = opened()
    server.receive_data(b"\x01")
    assert repr(server) == "<WebServer 1 open>"
    assert repr(server._reader) == "<RecordReader 1 of 8 bytes>"
