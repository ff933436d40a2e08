"""A request that comes in one piece is read in one step, and means what it means in many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi.errors import BadRecord, LocalProtocolError
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import (
    Application,
    BeginRequest,
    EndRequest,
    ParamsText,
    Stdin,
    Stdout,
    WebServer,
    WholeRequest,
)
from gfastcgi.fcgi.params import decode_pairs, decode_text, encode_pairs
from gfastcgi.fcgi.records import HEADER, encode_record, ends_request

PAIRS = st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=300)), min_size=1, max_size=20)


def whole(params: bytes, request_id: int = 1, *, keep_conn: bool = True) -> bytes:
    return WebServer().begin_request(request_id, c.RESPONDER, params, keep_conn=keep_conn, stdin=b"")


@given(PAIRS, st.integers(1, 65535), st.booleans())
def test_whole_and_in_pieces(pairs: list[tuple[bytes, bytes]], request_id: int, keep_conn: bool) -> None:
    data = whole(encode_pairs(pairs), request_id, keep_conn=keep_conn)
    variables = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    at_once, in_bytes = Application(as_text=True), Application(as_text=True)
    assert at_once.receive_data(data) == [WholeRequest(request_id, keep_conn, variables)]
    events = [event for at in range(len(data)) for event in in_bytes.receive_data(data[at : at + 1])]
    assert events == [
        BeginRequest(request_id, c.RESPONDER, keep_conn), ParamsText(request_id, variables), Stdin(request_id, b""),
    ]  # fmt: skip
    assert list(at_once.open_requests) == list(in_bytes.open_requests) == [request_id]
    assert at_once.finish_request(request_id, b"x") == in_bytes.finish_request(request_id, b"x")


@given(PAIRS)
def test_text_is_what_the_pairs_are(pairs: list[tuple[bytes, bytes]]) -> None:
    data = encode_pairs(pairs)
    assert decode_text(data) == {name.decode("latin-1"): value.decode("latin-1") for name, value in decode_pairs(data)}


@given(st.binary(max_size=40))
def test_text_and_pairs_refuse_the_same(data: bytes) -> None:
    try:
        pairs = decode_pairs(data)
    except BadRecord:
        with pytest.raises(BadRecord):
            decode_text(data)
    else:
        assert len(decode_text(data)) <= len(pairs)


def test_padding_as_nginx_sends_it() -> None:
    params = encode_pairs([(b"A", b"1")])
    padded = HEADER.pack(1, c.PARAMS, 1, len(params), 4, 0) + params + b"\0\0\0\0"
    begin = encode_record(c.BEGIN_REQUEST, 1, b"\0\1\0\0\0\0\0\0")
    data = begin + padded + encode_record(c.PARAMS, 1, b"") + encode_record(c.STDIN, 1, b"")
    assert Application(as_text=True).receive_data(data) == [WholeRequest(1, False, {"A": "1"})]


@pytest.mark.parametrize(
    "data",
    [
        whole(encode_pairs([(b"A", b"1")])) * 2,
        WebServer().begin_request(1, c.AUTHORIZER, b"\1\1AB", keep_conn=True, stdin=b""),
        WebServer().begin_request(1, c.RESPONDER, b"\1\1AB", keep_conn=True, stdin=b"content"),
        WebServer().begin_request(1, c.RESPONDER, b"\1\1AB", keep_conn=True),
        WebServer().begin_request(1, c.RESPONDER, b"", keep_conn=True, stdin=b""),
        whole(encode_pairs([(b"A", b"1" * 70_000)])),
        whole(b"\1\1AB")[:-1],
    ],
)
def test_what_is_more_or_less_is_read_by_records(data: bytes) -> None:
    application = Application(as_text=True)
    try:
        events = application.receive_data(data)
    except BadRecord as error:
        assert "which is open" in str(error)  # noqa: PT017 - the same id twice
        return
    assert isinstance(events[0], BeginRequest)


@pytest.mark.parametrize("params", [b"\5\5A", b"\x80", b"\1", b"\1\x80AB"])
def test_broken_params(params: bytes) -> None:
    with pytest.raises(BadRecord):
        Application(as_text=True).receive_data(whole(params))


def test_params_beyond_the_limit() -> None:
    with pytest.raises(BadRecord, match="more than 3 bytes of PARAMS"):
        Application(as_text=True, max_params=3).receive_data(whole(b"\1\1AB"))


def test_an_answer_ends_in_one_piece() -> None:
    application, server = Application(as_text=True), WebServer()
    application.receive_data(server.begin_request(7, c.RESPONDER, b"\1\1AB", keep_conn=True, stdin=b""))
    begun = application.send_stdout(7, b"be")
    events = server.receive_data(begun + application.finish_request(7, b"gun", 3))
    assert events == [Stdout(7, b"be"), Stdout(7, b"gun"), Stdout(7, b""), EndRequest(7, 3, 0)]
    assert server.is_idle
    with pytest.raises(LocalProtocolError):
        application.finish_request(7, b"")


def test_an_answer_whose_stream_has_ended_ends_all_the_same() -> None:
    application, server = Application(as_text=True), WebServer()
    application.receive_data(server.begin_request(7, c.RESPONDER, b"\1\1AB", keep_conn=True, stdin=b""))
    ended = application.send_stdout(7, b"") + application.finish_request(7, b"")
    assert server.receive_data(ended)[-1] == EndRequest(7, 0, 0)


@given(st.binary(max_size=60), st.integers(0, 9), st.booleans(), st.integers(0, 2), st.integers(0, 1))
def test_an_answer_in_one_piece_is_what_its_events_are(
    content: bytes, padding: int, has_end: bool, app_status: int, protocol_status: int
) -> None:
    data = HEADER.pack(1, c.STDOUT, 7, len(content), padding, 0) + content + bytes(padding)
    data += encode_record(c.STDOUT, 7, b"") if has_end else b""
    data += encode_record(c.END_REQUEST, 7, bytes((0, 0, 0, app_status, protocol_status, 0, 0, 0)))
    at_once, in_events = begun(7), begun(7)
    taken = at_once.receive_whole(7, data)
    is_usual = bool(content) and not app_status and not protocol_status
    assert (taken is not None) is is_usual
    events = in_events.receive_data(data)
    if is_usual:
        assert (at_once.is_idle, at_once.open_requests) == (True, in_events.open_requests)
        assert events == [Stdout(7, taken or b""), *[Stdout(7, b"")][: int(has_end)], EndRequest(7, 0, 0)]
    else:
        assert at_once.receive_data(data) == events


WELL = encode_record(c.STDOUT, 7, b"data") + encode_record(c.END_REQUEST, 7, b"\0" * 8)


@pytest.mark.parametrize("cut", range(len(WELL)))
def test_an_answer_that_is_not_whole_is_for_the_events(cut: int) -> None:
    server = begun(7)
    assert server.receive_whole(7, WELL[:cut]) is None
    assert server.receive_data(WELL[:cut]) + server.receive_data(WELL[cut:]) == [
        Stdout(7, b"data"),
        EndRequest(7, 0, 0),
    ]
    assert server.is_idle


def test_what_else_is_not_whole() -> None:
    assert begun(7).receive_whole(7, WELL + b"x") is None
    assert begun(8).receive_whole(8, WELL) is None
    assert begun(7).receive_whole(7, b"\2" + WELL[1:]) is None
    half = begun(7)
    half.receive_data(encode_record(c.STDOUT, 7, b"so far")[:9])
    assert half.receive_whole(7, WELL) is None
    uploading = WebServer()
    uploading.begin_request(7, c.RESPONDER, b"\1\1AB", keep_conn=True)
    assert uploading.receive_whole(7, WELL) is None
    ended = begun(7)
    ended.receive_data(encode_record(c.STDOUT, 7, b""))
    assert ended.receive_whole(7, WELL) is None
    asking = begun(7)
    asking.get_values([b"FCGI_MAX_CONNS"])
    assert asking.receive_whole(7, WELL) is None


def begun(request_id: int) -> WebServer:
    server = WebServer()
    server.begin_request(request_id, c.RESPONDER, b"\1\1AB", keep_conn=True, stdin=b"")
    return server


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"", False),
        (encode_record(c.END_REQUEST, 1, bytes(8)), True),
        (encode_record(c.END_REQUEST, 513, b"\0\0\0\7\1\0\0\0"), True),
        (encode_record(c.STDOUT, 1, b"text") + encode_record(c.END_REQUEST, 1, bytes(8)), True),
        (encode_record(c.END_REQUEST, 1, bytes(8))[:-1], False),
        (encode_record(c.STDOUT, 1, bytes(8)), False),
        (encode_record(c.STDOUT, 1, b""), False),
    ],
)
def test_the_hint_that_a_request_ends(data: bytes, ends: bool) -> None:
    assert ends_request(data) is ends
