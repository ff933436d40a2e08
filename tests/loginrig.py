"""Users, their passwords and groups in files, and authorizers that ask for them with a clock of ours."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Any

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.basic import BasicAuthorizer, Remembered
from gfastcgi.auth.digest import DigestAuthorizer, Nonces
from gfastcgi.auth.login import Groups, Login
from gfastcgi.auth.passwords import Accounts, parse_accounts, parse_groups
from gfastcgi.auth.throttle import Throttle
from gfastcgi.auth.userfile import UserFile
from gfastcgi.config import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gfastcgi.auth.base import Decision

PASSWORDS = b"ann:secret\nbob:b\xc3\xb6b\n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class LoginRig:
    """Files, a clock, and a sleep that only notes how long."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.slept: list[float] = []
        self.compared = 0
        (folder / "users").write_bytes(PASSWORDS)
        (folder / "groups").write_bytes(b"staff: bob\n")

    def login(self, method: Any = "basic", kind: Any = "plain", **rules: Any) -> Login:
        requirement = Requirement(prefix="/", method=method, realm='the "realm"', **(rules or {"any_user": True}))
        users: UserFile[Accounts] = UserFile(str(self.folder / "users"), partial(parse_accounts, kind))
        groups: UserFile[Groups] = UserFile(str(self.folder / "groups"), parse_groups)
        return Login(requirement, users, groups, Throttle(self.clock), sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds

    def basic(self, kind: Any = "plain", seconds: float = 60, **rules: Any) -> BasicAuthorizer:
        def in_thread(work: Callable[[], bool]) -> bool:
            self.compared += 1
            return work()

        remembered = Remembered(seconds, self.clock)
        return BasicAuthorizer(self.login(kind=kind, **rules), remembered, in_thread=in_thread)

    def digest(self, kind: Any = "plain", algorithms: Any = ("SHA-256", "MD5"), **rules: Any) -> DigestAuthorizer:
        return DigestAuthorizer(self.login("digest", kind, **rules), Nonces(self.clock), algorithms)


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def allows(decision: Decision) -> str | None:
    """The user who was let through."""
    if isinstance(decision, Deny):
        assert decision.response.status_int == 401
        assert decision.response.headers.getall("WWW-Authenticate")
        return None
    assert isinstance(decision, Allow)
    return decision.variables[b"REMOTE_USER"].decode()
