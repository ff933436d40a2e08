"""One request as a call of a WSGI application (PEP 3333), free of connections.

Contract: `complete_environ` makes an environ of meta-variables; `Answer.respond` calls the application, sends what it
must not hold back, and returns the rest, so that a short answer leaves in one piece with its end. `PulledAnswer.begin`
calls it up to the first piece of its body, and leaves the rest to who asks for it.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import IO, Any, Protocol
from urllib.parse import unquote_to_bytes

from gfastcgi.http.response import close_body

__all__ = [
    "Answer",
    "ErrorStream",
    "FileWrapper",
    "PulledAnswer",
    "WSGIApp",
    "complete_environ",
    "fixed_environ",
]

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

_STATUS = re.compile(r"[1-5][0-9][0-9] [\t -~\xa0-\xff]*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: a CR or LF would begin a field of the client's choosing.
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
# Nearly all that is sent, and good: looked up, not matched.
_KNOWN = frozenset({
    "200 OK", "302 Found", "304 Not Modified", "404 Not Found", "Cache-Control", "Content-Encoding", "Content-Length",
    "Content-Type", "Date", "ETag", "Expires", "Last-Modified", "Location", "Server", "Set-Cookie", "Vary",
})  # fmt: skip
# PEP 3333 has these without HTTP_; HTTP_PROXY is never a proxy to be used (httpoxy, CVE-2016-5385).
_NOT_IN_ENVIRON = ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY")


_DEFAULTS = (
    ("REQUEST_METHOD", "GET"), ("QUERY_STRING", ""), ("SERVER_NAME", "localhost"), ("SERVER_PROTOCOL", "HTTP/1.0"),
)  # fmt: skip


_WRITTEN_IN_MEMORY = 65536


class Readable(Protocol):
    """What `FileWrapper` reads."""

    def read(self, size: int, /) -> bytes: ...


def fixed_environ(role: str, *, is_multiprocess: bool) -> dict[str, Any]:
    """What the environ of every request of a role holds, whatever was sent."""
    return {
        "FCGI_ROLE": role,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": is_multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }


def complete_environ(environ: dict[str, Any], fixed: Mapping[str, Any], *, is_authorizer: bool) -> None:
    """Makes an environ of the meta-variables in it, but for `wsgi.input` and `wsgi.errors`."""
    for name in _NOT_IN_ENVIRON:
        environ.pop(name, None)
    _complete_path(environ)
    if is_authorizer:
        environ.pop("CONTENT_LENGTH", None)
    is_https = environ.get("HTTPS", "").lower() in ("on", "1") or environ.get("REQUEST_SCHEME") == "https"
    for name, value in _DEFAULTS:
        if name not in environ:
            environ[name] = value
    environ.update(fixed)
    if is_https:
        environ["wsgi.url_scheme"] = "https"
    if "SERVER_PORT" not in environ:
        environ["SERVER_PORT"] = "443" if is_https else "80"


def _complete_path(environ: dict[str, Any]) -> None:
    """SCRIPT_NAME and PATH_INFO as PEP 3333 wants them; authorizers are sent neither."""
    script_name, path_info = environ.get("SCRIPT_NAME"), environ.get("PATH_INFO", "")
    if script_name is None and not path_info:
        path_info = _path_of(environ)
    script_name = script_name or ""
    if script_name == "/":
        script_name, path_info = "", path_info or "/"
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = script_name, path_info


def _path_of(environ: dict[str, Any]) -> str:
    """The path that the web server will open where it says so: REQUEST_URI is not what it decides by."""
    root, filename = environ.get("DOCUMENT_ROOT", "").rstrip("/"), environ.get("SCRIPT_FILENAME", "")
    if root and filename.startswith(root + "/"):
        return str(filename[len(root) :])
    path = environ.get("REQUEST_URI", "/").partition("?")[0]
    decoded = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    end = "/" if decoded.endswith("/") and decoded.strip("/") else ""
    return posixpath.normpath("/" + decoded.lstrip("/")) + end


class FileWrapper:
    """`wsgi.file_wrapper`: the pieces of a file, closed with the answer."""

    def __init__(self, file: Readable, size: int = 65536) -> None:
        self._file = file
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self._file.read(self._size), b"")

    def close(self) -> None:
        """Closes the file, where it can be closed."""
        close_body(self._file)


class ErrorStream:
    """`wsgi.errors`: text, sent on as bytes by whole lines."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._line = ""

    def write(self, text: str) -> int:
        """Sends all whole lines; the rest waits for its end or `flush`."""
        lines, newline, self._line = (self._line + text).rpartition("\n")
        if newline:
            self._send((lines + newline).encode("utf-8", "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """`write` for each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Sends the unfinished line."""
        line, self._line = self._line, ""
        if line:
            self._send(line.encode("utf-8", "backslashreplace"))


class _Beginning(ABC):
    """What an application says by `start_response`; where its `write` leads is for others to say."""

    __slots__ = ("_head", "is_begun")

    def __init__(self) -> None:
        self._head: bytes | None = None
        self.is_begun = False
        """True once a part of the answer has been sent: no other can take its place."""

    def start_response(
        self, status: str, fields: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's. Raises ValueError for what could not be sent safely."""
        if exc_info:
            try:
                if self.is_begun and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise AssertionError("start_response is called a second time, and without exc_info")
        self._head = _encode_head(status, fields)
        return self.write

    @abstractmethod
    def write(self, data: bytes) -> None:
        """PEP 3333's."""

    def _take_head(self) -> bytes:
        if self._head is None:
            raise AssertionError("the application has not called start_response")
        if self.is_begun:
            return b""
        self.is_begun = True
        return self._head


class Answer(_Beginning):
    """The answer to one request. `send` takes bytes of the CGI response and returns when they are on their way."""

    __slots__ = ("_has_body", "_send")

    def __init__(self, send: Callable[[bytes], None], *, has_body: bool = True) -> None:
        """`has_body` False: a HEAD, to which a script must not answer with a body (RFC 3875 section 4.3.2)."""
        super().__init__()
        self._send = send
        self._has_body = has_body

    def write(self, data: bytes) -> None:
        """Sends a piece of the body, behind the head when it is the first."""
        if data:
            head = self._take_head()
            data = head + data if self._has_body else head
            if data:
                self._send(data)

    def respond(self, application: WSGIApp, environ: dict[str, Any]) -> bytes:
        """Calls the application; returns what is still to be sent. Its errors and those of `send` come through."""
        result = application(environ, self.start_response)
        try:
            if type(result) in (list, tuple):
                body = b"".join(result)
            else:
                body = b""
                for data in result:
                    self.write(data)
        finally:
            close_body(result)
        head = self._take_head()
        return head + body if self._has_body else head


class PulledAnswer(_Beginning):
    """An answer whose body is asked for, piece by piece: iterate over it, behind `begin`, and close it.

    What `write` was given is kept until then, in a file when it is much.
    """

    __slots__ = ("_first", "_pieces", "_result", "_written", "fields", "status")

    def __init__(self) -> None:
        super().__init__()
        self.status = ""
        self.fields: list[tuple[str, str]] = []
        self._written: IO[bytes] | None = None
        self._result: Iterable[bytes] = ()
        self._pieces: Iterator[bytes] | None = None
        self._first = b""

    def start_response(
        self, status: str, fields: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's. Raises ValueError for what could not be sent safely."""
        write = super().start_response(status, fields, exc_info)
        self.status, self.fields = status, list(fields)
        return write

    def write(self, data: bytes) -> None:
        """Keeps a piece of the body. PEP 3333 has it called before the iterable is returned, not later."""
        if self._pieces is not None:
            raise AssertionError("write is called from within the iterable")
        if data:
            self._take_head()
            if self._written is None:
                self._written = tempfile.SpooledTemporaryFile(_WRITTEN_IN_MEMORY)  # noqa: SIM115 - it outlives this call
            self._written.write(data)

    def begin(self, application: WSGIApp, environ: dict[str, Any]) -> bytes | None:
        """Calls the application; its errors come through. Behind it `status` and `fields` have their last values.

        Returns the whole body where that is known; None: it is still to be asked for.
        """
        try:
            self._result = application(environ, self.start_response)
            if type(self._result) in (list, tuple) and self._written is None:
                self._take_head()
                return b"".join(self._result)
            self._pieces = iter(self._result)
            if not self.is_begun:
                # Only its first piece says that a generator has called start_response.
                self._first = next(filter(None, self._pieces), b"")
                self._take_head()
        except BaseException:
            self.close()
            raise
        return None

    def __iter__(self) -> Iterator[bytes]:
        if self._written is not None:
            self._written.seek(0)
            yield from FileWrapper(self._written)
        if self._first:
            yield self._first
        if self._pieces is not None:
            yield from self._pieces

    def close(self) -> None:
        """Closes the application's iterable."""
        if self._written is not None:
            self._written.close()
        close_body(self._result)


def _encode_head(status: str, fields: list[tuple[str, str]]) -> bytes:
    if status not in _KNOWN and not _STATUS.fullmatch(status):
        raise ValueError(f"a status is a number of three digits, a blank and a reason, not {status!r}")
    lines = [f"Status: {status}\r\n"]
    for name, value in fields:
        is_good_name = name in _KNOWN or _NAME.fullmatch(name)
        if not is_good_name or not ((value.isascii() and value.isprintable()) or _VALUE.fullmatch(value)):
            raise ValueError(f"the field {name!r}: {value!r} cannot be sent")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")
