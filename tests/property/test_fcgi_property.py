"""FastCGI codecs and connections against whatever comes: round trips, any split, any garbage, bounded memory."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gfastcgi.cgi.response import parse_head
from gfastcgi.errors import BadCGIResponse, BadRecord, ProtocolError
from gfastcgi.fcgi import constants as c
from gfastcgi.fcgi.connection import Application, EndRequest, Event, Params, Stdin, Stdout, WebServer
from gfastcgi.fcgi.params import decode_pairs, encode_pair, encode_pairs
from gfastcgi.fcgi.records import RecordReader, encode_stream, header

# Lengths around the edges of their encoding, and small ones.
lengths = st.one_of(st.integers(0, 20), st.sampled_from([126, 127, 128, 129, 255, 256, 65535, 65536]))
pairs = st.lists(
    st.tuples(lengths, lengths).map(lambda sizes: (b"n" * sizes[0], b"v" * sizes[1])),
    max_size=6,
)
kinds = st.one_of(st.integers(0, 12), st.integers(0, 255))
ids = st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, 65535))


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A record whose numbers need not fit each other."""
    content = draw(st.binary(max_size=40))
    padding = draw(st.binary(max_size=9))
    version = draw(st.sampled_from([1] * 20 + [0, 2]))
    return struct.pack("!BBHHBB", version, draw(kinds), draw(ids), len(content), len(padding), 0) + content + padding


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


cuts = st.lists(st.integers(0, 1 << 20), max_size=8)


@given(pairs)
def test_pairs_round_trip(found: list[tuple[bytes, bytes]]) -> None:
    data = encode_pairs(found)
    assert decode_pairs(data) == found
    assert data == b"".join(encode_pair(*pair) for pair in found)


@given(st.binary(max_size=60))
def test_pairs_of_garbage(data: bytes) -> None:
    try:
        found = decode_pairs(data)
    except BadRecord:
        return
    assert sum(len(name) + len(value) for name, value in found) <= len(data)


@given(pairs, st.integers(1, 1 << 20))
def test_pairs_cut_short(found: list[tuple[bytes, bytes]], cut: int) -> None:
    data = encode_pairs(found)
    short = data[: len(data) - 1 - cut % len(data)] if data else b""
    try:
        decoded = decode_pairs(short)
    except BadRecord:
        return
    # A cut between pairs cannot be seen: that is what the record's length is for.
    assert decoded == found[: len(decoded)]


@given(st.lists(st.tuples(kinds, ids, st.binary(max_size=300), st.integers(0, 255)), max_size=6), cuts)
def test_records_in_any_split(sent: list[tuple[int, int, bytes, int]], where: list[int]) -> None:
    data = b"".join(
        header(kind, request_id, len(content), padding) + content + b"\xff" * padding
        for kind, request_id, content, padding in sent
    )
    reader = RecordReader()
    found = []
    for chunk in chunks(data, where):
        found += reader.read(chunk)
    assert found == [(kind, request_id, content) for kind, request_id, content, _ in sent]
    assert reader.is_between


@given(st.integers(0, 300_000))
def test_streams_hold_all_and_no_record_is_too_long(size: int) -> None:
    data = b"x" * size
    total = 0
    for _, _, content in RecordReader().read(encode_stream(c.STDIN, 1, data)):
        assert 0 < len(content) <= 65535
        total += len(content)
    assert total == size


@given(pairs, st.binary(max_size=3000), st.binary(max_size=3000), cuts, cuts)
def test_a_request_and_its_answer(
    found: list[tuple[bytes, bytes]], content: bytes, body: bytes, there: list[int], back: list[int]
) -> None:
    server, application = WebServer(), Application()
    sent = server.begin_request(7, c.RESPONDER, encode_pairs(found), keep_conn=True, stdin=content)
    events: list[Event] = []
    for chunk in chunks(sent, there):
        events += application.receive_data(chunk)
    assert [event.pairs for event in events if isinstance(event, Params)] == [found]
    assert b"".join(event.data for event in events if isinstance(event, Stdin)) == content
    answer = application.send_stdout(7, body) + application.send_stdout(7, b"") + application.end_request(7, 3)
    events = []
    for chunk in chunks(answer, back):
        events += server.receive_data(chunk)
    assert b"".join(event.data for event in events if isinstance(event, Stdout)) == body
    assert events[-1] == EndRequest(7, 3, 0)
    assert server.is_idle


def outcome(core: WebServer | Application, pieces: list[bytes]) -> tuple[list[Event], bool]:
    """The events, and whether the connection ended in an error; a reader never holds more than a record."""
    events: list[Event] = []
    for piece in pieces:
        try:
            events += core.receive_data(piece)
        except BadRecord:
            return [], True
        assert len(core._reader._pending) <= 65535 + 255 + 8
    return events, False


def server_side() -> WebServer:
    core = WebServer()
    core.begin_request(1, c.RESPONDER, b"", keep_conn=True, stdin=b"")
    return core


@settings(max_examples=300)
@given(st.one_of(st.lists(records(), max_size=8).map(b"".join), st.binary(max_size=200)), cuts)
def test_any_split_of_anything_has_one_outcome(data: bytes, where: list[int]) -> None:
    for make in (server_side, Application):
        whole, split = make(), make()
        assert outcome(whole, [data]) == outcome(split, chunks(data, where))
        if isinstance(whole, WebServer) and isinstance(split, WebServer):
            assert whole.is_idle == split.is_idle


MOVES = ("send_stdin", "send_data", "abort_request", "send_stdout", "send_stderr", "end_request")


@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(1, 3), st.binary(max_size=3)), max_size=20))
def test_what_one_end_may_send_the_other_takes(moves: list[tuple[str, int, bytes]]) -> None:
    server, application = WebServer(), Application()
    for request_id, role in ((1, c.RESPONDER), (2, c.AUTHORIZER), (3, c.FILTER)):
        application.receive_data(server.begin_request(request_id, role, b"", keep_conn=True))
    for name, request_id, data in moves:
        sender: WebServer | Application = server if hasattr(server, name) else application
        receiver: WebServer | Application = application if sender is server else server
        arguments = (request_id,) if name in ("abort_request", "end_request") else (request_id, data)
        try:
            sent = getattr(sender, name)(*arguments)
        except ProtocolError:
            continue
        receiver.receive_data(sent)
    assert set(server.open_requests) == set(application.open_requests)


lines = st.one_of(
    st.sampled_from(
        [b"Status: 200 OK", b"Status: 404", b"Content-Type: a/b", b"Location: /x", b"Content-Length: 3", b""]
    ),
    st.binary(max_size=12),
)
ends = st.sampled_from([b"\n", b"\r\n"])


@settings(max_examples=300)
@given(st.lists(st.tuples(lines, ends), max_size=6), st.binary(max_size=20))
def test_heads_of_anything(found: list[tuple[bytes, bytes]], body: bytes) -> None:
    data = b"".join(line + end for line, end in found) + body
    try:
        head = parse_head(data)
    except BadCGIResponse:
        return
    if head is None:
        return
    assert 100 <= head.status <= 599
    assert data[: head.body_start].endswith((b"\n\n", b"\n\r\n"))
    for name, value in head.fields:
        assert name.isascii()
        assert not set(name) & set(" :\t\r\n")
        assert not any(character < " " and character != "\t" for character in value)
    # The same head is found however it comes, and never earlier than at its end.
    for size in range(head.body_start):
        assert parse_head(data[:size]) is None
    assert parse_head(data[: head.body_start], searched=head.body_start - 1) == head
