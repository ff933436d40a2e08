"""HTTP/1 requests: bytes in, events out (RFC 9112), on llhttp as it comes, strict.

Contract: `feed` takes bytes in any split; `next_event` gives a `RequestHead`, then, where it announces a body, the
body's pieces and `END`; None asks for more bytes. An error is raised where it stands in the stream, after the messages
before it, and for ever. llhttp refuses every ambiguous framing by itself; what it lets through is checked here.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import httptools

from gfastcgi.errors import (
    BadRequest,
    ExpectationFailed,
    FieldsTooLarge,
    NotImplementedByUs,
    RemoteProtocolError,
    TargetTooLong,
    VersionNotSupported,
)
from gfastcgi.http.conditional import CONDITIONS
from gfastcgi.http.target import Target, check_authority, parse_target

__all__ = ["END", "Limits", "RequestHead", "RequestParser"]

END = b""
"""The event that ends a body."""

# RFC 9110 section 6.5.1: fields that frame, route or authenticate have no place in trailers.
_NO_TRAILERS = frozenset({
    b"authorization", b"connection", b"content-encoding", b"content-length", b"content-range", b"content-type",
    b"cookie", b"expect", b"host", b"proxy-authorization", b"set-cookie", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
})  # fmt: skip
_QUESTIONS = CONDITIONS | {b"range"}
_ALONE = frozenset({b"content-length", b"content-type", b"expect", b"host", b"transfer-encoding"})
# A chunked body is parsed in slices; bytes that bring neither content nor the end of a chunk-size line are extensions.
_SLICE = 4096
_LONGEST_CHUNK_LINE = 8192
# A client often sends one head again and again: up to this size it is kept with what it said.
_REMEMBERED = 2048
_METHOD = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]+( |$)")
_LONGEST_METHOD = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes of what a client may send before its body; the status that answers more stands beside each."""

    target: int = 8192  # 414
    field: int = 8192  # 431
    fields: int = 65536  # 431
    count: int = 100  # 431
    trailers: int = 8192  # 431
    trailer_count: int = 16  # 431
    decode_2f: bool = False


class RequestHead:
    """One request head. `fields` are (lower-case name, value without surrounding blanks), in the order of arrival."""

    __slots__ = (
        "authority", "content_length", "expects_continue", "fields", "has_questions", "keep_alive", "method", "names",
        "target", "version",
    )  # fmt: skip

    def __init__(self, method: str, target: Target, version: str, fields: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.version = version
        """ "1.0" or "1.1"."""
        self.fields = fields
        self.authority = ""
        self.content_length: int | None = 0
        """Bytes of the body; None: chunked."""
        self.keep_alive = True
        self.expects_continue = False
        self.names = frozenset([name for name, _ in fields])
        self.has_questions = not _QUESTIONS.isdisjoint(self.names)
        """Whether it has preconditions or asks for a range (RFC 9110 sections 13 and 14)."""

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target.uri!r} HTTP/{self.version}>"


class RequestParser:
    """The request side of one HTTP/1 connection."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._events: deque[RequestHead | bytes] = deque()
        self._error: RemoteProtocolError | None = None
        self._has_body = self._is_chunked = False
        self._opaque = 0
        """Bytes of a body that llhttp handed back, because its request asked for an upgrade that is not made."""
        self._known = b""
        self._known_head: RequestHead | None = None
        self._begin_head()

    def __repr__(self) -> str:
        return f"<RequestParser {'in a head' if self._in_head else 'in a body'}, {len(self._events)} events>"

    def _begin_head(self) -> None:
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._alone: dict[bytes, bytes] = {}
        self._fields_size = 0
        self._size = 0
        self._trailers = 0
        self._line = b""
        self._stalled = 0
        self._in_head = True

    @property
    def is_idle(self) -> bool:
        """True between messages: nothing of the next request has come."""
        return self._in_head and self._size == 0 and not self._events

    def next_event(self) -> RequestHead | bytes | None:
        """The next event, or None when more bytes are needed. Raises `RemoteProtocolError`."""
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None

    def feed(self, data: bytes) -> None:
        """Takes `data`, not empty, as it came from the client."""
        is_first = self._in_head and not self._size and not self._events
        if is_first and data == self._known and self._error is None:
            assert self._known_head is not None
            self._events.append(self._known_head)
            return
        at, end = 0, len(data)
        try:
            while at < end and self._error is None:
                at = self._feed_some(data, at)
        except httptools.HttpParserError as error:
            self._error = self._error or self._name(error)
        if is_first and end <= _REMEMBERED:
            self._remember(data)

    def _remember(self, data: bytes) -> None:
        """Keeps `data` when it is the whole of one request without a body, and the connection goes on behind it."""
        if len(self._events) != 1 or not self._in_head or self._size:
            return
        head = self._events[0]
        if isinstance(head, RequestHead) and head.keep_alive:
            self._known, self._known_head = data, head

    def _feed_some(self, data: bytes, at: int) -> int:
        """Takes a head, a slice of a chunked body, or what there is, from `at`; returns where to go on."""
        if self._opaque:
            return self._take_opaque(data, at)
        if self._in_head:
            return self._feed_head(data, at)
        if self._is_chunked:
            return self._feed_slice(data, at)
        self._parser.feed_data(data[at:] if at else data)
        return len(data)

    def _feed_head(self, data: bytes, at: int) -> int:
        found = data.find(b"\r\n\r\n", at)
        end = found + 4 if found >= 0 else len(data)
        if self._size < _LONGEST_METHOD:
            self._line += data[at : at + _LONGEST_METHOD]
        self._size += end - at
        try:
            self._parser.feed_data(data if end - at == len(data) else data[at:end])
        except httptools.HttpParserUpgrade as upgrade:
            # No upgrade is made (RFC 9110 section 7.8: a server may ignore the field): go on behind the head.
            return at + int(upgrade.args[0])
        if self._in_head and self._size:
            self._check_head_size()
        return end

    def _feed_slice(self, data: bytes, at: int) -> int:
        """Some of a chunked body; bytes that bring nothing for too long are no chunk."""
        end = min(len(data), at + _SLICE)
        progress = len(self._events) + self._trailers
        self._parser.feed_data(data[at:end])
        self._stalled = self._stalled + end - at if len(self._events) + self._trailers == progress else 0
        if self._is_chunked and self._stalled > _LONGEST_CHUNK_LINE:
            raise self._fail(BadRequest("a chunk extension is too long"))
        return end

    def _check_head_size(self) -> None:
        limits = self._limits
        if len(self._url) > limits.target:
            raise self._fail(TargetTooLong(f"the request target is longer than {limits.target} bytes"))
        if self._size > limits.fields + limits.target:
            raise self._fail(FieldsTooLarge(f"the fields are larger than {limits.fields} bytes"))

    def _take_opaque(self, data: bytes, at: int) -> int:
        piece = data[at : at + self._opaque]
        self._opaque -= len(piece)
        self._events.append(piece)
        if not self._opaque:
            self._end()
        return at + len(piece)

    def _fail(self, error: RemoteProtocolError) -> httptools.HttpParserError:
        self._error = error
        return httptools.HttpParserError(str(error))

    def _name(self, error: httptools.HttpParserError) -> RemoteProtocolError:
        if isinstance(error, httptools.HttpParserCallbackError) and isinstance(error.__context__, RemoteProtocolError):
            return error.__context__
        if isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD.match(self._line):
            return NotImplementedByUs("the method is not known")
        if len(self._url) > self._limits.target:
            return TargetTooLong(f"the request target is longer than {self._limits.target} bytes")
        return BadRequest(f"not HTTP: {str(error) or 'bad bytes'}")

    # llhttp calls these.

    def on_url(self, piece: bytes) -> None:
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value)
        if size > self._limits.field:
            raise FieldsTooLarge(f"the field {name[:40]!r} is larger than {self._limits.field} bytes")
        name = name.lower()
        if not self._in_head:
            self._on_trailer(name, size)
            return
        value = value.strip(b" \t")
        self._fields_size += size
        self._fields.append((name, value))
        if name in _ALONE:
            if name in self._alone:
                raise BadRequest(f"two fields {name.decode()}")
            self._alone[name] = value
        if len(self._fields) > self._limits.count:
            raise FieldsTooLarge(f"more than {self._limits.count} fields")

    def _on_trailer(self, name: bytes, size: int) -> None:
        self._trailers += 1
        self._size += size
        if name in _NO_TRAILERS:
            raise BadRequest(f"the field {name!r} has no place in trailers")
        if self._trailers > self._limits.trailer_count or self._size > self._limits.trailers:
            raise FieldsTooLarge("the trailers are too large")

    def on_headers_complete(self) -> None:
        limits, url, parser = self._limits, self._url, self._parser
        if len(url) > limits.target:
            raise TargetTooLong(f"the request target is longer than {limits.target} bytes")
        if self._fields_size > limits.fields:
            raise FieldsTooLarge(f"the fields are larger than {limits.fields} bytes")
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise VersionNotSupported(f"HTTP/{version} is not spoken here")
        method = parser.get_method().decode("ascii")
        self._check_method(method)
        target = parse_target(url, decode_2f=True) if limits.decode_2f else parse_target(url)
        head = RequestHead(method, target, version, self._fields)
        head.keep_alive = parser.should_keep_alive()
        alone = self._alone
        _read_host(head, alone.get(b"host"))
        if len(alone) > 1 or b"host" not in alone:
            _read_framing(head, alone)
        if target.path == "*" and method != "OPTIONS":
            raise BadRequest("the target * belongs to OPTIONS alone")
        self._in_head = False
        self._size = 0
        self._is_chunked = head.content_length is None
        self._has_body = head.content_length != 0
        if head.content_length != 0 and parser.should_upgrade():
            self._hand_back(head)
        self._events.append(head)

    def _check_method(self, method: str) -> None:
        if method in ("CONNECT", "TRACE"):
            raise NotImplementedByUs(f"{method} is not served")
        if b"  " in self._line and self._line.lstrip(b"\r\n")[len(method) + 1 : len(method) + 2] == b" ":
            raise BadRequest("the request line needs one space behind the method")

    def _hand_back(self, head: RequestHead) -> None:
        """llhttp takes what follows the head of an upgrade for another protocol; the length still frames it."""
        if head.content_length is None:
            raise BadRequest("a chunked body with Upgrade")
        self._opaque = head.content_length

    def on_body(self, piece: bytes) -> None:
        self._events.append(piece)

    def on_chunk_header(self) -> None:
        """Asked for by name so that llhttp tells of chunks; nothing is to be done."""

    def on_message_complete(self) -> None:
        if not self._opaque:
            self._end()

    def _end(self) -> None:
        if self._has_body:
            self._events.append(END)
            self._has_body = self._is_chunked = False
        self._begin_head()


def _read_host(head: RequestHead, host: bytes | None) -> None:
    """RFC 9112 section 3.2: HTTP/1.1 needs one Host; an absolute-form target wins over it."""
    if host is None:
        if head.version == "1.1":
            raise BadRequest("HTTP/1.1 without a Host field")
    else:
        head.authority = check_authority(host)
    if head.target.authority is not None:
        head.authority = check_authority(head.target.authority)
    authority = head.authority.encode()
    if authority and authority != host:
        # One spelling for all who compare it: backends, conditions, authorizers (RFC 9110 section 4.2.3).
        head.fields = [field for field in head.fields if field[0] != b"host"]
        head.fields.append((b"host", authority))


def _read_framing(head: RequestHead, seen: dict[bytes, bytes]) -> None:
    """RFC 9112 section 6.3, over what llhttp has checked already."""
    coding = seen.get(b"transfer-encoding")
    length = seen.get(b"content-length")
    if coding is not None:
        if head.version == "1.0" or length is not None:
            raise BadRequest("Transfer-Encoding in HTTP/1.0 or beside Content-Length")
        if coding.lower() != b"chunked":
            raise NotImplementedByUs(f"the transfer coding {coding[:40]!r} is not known")
        head.content_length = None
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise BadRequest(f"Content-Length is no length: {length[:40]!r}")
        head.content_length = int(length)
    expect = seen.get(b"expect")
    if expect is not None and head.version == "1.1":
        if expect.lower() != b"100-continue":
            raise ExpectationFailed(f"the expectation {expect[:40]!r} is not known")
        head.expects_continue = head.content_length != 0
