"""What a client sends under the name of an identity: removed before anybody is asked, counted and told.

Contract: pure. CGI folds every spelling of a name into one (Remote-User, remote_user, REMOTE-user), so all of them are
judged by what they fold into. `allowed` are the spellings that may pass; they become HTTP_NAME, as fields do. Other
names that fold stay with the request, but become no variable: that is told, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Set

from gfastcgi.cgi.metavars import is_vague
from gfastcgi.request import Request

__all__ = ["IDENTITY", "Hygiene"]

IDENTITY = frozenset({b"REMOTE_USER", b"AUTH_TYPE", b"REMOTE_IDENT", b"REMOTE_GROUPS", b"REMOTE_NAME", b"REMOTE_EMAIL"})
"""The variables by which programs know their user (RFC 3875 section 4.1, Authelia's names)."""

_FOLDED = re.compile(rb"[^A-Z0-9]")
_MOST_KNOWN = 1024
_MOST_LEARNED = 256
_TELL_AGAIN_SECONDS = 60.0
_PASS, _DROP, _ALLOW, _VAGUE = range(4)


def fold(field: bytes) -> bytes:
    """What CGI makes of a field's name, without HTTP_."""
    return _FOLDED.sub(b"_", field.upper())


class Hygiene:
    """The names of one site. `names` are variables or fields, `learned` those that several sites learn together;
    `clock` is monotonic seconds, `tell` writes a line (as `logging.warning`).
    """

    def __init__(
        self,
        names: Iterable[bytes],
        allowed: Iterable[str],
        *,
        clock: Callable[[], float],
        tell: Callable[..., object],
        learned: set[bytes] | None = None,
    ) -> None:
        self._names = {fold(name).removeprefix(b"HTTP_") for name in (*IDENTITY, *names)}
        self._learned = set() if learned is None else learned
        self._taught: set[bytes] = set()
        """The names as they were told: authorizers set the same again and again."""
        self._judged_with = 0
        """How many names were learned when `_passing` was judged."""
        self._allowed = frozenset(name.lower().encode() for name in allowed)
        self._clock = clock
        self._tell = tell
        self._passing: set[bytes] = set()
        self._told: dict[bytes, float] = {}
        self.dropped = 0
        """How many fields were removed."""

    def __repr__(self) -> str:
        return f"<Hygiene of {len(self._names)} names, {self.dropped} dropped>"

    def apply(self, request: Request) -> None:
        """Takes the fields that name an identity away from `request`."""
        if self._judged_with != len(self._learned):
            self._judged_with = len(self._learned)
            self._passing.clear()
        # Clients send much the same names: those that were judged to pass are looked up in one go.
        if not self._passing.issuperset(request.head.names):
            self._clean(request)

    def learn(self, names: Set[bytes]) -> None:
        """From now on the variables `names`, which an authorizer set, are no client's to send."""
        if self._taught.issuperset(names):
            return
        for name in names:
            if len(self._learned) < _MOST_LEARNED:
                self._learned.add(name.removeprefix(b"HTTP_"))
                self._taught.add(name)

    def _judge(self, name: bytes) -> int:
        if name in self._allowed:
            return _ALLOW
        folded = fold(name)
        if folded in self._names or folded in self._learned:
            return _DROP
        if is_vague(name):
            return _VAGUE
        if len(self._passing) < _MOST_KNOWN:
            self._passing.add(name)
        return _PASS

    def _clean(self, request: Request) -> None:
        kept: list[tuple[bytes, bytes]] = []
        for name, value in request.fields:
            kind = self._judge(name)
            if kind == _PASS:
                kept.append((name, value))
            elif kind == _VAGUE:
                kept.append((name, value))
                self._warn(
                    b"_",
                    request,
                    name,
                    'which no program is told of, as X_Y would pass for X-Y ("fastcgi.allow-fields")',
                )
            elif kind == _ALLOW:
                variable = b"HTTP_" + fold(name)
                known = request.variables.get(variable)
                request.variables[variable] = value if known is None else known + b", " + value
            else:
                self.dropped += 1
                self._warn(
                    fold(name), request, name, f"which names an identity: it was dropped ({self.dropped} so far)"
                )
        if len(kept) != len(request.fields):
            request.fields = kept

    def _warn(self, kind: bytes, request: Request, name: bytes, what: str) -> None:
        """Tells of a field, once a minute for each `kind`."""
        now = self._clock()
        if now >= self._told.get(kind, now):
            if len(self._told) >= _MOST_LEARNED:
                self._told.clear()
            self._told[kind] = now + _TELL_AGAIN_SECONDS
            told = request.id, request.remote_addr, name.decode("latin-1"), what
            self._tell("request %s: the client at %s sent the field %r, %s", *told)
