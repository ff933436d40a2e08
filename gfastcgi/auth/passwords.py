"""What files of users hold (lighttpd: `auth.backend`): plain passwords, crypt(3) and Apache hashes, or htdigest hashes.

Contract: pure. A line that is none is passed over; a hash of an unknown kind fits no password. Every comparison takes
the same time wherever the difference is; `Accounts.decoy` makes an unknown user cost as much as a known one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Literal

from passlib.context import CryptContext

__all__ = ["ALGORITHMS", "Accounts", "Kind", "is_slow", "parse_accounts", "parse_groups"]

Kind = Literal["plain", "htpasswd", "htdigest"]

ALGORITHMS: Mapping[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
"""The algorithms of RFC 7616 section 3.3 in the order in which they are offered."""

_DIGITS = {64: "SHA-256", 32: "MD5"}
_BCRYPT_BYTES = 72  # what bcrypt looks at; htpasswd cuts there, too
_FAST = ("{SHA}", "{SSHA}")

# What htpasswd(1), openssl-passwd(1) and mkpasswd(1) write.
_CRYPT = CryptContext([
    "bcrypt", "sha512_crypt", "sha256_crypt", "apr_md5_crypt", "md5_crypt", "ldap_sha1", "ldap_salted_sha1",
    "des_crypt",
])  # fmt: skip


class Accounts:
    """The users of one file; for htdigest those of a realm."""

    def __init__(self, kind: Kind, stored: dict[tuple[bytes, bytes], list[str]]) -> None:
        self.kind: Kind = kind
        self._stored = stored
        self._decoy = next(iter(stored.values()), [""])
        digits = {len(secret) for secrets in stored.values() for secret in secrets}
        self.algorithms = tuple(
            name for name in ALGORITHMS if kind == "plain" or name in {_DIGITS.get(count) for count in digits}
        )
        """The algorithms that the digest scheme can be offered with."""

    def __repr__(self) -> str:
        return f"<Accounts {self.kind} of {len(self._stored)}>"

    def stored(self, user: bytes, realm: bytes) -> list[str]:
        """What the file has for `user`: one password or hash, for htdigest one of each algorithm; [] if nothing."""
        return self._stored.get((user, realm if self.kind == "htdigest" else b""), [])

    def decoy(self) -> list[str]:
        """What an unknown user's password is held against, so that the time taken does not tell them apart."""
        return self._decoy

    def fits(self, secret: str, user: bytes, realm: bytes, password: bytes) -> bool:
        """Whether `password` is the one that `secret`, something of `stored`, was made of."""
        if self.kind == "plain":
            return hmac.compare_digest(hashlib.sha256(password).digest(), hashlib.sha256(_bytes(secret)).digest())
        if self.kind == "htdigest":
            algorithm = _DIGITS.get(len(secret), "MD5")
            return hmac.compare_digest(ALGORITHMS[algorithm](b":".join((user, realm, password))), secret)
        if secret.startswith("$2"):
            password = password[:_BCRYPT_BYTES]
        try:
            return bool(_CRYPT.verify(password, secret))
        except (ValueError, TypeError):  # an unknown kind of hash, a broken one, a NUL or 4 KiB in the password
            return False

    def digest_secret(self, user: bytes, realm: bytes, algorithm: str) -> str | None:
        """H(user:realm:password) in hexadecimal (RFC 7616 section 3.4.2), or None."""
        secrets = self.stored(user, realm)
        if self.kind == "plain":
            return next((ALGORITHMS[algorithm](b":".join((user, realm, _bytes(secret)))) for secret in secrets), None)
        return next((secret for secret in secrets if _DIGITS.get(len(secret)) == algorithm), None)


def is_slow(kind: Kind, secret: str) -> bool:
    """Whether holding a password against `secret` takes long enough to hold up everybody else."""
    return kind == "htpasswd" and not secret.startswith(_FAST)


def parse_accounts(kind: Kind, data: bytes) -> Accounts:
    """The accounts of a file: `user:secret` lines, for htdigest `user:realm:hash`. "#" begins a comment."""
    stored: dict[tuple[bytes, bytes], list[str]] = {}
    for line in data.split(b"\n"):
        parts = line.rstrip(b"\r").split(b":", 2 if kind == "htdigest" else 1)
        if line.startswith(b"#") or len(parts) < 2 or not parts[0]:
            continue
        secret = parts[-1].decode("utf-8", "surrogateescape")
        if kind == "htdigest":
            secret = secret.split(":")[0].strip().lower()  # a column for userhash may follow
            if len(parts) == 3 and len(secret) in _DIGITS:
                stored.setdefault((parts[0], parts[1]), []).append(secret)
        elif secret:
            # As in other servers the first line of a user counts; htpasswd hashes may have columns behind them.
            stored.setdefault((parts[0], b""), [secret if kind == "plain" else secret.split(":")[0].strip()])
    return Accounts(kind, stored)


def parse_groups(data: bytes) -> dict[bytes, frozenset[bytes]]:
    """The members of each group: lines `group: user user`, also with commas."""
    groups: dict[bytes, frozenset[bytes]] = {}
    for line in data.split(b"\n"):
        name, colon, members = line.partition(b":")
        if colon and not line.startswith(b"#"):
            known = groups.get(name.strip(), frozenset())
            groups[name.strip()] = known | frozenset(members.replace(b",", b" ").split())
    return groups


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogateescape")
