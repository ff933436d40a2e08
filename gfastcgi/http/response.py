"""The head of an HTTP/1 response and its framing (RFC 9112 sections 4 and 6): words in, bytes out.

Contract: `encode_head` writes what it is given plus what framing needs; nothing that could split a head gets through.
"""

from __future__ import annotations

from collections.abc import Sequence

from gfastcgi.errors import LocalProtocolError

__all__ = ["LAST_CHUNK", "close_body", "encode_chunk", "encode_head", "encode_interim", "has_no_content"]

LAST_CHUNK = b"0\r\n\r\n"

# Set by framing alone, whatever a handler said (RFC 9110 section 7.6.1).
_OURS = frozenset({"keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})
_DROP, _KEEP, _LENGTH, _DATE, _SERVER, _CONNECTION = range(6)
_SPECIAL: dict[str, int] = dict.fromkeys(_OURS, _DROP) | {
    "connection": _CONNECTION, "content-length": _LENGTH, "date": _DATE, "server": _SERVER,
}  # fmt: skip
# Field names come in few spellings; what to do with each is looked up once.
_kinds: dict[str, int] = {}
_MOST_KINDS = 1024
# So are the words of whole heads: a site says the same again and again. Those with cookies are not kept.
_starts: dict[tuple[object, ...], tuple[bytes, bool]] = {}
_MOST_STARTS = 256
_LONGEST_START = 1024


def has_no_content(status: int) -> bool:
    """True for the statuses that end with their head (RFC 9110 section 6.4.1)."""
    return status < 200 or status == 204 or status == 304


def close_body(body: object) -> None:
    """Closes the iterable of a content, where it is one to be closed (PEP 3333)."""
    close = getattr(body, "close", None)
    if close is not None:
        close()


def encode_head(
    status: str,
    fields: Sequence[tuple[str, str]],
    *,
    length: int | None,
    is_chunked: bool,
    connection: bytes,
    date: bytes,
    server: str,
) -> bytes:
    """The head of a final response, with its empty line.

    `status` is "200 OK"; `length` is sent as Content-Length and replaces any other, None sends none;
    `connection` is the value of Connection, b"" for none. Date and Server are added where missing. What a Connection
    field among `fields` names goes no further, like that field itself (RFC 9110 section 7.6.1).
    Raises `LocalProtocolError` for a field that would split the head.
    """
    key = (status, server, *fields)
    known = _starts.get(key)
    if known is None:
        known = _encode_start(status, fields, server)
        if len(known[0]) <= _LONGEST_START and b"ookie" not in known[0]:
            if len(_starts) >= _MOST_STARTS:
                _starts.clear()
            _starts[key] = known
    start, has_date = known
    tail = b"" if has_date else b"Date: %b\r\n" % date
    if length is not None:
        tail += b"Content-Length: %d\r\n" % length
    elif is_chunked:
        tail += b"Transfer-Encoding: chunked\r\n"
    if connection:
        tail += b"Connection: %b\r\n" % connection
    return start + tail + b"\r\n"


def _encode_start(status: str, fields: Sequence[tuple[str, str]], server: str) -> tuple[bytes, bool]:
    """The status line and the fields that framing leaves alone; whether Date is among them."""
    lines = [f"HTTP/1.1 {status}\r\n"]
    has_date = has_server = False
    for name, value in fields:
        kind = _kinds.get(name)
        if kind is None:
            kind = _kind(name)
        if kind != _KEEP:
            if kind in (_DROP, _LENGTH):
                continue
            if kind == _CONNECTION:
                return _encode_start(status, _end_to_end(fields), server)
            has_date = has_date or kind == _DATE
            has_server = has_server or kind == _SERVER
        lines.append(f"{name}: {value}\r\n")
    if not has_server and server:
        lines.append(f"Server: {server}\r\n")
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        raise LocalProtocolError(f"a response field holds a line end or NUL: {text[:200]!r}")
    return text.encode("latin-1", "replace"), has_date


def _kind(name: str) -> int:
    kind = _SPECIAL.get(name.lower(), _KEEP)
    if len(_kinds) < _MOST_KINDS:
        _kinds[name] = kind
    return kind


def _end_to_end(fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """`fields` without Connection and what it names."""
    options = ",".join(value for name, value in fields if name.lower() == "connection").lower().split(",")
    hop_by_hop = {"connection", *(option.strip(" \t") for option in options)}
    return [field for field in fields if field[0].lower() not in hop_by_hop]


def encode_interim(status: int, reason: str, fields: Sequence[tuple[str, str]]) -> bytes:
    """The head of a 1xx response (RFC 9110 section 15.2)."""
    lines = [f"HTTP/1.1 {status} {reason}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in _end_to_end(fields) if name.lower() not in _SPECIAL]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        raise LocalProtocolError("an interim response field holds a line end or NUL")
    return text.encode("latin-1", "replace") + b"\r\n"


def encode_chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 section 7.1); `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
