"""Decisions that several gateways share, in Redis (`fastcgi.cache-redis`).

Contract: Redis can never let anybody in by itself. What it holds is signed with `fastcgi.cache-secret`, under names
that tell nothing of credentials; what it has lost, garbled or delays is asked for anew. Every entry belongs to an
epoch; a purge begins another one, which each gateway learns with its next look, and within a second.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket

from gfastcgi.auth.base import Allow
from gfastcgi.auth.cache import Kept, KeptDeny
from gfastcgi.config.soundness import MIN_SECRET
from gfastcgi.errors import GfastcgiError, InvalidValue

try:
    from redis import RedisError
    from redis import TimeoutError as RedisTimeout
    from redis.connection import Connection, UnixDomainSocketConnection, parse_url
except ImportError as error:
    raise InvalidValue('fastcgi.cache-redis needs the package redis: pip install ".[redis]" in the checkout') from error

__all__ = ["SharedDecisions", "SharingError"]

log = logging.getLogger("gfastcgi")

_SECONDS = 0.5
"""The longest that one look at Redis takes."""
_REST_SECONDS = 1.0
_LOOK_SECONDS = 1.0
_MOST_CONNECTIONS = 64
_MOST_UNFORGOTTEN = 1000
"""More keys to forget are a purge."""
_EPOCH = re.compile(rb"[0-9a-f]{32}")


class SharingError(GfastcgiError):
    """Redis is out of reach."""


class _Tcp(Connection):
    """Over gevent: the client's own socket would hold every other request."""

    def _connect(self) -> Any:
        sock = socket.create_connection((self.host, self.port), timeout=_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(_SECONDS)
        return sock


class _Unix(UnixDomainSocketConnection):
    host = ""

    def _connect(self) -> Any:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_SECONDS)
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock


class SharedDecisions:
    """The decisions at `url` (`redis://[user:password@]host[:port][/db]` or `unix:///path`), signed with `secret`.

    `on_purge` is called when another gateway has purged. `clock` is the time of day, `monotonic` runs on; both seconds.
    Raises `InvalidValue`.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        on_purge: Callable[[], object],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not url.startswith(("redis://", "unix://")):
            raise InvalidValue("fastcgi.cache-redis takes a URL that begins with redis:// or unix://")
        self._kind: Any = _Tcp if url.startswith("redis://") else _Unix
        parse: Callable[[str], dict[str, Any]] = parse_url
        try:
            self._options = {**parse(url), "socket_timeout": _SECONDS, "protocol": 2}
            self._options.pop("connection_class", None)
            self._kind(**self._options)
        except (ValueError, TypeError) as error:
            raise InvalidValue(f"fastcgi.cache-redis: {error}") from error
        if len(secret) < MIN_SECRET:
            raise InvalidValue(f"fastcgi.cache-redis needs fastcgi.cache-secret, of at least {MIN_SECRET} characters")
        self._on_purge = on_purge
        self._clock = clock
        self._monotonic = monotonic
        self._name_secret, self._value_secret = (_digest(secret.encode(), use) for use in (b"name", b"value"))
        self._prefix = b"gfastcgi:%b:" % _digest(secret.encode(), b"prefix")[:8].hex().encode()
        self._idle: list[Any] = []
        self._used = 0
        self._resting_until = 0.0
        self._is_down = False
        self._epoch: bytes | None = None
        self._pending: bytes | None = None
        """The epoch of a purge that Redis has not heard of: until it has, nothing there is of any use."""
        self._unforgotten: dict[bytes, None] = {}
        """Keys that are to go, and that Redis has not heard of."""
        self._watch: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<SharedDecisions epoch={self._epoch!r}{' down' if self._is_down else ''}>"

    def start(self) -> None:
        """Looks for purges from now on."""
        self._look()
        self._watch = gevent.spawn(self._look_on)

    def stop(self) -> None:
        """Ends the connections."""
        if self._watch is not None:
            self._watch.kill()
        while self._idle:
            self._idle.pop().disconnect()

    def find(self, name: bytes) -> tuple[Kept, float] | None:
        """What is kept under `name`, and for how many seconds still."""
        key = self._key(name)
        if self._pending is not None:
            self._catch_up()
        if self._pending is not None or key in self._unforgotten:
            return None
        try:
            epoch, value = self._call("MGET", self._prefix + b"epoch", key)
        except (SharingError, TypeError, ValueError):  # down, or no Redis at all
            return None
        return self._unseal(key, value) if self._adopt(epoch) and isinstance(value, bytes) else None

    def keep(self, name: bytes, kept: Kept, seconds: float) -> None:
        """Keeps `kept` for `seconds`."""
        if self._epoch is None:
            return
        key = self._key(name)
        try:
            self._call("SET", key, self._seal(key, kept, seconds, self._epoch), "PX", max(1, int(seconds * 1000)))
        except SharingError:
            return

    def forget(self, name: bytes) -> None:
        """Drops what is kept under `name`; here at once, for the others as soon as Redis can be told."""
        if len(self._unforgotten) >= _MOST_UNFORGOTTEN:
            self._unforgotten.clear()
            self._pending = _new_epoch()
        self._unforgotten[self._key(name)] = None
        self._catch_up()

    def purge(self) -> None:
        """Drops everything, for every gateway; the others hear of it when Redis can be told.

        Raises `SharingError` while it cannot.
        """
        self._pending = _new_epoch()
        self._catch_up()
        if self._pending is not None:
            raise SharingError("Redis is out of reach: the other gateways will be told when it is back")

    def _catch_up(self) -> None:
        """Tells Redis what it has not heard yet."""
        try:
            while (epoch := self._pending) is not None:
                self._call("SET", self._prefix + b"epoch", epoch)
                if self._pending is epoch:
                    self._pending, self._epoch = None, epoch
                    self._unforgotten.clear()
                    # What was read from Redis meanwhile was of the old epoch.
                    self._on_purge()
            for key in [*self._unforgotten]:
                self._call("DEL", key)
                self._unforgotten.pop(key, None)
        except SharingError:
            return

    # Names, values, epochs

    def _key(self, name: bytes) -> bytes:
        return self._prefix + _digest(self._name_secret, name).hex().encode()

    def _seal(self, key: bytes, kept: Kept, seconds: float, epoch: bytes) -> bytes:
        told: dict[str, Any] = {"epoch": epoch.decode(), "until": self._clock() + seconds}
        if isinstance(kept, Allow):
            told["allow"] = [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in kept.variables.items()
            ]
        else:
            told["deny"] = [kept.status, kept.fields, kept.body.decode("latin-1")]
        payload = json.dumps(told).encode()
        return _digest(self._value_secret, key + payload) + payload

    def _unseal(self, key: bytes, value: bytes) -> tuple[Kept, float] | None:
        """What `_seal` sealed, while it holds; None for whatever else stands there."""
        signature, payload = value[:32], value[32:]
        if not hmac.compare_digest(signature, _digest(self._value_secret, key + payload)):
            log.warning("Redis holds a decision that none of us signed")
            return None
        try:
            return self._read(json.loads(payload))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None  # by another version of ours

    def _read(self, told: dict[str, Any]) -> tuple[Kept, float] | None:
        seconds = told["until"] - self._clock()
        if told["epoch"].encode() != self._epoch or seconds <= 0:
            return None
        if "allow" in told:
            variables = {name.encode("latin-1"): text.encode("latin-1") for name, text in told["allow"]}
            return Allow(variables), seconds
        status, fields, body = told["deny"]
        return KeptDeny(status, [(name, text) for name, text in fields], body.encode("latin-1")), seconds

    def _adopt(self, epoch: object) -> bool:
        """Whether entries can be read in the epoch that Redis tells. A new one purges what is remembered here."""
        if self._pending is not None:
            return False
        if not isinstance(epoch, bytes) or not _EPOCH.fullmatch(epoch):
            # Redis has lost it, and perhaps a purge with it, or it is none of ours: what it still holds is of no use.
            unless_there = ("NX",) if epoch is None else ()
            with contextlib.suppress(SharingError):
                self._call("SET", self._prefix + b"epoch", _new_epoch(), *unless_there)
            return False
        if epoch != self._epoch:
            self._epoch = epoch
            self._on_purge()
        return True

    def _look(self) -> None:
        self._catch_up()
        try:
            if not self._adopt(self._call("GET", self._prefix + b"epoch")):
                self._adopt(self._call("GET", self._prefix + b"epoch"))
        except SharingError:
            return

    def _look_on(self) -> None:
        while True:
            gevent.sleep(_LOOK_SECONDS)
            try:
                self._look()
            except Exception:
                log.exception("looking for purges failed, and goes on")

    # Talking to Redis

    def _call(self, *command: Any) -> Any:
        """The answer to one command. Raises `SharingError`: soon, and at once while Redis rests after a failure."""
        if self._monotonic() < self._resting_until or self._used >= _MOST_CONNECTIONS:
            raise SharingError("Redis is out of reach")
        self._used += 1
        try:
            with gevent.Timeout(_SECONDS, RedisTimeout("no answer in time")):
                answer = self._exchange(command)
        except Exception as error:
            # What answers may be no Redis: the client raises what it likes at that.
            self._fail(error)
            raise SharingError(f"Redis is out of reach: {error}") from error
        finally:
            self._used -= 1
        if self._is_down:
            self._is_down = False
            log.info("Redis is back: decisions are shared")
        return answer

    def _exchange(self, command: tuple[Any, ...]) -> Any:
        while True:
            is_reused = bool(self._idle)
            connection = self._idle.pop() if is_reused else self._kind(**self._options)
            try:
                connection.send_command(*command)
                answer = connection.read_response()
            except (RedisError, OSError) as error:
                connection.disconnect()
                # A connection that Redis closed meanwhile says nothing of its health.
                if is_reused and not isinstance(error, RedisTimeout):
                    continue
                raise
            except BaseException:
                connection.disconnect()
                raise
            self._idle.append(connection)
            return answer

    def _fail(self, error: Exception) -> None:
        self._resting_until = self._monotonic() + _REST_SECONDS
        if not self._is_down:
            self._is_down = True
            log.warning("Redis is out of reach, every gateway asks its authorizers by itself: %s", error)


def _digest(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, data, "sha256")


def _new_epoch() -> bytes:
    return secrets.token_hex(16).encode()
