"""Request bodies: counted as they come, spooled where they are small or large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gfastcgi.errors import ContentTooLarge, StreamClosed
from gfastcgi.server.body import EMPTY, LARGEST, MEMORY, ClientBody, Room, SpooledBody, spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def body_of(*pieces: bytes, length: int | None = None, limit: int = 0) -> ClientBody:
    left = iter([*pieces, b""])
    body = ClientBody(length, lambda: next(left))
    body.limit = limit
    return body


def test_read_to_its_end_and_no_further() -> None:
    body = body_of(b"ab", b"c")
    assert [body.read(), body.read(), body.read(), body.read()] == [b"ab", b"c", b"", b""]
    assert (body.received, body.is_read) == (3, True)


def test_without_a_body_nobody_is_asked() -> None:
    body = ClientBody(0, lambda: pytest.fail("asked"))
    assert (body.is_read, body.read()) == (True, b"")


def test_a_declared_length_past_the_limit_is_refused_unread() -> None:
    body = ClientBody(11, lambda: pytest.fail("asked"))
    body.limit = 10
    with pytest.raises(ContentTooLarge, match="11 bytes is larger than 10"):
        body.read()


def is_in_memory(body: SpooledBody) -> bool:
    return repr(body).endswith(" in memory>")


def test_chunks_past_the_limit_are_refused() -> None:
    body = body_of(b"x" * 10, b"x", limit=10)
    assert body.read() == b"x" * 10
    with pytest.raises(ContentTooLarge):
        body.read()


@pytest.mark.parametrize("size", [0, 1, MEMORY, MEMORY + 1, 5 * MEMORY + 7])
def test_spooled(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    spooled = spool((content[at : at + 1000] for at in range(0, size, 1000)), str(tmp_path))
    assert (spooled.length, is_in_memory(spooled)) == (size, size <= MEMORY)
    for _ in range(2):
        assert b"".join(spooled) == content
        assert spooled.read() == b""
        spooled.rewind()
    assert not list(tmp_path.iterdir())  # the file has no name
    spooled.close()


def pieces_of(size: int, piece: int = 1000) -> Iterator[bytes]:
    return (b"%08d" % at + b"x" * (min(piece, size - at) - 8) for at in range(0, size, piece))


@pytest.mark.parametrize("length", [5 * MEMORY, None])
def test_larger_ones_stay_in_memory_while_there_is_room(tmp_path: Path, length: int | None) -> None:
    room = Room(LARGEST)
    folder = str(tmp_path / "none")
    spooled = spool(pieces_of(5 * MEMORY), folder, room=room, length=length)
    assert (spooled.length, is_in_memory(spooled)) == (5 * MEMORY, True)
    assert repr(spooled) == f"<SpooledBody {5 * MEMORY} bytes in memory>"
    assert LARGEST - 5 * MEMORY - 64000 < room.left < LARGEST - 4 * MEMORY
    for _ in range(2):
        assert b"".join(spooled) == b"".join(pieces_of(5 * MEMORY))
        spooled.rewind()
    for _ in range(2):
        spooled.close()
        assert repr(room) == f"<Room for {LARGEST} of {LARGEST} bytes>"


@pytest.mark.parametrize(
    ("size", "length", "left"),
    [(5 * MEMORY, None, 2 * MEMORY), (LARGEST + 8, None, 9 * LARGEST), (5 * MEMORY, LARGEST + 1, 9 * LARGEST)],
    ids=["no room", "too large", "said to be too large"],
)
def test_others_go_to_a_file(tmp_path: Path, size: int, length: int | None, left: int) -> None:
    room = Room(left)
    spooled = spool(pieces_of(size), str(tmp_path), room=room, length=length)
    assert (is_in_memory(spooled), spooled.length, room.left) == (False, size, left)
    assert b"".join(spooled) == b"".join(pieces_of(size))
    spooled.close()
    assert room.left == left


def test_small_pieces_take_more_room_than_they_say(tmp_path: Path) -> None:
    room = Room(LARGEST)
    spooled = spool(iter([b"x"] * (2 * MEMORY)), str(tmp_path), room=room)
    assert (is_in_memory(spooled), spooled.length, room.left) == (False, 2 * MEMORY, LARGEST)
    spooled.close()


@pytest.mark.parametrize("error", [StreamClosed("the client left"), ContentTooLarge("too large")])
def test_a_body_that_breaks_off_leaves_the_room(error: Exception) -> None:
    room = Room(LARGEST)

    def pieces() -> Iterator[bytes]:
        yield from pieces_of(3 * MEMORY)
        raise error

    with pytest.raises(type(error)):
        spool(pieces(), room=room)
    assert room.left == LARGEST


def test_small_bodies_take_no_room() -> None:
    room = Room(LARGEST)
    spooled = spool(pieces_of(MEMORY), room=room)
    assert (room.left, spooled.data) == (LARGEST, b"".join(pieces_of(MEMORY)))


def test_a_body_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * (MEMORY + 1)
        raise StreamClosed("the client left")

    with pytest.raises(StreamClosed):
        spool(pieces(), str(tmp_path))


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        spool(iter([b"x" * (MEMORY + 1)]), str(tmp_path / "none"))


def test_empty_is_shared_and_stays_empty() -> None:
    for _ in range(2):
        assert (EMPTY.length, EMPTY.read()) == (0, b"")
        EMPTY.close()
