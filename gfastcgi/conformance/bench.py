"""The bench: a folder, a configuration with a door for each row, the gateway under test, and its judge.

Contract: nothing but the private file's own bytes, or the responder's, counts as let through; they are looked for in
all that the gateway sent. All rows stand in one configuration, each with sockets of its own, so none disturbs another.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from gfastcgi.conformance import wire
from gfastcgi.conformance.conversation import Asked
from gfastcgi.conformance.peer import Peer
from gfastcgi.conformance.rows import OTHER, ROWS, SECRET, Reply, Row, Step

__all__ = ["BUILT_IN", "DOORS", "Bench", "GatewayError", "Result", "fault_of_answer"]

DOORS: Final = ("file", "docroot", "responder")
"""What the authorizer guards: a file of the document root, one of its own "docroot", a responder."""

BUILT_IN: Final = f"{shlex.quote(sys.executable)} -m gfastcgi -D -f {{config}}"
"""The gateway that is tested when no other is named."""

_START_SECONDS = 20.0
_ANSWER_SECONDS = 15.0
_AT_ONCE = 8
_OPEN = "LET THROUGH"


class GatewayError(Exception):
    """The gateway under test did not start, or ended."""


class Result(NamedTuple):
    """What came of a row at a door. `is_open`: somebody was let through who should not have been."""

    row: Row
    door: str
    got: str
    fault: str
    """What is wrong with it; "": nothing."""
    is_open: bool


class Bench:
    """A context: inside it the gateway runs. `command` has `{config}`, and may have `{port}`, for what they are."""

    def __init__(self, command: str = BUILT_IN, rows: Sequence[Row] = ROWS) -> None:
        self.command = command
        self.rows = rows
        self._folder = tempfile.TemporaryDirectory(prefix="gate")
        self._root = Path(self._folder.name)
        self._port = _free_port()
        self._authorizer = Peer(self._decide, answers_at="params")
        self._responder = Peer(self._respond, answers_at="params")
        self._steps: dict[str, int] = {}
        self._asked: dict[str, list[Asked]] = {}
        self._responded: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Bench of {len(self.rows)} rows for {self.command!r}>"

    # The gateway's life

    def __enter__(self) -> Bench:
        try:
            self._build()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What the gateway wrote to its standard output and error, and to `server.errorlog`."""
        files = (self._root / name for name in ("output.log", "error.log"))
        return "".join(file.read_text("utf-8", "backslashreplace") for file in files if file.exists())

    def _build(self) -> None:
        for path in ("www/other.txt", *(f"www/file/{row.name}/x.txt" for row in self.rows),
                     *(f"private/docroot/{row.name}/x.txt" for row in self.rows)):  # fmt: skip
            file = self._root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(OTHER if path.endswith("other.txt") else SECRET)
        standing = [row for row in self.rows if not row.is_down]
        self._authorizer.listen(*(path for row in standing for door in DOORS for path in self._sockets(row, door)))
        self._responder.listen(str(self._root / "app"))
        (self._root / "site.conf").write_text(self._config())

    def _sockets(self, row: Row, door: str) -> list[str]:
        number = self.rows.index(row) * len(DOORS) + DOORS.index(door)
        return [str(self._root / f"{number}-{proc}") for proc in range(row.procs)]

    def _config(self) -> str:
        root = self._root
        lines = [
            f'server.document-root = "{root}/www"',
            'server.bind = "127.0.0.1"',
            f"server.port = {self._port}",
            f'server.errorlog = "{root}/error.log"',
            'server.modules = ( "mod_fastcgi" )',
            'mimetype.assign = ( ".txt" => "text/plain" )',
            'var.gate = ( "mode" => "authorizer", "check-local" => "disable", "read-timeout" => 1,',
            '             "disable-time" => 1, "max-connections" => 4 )',
            f'var.app = ( "socket" => "{root}/app", "check-local" => "disable" )',
            f'var.private = ( "docroot" => "{root}/private" )',
            "fastcgi.server = (",
        ]
        extra = {"file": "", "docroot": " + private", "responder": ""}
        for row in self.rows:
            for door in DOORS:
                hosts = [f'( "socket" => "{path}" ) + gate{extra[door]}' for path in self._sockets(row, door)]
                hosts += ["app"] if door == "responder" else []
                lines.append(f'  "/{door}/{row.name}/" => ( {", ".join(hosts)} ),')
        return "\n".join([*lines, ")", ""])

    def _start(self) -> None:
        words = [word.format(config=self._root / "site.conf", port=self._port) for word in shlex.split(self.command)]
        with open(self._root / "output.log", "wb") as output:
            try:
                self._process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                raise GatewayError(f"{words[0]} cannot be started: {error.strerror}") from error
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(self._port):
            if self._process.poll() is not None:
                raise GatewayError(f"the gateway ended with {self._process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                raise GatewayError(f"the gateway does not listen on port {self._port}:\n{self.log}")
            time.sleep(0.02)

    def close(self) -> None:
        """Ends the gateway and removes everything."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for peer in (self._authorizer, self._responder):
            peer.stop()
        self._folder.cleanup()

    # What the peers answer

    def _decide(self, asked: Asked) -> Reply:
        number, proc = Path(str(asked.address)).name.split("-")
        row, door = self.rows[int(number) // len(DOORS)], DOORS[int(number) % len(DOORS)]
        key = f"/{door}/{row.name}/"
        with self._lock:
            self._asked.setdefault(key, []).append(asked)
        return row.steps[self._steps.get(key, 0)].replies[int(proc)]

    def _respond(self, asked: Asked) -> Reply:
        with self._lock:
            self._responded[(asked.text("REQUEST_URI") or "").partition("x.txt")[0]] += 1
        return Reply(wire.answer(f"Status: 200\r\nContent-Type: text/plain\r\n\r\n{SECRET}"))

    # Judging

    def run(self, doors: Iterable[str] = DOORS, progress: Callable[[Result], None] | None = None) -> list[Result]:
        """Every row at each of `doors`, in the order of the table; `progress` hears of each as it comes."""

        def judge(row: Row, door: str) -> Result:
            result = self.judge(row, door)
            if progress is not None:
                progress(result)
            return result

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = [pool.submit(judge, row, door) for row in self.rows for door in doors]
            return [future.result() for future in futures]

    def judge(self, row: Row, door: str) -> Result:
        """Asks for what is behind `door` as often as the row has steps."""
        key, got = f"/{door}/{row.name}/", ""
        for number, step in enumerate(row.steps):
            self._steps[key] = number
            asked, responded = len(self._asked.get(key, [])), self._responded[key]
            raw = _ask(self._port, step, key + "x.txt")
            is_called = self._responded[key] > responded
            got = f"{'allowed' if is_called or SECRET.encode() in raw else 'denied'}: {_read(raw)[0] or 'no answer'}"
            fault = fault_of_answer(step, raw, is_called=is_called)
            fault = fault or _fault_of_questions(step, self._asked.get(key, [])[asked:])
            if fault:
                where = f" (request {number + 1} of {len(row.steps)})" if len(row.steps) > 1 else ""
                return Result(row, door, got, fault + where, fault == _OPEN)
        return Result(row, door, got, "", False)


def fault_of_answer(step: Step, raw: bytes, *, is_called: bool) -> str:
    """What is wrong with all that a gateway sent, "": nothing. `is_called`: the responder behind the gate was asked."""
    status, fields, body = _read(raw)
    if step.status == 200:
        if status != 200 or body != SECRET:
            return "the private file was to be served"
    elif is_called or SECRET.encode() in raw:
        return _OPEN
    elif status != step.status:
        return f"the status was to be {step.status}"
    elif step.body and body != step.body:
        return f"the body was to be {step.body!r}"
    text = raw.decode("latin-1").lower()
    for word in step.absent:
        if word.lower() in text:
            return f"{word!r} stands in the answer"
    for name, value in set(step.fields):
        if step.fields.count((name, value)) != sum((key, text) == (name.lower(), value) for key, text in fields):
            return f"{name}: {value} is missing"
    return ""


def _fault_of_questions(step: Step, questions: list[Asked]) -> str:
    if step.most_asked and len(questions) > step.most_asked:
        return f"{len(questions)} processes were asked, {step.most_asked} may be"
    for asked in questions:
        if asked.role != wire.AUTHORIZER:
            return f"asked in the role {asked.role}"
        for name in asked.params:
            if step.not_asked_with and name.startswith(step.not_asked_with):
                return f"the authorizer was sent {name}"
    return ""


def _ask(port: int, step: Step, target: str) -> bytes:
    """All that the gateway sends for one request of one connection."""
    fields = {"Host": "localhost", "Connection": "close", **step.sends}
    lines = [f"{step.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    raw = b""
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as sock:
        try:
            sock.sendall("\r\n".join(lines).encode())
            while data := sock.recv(65536):
                raw += data
        except OSError:
            pass  # what came until now is judged
    return raw


def _read(raw: bytes) -> tuple[int, list[tuple[str, str]], str]:
    """Status (0: none), fields (names in lower case) and body; chunks are put together."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    if ("transfer-encoding", "chunked") in fields:
        body = _joined(body)
    return status, fields, body.decode("latin-1")


def _joined(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        count = int(size or b"0", 16)
        body, chunks = body + rest[:count], rest[count + 2 :] if count else b""
    return body


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
