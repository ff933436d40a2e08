"""The Digest scheme (RFC 7616) as an authorizer: qop "auth" with SHA-256 and MD5, each request with its own number.

Plan: a nonce carries its time under a keyed hash, so that none has to be kept before it is used. A (nonce, nc) pair is
good for one request; when the memory of used pairs is full, every nonce as old as what is forgotten is stale.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

from gfastcgi.auth.base import Decision, Deny, Question
from gfastcgi.auth.login import Login, quoted
from gfastcgi.auth.passwords import ALGORITHMS, Accounts
from gfastcgi.errors import BadRequest
from gfastcgi.http.target import parse_target
from gfastcgi.pages import error_page
from gfastcgi.request import Request

__all__ = ["DigestAuthorizer", "Nonces", "parse_digest"]

_LIFETIME = 300.0
"""Seconds for which a nonce is taken."""
_MOST_USED = 20_000
_UNREACHED = secrets.token_hex(32)

# auth-param of RFC 9110 section 11.2: token = token | quoted-string.
_PARAM = re.compile(rb"\s*([A-Za-z0-9*_-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",]+))\s*(?:,|$)")
_NUMBER = re.compile(rb"[0-9a-fA-F]{8}")
_REQUIRED = ("realm", "nonce", "uri", "response", "cnonce", "nc", "qop")


class Nonces:
    """Makes nonces, and knows which numbers of them were used. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._used: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._floor = -1

    def __repr__(self) -> str:
        return f"<Nonces {len(self._used)} used>"

    def make(self, realm: bytes) -> str:
        """A new one."""
        stem = f"{int(self._clock() * 1000):x}.{secrets.token_hex(8)}"
        return f"{stem}.{self._seal(stem, realm)}"

    def use(self, nonce: str, count: int, realm: bytes, request_id: str) -> bool:
        """Whether `nonce` is ours, young, and was not used with `count` before, but for the same request."""
        stem, _, seal = nonce.rpartition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(stem, realm).encode()):
            return False
        user = self._used.get((nonce, count))
        if user is not None:
            return user == request_id
        made = _time_of(stem)
        if made <= self._floor or self._clock() * 1000 - made > _LIFETIME * 1000:
            return False
        self._used[nonce, count] = request_id
        while len(self._used) > _MOST_USED:
            (forgotten, _), _ = self._used.popitem(last=False)
            self._floor = max(self._floor, _time_of(forgotten))
        return True

    def _seal(self, stem: str, realm: bytes) -> str:
        return hmac.new(self._key, b"%b %b" % (stem.encode(), realm), "sha256").hexdigest()[:32]


def _time_of(nonce: str) -> int:
    return int(nonce.partition(".")[0], 16)


class DigestAuthorizer:
    """Asks for a proof that the client knows a password."""

    transport = "digest"

    def __init__(self, login: Login, nonces: Nonces, algorithms: Sequence[str]) -> None:
        self._login = login
        self._nonces = nonces
        self._algorithms = algorithms

    def __repr__(self) -> str:
        return f"<DigestAuthorizer {self._login!r}>"

    def question(self, request: Request, root: str) -> Question:
        """Where `check` would look the user up, and what is required."""
        return Question((self._login.users.filename,), requires=self._login.requires)

    def check(self, request: Request, root: str) -> Decision:
        """Raises OSError when the file of users cannot be read."""
        login = self._login
        accounts = login.users.load()[0]
        offered = [name for name in self._algorithms if name in accounts.algorithms]
        given = parse_digest(request.field(b"authorization"))

        def refuse(*, is_stale: bool = False) -> Deny:
            return login.refuse(request, [self._challenge(name, is_stale) for name in offered or self._algorithms])

        if given is None or given["realm"] != login.realm or _algorithm(given) not in offered:
            return refuse()
        if not _is_for(given["uri"], request):
            return Deny(error_page(400, request_id=request.id))
        if login.is_busy(request):
            return login.too_many(request)
        if not self._is_right(given, accounts, request.head.method):
            login.hold(login.fail(request, given["username"]))
            return refuse()
        nonce, count = given["nonce"].decode("latin-1"), int(given["nc"], 16)
        if not nonce.isascii() or not self._nonces.use(nonce, count, login.realm, request.id):
            return refuse(is_stale=True)
        return login.decide(request, given["username"], b"Digest", refuse)

    def _challenge(self, algorithm: str, is_stale: bool) -> str:
        nonce = self._nonces.make(self._login.realm)
        stale = ", stale=true" if is_stale else ""
        realm = quoted(self._login.realm.decode("latin-1"))
        return f'Digest realm={realm}, qop="auth", algorithm={algorithm}, nonce="{nonce}", charset="UTF-8"{stale}'

    def _is_right(self, given: dict[str, bytes], accounts: Accounts, method: str) -> bool:
        """Whether the response is the one of section 3.4.1 for the stored secret of the user."""
        algorithm = _algorithm(given)
        compute = ALGORITHMS[algorithm]
        secret = accounts.digest_secret(given["username"], self._login.realm, algorithm)
        target = compute(b"%b:%b" % (method.encode(), given["uri"]))
        parts = ((secret or _UNREACHED).encode(), given["nonce"], given["nc"], given["cnonce"], b"auth")
        expected = compute(b":".join((*parts, target.encode())))
        is_equal = hmac.compare_digest(expected.encode(), given["response"].lower())
        return is_equal and secret is not None


def _algorithm(given: dict[str, bytes]) -> str:
    return given.get("algorithm", b"MD5").decode("latin-1").upper()


def _is_for(uri: bytes, request: Request) -> bool:
    """Whether the proof is for this very target (section 3.4.6), in whatever spelling."""
    try:
        return parse_target(uri, decode_2f=True).uri == request.original_uri
    except BadRequest:
        return False


def parse_digest(value: bytes | None) -> dict[str, bytes] | None:
    """The parameters of an Authorization field (section 3.4), names in lower case; None if one lacks or is doubled."""
    scheme, _, rest = (value or b"").partition(b" ")
    if scheme.lower() != b"digest":
        return None
    found: dict[str, bytes] = {}
    position = 0
    while position < len(rest):
        match = _PARAM.match(rest, position)
        if match is None:
            return None
        name = match[1].decode().lower()
        if name in found:
            return None
        found[name] = re.sub(rb"\\(.)", rb"\1", match[2]) if match[2] is not None else match[3]
        position = match.end()
    if "username*" in found and "username" not in found:  # RFC 8187 section 3.2
        charset, _, encoded = found["username*"].partition(b"''")
        found["username"] = unquote_to_bytes(encoded) if charset.lower() == b"utf-8" else b""
    user = found.get("username", b"")
    is_whole = all(name in found for name in _REQUIRED) and found["qop"].lower() == b"auth"
    if not is_whole or not user or not _NUMBER.fullmatch(found["nc"]) or found.get("userhash", b"false") != b"false":
        return None
    return None if any(byte < 32 or byte == 127 for byte in user) else found
