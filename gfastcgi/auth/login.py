"""What Basic and Digest share (lighttpd: mod_auth): who may pass, and how a refusal is answered.

Contract: a wrong guess waits before its answer, longer with each one more; of a client that has several such answers
waiting, nothing further is looked at (429). Files that cannot be read raise OSError, which denies with 500.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

import gevent
from gevent.lock import BoundedSemaphore

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.passwords import Accounts
from gfastcgi.auth.throttle import Throttle, network
from gfastcgi.auth.userfile import UserFile
from gfastcgi.config import Requirement
from gfastcgi.config.addresses import client_address
from gfastcgi.pages import error_page
from gfastcgi.request import Request

__all__ = ["Groups", "Login", "quoted"]

log = logging.getLogger("gfastcgi")

_LONGEST_NAME = 256
"""Bytes of a name that are told: it is the client's to choose."""

Groups = Mapping[bytes, frozenset[bytes]]


class Login:
    """One key of `auth.require`, with the files that it is judged by."""

    def __init__(
        self,
        requirement: Requirement,
        users: UserFile[Accounts],
        groups: UserFile[Groups] | None,
        throttle: Throttle,
        *,
        sleep: Callable[[float], None] = gevent.sleep,
    ) -> None:
        self.realm = requirement.realm.encode()
        self.users = users
        self._requirement = requirement
        self._names = frozenset(name.encode() for name in requirement.users)
        self._networks = [ipaddress.ip_network(host, strict=False) for host in requirement.hosts]
        self._groups = groups
        self._throttle = throttle
        self._sleep = sleep
        self._turns = WeakValueDictionary[str, BoundedSemaphore]()

    def __repr__(self) -> str:
        return f"<Login {self._requirement.prefix!r} {self._requirement.realm!r}>"

    @property
    def requires(self) -> str:
        """The rules as `auth.require` spells them, and the realm."""
        rules = self._requirement
        named = [("user", rules.users), ("group", rules.groups), ("host", rules.hosts)]
        spelt = ["valid-user"] if rules.any_user else [f"{kind}={name}" for kind, names in named for name in names]
        return f'{"|".join(spelt)}, in the realm "{rules.realm}"'

    def decide(self, request: Request, user: bytes, scheme: bytes, refuse: Callable[[], Deny]) -> Allow | Deny:
        """The answer to `user`, who is known to be this one: whether `auth.require` lets them pass."""
        if not self._may_pass(user, request.remote_addr):
            self._tell(request, user, "may not pass, by auth.require")
            return refuse()
        return Allow({b"REMOTE_USER": user, b"AUTH_TYPE": scheme})

    def _may_pass(self, user: bytes, address: str) -> bool:
        """Any of the rules that "|" joins is enough; `host=` lets every user of an address pass."""
        if self._requirement.any_user or user in self._names:
            return True
        if self._networks:
            client = client_address(address)
            if client is not None and any(client in network for network in self._networks):
                return True
        if not self._requirement.groups or self._groups is None:
            return False
        groups = self._groups.load()[0]
        return any(user in groups.get(name.encode(), ()) for name in self._requirement.groups)

    def is_busy(self, request: Request) -> bool:
        """Whether this client has too many wrong guesses waiting for another to be looked at."""
        return self._throttle.is_busy(request.remote_addr)

    def turn(self, request: Request) -> BoundedSemaphore:
        """Holds the guesses of one client apart: how many failed counts for the next."""
        key = network(request.remote_addr)
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = BoundedSemaphore(1)
        return turn

    def fail(self, request: Request, user: bytes) -> float:
        """Counts and tells a wrong guess. The seconds for which to `hold` its answer, more than 0."""
        self._tell(request, user, "no such user, or not with this password")
        return self._throttle.fail(request.remote_addr)

    def hold(self, seconds: float) -> None:
        """Holds the answer to a wrong guess back."""
        self._sleep(seconds)

    def _tell(self, request: Request, user: bytes, what: str) -> None:
        path, address, name = request.path, request.remote_addr, user[:_LONGEST_NAME].decode("utf-8", "replace")
        log.warning("request %s: %s from %s for %s: %r: %s", request.id, request.method, address, path, name, what)

    def refuse(self, request: Request, challenges: list[str]) -> Deny:
        """401 with `challenges`, the values of WWW-Authenticate (RFC 9110 section 11.6.1)."""
        headers = tuple(("WWW-Authenticate", challenge) for challenge in challenges)
        return Deny(error_page(401, request_id=request.id, headers=headers))

    def too_many(self, request: Request) -> Deny:
        """429: come back later (RFC 6585 section 4)."""
        return Deny(error_page(429, request_id=request.id, headers=(("Retry-After", "5"),)))


def quoted(text: str) -> str:
    """`text` as a quoted-string (RFC 9110 section 5.6.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
