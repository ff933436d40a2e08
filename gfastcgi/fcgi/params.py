"""Name-value pairs: the content of PARAMS, GET_VALUES and GET_VALUES_RESULT (FastCGI 1.0 section 3.4).

  0                                 127 | 128                                 2^31 - 1
+-------------------------------------+ | +---+---------+---------+---------+---------+
| 0 | length                          | | | 1 |  length, 31 bits, most significant first |
+-------------------------------------+ | +---+---------+---------+---------+---------+
pair := name length, value length, name, value
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from gfastcgi.errors import BadRecord, LocalProtocolError

__all__ = ["decode_pairs", "decode_text", "encode_pair", "encode_pairs"]

_LONG = Struct("!I")
_LONG_BIT = 0x80000000
_SHORT = tuple(bytes((length,)) for length in range(128))


def encode_pair(name: bytes, value: bytes) -> bytes:
    """One pair. Raises `LocalProtocolError` for 2^31 bytes or more."""
    try:
        return _SHORT[len(name)] + _SHORT[len(value)] + name + value
    except IndexError:
        return _length(name) + _length(value) + name + value


def _length(data: bytes) -> bytes:
    length = len(data)
    if length < 128:
        return _SHORT[length]
    if length >= _LONG_BIT:
        raise LocalProtocolError(f"a name or value has at most {_LONG_BIT - 1} bytes, not {length}")
    return _LONG.pack(length | _LONG_BIT)


def encode_pairs(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """All the pairs, one behind the other."""
    short = _SHORT
    pieces: list[bytes] = []
    for name, value in pairs:
        try:
            pieces += (short[len(name)], short[len(value)], name, value)
        except IndexError:
            pieces.append(encode_pair(name, value))
    return b"".join(pieces)


def decode_pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """The pairs of a whole stream or record.

    Raises `BadRecord` where a length runs past the end: lengths are checked before they are used (CVE-2025-23016).
    """
    pairs = []
    at, end = 0, len(data)
    while at < end:
        if at + 1 < end and data[at] < 128 and data[at + 1] < 128:
            name_length, value_length = data[at], data[at + 1]
            at += 2
        else:
            name_length, at = _decode_length(data, at)
            value_length, at = _decode_length(data, at)
        middle = at + name_length
        stop = middle + value_length
        if stop > end:
            raise BadRecord(f"a pair of {name_length} + {value_length} bytes where {end - at} are left")
        pairs.append((data[at:middle], data[middle:stop]))
        at = stop
    return pairs


def decode_text(data: bytes) -> dict[str, str]:
    """As `decode_pairs`, as text: each byte is a character (Latin-1). Of equal names the last counts."""
    found = {}
    text = data.decode("latin-1")
    at, end = 0, len(data)
    while at < end:
        name_length, value_length = data[at], data[at + 1] if at + 1 < end else 128
        if name_length < 128 and value_length < 128:
            start = at + 2
        else:
            name_length, start = _decode_length(data, at)
            value_length, start = _decode_length(data, start)
        middle = start + name_length
        at = middle + value_length
        found[text[start:middle]] = text[middle:at]
    if at > end:
        raise BadRecord(f"the last pair has {at - end} bytes more than there are")
    return found


def _decode_length(data: bytes, at: int) -> tuple[int, int]:
    """The length at `at`, and where the next thing begins."""
    if at < len(data) and data[at] < 128:
        return data[at], at + 1
    if at + 4 > len(data):
        raise BadRecord(f"a pair ends inside its lengths: {data[at:]!r}")
    return _LONG.unpack_from(data, at)[0] ^ _LONG_BIT, at + 4
