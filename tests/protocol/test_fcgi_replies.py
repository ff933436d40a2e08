"""Replies of good, broken and hostile backends to request 1, judged without a socket: records first, then the head.

Each case of data/fcgi/replies.json says its `outcome` here, and the `status` that a gateway may answer with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gfastcgi.cgi.response import Head, parse_head
from gfastcgi.errors import BadCGIResponse, BadRecord
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import EndRequest, Stdout, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterable

CASES = json.loads((Path(__file__).parents[1] / "data/fcgi/replies.json").read_text())

# What a gateway answers when the backend says no more than this.
STATUS_OF = {
    "BadRecord": 502,
    "BadCGIResponse": 502,
    "no head": 502,
    "unasked interim head": 502,
    "overloaded": 503,
    "protocol status 255": 502,
}


def bytes_of(case: dict[str, Any]) -> bytes:
    pieces = case.get("pieces") or [[case["bytes"], 1]]
    return b"".join(text.encode("latin-1") * times for text, times in pieces)


class Judge:
    """Reads a reply as the gateway's client does."""

    def __init__(self) -> None:
        self.core = WebServer()
        self.core.begin_request(1, constants.RESPONDER, b"", keep_conn=True, stdin=b"")
        self.buffer = b""
        self.head: Head | None = None
        self.end: EndRequest | None = None

    def outcome(self, chunks: Iterable[bytes], *, ends: bool) -> str:
        try:
            for chunk in chunks:
                for event in self.core.receive_data(chunk):
                    if isinstance(event, EndRequest):
                        self.end = event
                    elif isinstance(event, Stdout):
                        self.buffer += event.data
                        if self.head is None and (head := parse_head(self.buffer)) is not None:
                            self.head = head
                            self.buffer = self.buffer[head.body_start :]
            if ends and self.end is None:
                self.core.receive_eof()
        except (BadRecord, BadCGIResponse) as error:
            return type(error).__name__
        return self._outcome()

    def _outcome(self) -> str:
        if self.end is not None and self.end.protocol_status:
            if self.end.protocol_status == constants.OVERLOADED:
                return "overloaded"
            return f"protocol status {self.end.protocol_status}"
        if self.head is None:
            return "no head"
        if self.head.status < 200:
            return "unasked interim head"
        return f"{self.head.status} {'complete' if self.is_whole else 'truncated'}"

    @property
    def is_whole(self) -> bool:
        length = self.head.content_length if self.head else None
        return self.end is not None and (length is None or len(self.buffer) >= length)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_whole(case: dict[str, Any]) -> None:
    judge = Judge()
    data = bytes_of(case)
    outcome = judge.outcome([data], ends=case["then"] != "hang")
    assert outcome == case["outcome"]
    if case["then"] != "hang":
        status = STATUS_OF.get(outcome) or int(outcome.split()[0])
        assert status in case["expected"]["status"]
    if case["expected"].get("must_truncate"):
        assert not judge.is_whole
    for text in case["expected"].get("body_must", []):
        assert text.encode() in judge.buffer
    if judge.head is not None:
        head = "\n".join(f"{name}: {value}" for name, value in judge.head.fields)
        assert not any(character < " " and character != "\n" for character in head)


@pytest.mark.parametrize("size", [1, 7, 8, 65536])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_split(case: dict[str, Any], size: int) -> None:
    data = bytes_of(case)
    if len(data) > 100_000:
        size = max(size, 4093)
    assert Judge().outcome(split(data, size), ends=case["then"] != "hang") == case["outcome"]


def test_the_catalogue_is_whole() -> None:
    assert len(CASES) == 62


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["outcome"].endswith("complete")], ids=lambda c: c["name"]
)
def test_bytes_behind_the_end_change_nothing_and_spoil_the_connection(case: dict[str, Any]) -> None:
    judge = Judge()
    assert judge.outcome([bytes_of(case), b"\x00garbage"], ends=True) == case["outcome"]
    assert not judge.core.is_idle
