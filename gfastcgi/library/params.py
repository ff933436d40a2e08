"""Meta-variables as programs write them, and those that are added for them (RFC 3875 section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from gfastcgi._version import __version__

__all__ = ["Key", "Params", "encode", "lengths", "usual"]

Value: TypeAlias = "str | bytes | int | None"
Params: TypeAlias = "Mapping[str, Value] | Mapping[bytes, Value]"
"""Names and values; text is sent as UTF-8. None: without that variable, though it is a usual one."""

Variables: TypeAlias = "dict[bytes, bytes | None]"


class Key(NamedTuple):
    """What balances and retries look at."""

    method: str
    path: str
    authority: str
    remote_addr: str
    balance: str

    @classmethod
    def of(cls, variables: Mapping[bytes, bytes], balance: str) -> Key:
        """That of a request with `variables`."""

        def text(name: bytes) -> str:
            return variables.get(name, b"").decode("utf-8", "surrogateescape")

        path = text(b"SCRIPT_NAME") + text(b"PATH_INFO") or text(b"REQUEST_URI").partition("?")[0]
        path = path or text(b"SCRIPT_FILENAME")
        return cls(text(b"REQUEST_METHOD"), path, text(b"HTTP_HOST").lower(), text(b"REMOTE_ADDR"), balance)


def encode(params: Params) -> Variables:
    """`params` as bytes. Raises TypeError for a value of another kind."""
    return {_bytes(name): None if value is None else _bytes(value) for name, value in params.items()}


def _bytes(value: str | bytes | int) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, bytes):
        return value
    raise TypeError(f"a meta-variable is text, bytes or a number, not {value!r}")


def lengths(variables: Variables) -> tuple[int | None, int | None]:
    """What `variables` promise of STDIN and of a filter's DATA, in bytes. Raises ValueError."""
    return _number(variables, b"CONTENT_LENGTH"), _number(variables, b"FCGI_DATA_LENGTH")


def _number(variables: Variables, name: bytes) -> int | None:
    value = variables.get(name)
    if value is None:
        return None
    if not value.isdigit():
        raise ValueError(f"{name.decode()} is a number of bytes, not {value!r}")
    return int(value)


def usual(role: str, length: int) -> Variables:
    """What nearly every program wants to see; `length` is that of the body in bytes."""
    found: Variables = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": b"gfastcgi/%b" % __version__.encode(),
        b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"SERVER_NAME": b"localhost",
        b"SERVER_PORT": b"80",
        b"REMOTE_ADDR": b"127.0.0.1",
        b"REQUEST_METHOD": b"POST" if length else b"GET",
        b"QUERY_STRING": b"",
        b"REDIRECT_STATUS": b"200",
    }
    if role != "authorizer":
        # FastCGI 1.0 section 6.3: an authorizer is not told of the body.
        found[b"CONTENT_LENGTH"] = b"%d" % length
    return found
