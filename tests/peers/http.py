"""HTTP/1 by hand: sends any bytes, reads whole answers strictly, and says whether one was cut short.

A reader of the tests' own: the gateway's parser is never its own judge.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")


class BadAnswerError(AssertionError):
    """The server sent what RFC 9112 does not allow."""


@dataclass
class Answer:
    """One answer. `whole` is False when the connection ended before its body did."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = True
    head: bytes = b""
    interim: list[int] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The value of a field; AssertionError when it stands there twice."""
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times: {values}"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One client connection: TCP by (host, port), unix by path."""

    def __init__(self, address: str | tuple[str, int], timeout: float = 15.0) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.at_end = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(
        self, method: str, target: str, body: bytes | None = None, *, version: str = "1.1", **fields: str
    ) -> Answer:
        """Sends a request and reads its answer; in the names of `fields` stands `_` for `-`."""
        self.send(encode_request(method, target, body, version=version, **fields))
        return self.read_answer(method)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def _receive(self) -> bool:
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            data = b""
        self.at_end = self.at_end or not data
        self.buffer += data
        return bool(data)

    def _take_line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self._receive():
                raise EOFError
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        if b"\n" in line or b"\r" in line:
            raise BadAnswerError(f"a bare CR or LF in {line!r}")
        return line

    def _take_fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self._take_line():
            match = FIELD.fullmatch(line)
            if match is None:
                raise BadAnswerError(f"no field line: {line!r}")
            fields.append((match[1].decode("ascii"), match[2].decode("latin-1").rstrip(" \t")))
        return fields

    def _take(self, size: int, into: list[bytes]) -> bool:
        """Moves `size` bytes; False when the connection ended before."""
        while size:
            if not self.buffer and not self._receive():
                return False
            piece, self.buffer = self.buffer[:size], self.buffer[size:]
            into.append(piece)
            size -= len(piece)
        return True

    def read_head(self) -> Answer | None:
        """The next head; None when the connection ended without one byte of it."""
        try:
            line = self._take_line()
        except EOFError:
            if self.buffer:
                raise BadAnswerError(f"half a status line: {self.buffer!r}") from None
            return None
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise BadAnswerError(f"no status line: {line!r}")
        try:
            fields = self._take_fields()
        except EOFError:
            raise BadAnswerError(f"half a head after {line!r}") from None
        head = b"".join([line, b"\n", *(f"{name}: {value}\n".encode("latin-1") for name, value in fields)])
        return Answer(int(match[1]), match[2].decode("latin-1"), fields, head=head)

    def read_answer(self, method: str = "GET") -> Answer:
        """The next final answer with its body; the 1xx before it are in `interim`."""
        answer = self.try_answer(method)
        assert answer is not None, "the connection ended without an answer"
        return answer

    def try_answer(self, method: str = "GET") -> Answer | None:
        """As `read_answer`; None when the connection ended instead."""
        interim = []
        while (answer := self.read_head()) is not None and 100 <= answer.status < 200 and answer.status != 101:
            interim.append(answer.status)
        if answer is not None:
            answer.interim = interim
            self._read_body(answer, method)
        return answer

    def _read_body(self, answer: Answer, method: str) -> None:
        codings, length = answer.get("Transfer-Encoding"), answer.get("Content-Length")
        if answer.status in (101, 204, 304) or method == "HEAD":
            return
        pieces: list[bytes] = []
        if codings is not None:
            if codings != "chunked" or length is not None:
                raise BadAnswerError(f"Transfer-Encoding {codings!r}, Content-Length {length!r}")
            answer.whole = self._read_chunks(pieces, answer)
        elif length is not None:
            if not re.fullmatch("[0-9]+", length):
                raise BadAnswerError(f"Content-Length {length!r}")
            answer.whole = self._take(int(length), pieces)
        else:
            if answer.get("Connection") != "close":
                raise BadAnswerError("a body until the end of the connection, without Connection: close")
            while self.buffer or self._receive():
                pieces.append(self.buffer)
                self.buffer = b""
        answer.body = b"".join(pieces)

    def _read_chunks(self, into: list[bytes], answer: Answer) -> bool:
        try:
            while True:
                line = self._take_line()
                if not re.fullmatch(b"[0-9A-Fa-f]+", line):
                    raise BadAnswerError(f"no chunk size: {line!r}")
                if not (size := int(line, 16)):
                    answer.trailers = self._take_fields()
                    return True
                if not self._take(size, into):
                    return False
                if self._take_line():
                    raise BadAnswerError("no CRLF after a chunk")
        except EOFError:
            return False

    def is_closed(self) -> bool:
        """Waits for the server to close: True when nothing came before its end (AssertionError on more bytes)."""
        assert not self.buffer, f"more bytes came: {self.buffer[:200]!r}"
        try:
            data = self.sock.recv(1)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        assert not data, f"more bytes came: {data!r}"
        return True


def encode_request(
    method: str, target: str, body: bytes | None = None, *, version: str = "1.1", **fields: str
) -> bytes:
    """The bytes of a request; Content-Length is added for a body."""
    names = {name.replace("_", "-"): value for name, value in fields.items()}
    if version == "1.1" and "host" not in {name.lower() for name in names}:
        names = {"Host": "localhost", **names}
    if body is not None and "transfer-encoding" not in {name.lower() for name in names}:
        names["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in names.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")
