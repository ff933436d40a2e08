"""Both ends of a FastCGI connection, sans-I/O: `WebServer` sends requests, `Application` answers them.

Contract: methods that send return the bytes to send; `receive_data` takes bytes in any split and returns events. The
two tables of `states` say who may send what: a move that is not there raises `LocalProtocolError` (ours) or `BadRecord`
(the peer's). After `BadRecord` the connection is of no more use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Final

from gfastcgi.errors import BadRecord, LocalProtocolError, StrayRecord
from gfastcgi.fcgi.constants import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    DATA,
    END_REQUEST,
    FILTER,
    GET_VALUES,
    GET_VALUES_RESULT,
    HEADER_SIZE,
    KEEP_CONN,
    KIND_NAMES,
    MANAGEMENT_ID,
    MAX_CONTENT,
    MAX_REQUEST_ID,
    PARAMS,
    REQUEST_COMPLETE,
    RESPONDER,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_TYPE,
    VERSION,
)
from gfastcgi.fcgi.events import (
    AbortRequest,
    BeginRequest,
    Data,
    EndRequest,
    Event,
    GetValues,
    Params,
    ParamsText,
    Stderr,
    Stdin,
    Stdout,
    UnknownManagement,
    UnknownType,
    Values,
    WholeRequest,
)
from gfastcgi.fcgi.params import decode_pairs, decode_text, encode_pairs
from gfastcgi.fcgi.records import RecordReader, encode_record, encode_stream
from gfastcgi.fcgi.states import ANSWER, ANSWERING, END, REQUEST, SENT_STDIN, STATE_NAMES, begin_state

__all__ = [
    "AbortRequest",
    "Application",
    "BeginRequest",
    "Data",
    "EndRequest",
    "Event",
    "GetValues",
    "Params",
    "ParamsText",
    "Stderr",
    "Stdin",
    "Stdout",
    "UnknownManagement",
    "UnknownType",
    "Values",
    "WebServer",
    "WholeRequest",
]

# Section 5.1: role (2 bytes), flags (1), reserved (5). Section 5.5: app_status (4), protocol_status (1), reserved (3).
_BEGIN_BODY = Struct("!HB5x")
_END_BODY = Struct("!IB3x")
_unpack_end = _END_BODY.unpack
# BEGIN_REQUEST and the header of the first PARAMS; the empty records behind PARAMS, without and with that of STDIN.
_BEGIN_AND_HEADER = Struct("!BBHHH HB5x BBHHH")
_ONE_END = Struct("!BBHI")
_TWO_ENDS = Struct("!BBHIBBHI")
# BEGIN_REQUEST with its content, and the header of the first PARAMS; a whole request has 16 bytes more at the least.
_BEGIN_AND_PARAMS = Struct("!BBHHBx HB5x BBHHBx")
_WHOLE_SIZE = _BEGIN_AND_PARAMS.size + 16
# The empty record behind STDOUT, and END_REQUEST.
_STDOUT_END = Struct("!BBHIBBHHH IB3x")
_HEADER = Struct("!BBHHBx")
_unpack_header = _HEADER.unpack_from

# The states of requests whose PARAMS leave together with BEGIN_REQUEST.
_AFTER_PARAMS = REQUEST[begin_state(RESPONDER), END | PARAMS]
_AFTER_FILTER_PARAMS = REQUEST[begin_state(FILTER), END | PARAMS]

DEFAULT_MAX_PARAMS: Final = 1 << 20
"""Bytes of PARAMS that one request may send; as many as a web server with 64 KiB of fields needs, 16 times over."""


class _Connection:
    """What both ends share: the reader, and for each open request how far either side has come."""

    __slots__ = ("_answers", "_reader", "_requests")

    def __init__(self) -> None:
        self._reader = RecordReader()
        self._requests: dict[int, int] = {}
        self._answers: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._requests)} open>"

    @property
    def open_requests(self) -> Collection[int]:
        """The ids of the requests that have begun and not ended."""
        return self._requests.keys()

    def receive_eof(self) -> None:
        """The peer's end of file. Raises `BadRecord` inside a record."""
        if not self._reader.is_between:
            raise BadRecord("the connection ended inside a record")


def _send(table: Mapping[tuple[int, int], int], states: dict[int, int], request_id: int, move: int) -> None:
    """Makes a move of ours."""
    state = states.get(request_id)
    if state is None:
        raise LocalProtocolError(f"{_name(move)} for the request {request_id}, which is not open")
    try:
        states[request_id] = table[state, move]
    except KeyError:
        raise LocalProtocolError(f"{_name(move)} while {STATE_NAMES[state]}") from None


def _receive(table: Mapping[tuple[int, int], int], states: dict[int, int], request_id: int, move: int) -> int:
    """Makes a move of the peer's and returns the new state; the request is open."""
    state = states[request_id]
    try:
        state = states[request_id] = table[state, move]
    except KeyError:
        raise BadRecord(f"{_name(move)} came while {STATE_NAMES[state]}") from None
    return state


def _name(move: int) -> str:
    kind = move & ~END
    return f"{'the end of ' if move & END else ''}{KIND_NAMES.get(kind, f'a record of type {kind}')}"


@lru_cache(maxsize=256)
def _ends_of(request_id: int) -> tuple[bytes, bytes]:
    """What is behind the content of an answer that ends well: END_REQUEST, without and with STDOUT's own end."""
    end = encode_record(END_REQUEST, request_id, _END_BODY.pack(0, REQUEST_COMPLETE))
    return end, encode_record(STDOUT, request_id, b"") + end


class WebServer(_Connection):
    """The web server's end: begins requests, and reads what applications answer."""

    __slots__ = ("_is_spoiled", "_values_awaited")

    def __init__(self) -> None:
        super().__init__()
        self._is_spoiled = False
        self._values_awaited = 0

    @property
    def is_idle(self) -> bool:
        """True when the connection may carry another request: none is open, and nothing came that nobody asked for."""
        return not (self._requests or self._is_spoiled or self._values_awaited)

    def begin_request(
        self, request_id: int, role: int, params: bytes, *, keep_conn: bool, stdin: bytes | None = None
    ) -> bytes:
        """BEGIN_REQUEST and PARAMS; `stdin` is the whole content, or None: `send_stdin` follows.

        Raises `LocalProtocolError` for an id that is open or not within 1 to 65535 (section 3.3), and where an earlier
        answer went on behind its end.
        """
        if self._is_spoiled:
            raise LocalProtocolError("the connection is not idle, and never will be")
        if request_id in self._requests or not 0 < request_id <= MAX_REQUEST_ID:
            raise LocalProtocolError(f"the request id {request_id} is not free to use")
        state = _AFTER_FILTER_PARAMS if role == FILTER else _AFTER_PARAMS
        if stdin == b"":
            state = REQUEST[state, END | STDIN]
            end = _TWO_ENDS.pack(1, PARAMS, request_id, 0, 1, STDIN, request_id, 0)
        else:
            end = _ONE_END.pack(1, PARAMS, request_id, 0)
        self._requests[request_id] = state
        self._answers[request_id] = ANSWERING
        flags = KEEP_CONN if keep_conn else 0
        size = len(params)
        if 0 < size <= MAX_CONTENT:
            start = _BEGIN_AND_HEADER.pack(
                1, BEGIN_REQUEST, request_id, 8, 0, role, flags, 1, PARAMS, request_id, size, 0
            )
        else:
            start = encode_record(BEGIN_REQUEST, request_id, _BEGIN_BODY.pack(role, flags))
            params = encode_stream(PARAMS, request_id, params)
        if not stdin:
            return b"".join((start, params, end))
        return b"".join((start, params, end, self.send_stdin(request_id, stdin), self.send_stdin(request_id, b"")))

    def send_stdin(self, request_id: int, data: bytes) -> bytes:
        """The next piece of the content; b"" ends it. Nothing to send (b"") once END_REQUEST has come."""
        return self._send_stream(STDIN, request_id, data)

    def send_data(self, request_id: int, data: bytes) -> bytes:
        """The next piece of the file for a filter, behind STDIN's end (section 6.4); otherwise as `send_stdin`."""
        return self._send_stream(DATA, request_id, data)

    def _send_stream(self, kind: int, request_id: int, data: bytes) -> bytes:
        if request_id not in self._requests:
            return b""
        _send(REQUEST, self._requests, request_id, kind if data else END | kind)
        return encode_stream(kind, request_id, data) if data else encode_record(kind, request_id, b"")

    def abort_request(self, request_id: int) -> bytes:
        """ABORT_REQUEST (section 5.4): END_REQUEST still follows. Nothing to send (b"") when it has come already."""
        if request_id not in self._requests:
            return b""
        _send(REQUEST, self._requests, request_id, ABORT_REQUEST)
        return encode_record(ABORT_REQUEST, request_id, b"")

    def get_values(self, names: Iterable[bytes]) -> bytes:
        """GET_VALUES (section 4.1). Raises `LocalProtocolError` for more names than a record holds."""
        self._values_awaited += 1
        return encode_record(GET_VALUES, MANAGEMENT_ID, encode_pairs((name, b"") for name in names))

    def receive_data(self, data: bytes) -> list[Event]:
        """What `data` completes. Raises `BadRecord`, as `StrayRecord` for a request that is not open.

        What comes while nothing is open answers nothing: it is dropped, and the connection is never idle again.
        """
        requests, answers = self._requests, self._answers
        events: list[Event] = []
        if not requests and not self._values_awaited:
            self._is_spoiled = self._is_spoiled or bool(data)
            return events
        for kind, request_id, content in self._reader.read(data):
            if request_id == MANAGEMENT_ID:
                events.append(self._receive_management(kind, content))
            elif request_id not in requests:
                raise StrayRecord(f"{_name(kind)} came for the request {request_id}, which is not open")
            elif kind == STDOUT and content:
                if answers[request_id] != ANSWERING:
                    _receive(ANSWER, answers, request_id, STDOUT)
                events.append(Stdout(request_id, content))
            elif kind == END_REQUEST:
                events.append(self._receive_end(request_id, content))
            else:
                _receive(ANSWER, answers, request_id, kind if content else END | kind)
                events.append(Stdout(request_id, content) if kind == STDOUT else Stderr(request_id, content))
            if not requests and not self._values_awaited and not self._reader.is_between:
                self._is_spoiled = True
                break
        return events

    def receive_whole(self, request_id: int, data: bytes) -> bytes | None:
        """The content of the answer to `request_id`, when `data` is all of it and all is well; None: `receive_data`.

        Most answers come so: one STDOUT, perhaps its end, and END_REQUEST with REQUEST_COMPLETE and app_status 0.
        """
        if len(data) < HEADER_SIZE or not self._reader.is_between:
            return None
        version, kind, answered_id, length, padding = _unpack_header(data)
        is_usual = (
            kind == STDOUT and version == VERSION and answered_id == request_id and length
            and data[HEADER_SIZE + length + padding :] in _ends_of(request_id)
            and self._requests.get(request_id) == SENT_STDIN and self._answers[request_id] == ANSWERING
            and len(self._requests) == 1 and not self._values_awaited
        )  # fmt: skip
        if not is_usual:
            return None
        del self._requests[request_id], self._answers[request_id]
        return data[HEADER_SIZE : HEADER_SIZE + length]

    def _receive_end(self, request_id: int, content: bytes) -> Event:
        if len(content) != 8:
            raise BadRecord(f"the content of END_REQUEST has 8 bytes, not {len(content)}: {content[:16]!r}")
        del self._answers[request_id]
        if self._requests.pop(request_id) != SENT_STDIN:
            # The application did not wait for all of the request: what it makes of the rest is anybody's guess.
            self._is_spoiled = True
        app_status, protocol_status = _unpack_end(content)
        return EndRequest(request_id, app_status, protocol_status)

    def _receive_management(self, kind: int, content: bytes) -> Event:
        if kind == GET_VALUES_RESULT:
            self._values_awaited = max(self._values_awaited - 1, 0)
            return Values(dict(decode_pairs(content)))
        if kind == UNKNOWN_TYPE and content:
            return UnknownType(content[0])
        if kind > UNKNOWN_TYPE or kind == 0:
            return UnknownManagement(kind)
        raise BadRecord(f"{_name(kind)} came with the request id 0, or empty")


class Application(_Connection):
    """The application's end: reads requests, and answers them. PARAMS have at most `max_params` bytes a request.

    `as_text`: they are reported as `ParamsText`, not as `Params`; and a whole small request as `WholeRequest`.
    """

    __slots__ = ("_as_text", "_max_params", "_params")

    def __init__(self, *, max_params: int = DEFAULT_MAX_PARAMS, as_text: bool = False) -> None:
        super().__init__()
        self._max_params = max_params
        self._as_text = as_text
        self._params: dict[int, bytearray] = {}

    def receive_data(self, data: bytes) -> list[Event]:
        """What `data` completes. Raises `BadRecord`.

        Records of a request that is not open are dropped: the web server may not know yet that it has ended.
        """
        if self._as_text and self._reader.is_between and (whole := self._whole_request(data)) is not None:
            return [whole]
        events: list[Event] = []
        requests = self._requests
        for kind, request_id, content in self._reader.read(data):
            if request_id == MANAGEMENT_ID:
                events.append(_management_request(kind, content))
            elif kind == BEGIN_REQUEST:
                events.append(self._receive_begin(request_id, content))
            elif request_id in requests:
                event = self._receive_request(kind, request_id, content)
                if event is not None:
                    events.append(event)
        return events

    def _whole_request(self, data: bytes) -> WholeRequest | None:
        """The request that is all of `data`, when it is the usual one: a responder's, one PARAMS record, no content."""
        if len(data) < _WHOLE_SIZE:
            return None
        (
            version, kind, request_id, size, padding, role, flags,
            params_version, params_kind, params_id, params_size, params_padding,
        ) = _BEGIN_AND_PARAMS.unpack_from(data)  # fmt: skip
        end = 24 + params_size
        is_usual = (
            version == params_version == VERSION and kind == BEGIN_REQUEST and size == 8 and not padding
            and role == RESPONDER and params_kind == PARAMS and params_id == request_id != MANAGEMENT_ID
            and 0 < params_size <= self._max_params and request_id not in self._requests
            and data[end + params_padding :]
            == _TWO_ENDS.pack(VERSION, PARAMS, request_id, 0, VERSION, STDIN, request_id, 0)
        )  # fmt: skip
        if not is_usual:
            return None
        self._requests[request_id] = SENT_STDIN
        self._answers[request_id] = ANSWERING
        self._params[request_id] = bytearray()
        return WholeRequest(request_id, bool(flags & KEEP_CONN), decode_text(data[24:end]))

    def _receive_begin(self, request_id: int, content: bytes) -> Event:
        if request_id in self._requests:
            raise BadRecord(f"BEGIN_REQUEST came for the request {request_id}, which is open")
        if len(content) != 8:
            raise BadRecord(f"the content of BEGIN_REQUEST has 8 bytes, not {len(content)}: {content[:16]!r}")
        role, flags = _BEGIN_BODY.unpack(content)
        self._requests[request_id] = begin_state(role)
        self._answers[request_id] = ANSWERING
        self._params[request_id] = bytearray()
        return BeginRequest(request_id, role, bool(flags & KEEP_CONN))

    def _receive_request(self, kind: int, request_id: int, content: bytes) -> Event | None:
        if kind == ABORT_REQUEST:
            _receive(REQUEST, self._requests, request_id, ABORT_REQUEST)
            return AbortRequest(request_id)
        _receive(REQUEST, self._requests, request_id, kind if content else END | kind)
        if kind == STDIN:
            return Stdin(request_id, content)
        if kind == DATA:
            return Data(request_id, content)
        params = self._params[request_id]
        if content:
            if len(params) + len(content) > self._max_params:
                raise BadRecord(f"the request {request_id} has more than {self._max_params} bytes of PARAMS")
            params += content
            return None
        whole = bytes(params)
        params.clear()
        return ParamsText(request_id, decode_text(whole)) if self._as_text else Params(request_id, decode_pairs(whole))

    def send_stdout(self, request_id: int, data: bytes) -> bytes:
        """The next piece of the CGI response; b"" ends it."""
        return self._send_stream(STDOUT, request_id, data)

    def send_stderr(self, request_id: int, data: bytes) -> bytes:
        """The next piece of the error text; b"" ends it."""
        return self._send_stream(STDERR, request_id, data)

    def _send_stream(self, kind: int, request_id: int, data: bytes) -> bytes:
        _send(ANSWER, self._answers, request_id, kind if data else END | kind)
        return encode_stream(kind, request_id, data) if data else encode_record(kind, request_id, b"")

    def finish_request(self, request_id: int, data: bytes, app_status: int = 0) -> bytes:
        """The rest of the CGI response (b"": none), its end, and END_REQUEST, in one piece."""
        state = self._answers.get(request_id)
        start = self.send_stdout(request_id, data) if data else b""
        if state != ANSWERING:
            return start + self.send_stdout(request_id, b"") + self.end_request(request_id, app_status)
        del self._requests[request_id], self._answers[request_id], self._params[request_id]
        return start + _STDOUT_END.pack(
            1, STDOUT, request_id, 0, 1, END_REQUEST, request_id, 8, 0, app_status & 0xFFFFFFFF, REQUEST_COMPLETE
        )

    def end_request(self, request_id: int, app_status: int = 0, protocol_status: int = REQUEST_COMPLETE) -> bytes:
        """END_REQUEST (section 5.5); `app_status` is the exit status, as an unsigned 32-bit number."""
        if request_id not in self._requests:
            raise LocalProtocolError(f"END_REQUEST for the request {request_id}, which is not open")
        del self._requests[request_id], self._answers[request_id], self._params[request_id]
        return encode_record(END_REQUEST, request_id, _END_BODY.pack(app_status & 0xFFFFFFFF, protocol_status))

    def values(self, values: Mapping[bytes, bytes]) -> bytes:
        """GET_VALUES_RESULT (section 4.1)."""
        return encode_record(GET_VALUES_RESULT, MANAGEMENT_ID, encode_pairs(values.items()))

    def unknown_type(self, kind: int) -> bytes:
        """UNKNOWN_TYPE (section 4.2)."""
        return encode_record(UNKNOWN_TYPE, MANAGEMENT_ID, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))


def _management_request(kind: int, content: bytes) -> Event:
    if kind == GET_VALUES:
        return GetValues([name for name, _ in decode_pairs(content)])
    if kind > GET_VALUES or kind == 0:
        return UnknownManagement(kind)
    raise BadRecord(f"{_name(kind)} came with the request id 0")
