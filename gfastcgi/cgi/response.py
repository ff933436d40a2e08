"""The head of a CGI response (RFC 3875 section 6): `parse_head` finds a `Head` in a buffer, or needs more.

Contract: lines end with LF or CRLF, mixed as they like. What is ambiguous or could split a header is refused, never
repaired. Interim heads (1xx) are parsed like any other; the caller goes on behind `body_start`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final, Literal

from gfastcgi.errors import BadCGIResponse

__all__ = ["COMMANDS", "DEFAULT_MAX_FIELDS", "DEFAULT_MAX_SIZE", "Head", "parse_head"]

DEFAULT_MAX_SIZE: Final = 65536
"""Bytes of a head, as in lighttpd; more are answered with 502."""
DEFAULT_MAX_FIELDS: Final = 100
"""Fields of a head; more are answered with 502 (CVE-2014-3583 and its like live on heads without an end)."""
COMMANDS: Final = ("x-accel-", "x-lighttpd-", "x-sendfile")
"""How the fields begin by which a program speaks to its gateway, in lower case: no client sees them."""

Kind = Literal["document", "local-redirect", "client-redirect"]

_HEAD_END = re.compile(rb"\n\r?\n")
_EMPTY_HEAD = re.compile(rb"\r?\n")
# RFC 9110 section 5.1: field-name = token. Section 5.5: no control in a value but the tab.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
# RFC 3875 section 6.3.3: Status = "Status:" 3digit SP reason-phrase NL; servers have always let the reason be absent.
_STATUS = re.compile(r"([1-5][0-9][0-9])(?:[ \t]+(.*))?")
_STATUS_LINE = re.compile(r"HTTP/1\.[0-9][ \t]+(.*)")
# RFC 9110 section 8.6; 18 digits fit every file, and no number that needs more is one.
_LENGTH = re.compile(r"[0-9]{1,18}")
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}

_PLAIN, _STATUS_FIELD, _LOCATION, _CONTENT_LENGTH, _TRANSFER_ENCODING = range(5)
_SPECIAL: Final = {
    b"status": _STATUS_FIELD,
    b"location": _LOCATION,
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
}

# The names that backends send are few: each is checked and decoded once.
_names: dict[bytes, tuple[str, int]] = {}
_MOST_NAMES: Final = 512
# So are whole heads: the pages of a site say what they are with the same words. Those with cookies are not kept.
_heads: dict[bytes, Head] = {}
_MOST_HEADS: Final = 256
_LONGEST_KNOWN: Final = 512


@dataclass(slots=True)
class Head:
    """A parsed head. `fields` keep their order and spelling; `Status` is taken out.

    It may be given more than once, to all who parse the same bytes: it is nobody's to change.
    """

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    has_status: bool
    """True when the script named the status itself, by `Status` or by a status line."""
    body_start: int
    """Where in the buffer the body begins, in bytes."""
    is_nph: bool
    location: str | None
    content_length: int | None

    @property
    def kind(self) -> Kind:
        """Section 6.2: a document, or a redirect by the gateway itself or by the client."""
        if self.location is None:
            return "document"
        if not self.has_status and self.location.startswith("/") and not self.location.startswith("//"):
            return "local-redirect"
        return "client-redirect" if 300 <= self.status < 400 else "document"


def parse_head(
    buffer: bytes, *, max_size: int = DEFAULT_MAX_SIZE, max_fields: int = DEFAULT_MAX_FIELDS, searched: int = 0
) -> Head | None:
    """The head at the start of `buffer`, or None: it takes more bytes. Raises `BadCGIResponse`.

    `searched`: so many bytes were in the buffer when it last took more; they are not looked through again.
    """
    known = _heads.get(buffer[: buffer.find(b"\r\n\r\n") + 4])
    if known is not None and known.body_start <= max_size and len(known.fields) <= max_fields:
        return known
    end = _HEAD_END.search(buffer, max(searched - 2, 0))
    if end is None:
        if len(buffer) > max_size + len("\n\r"):
            raise _too_big(max_size)
        if _EMPTY_HEAD.match(buffer):
            raise BadCGIResponse("a CGI response has at least one field")
        return None
    if end.start() > max_size:
        raise _too_big(max_size)
    found = _parse(buffer[: end.start()].split(b"\n"), max_fields, end.end())
    raw = buffer[: end.end()]
    if len(raw) <= _LONGEST_KNOWN and b"ookie" not in raw:
        if len(_heads) >= _MOST_HEADS:
            _heads.clear()
        _heads[raw] = found
    return found


def _too_big(max_size: int) -> BadCGIResponse:
    return BadCGIResponse(f"the head of a CGI response has at most {max_size} bytes", cause="header_too_big")


def _parse(lines: list[bytes], max_fields: int, body_start: int) -> Head:
    status: tuple[int, str] | None = None
    location = content_length = None
    is_nph = lines[0].startswith(b"HTTP/")
    if is_nph:
        status = _parse_status_line(_decode(lines.pop(0).removesuffix(b"\r")))
    if len(lines) > max_fields:
        raise BadCGIResponse(f"the head of a CGI response has at most {max_fields} fields", cause="header_too_big")
    fields = []
    for line in lines:
        name, value, special = _parse_line(line)
        if special:
            if special == _STATUS_FIELD:
                if status is not None:
                    raise BadCGIResponse("the status is named twice")
                status = _parse_status(value)
                continue
            if special == _TRANSFER_ENCODING:
                raise BadCGIResponse(f"Transfer-Encoding {value!r}: FastCGI has its own framing (RFC 9112 section 6.1)")
            if special == _LOCATION:
                location = _once(name, location, value)
            else:
                content_length = _once(name, content_length, value)
                if not _LENGTH.fullmatch(value):
                    raise BadCGIResponse(f"Content-Length is a number of bytes, not {value!r}")
        fields.append((name, value))
    has_status = status is not None
    if status is None:
        if location == "":
            raise BadCGIResponse("Location is empty and there is no Status")
        status = (200, "OK") if location is None else (302, "Found")
    length = None if content_length is None else int(content_length)
    return Head(status[0], status[1], tuple(fields), has_status, body_start, is_nph, location, length)


def _parse_line(line: bytes) -> tuple[str, str, int]:
    raw_name, colon, raw_value = line.partition(b":")
    name, special = _names.get(raw_name) or _check_name(raw_name, colon, line)
    return name, _decode(raw_value.removesuffix(b"\r").strip(b" \t")), special


def _check_name(raw_name: bytes, colon: bytes, line: bytes) -> tuple[str, int]:
    if not colon or not _TOKEN.fullmatch(raw_name):
        raise BadCGIResponse(f"a field is `name: value`, not {line[:80]!r}")
    found = (raw_name.decode("ascii"), _SPECIAL.get(raw_name.lower(), _PLAIN))
    if len(raw_name) <= 64:
        if len(_names) >= _MOST_NAMES:
            _names.clear()
        _names[raw_name] = found
    return found


def _decode(raw: bytes) -> str:
    text = raw.decode("latin-1")
    if not text.isprintable() and _CONTROL.search(text):
        raise BadCGIResponse(f"a control character in {raw[:80]!r}")
    return text


def _once(name: str, found: str | None, value: str) -> str:
    if found is not None:
        raise BadCGIResponse(f"{name} came twice: {found!r} and {value!r}")
    return value


def _parse_status_line(line: str) -> tuple[int, str]:
    """RFC 3875 section 5: a script that parses no header starts with the status line of HTTP."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadCGIResponse(f"a status line is `HTTP/1.1 NNN reason`, not {line[:80]!r}")
    return _parse_status(match[1])


@lru_cache(maxsize=64)
def _parse_status(text: str) -> tuple[int, str]:
    match = _STATUS.fullmatch(text)
    if match is None:
        raise BadCGIResponse(f"a status is 100 to 599 and a reason, not {text[:80]!r}")
    status = int(match[1])
    return status, match[2] or _REASONS.get(status, "")
