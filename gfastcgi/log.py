"""Log files, and the error log: lighttpd-like lines through the standard library's logger "gfastcgi".

Contract: nothing that a client or a backend says can add or forge a line; a line that repeats is folded; a full
disk, a broken pipe or a reader that stalls loses lines, which are counted, and never stops or holds up serving.
"""

from __future__ import annotations

import logging
import os
import re
import select
import stat
import time
import traceback
from collections.abc import Callable

from gevent import monkey

__all__ = ["VERBATIM", "ErrorLog", "LogFile", "escape", "setup"]

MAX_LINE = 16384
"""Characters of one line of the error log; the rest is cut and counted."""

BURST = 100
"""Lines that one kind of message may write within `FOLD_SECONDS`; the rest is folded into a count."""

FOLD_SECONDS = 1.0

VERBATIM = {"is_verbatim": True}
"""`extra` of a line that is never folded: one of a list that would not be whole without it."""

_PIPE_PIECE = 4096
"""Bytes that a pipe or socket which polls writable takes without blocking (PIPE_BUF, pipe(7))."""

_COLOURS = {logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m", logging.WARNING: "\x1b[33m"}

# gevent's poll would switch greenlets inside a log call, which may run in the hub.
_poll = monkey.get_original("select", "poll") if monkey.is_module_patched("select") else select.poll

_CONTROL = re.compile(r"[^ -~\xa0-\ud7ff\uf900-\U0010ffff]|[\u2028-\u202e\u2066-\u2069\ufeff]")


def escape(text: str) -> str:
    """`text` on one line: controls, line separators, direction marks and stray bytes become `\\xHH` or `\\uHHHH`."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape_character, text)


def _escape_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (surrogateescape)
        code -= 0xDC00
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}"


class LogFile:
    """An append-only file, or the inherited descriptor `fd` when `filename` is empty. Opened by `open`."""

    def __init__(self, filename: str = "", fd: int = 2) -> None:
        self.filename = filename
        self._is_torn = False
        self._can_block = False
        self.fd = -1
        if not filename:
            self._use(fd)

    def __repr__(self) -> str:
        return f"<LogFile {self.filename or f'fd {self.fd}'}>"

    def open(self) -> None:
        """Open the file; again: nothing happens. Raises OSError when it cannot be opened."""
        if self.fd < 0:
            self._use(self._open())

    def _open(self) -> int:
        return os.open(self.filename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o644)

    def _use(self, fd: int) -> None:
        self.fd = fd
        try:
            self._can_block = not stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:  # a closed stderr: every write fails, and is counted
            self._can_block = False

    @property
    def is_terminal(self) -> bool:
        return os.isatty(self.fd)

    def write(self, data: bytes) -> bool:
        """Write whole lines, now. False: they, or their end, are lost."""
        if self._is_torn:
            data = b"\n" + data
        try:
            written = self._write_ready(data) if self._can_block else os.write(self.fd, data)
        except OSError:
            return False
        if written:
            self._is_torn = not data[:written].endswith(b"\n")
        return written == len(data)

    def _write_ready(self, data: bytes) -> int:
        poll = _poll()
        poll.register(self.fd, select.POLLOUT)
        written = 0
        while written < len(data) and poll.poll(0):
            written += os.write(self.fd, data[written : written + _PIPE_PIECE])
        return written

    def reopen(self) -> None:
        """Go on in a new file of the same name. Raises OSError, and keeps the old one, when it fails."""
        if not self.filename or self.fd < 0:
            return
        old, fd = self.fd, self._open()
        self._use(fd)
        self._is_torn = False
        os.close(old)

    def close(self) -> None:
        if self.filename and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Fold:
    """What one kind of message (one template) has written in its window of `FOLD_SECONDS`."""

    __slots__ = ("folded", "last", "seen", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.last = ""
        self.seen: set[str] = set()
        self.folded = 0

    def summary(self) -> str:
        if len(self.seen) == 1:
            return f"{self.last} ... repeated {self.folded} times"
        return f"{self.last} ... and {self.folded} more of this kind"


class ErrorLog(logging.Handler):
    """Writes `2026-11-23 05:00:00: message`; messages of one template fold when they repeat or come in floods."""

    def __init__(
        self, file: LogFile, *, is_coloured: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.file = file
        self.lost = 0
        self._is_coloured = is_coloured
        self._clock = clock
        self._folds: dict[str, _Fold] = {}
        self._second = 0
        self._stamp = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`. Raises nothing."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = f"{record.msg} {record.args!r}"
        now = self._clock()
        self._unfold(now)
        if not getattr(record, "is_verbatim", False) and self._is_folded(str(record.msg), text, now):
            return
        lines = [text]
        if record.exc_info and record.exc_info[0] is not None:
            lines += "".join(traceback.format_exception(*record.exc_info)).splitlines()
        self._write_lines(lines, record.created, record.levelno)

    def _is_folded(self, template: str, text: str, now: float) -> bool:
        fold = self._folds.get(template)
        if fold is None:
            fold = self._folds[template] = _Fold(now)
        fold.last = text
        if text in fold.seen or len(fold.seen) >= BURST:
            fold.folded += 1
            return True
        fold.seen.add(text)
        return False

    def _unfold(self, now: float) -> None:
        # Windows stand in the order of their start: the first that still runs ends the search.
        while self._folds:
            template, fold = next(iter(self._folds.items()))
            if now - fold.since < FOLD_SECONDS:
                return
            del self._folds[template]
            if fold.folded:
                self._write_lines([fold.summary()], time.time(), logging.INFO)

    def _write_lines(self, lines: list[str], created: float, level: int) -> None:
        if int(created) != self._second:
            self._second = int(created)
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S: ", time.localtime(created))
        colour = _COLOURS.get(level) if self._is_coloured else None
        text = "".join(self._line(line, colour) for line in lines)
        if not self.file.write(text.encode()):
            self.lost += len(lines)
        elif self.lost:
            lost, self.lost = self.lost, 0
            self.file.write(self._line(f"{lost} lines of this log could not be written", None).encode())

    def _line(self, text: str, colour: str | None) -> str:
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]}... ({len(text) - MAX_LINE} characters more)"
        text = escape(text)
        return f"{self._stamp}{colour}{text}\x1b[0m\n" if colour else f"{self._stamp}{text}\n"

    def flush(self) -> None:
        """Write the counts of what is folded at this moment."""
        self._unfold(float("inf"))

    def reopen(self) -> None:
        """Go on in a new file of the same name. Raises OSError, and keeps the old one, when it fails."""
        self.flush()
        self.file.reopen()

    def close(self) -> None:
        self.flush()
        self.file.close()
        super().close()


def setup(filename: str = "", *, level: int = logging.INFO) -> ErrorLog:
    """Send the logger "gfastcgi" to `filename` (`server.errorlog`), or to stderr when it is empty; again: elsewhere.

    Lines are coloured on a terminal, unless NO_COLOR is set. Raises OSError when the file cannot be opened.
    """
    file = LogFile(filename)
    file.open()
    logger = logging.getLogger("gfastcgi")
    handler = ErrorLog(file, is_coloured=file.is_terminal and not os.environ.get("NO_COLOR"))
    for old in [handler for handler in logger.handlers if isinstance(handler, ErrorLog)]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return handler
