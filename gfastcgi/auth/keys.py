"""What tells the decisions of one authorizer apart: the inputs that the operator names, and those that always count.

Plan: `Who` is a client with its credentials, `where` what it asks for; both are tuples, found in one pass over the
fields. The host, the variables of earlier authorizers and, by its gate, the authorizer always count. `encode` makes
unambiguous bytes of them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol, TypeAlias

from gfastcgi.auth.hygiene import fold
from gfastcgi.config import NO_CREDENTIALS, CacheConfig
from gfastcgi.errors import InvalidValue

__all__ = ["KeyMaker", "KeyRequest", "Where", "Who", "encode"]

Who: TypeAlias = tuple[Any, ...]
Where: TypeAlias = tuple[str, ...]

_LONG = 1024
_EMPTY = b' \t"'
"""What a cookie is made of that was taken away: nobody is known by it."""


class _Peer(Protocol):
    @property
    def remote_addr(self) -> str: ...


class KeyRequest(Protocol):
    """What keys are made of."""

    @property
    def authority(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def peer(self) -> _Peer: ...
    @property
    def fields(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def variables(self) -> dict[bytes, bytes]: ...


class KeyMaker:
    """Makes the keys of one authorizer's decisions. Raises `InvalidValue` for a key without a credential."""

    __slots__ = (
        "_cookies", "_has_address", "_has_method", "_headers", "_is_plain", "_moved", "_where", "credentials",
        "has_where", "vary",
    )  # fmt: skip

    def __init__(self, config: CacheConfig) -> None:
        if not config.has_credential:
            raise InvalidValue("the key of a decision cache needs a credential: a cookie or a header")
        cookies = [name.encode() for kind, name in config.key if kind == "cookie"]
        self._cookies = _cookie_finder(cookies) if cookies else None
        self._is_plain = _plain_cookies(cookies)
        self._headers = {name.encode(): name not in NO_CREDENTIALS for kind, name in config.key if kind == "header"}
        self._moved = {b"HTTP_" + fold(name): is_one for name, is_one in self._headers.items()}
        """What becomes of those that `fastcgi.allow-fields` lets through: variables, which count anyway."""
        self.credentials = frozenset(name.removeprefix(b"HTTP_") for name, is_one in self._moved.items() if is_one)
        """The fields of the key that say who a client is, as CGI spells them without HTTP_."""
        self._has_address = ("address", "") in config.key
        self._has_method = ("method", "") in config.key
        self._where = [_place(kind, name) for kind, name in config.key if kind in ("path", "prefix", "query")]
        self.has_where = bool(self._where)
        self.vary = frozenset(self._headers) | ({b"cookie", b"host"} if cookies else {b"host"})
        """The fields that the key looks at."""

    def __repr__(self) -> str:
        return f"<KeyMaker {sorted(self.vary)!r}>"

    def who(self, request: KeyRequest) -> Who | None:
        """The client, by host and credentials; None when it shows none: nothing may be kept for it.

        Nor for one that names a field of the key in Connection, and thereby hides it from the authorizer.
        """
        inputs: list[tuple[bytes, ...]] = []
        has_credential = False
        cookies, headers, cookie = self._cookies, self._headers, b""
        for name, value in request.fields:
            if name == b"cookie":
                # As it is sent to programs.
                cookie = b"%b; %b" % (cookie, value) if cookie else value
            if name in headers and value:
                inputs.append((b"header", name, value))
                has_credential = has_credential or headers[name]
        if cookie and cookies is not None:
            found = cookies(cookie)
            has_credential = has_credential or any(value.strip(_EMPTY) for _, value in found)
            # Programs read other spellings in ways of their own: such cookies count whole.
            inputs += found if self._is_plain(cookie) else [(b"", cookie)]
        if request.variables:
            shown = (name for name, value in request.variables.items() if value)
            has_credential = has_credential or any(self._moved.get(name) for name in shown)
        if not has_credential or (headers and not headers.keys().isdisjoint(_hop_by_hop(request.fields))):
            return None
        if len(inputs) > 1 or (inputs and len(inputs[0][-1]) > _LONG):
            inputs = _shorten(inputs)
        return (
            request.authority,
            request.peer.remote_addr if self._has_address else None,
            request.method if self._has_method else None,
            tuple(sorted(request.variables.items())) if request.variables else None,
            *inputs,
        )

    def where(self, request: KeyRequest) -> Where:
        """What of the target counts; empty unless the operator names any of it."""
        return tuple([place(request) for place in self._where])


def _cookie_finder(names: list[bytes]) -> Callable[[bytes], list[tuple[bytes, bytes]]]:
    """Finds the cookies `names`, empty ones as well; all of a name that comes twice (RFC 6265 section 5.4)."""
    found = re.compile(b"(?:^|;)[ \\t]*(" + b"|".join(map(re.escape, names)) + b")=([^;]*)")
    return found.findall


def _plain_cookies(names: list[bytes]) -> Callable[[bytes], object]:
    """Tells whether a Cookie field is one that all programs read alike (RFC 6265 section 4.1.1, cookie-string).

    Some take commas or blanks for ends and quotes for brackets, stop at what they do not know, or take characters of a
    name for `_` or for escapes: so names have letters, digits, `_` and `-`, or what those of the operator have.
    """
    others = re.escape(bytes({*re.sub(rb"[\w-]", b"", b"".join(names))}))
    pair = rb"[A-Za-z0-9_%b-]+=[!#-+\--:<-\[\]-~]*" % others
    return re.compile(rb"%b(?:; *%b)*;?" % (pair, pair)).fullmatch


def _hop_by_hop(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    """The fields that Connection names: they go no further (RFC 9110 section 7.6.1)."""
    named = [value.lower().split(b",") for name, value in fields if name == b"connection"]
    return [option.strip(b" \t") for options in named for option in options]


def _shorten(inputs: list[tuple[bytes, ...]]) -> list[tuple[bytes, ...]]:
    """Long inputs as a digest: the size of a cache is counted in decisions, and a client chooses how long they are."""
    if sum(len(each[-1]) for each in inputs) <= _LONG:
        return inputs
    return [(sha256(encode(tuple(inputs))).digest(),)]


def _place(kind: str, name: str) -> Callable[[KeyRequest], str]:
    if kind == "path":
        return lambda request: request.path
    if kind == "query":
        return lambda request: request.query
    if not name:
        return lambda request: request.path[: request.path.rfind("/") + 1]
    segments = int(name) + 1
    return lambda request: "/".join(request.path.split("/", segments)[:segments])


def encode(value: Any) -> bytes:
    """Bytes that no other value has: each string behind its kind and length, each tuple behind its size."""
    if value is None:
        return b"n"
    if isinstance(value, tuple):
        return b"t%d:" % len(value) + b"".join(map(encode, value))
    kind, data = (b"s", value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else (b"b", value)
    return b"%s%d:%s" % (kind, len(data), data)
