"""The access log: lighttpd's and Apache's format language, compiled once into a list of functions.

Contract: a format is checked when it is compiled; a line is printable ASCII, whatever a client sent; lines are
gathered and written each second or 8 KiB, and losing them never stops serving.
Plan: format -> template and getters; one `Entry` a request -> line -> `BufferedLog`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import NamedTuple, Protocol

from gevent import get_hub

from gfastcgi.errors import InvalidValue
from gfastcgi.request import Request

__all__ = ["AccessLog", "BufferedLog", "Entry"]

log = logging.getLogger("gfastcgi")

FLUSH_BYTES = 8192
FLUSH_SECONDS = 1.0
Getter = Callable[["Entry"], "str | int"]

_BACKSLASHED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPES = {
    code: f"\\x{code:02X}" for code in (*range(0x20), *range(0x7F, 0x100))
} | {ord('"'): '\\"', ord("\\"): "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 13: "\\r"}  # fmt: skip

_DIRECTIVE = re.compile(r"%(?:[<>]|\{([^}]*)\})?(.?)", re.DOTALL)
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 1e3, "msec": 1e3, "us": 1e6, "usec": 1e6, "ns": 1e9, "nsec": 1e9}
_FRACTIONS = {"msec_frac": 3, "usec_frac": 6, "nsec_frac": 9}


def escape(text: str) -> str:
    """`text` as lighttpd logs it: `"` and `\\` behind a backslash, each byte that is not printable ASCII as `\\xHH`."""
    if text.isascii():
        if text.isprintable() and '"' not in text and "\\" not in text:
            return text
    else:
        text = os.fsencode(text).decode("latin-1")
    return text.translate(_ESCAPES)


def escape_bytes(data: bytes) -> str:
    """Field values and targets, escaped likewise."""
    text = data.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES)


class Entry(NamedTuple):
    """One answered request. `content_sent` is bytes of content, `seconds` its duration, `end` the wall clock then.

    `is_whole` is False for an answer that broke off.
    """

    request: Request
    status: int
    headers: Sequence[tuple[str, str]]
    content_sent: int
    seconds: float
    end: float
    is_whole: bool


class AccessLog:
    """Calling it logs one request. `write` gets whole lines, as bytes. Raises `InvalidValue` for an unknown directive.

    `server_name` is what `%v` says when set (`server.name`), else it is the authority; `document_root` is where `%f`
    looks. Source: lighttpd's accesslog.format, Apache's LogFormat.
    """

    def __init__(
        self, format: str, write: Callable[[bytes], object], *, server_name: str = "", document_root: str = ""
    ) -> None:
        site = {"v": escape(server_name), "f": document_root}
        self._template, self._getters = _compile(format, site)
        self._write = write

    def __call__(
        self, request: Request, status: int, headers: Sequence[tuple[str, str]], content_sent: int, seconds: float,
        is_whole: bool = True,
    ) -> None:  # fmt: skip
        """Log one request: its answer's status and header fields, the bytes of content sent, and its duration."""
        entry = Entry(request, status, headers, content_sent, seconds, time.time(), is_whole)
        line = self._template % tuple([getter(entry) for getter in self._getters])
        self._write(line.encode("utf-8", "surrogateescape"))


def _compile(format: str, site: Mapping[str, str]) -> tuple[str, list[Getter]]:
    format = re.sub(r"\\(.)", lambda match: _BACKSLASHED.get(match[1], match[1]), format, flags=re.DOTALL)
    template: list[str] = []
    getters: list[Getter] = []
    position = 0
    for match in _DIRECTIVE.finditer(format):
        template.append(format[position : match.start()])
        position = match.end()
        argument, key = match[1], match[2]
        if key == "%" and argument is None:
            template.append("%%")
            continue
        template.append("%s")
        getters.append(_getter(match[0], argument, key, site))
    template.append(format[position:])
    return "".join(template) + "\n", getters


def _getter(directive: str, argument: str | None, key: str, site: Mapping[str, str]) -> Getter:
    if argument == "":
        raise InvalidValue(f"accesslog.format: {directive!r} needs a name within its braces")
    if key in _NAMED:
        if not argument:
            raise InvalidValue(f"accesslog.format: {directive!r} needs a name: %{{NAME}}{key}")
        return _NAMED[key](argument)
    if key in _VARIED:
        return _VARIED[key](argument or "")
    if key == "v" and (name := site["v"]):
        return lambda entry: name
    if key == "f":
        root = site["f"]
        return lambda entry: escape(root + entry.request.path)
    if key not in _PLAIN:
        shown = directive if key else "%"
        raise InvalidValue(f"accesslog.format: {shown!r} is not followed by a directive of the access log")
    return _PLAIN[key]


# The directives that stand alone: %h or %>s.


def _request_line(entry: Entry) -> str:
    request = entry.request
    return f"{escape(request.method)} {escape_bytes(request.original_uri)} HTTP/{request.version}"


def _url(entry: Entry) -> str:
    return escape_bytes(entry.request.uri.partition(b"?")[0])


def _head_size(fields: Iterable[tuple[Sized, Sized]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields) + 2


def _received(entry: Entry) -> int:
    request = entry.request
    line = len(request.method) + len(request.original_uri) + len(" HTTP/1.1\r\n") + 1
    return line + _head_size(request.fields) + (request.head.content_length or 0)


def _sent(entry: Entry) -> int:
    return len("HTTP/1.1 200 OK\r\n") + _head_size(entry.headers) + entry.content_sent


def _connection_status(entry: Entry) -> str:
    if not entry.is_whole:
        return "X"
    return "+" if entry.request.head.keep_alive else "-"


_PLAIN: dict[str, Getter] = {
    "h": lambda entry: entry.request.peer.remote_addr or "-",
    "a": lambda entry: entry.request.peer.remote_addr or "-",
    "A": lambda entry: entry.request.peer.server_addr or "-",
    "l": lambda entry: "-",
    "u": lambda entry: escape(entry.request.user) or "-",
    "r": _request_line,
    "s": lambda entry: entry.status,
    "b": lambda entry: entry.content_sent,
    "B": lambda entry: entry.content_sent,
    "O": _sent,
    "I": _received,
    "D": lambda entry: int(entry.seconds * 1e6),
    "H": lambda entry: f"HTTP/{entry.request.version}",
    "m": lambda entry: escape(entry.request.method),
    "U": _url,
    "q": lambda entry: escape(entry.request.query),
    "v": lambda entry: escape(entry.request.authority) or "-",
    "V": lambda entry: escape(entry.request.authority) or "-",
    "P": lambda entry: os.getpid(),
    "X": _connection_status,
    "L": lambda entry: entry.request.id,
    "k": lambda entry: max(entry.request.peer.requests - 1, 0),
}


# The directives that need a name: %{Referer}i.


def _request_field(name: str) -> Getter:
    field = name.lower().encode()

    def get(entry: Entry) -> str:
        value = entry.request.field(field)
        return "-" if value is None else escape_bytes(value)

    return get


def _response_field(name: str) -> Getter:
    field = name.lower()

    def get(entry: Entry) -> str:
        values = [value for header, value in entry.headers if header.lower() == field]
        return escape(", ".join(values)) if values else "-"

    return get


def _cookie(name: str) -> Getter:
    wanted = name.encode()

    def get(entry: Entry) -> str:
        for pair in (entry.request.field(b"cookie") or b"").split(b";"):
            key, _, value = pair.strip().partition(b"=")
            if key == wanted:
                return escape_bytes(value)
        return ""

    return get


def _variable(name: str) -> Getter:
    variable = name.encode()

    def get(entry: Entry) -> str:
        value = entry.request.variables.get(variable)
        return "-" if value is None else escape_bytes(value)

    return get


_NAMED: dict[str, Callable[[str], Getter]] = {
    "i": _request_field, "o": _response_field, "C": _cookie, "e": _variable, "n": _variable,
}  # fmt: skip


# The directives whose name varies them: %t, %{%Y}t, %{begin:msec}t, %{ms}T, %{remote}p.


def _timestamp(argument: str) -> Getter:
    is_begin = argument.startswith("begin:")
    form = argument.removeprefix("begin:").removeprefix("end:")

    def moment(entry: Entry) -> float:
        return entry.end - entry.seconds if is_begin else entry.end

    if form in _FRACTIONS:
        digits = _FRACTIONS[form]
        return lambda entry: f"{int(moment(entry) % 1 * 10**digits):0{digits}d}"
    if len(form) > 2 and form in _UNITS:
        scale = int(_UNITS[form])
        return lambda entry: int(moment(entry) * scale)
    if form and "%" not in form:
        raise InvalidValue(f"accesslog.format: %{{{argument}}}t: neither sec, msec, usec, nsec, *_frac nor strftime")
    return _calendar(form or "[%d/%b/%Y:%H:%M:%S %z]", moment)


def _calendar(form: str, moment: Callable[[Entry], float]) -> Getter:
    last_second, text = -1, ""

    def get(entry: Entry) -> str:
        nonlocal last_second, text
        second = int(moment(entry))
        if second != last_second:
            last_second, text = second, time.strftime(form, time.localtime(second))
        return text

    return get


def _duration(unit: str) -> Getter:
    if unit not in _UNITS:
        raise InvalidValue(f"accesslog.format: %{{{unit}}}T: the unit is s, ms, us or ns")
    scale = _UNITS[unit]
    return lambda entry: int(entry.seconds * scale)


def _port(which: str) -> Getter:
    if which == "remote":
        return lambda entry: entry.request.peer.remote_port
    if which in ("", "local", "canonical"):
        return lambda entry: entry.request.peer.server_port
    raise InvalidValue(f"accesslog.format: %{{{which}}}p: the port is canonical, local or remote")


_VARIED: dict[str, Callable[[str], Getter]] = {"t": _timestamp, "T": _duration, "p": _port}


class _File(Protocol):
    filename: str

    def open(self) -> None: ...
    def write(self, data: bytes) -> bool: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class BufferedLog:
    """Gathers lines for a file, and writes them each second or 8 KiB.

    What the file did not take is told in the error log, once it takes lines again.
    """

    def __init__(self, file: _File) -> None:
        self.file = file
        self._lost_bytes = 0
        self._lines: list[bytes] = []
        self._size = 0
        self._timer = get_hub().loop.timer(FLUSH_SECONDS, ref=False)

    def open(self) -> None:
        """Open the file. Raises OSError when it cannot be opened."""
        self.file.open()

    def write(self, line: bytes) -> None:
        """Take one line, ended by its newline."""
        if not self._lines:
            self._timer.start(self.flush)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered."""
        self._timer.stop()
        data = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        if not data:
            return
        if not self.file.write(data):
            self._lost_bytes += len(data)
        elif self._lost_bytes:
            name, lost, self._lost_bytes = self.file.filename, self._lost_bytes, 0
            log.warning("%s: %d bytes of lines were lost: the file could not be written", name, lost)

    def reopen(self) -> None:
        """Go on in a new file of the same name. Raises OSError, and keeps the old one, when it fails."""
        self.flush()
        self.file.reopen()

    def close(self) -> None:
        self.flush()
        self._timer.close()
        self.file.close()
