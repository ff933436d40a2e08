"""The Basic scheme (RFC 7617) as an authorizer.

Plan: slow hashes are held against the password in threads of their own, one at a time for the same credentials; what
fitted is remembered for a while, as a keyed hash of the credentials and of the file that they were checked against.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import Event
from gevent.threadpool import ThreadPool

from gfastcgi.auth.base import Decision, Deny, Question
from gfastcgi.auth.login import Login, quoted
from gfastcgi.auth.passwords import Accounts, is_slow
from gfastcgi.request import Request

__all__ = ["BasicAuthorizer", "Remembered", "in_thread", "parse_basic"]

_THREADS = 2
_MOST_REMEMBERED = 10_000
_pools: dict[Any, ThreadPool] = {}


def in_thread(work: Callable[[], bool]) -> bool:
    """The result of `work`, done while the hub runs on."""
    hub = get_hub()
    pool = _pools.get(hub)
    if pool is None:
        _pools.clear()  # of a hub that is gone
        pool = _pools[hub] = ThreadPool(_THREADS, hub)
    return bool(pool.spawn(work).get())


class Remembered:
    """Credentials that fitted, for `seconds` each. They cannot be read back: the key is the process's own."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def name(self, generation: int, user: bytes, password: bytes) -> bytes:
        """What stands for these credentials, checked against the file as it is in `generation`."""
        return hmac.digest(self._key, b"%d:%d:%b:%b" % (generation, len(user), user, password), "sha256")

    def has(self, name: bytes) -> bool:
        return self._until.get(name, 0.0) > self._clock()

    def add(self, name: bytes) -> None:
        if self._seconds:
            self._until[name] = self._clock() + self._seconds
            self._until.move_to_end(name)
            while len(self._until) > _MOST_REMEMBERED:
                self._until.popitem(last=False)


class BasicAuthorizer:
    """Asks for a user name and a password."""

    transport = "basic"

    def __init__(
        self, login: Login, remembered: Remembered, *, in_thread: Callable[[Callable[[], bool]], bool] = in_thread
    ) -> None:
        self._login = login
        self._remembered = remembered
        self._in_thread = in_thread
        self._pending: dict[bytes, Event] = {}
        self._challenge = f'Basic realm={quoted(login.realm.decode("latin-1"))}, charset="UTF-8"'

    def __repr__(self) -> str:
        return f"<BasicAuthorizer {self._login!r}>"

    def question(self, request: Request, root: str) -> Question:
        """Where `check` would look the user up, and what is required."""
        return Question((self._login.users.filename,), requires=self._login.requires)

    def check(self, request: Request, root: str) -> Decision:
        """Raises OSError when the file of users cannot be read."""
        login = self._login
        given = parse_basic(request.field(b"authorization"))
        if given is None:
            return self._refuse(request)
        accounts, generation = login.users.load()
        user, password = given
        name = self._remembered.name(generation, user, password)
        if not self._remembered.has(name):
            seconds = None if login.is_busy(request) else self._try(name, request, accounts, user, password)
            if seconds is None:
                return login.too_many(request)
            if seconds:
                login.hold(seconds)
                return self._refuse(request)
        return login.decide(request, user, b"Basic", lambda: self._refuse(request))

    def _refuse(self, request: Request) -> Deny:
        return self._login.refuse(request, [self._challenge])

    def _try(self, name: bytes, request: Request, accounts: Accounts, user: bytes, password: bytes) -> float | None:
        """How many seconds the answer to a wrong password has to wait; 0 for the right one.

        None: by the time of its turn the client has too many wrong guesses waiting.
        """
        while (pending := self._pending.get(name)) is not None:
            pending.wait()
            if self._remembered.has(name):
                return 0
        done = self._pending[name] = Event()
        try:
            seconds = self._compare(request, accounts, user, password)
            if seconds == 0:
                self._remembered.add(name)
            return seconds
        finally:
            del self._pending[name]
            done.set()

    def _compare(self, request: Request, accounts: Accounts, user: bytes, password: bytes) -> float | None:
        login, realm = self._login, self._login.realm
        stored = accounts.stored(user, realm)

        def compare() -> bool:
            fitting = [accounts.fits(secret, user, realm, password) for secret in stored or accounts.decoy()]
            return any(fitting) and bool(stored)

        if any(is_slow(accounts.kind, secret) for secret in stored or accounts.decoy()):
            return self._take_turn(request, lambda: 0 if self._in_thread(compare) else login.fail(request, user))
        return 0 if compare() else login.fail(request, user)

    def _take_turn(self, request: Request, judge: Callable[[], float]) -> float | None:
        turn = self._login.turn(request)

        def work() -> float:
            try:
                return judge()
            finally:
                turn.release()

        turn.acquire()
        if self._login.is_busy(request):
            turn.release()
            return None
        # The thread computes on, and its result counts, when the client leaves: so long, its next guess has to wait.
        seconds: float = gevent.spawn(work).get()
        return seconds


def parse_basic(value: bytes | None) -> tuple[bytes, bytes] | None:
    """User and password of an Authorization field (RFC 7617 section 2), or None."""
    scheme, _, token = (value or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    # A control character has no place in a name that is going to stand in logs and meta-variables.
    if not colon or not user or any(byte < 32 or byte == 127 for byte in user):
        return None
    return user, password
