"""The error log: one line a message, no forged lines, folding, and files that fail."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfastcgi import log


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_logger(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("gfastcgi.test", logging.DEBUG)
    logger.addHandler(handler)
    return logger


def opened(path: Path) -> log.LogFile:
    file = log.LogFile(str(path))
    file.open()
    return file


def lines_of(path: Path) -> list[str]:
    return [line.split(": ", 1)[1] for line in path.read_text().splitlines()]


def test_a_line_looks_like_lighttpd_s(tmp_path: Path) -> None:
    handler = log.ErrorLog(opened(tmp_path / "error.log"))
    make_logger(handler).info("listening on %s", "http://127.0.0.1:80")
    handler.close()
    text = (tmp_path / "error.log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: listening on http://127\.0\.0\.1:80\n", text)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", "plain"),
        ("a\nb", "a\\x0Ab"),
        ("\x1b[31m\x00\x7f\r", "\\x1B[31m\\x00\\x7F\\x0D"),
        ("caf\u00e9 \u65e5\u672c", "caf\u00e9 \u65e5\u672c"),
        ("\x85\u2028\u202e", "\\x85\\u2028\\u202E"),
        (os.fsdecode(b"/\xff"), "/\\xFF"),
        ("\ud800", "\\uD800"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert log.escape(text) == escaped


@given(st.text(st.characters()))
def test_escaped_text_is_one_line_of_utf_8(text: str) -> None:
    escaped = log.escape(text)
    assert len(escaped.splitlines()) <= 1
    assert escaped.encode().decode() == escaped


def test_a_line_of_a_list_is_never_folded(tmp_path: Path, clock: Clock) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"), clock=clock)
    for _ in range(3):
        make_logger(handler).info("proc: 127.0.0.1 1031  1 1 1 31454", extra=log.VERBATIM)
    handler.close()
    assert lines_of(tmp_path / "log") == ["proc: 127.0.0.1 1031  1 1 1 31454"] * 3


def test_a_client_cannot_forge_a_line(tmp_path: Path) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"))
    make_logger(handler).error("bad request path=%s", "/\n2026-11-23 05:00:00: server stopped")
    handler.close()
    assert lines_of(tmp_path / "log") == ["bad request path=/\\x0A2026-11-23 05:00:00: server stopped"]


def test_a_traceback_keeps_its_lines(tmp_path: Path) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"))
    try:
        raise ValueError("two\x1blines")
    except ValueError:
        make_logger(handler).exception("failed")
    handler.close()
    lines = lines_of(tmp_path / "log")
    assert lines[0] == "failed"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: two\\x1Blines"


def test_a_long_line_is_cut_and_says_so(tmp_path: Path) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"))
    make_logger(handler).info("x" * (log.MAX_LINE + 5))
    handler.close()
    assert lines_of(tmp_path / "log") == ["x" * log.MAX_LINE + "... (5 characters more)"]


def test_a_repeated_line_folds(tmp_path: Path, clock: Clock) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"), clock=clock)
    logger = make_logger(handler)
    for _ in range(1000):
        logger.error("all handlers for %s are down", ".php")
        logger.info("another")
    clock.now = log.FOLD_SECONDS
    logger.error("all handlers for %s are down", ".php")
    handler.close()
    assert lines_of(tmp_path / "log") == [
        "all handlers for .php are down",
        "another",
        "all handlers for .php are down ... repeated 999 times",
        "another ... repeated 999 times",
        "all handlers for .php are down",
    ]


def test_a_flood_of_one_kind_folds_and_other_kinds_pass(tmp_path: Path, clock: Clock) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"), clock=clock)
    logger = make_logger(handler)
    for number in range(log.BURST + 7):
        logger.warning("client %d reset", number)
    logger.error("other")
    handler.close()
    lines = lines_of(tmp_path / "log")
    assert lines[: log.BURST] == [f"client {number} reset" for number in range(log.BURST)]
    assert lines[log.BURST :] == ["other", f"client {log.BURST + 6} reset ... and 7 more of this kind"]


def test_arguments_that_do_not_fit_are_still_logged(tmp_path: Path) -> None:
    handler = log.ErrorLog(opened(tmp_path / "log"))
    make_logger(handler).info("%d", "x")
    handler.close()
    assert lines_of(tmp_path / "log") == ["%d ('x',)"]


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    handler = log.ErrorLog(opened(path))
    logger = make_logger(handler)
    logger.info("old")
    path.rename(rotated)
    logger.info("still old")
    handler.reopen()
    logger.info("new")
    handler.close()
    assert lines_of(rotated) == ["old", "still old"]
    assert lines_of(path) == ["new"]


def test_reopen_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    file = opened(directory / "log")
    directory.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        file.reopen()
    assert file.write(b"kept\n")
    file.close()
    assert (tmp_path / "moved" / "log").read_bytes() == b"kept\n"


def test_a_file_is_made_when_it_is_opened(tmp_path: Path) -> None:
    file = log.LogFile(str(tmp_path / "log"))
    file.reopen()
    assert not (tmp_path / "log").exists()
    assert file.write(b"too early\n") is False
    file.open()
    assert file.write(b"now\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"now\n"
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "none" / "log")


def test_a_full_disk_loses_lines_and_counts_them(tmp_path: Path) -> None:
    file = opened(Path("/dev/full"))
    handler = log.ErrorLog(file)
    logger = make_logger(handler)
    logger.info("lost %d", 1)
    logger.info("lost %d", 2)
    file.close()
    handler.file = opened(tmp_path / "log")
    logger.info("written")
    handler.close()
    assert lines_of(tmp_path / "log") == ["written", "2 lines of this log could not be written"]


def test_a_broken_pipe_is_survived() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert log.LogFile(fd=writer).write(b"line\n") is False
    os.close(writer)


def test_a_reader_that_stalls_does_not_block_and_gets_no_torn_line() -> None:
    reader, writer = os.pipe()
    file = log.LogFile(fd=writer)
    line = b"x" * 999 + b"\n"
    written = 0
    while file.write(line):
        written += 1
    assert written > 0
    for _ in range(3):
        os.read(reader, 4096)
    assert file.write(b"after the stall\n")
    os.close(writer)
    with os.fdopen(reader, "rb") as rest:
        lines = rest.read().splitlines()
    assert lines[-1] == b"after the stall"


def test_setup_replaces_an_earlier_setup(tmp_path: Path) -> None:
    logger = logging.getLogger("gfastcgi")
    before = list(logger.handlers), logger.level, logger.propagate
    try:
        log.setup(str(tmp_path / "one"))
        handler = log.setup(str(tmp_path / "two"))
        logger.info("hello")
        handler.close()
        assert [each for each in logger.handlers if isinstance(each, log.ErrorLog)] == [handler]
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert (tmp_path / "one").read_text() == ""
    assert lines_of(tmp_path / "two") == ["hello"]


def test_colour_is_only_for_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    handler = log.ErrorLog(opened(path), is_coloured=True)
    make_logger(handler).error("red\x1b[32m")
    handler.close()
    assert path.read_text().endswith(": \x1b[31mred\\x1B[32m\x1b[0m\n")
    leader, follower = os.openpty()
    assert log.LogFile(fd=follower).is_terminal
    assert not opened(path).is_terminal
    os.close(leader)
    os.close(follower)
