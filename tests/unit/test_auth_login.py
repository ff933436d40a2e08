"""Basic and Digest: who passes, who waits, and what is remembered of whom."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from filerig import ask

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.basic import BasicAuthorizer, Remembered, parse_basic
from gfastcgi.auth.digest import DigestAuthorizer, Nonces, parse_digest
from gfastcgi.auth.login import Groups, Login
from gfastcgi.auth.passwords import Accounts, parse_accounts, parse_groups
from gfastcgi.auth.throttle import FORGIVEN_AFTER, LONGEST_DELAY, MOST_CLIENTS, MOST_WAITING, Throttle
from gfastcgi.auth.userfile import UserFile
from gfastcgi.config import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gfastcgi.auth.base import Decision
    from gfastcgi.request import Request

PASSWORDS = b"ann:secret\nbob:b\xc3\xb6b\n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
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
        return Login(requirement, users, groups, Throttle(self.clock), sleep=self.slept.append)

    def basic(self, kind: Any = "plain", seconds: float = 60, **rules: Any) -> BasicAuthorizer:
        def in_thread(work: Callable[[], bool]) -> bool:
            self.compared += 1
            return work()

        remembered = Remembered(seconds, self.clock)
        return BasicAuthorizer(self.login(kind=kind, **rules), remembered, in_thread=in_thread)

    def digest(self, kind: Any = "plain", algorithms: Any = ("SHA-256", "MD5"), **rules: Any) -> DigestAuthorizer:
        return DigestAuthorizer(self.login("digest", kind, **rules), Nonces(self.clock), algorithms)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


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


# Basic


def test_the_right_password(rig: Rig) -> None:
    guard = rig.basic()
    decision = guard.check(ask("/", **basic("bob", "böb")), "/")
    assert decision == Allow({b"REMOTE_USER": b"bob", b"AUTH_TYPE": b"Basic"})
    assert rig.slept == []


@pytest.mark.parametrize(
    "value",
    [
        "", "Basic", "Basic ", "Basic !!!", "Basic YW5u", "Basic OnNlY3JldA==", "Bearer YW5uOnNlY3JldA==",
        "Basic YW5uOnNlY3JldA==, Basic YW5uOnNlY3JldA==", "Basic YW5uOnNlY3JldA", "Digest YW5uOnNlY3JldA==",
        "Basic " + base64.b64encode(b"a\nnn:secret").decode(), "Basic " + base64.b64encode(b"ann\0:secret").decode(),
    ],
)  # fmt: skip
def test_what_is_no_password_is_asked_for(rig: Rig, value: str) -> None:
    decision = rig.basic().check(ask("/", **({"authorization": value} if value else {})), "/")
    assert allows(decision) is None
    assert isinstance(decision, Deny)
    assert decision.response.headers["WWW-Authenticate"] == 'Basic realm="the \\"realm\\"", charset="UTF-8"'
    assert rig.slept == [], "nobody guessed"


def test_the_parser() -> None:
    assert parse_basic(b"bAsIc " + base64.b64encode(b"a:b:c")) == (b"a", b"b:c")
    assert parse_basic(b"Basic " + base64.b64encode(b"a:")) == (b"a", b"")
    assert parse_basic(None) is None


def test_wrong_guesses_wait_longer_and_longer(rig: Rig) -> None:
    guard = rig.basic()
    for user, password in (
        ("ann", "x"),
        ("nobody", "secret"),
        ("ann", ""),
        ("ann", "Secret"),
        ("ann", "x"),
        ("ann", "x"),
    ):
        assert allows(guard.check(ask("/", **basic(user, password)), "/")) is None
    assert rig.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert allows(guard.check(ask("/", **basic("ann", "secret")), "/")) == "ann"
    assert len(rig.slept) == 6


@pytest.mark.parametrize(
    ("rules", "passing"),
    [
        ({"any_user": True}, {"ann", "bob"}),
        ({"users": ("ann",)}, {"ann"}),
        ({"users": ("ann", "bob", "cid")}, {"ann", "bob"}),
        ({"groups": ("staff",)}, {"bob"}),
        ({"groups": ("nobody",)}, set()),
        ({"hosts": ("127.0.0.0/8",)}, {"ann", "bob"}),
        ({"hosts": ("10.0.0.1", "::/0")}, set()),
        ({"hosts": ("10.0.0.1",), "users": ("ann",)}, {"ann"}),
        ({"any_user": False}, set()),
    ],
)
def test_the_rules(rig: Rig, rules: dict[str, Any], passing: set[str]) -> None:
    guard = rig.basic(**rules)
    asked = {"ann": "secret", "bob": "böb"}
    found = {user for user, password in asked.items() if allows(guard.check(ask("/", **basic(user, password)), "/"))}
    assert found == passing
    assert rig.slept == [], "a right password of somebody else is no guess"


@pytest.mark.parametrize(
    ("address", "passes"),
    [
        ("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("::ffff:10.0.0.2", False), ("::ffff:a00:1", True),
        ("fe80::1%eth0", True), ("fe80::2", False), ("::1", False), ("::10.0.0.1", False), ("", False), ("x", False),
    ],
)  # fmt: skip
def test_the_rule_of_addresses(rig: Rig, address: str, passes: bool) -> None:
    """An IPv4 client of an IPv6 socket is the one that `host=` names; a unix socket has no address."""
    request = ask("/", **basic("bob", "böb"))
    request.peer.remote_addr = address
    guard = rig.basic(hosts=("10.0.0.1", "fe80::1"))
    assert (allows(guard.check(request, "/")) == "bob") is passes


def test_a_file_that_cannot_be_read_lets_nobody_in(rig: Rig) -> None:
    guard = rig.basic(groups=("staff",))
    assert allows(guard.check(ask("/", **basic("bob", "böb")), "/")) == "bob"
    (rig.folder / "groups").unlink()
    with pytest.raises(FileNotFoundError):
        guard.check(ask("/", **basic("bob", "böb")), "/")
    (rig.folder / "users").unlink()
    (rig.folder / "users").mkdir()
    with pytest.raises(IsADirectoryError):
        guard.check(ask("/", **basic("bob", "böb")), "/")


SLOW = b"ann:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n"


def test_what_fitted_is_remembered_while_the_file_is_the_same(rig: Rig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd")
    for _ in range(3):
        assert allows(guard.check(ask("/", **basic("ann", "password")), "/")) == "ann"
    assert rig.compared == 1
    rig.clock.now += 61
    guard.check(ask("/", **basic("ann", "password")), "/")
    assert rig.compared == 2
    (rig.folder / "users").write_bytes(SLOW + b"bob:x\n")
    guard.check(ask("/", **basic("ann", "password")), "/")
    assert rig.compared == 3
    (rig.folder / "users").write_bytes(b"bob:x\n")
    assert allows(guard.check(ask("/", **basic("ann", "password")), "/")) is None


def test_what_did_not_fit_is_not_remembered(rig: Rig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd", seconds=0)
    for password in ("wrong", "wrong", "password", "password"):
        guard.check(ask("/", **basic("ann", password)), "/")
    assert rig.compared == 4


def test_an_unknown_user_costs_as_much_as_a_wrong_password(rig: Rig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd")
    assert allows(guard.check(ask("/", **basic("nobody", "password")), "/")) is None
    assert rig.compared == 1


def test_the_same_credentials_are_checked_once_at_a_time(rig: Rig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd")
    started = gevent.event.Event()
    inner = guard._in_thread

    def slowly(work: Callable[[], bool]) -> bool:
        started.wait()
        return inner(work)

    guard._in_thread = slowly
    asking = [gevent.spawn(guard.check, ask("/", **basic("ann", "password")), "/") for _ in range(20)]
    gevent.idle()
    started.set()
    gevent.joinall(asking, raise_error=True)
    assert [allows(each.value) for each in asking] == ["ann"] * 20
    assert rig.compared == 1


def test_a_slow_hash_does_not_hold_up_the_hub(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.folder / "users").write_bytes(b"ann:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n")
    guard = BasicAuthorizer(rig.login(kind="htpasswd"), Remembered(60))
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    counting = gevent.spawn(count)
    assert allows(guard.check(ask("/", **basic("ann", "myPassword")), "/")) == "ann"
    counting.kill()
    assert turns > 1


def test_remembered_is_bounded() -> None:
    remembered = Remembered(60, lambda: 0.0)
    first = remembered.name(1, b"ann", b"x")
    assert first != remembered.name(2, b"ann", b"x") != remembered.name(1, b"an", b"nx")
    remembered.add(first)
    for number in range(10_000):
        remembered.add(b"%d" % number)
    assert not remembered.has(first)
    assert remembered.has(b"9999")


# The throttle


def test_many_guesses_at_once_are_not_looked_at(rig: Rig) -> None:
    guard = rig.basic()
    login = guard._login
    release = gevent.event.Event()
    login._sleep = lambda seconds: release.wait()
    guessing = [gevent.spawn(guard.check, ask("/", **basic("ann", f"{n}")), "/") for n in range(MOST_WAITING + 3)]
    gevent.idle()
    answered = [each.value for each in guessing if each.ready()]
    assert [decision.response.status_int for decision in answered] == [429] * 3
    assert answered[0].response.headers["Retry-After"] == "5"
    release.set()
    gevent.joinall(guessing, raise_error=True)
    assert allows(guard.check(ask("/", **basic("ann", "secret")), "/")) == "ann"


def test_many_guesses_at_once_at_a_slow_hash_take_turns(rig: Rig) -> None:
    """None has failed while the first is held against the hash: the others are judged by what comes of that."""
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd")
    inner, release = guard._in_thread, gevent.event.Event()
    at_once: list[int] = []
    working = 0

    def slowly(work: Callable[[], bool]) -> bool:
        nonlocal working
        working += 1
        at_once.append(working)
        gevent.sleep(0)
        working -= 1
        return inner(work)

    guard._in_thread = slowly
    guard._login._sleep = lambda seconds: release.wait()
    guessing = [gevent.spawn(guard.check, ask("/", **basic("ann", f"{n}")), "/") for n in range(MOST_WAITING + 30)]
    gevent.idle()
    gevent.wait(guessing, count=30)
    assert [each.value.response.status_int for each in guessing if each.ready()] == [429] * 30
    assert (rig.compared, set(at_once)) == (MOST_WAITING, {1})
    release.set()
    gevent.joinall(guessing, raise_error=True)
    assert allows(guard.check(ask("/", **basic("ann", "password")), "/")) == "ann"


def test_the_throttle() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.fail("10.0.0.1") for _ in range(6)][-1] == LONGEST_DELAY
    assert throttle.is_busy("10.0.0.1")
    assert not throttle.is_busy("10.0.0.2")
    for _ in range(9):
        throttle.done("10.0.0.1")
    assert not throttle.is_busy("10.0.0.1")
    clock.now += FORGIVEN_AFTER + 1
    assert throttle.fail("10.0.0.1") == 0.25
    # A network of IPv6 is one client; an IPv4 client of an IPv6 socket is itself.
    delays = [
        throttle.fail(address) for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:10.0.0.1")
    ]
    assert delays == [0.25, 0.5, 0.25, 0.5]
    for number in range(MOST_CLIENTS):
        throttle.fail(f"c{number}")
    assert throttle.fail("2001:db8::1") == 0.25, "the oldest was forgotten"
    throttle.done("nobody")


# Digest

HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def challenges(decision: Decision) -> list[dict[str, str]]:
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 401
    found = []
    for value in decision.response.headers.getall("WWW-Authenticate"):
        assert value.startswith('Digest realm="the \\"realm\\"", qop="auth", ')
        found.append({name: word.strip('"') for name, word in re.findall(r"(\w+)=(\"[^\"]*\"|[\w-]+)", value[31:])})
    return found


def proof(
    challenge: dict[str, str], *, user: str = "ann", password: str = "secret", uri: str = "/a?b=c", method: str = "GET",
    count: int = 1, **changed: str,
) -> dict[str, str]:  # fmt: skip
    """The Authorization field of RFC 7616 section 3.4, made by these few lines alone."""

    def digest(text: str) -> str:
        return HASHES[challenge["algorithm"]](text.encode()).hexdigest()

    realm, nonce, nc = 'the "realm"', challenge["nonce"], f"{count:08x}"
    secret = digest(f"{user}:{realm}:{password}")
    response = digest(f"{secret}:{nonce}:{nc}:cn:auth:{digest(f'{method}:{uri}')}")
    words = {
        "username": f'"{user}"', "realm": '"the \\"realm\\""', "nonce": f'"{nonce}"', "uri": f'"{uri}"',
        "response": f'"{response}"', "algorithm": challenge["algorithm"], "cnonce": '"cn"', "nc": nc, "qop": "auth",
    }  # fmt: skip
    words = {name: word for name, word in {**words, **changed}.items() if word}
    return {"authorization": "Digest " + ", ".join(f"{name}={word}" for name, word in words.items())}


def asked(target: str = "/a?b=c", method: str = "GET", **fields: str) -> Request:
    return ask(target, method, **fields)


@pytest.mark.parametrize("number", [0, 1])
def test_a_proof(rig: Rig, number: int) -> None:
    guard = rig.digest()
    challenge = challenges(guard.check(asked(), "/"))[number]
    assert challenge["algorithm"] == ("SHA-256", "MD5")[number]
    decision = guard.check(asked(**proof(challenge)), "/")
    assert decision == Allow({b"REMOTE_USER": b"ann", b"AUTH_TYPE": b"Digest"})
    for count in (2, 4, 3, 0xFFFFFFFF):
        assert allows(guard.check(asked(**proof(challenge, count=count)), "/")) == "ann"
    assert allows(guard.check(asked("/%61?b=c", **proof(challenge, count=9, uri="/%61?b=c")), "/")) == "ann"
    assert rig.slept == []


@pytest.mark.parametrize(
    "changed",
    [
        {"password": "wrong"}, {"user": "nobody"}, {"response": '""'}, {"response": '"x"'}, {"method": "POST"},
        {"cnonce": '"other"'}, {"nc": "00000002"}, {"response": '"' + "0" * 64 + '"'},
    ],
)  # fmt: skip
def test_a_wrong_proof_waits(rig: Rig, changed: dict[str, str]) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    decision = guard.check(asked(**proof(challenge, **changed)), "/")
    assert [each.get("stale") for each in challenges(decision)] == [None, None]
    assert rig.slept == [0.25]


@pytest.mark.parametrize(
    "changed",
    [
        {"qop": ""}, {"qop": "auth-int"}, {"cnonce": ""}, {"nc": ""}, {"nc": "1"}, {"nc": "0000000g"}, {"nonce": ""},
        {"realm": '"other"'}, {"algorithm": "SHA-512"}, {"algorithm": "MD5-sess"}, {"username": ""},
        {"userhash": "true"}, {"x": '"unended'}, {"NONCE": '"a"'}, {"username": '"a\nnn"'},
    ],
)  # fmt: skip
def test_what_is_no_proof_is_asked_for(rig: Rig, changed: dict[str, str]) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    assert len(challenges(guard.check(asked(**proof(challenge, **changed)), "/"))) == 2
    assert rig.slept == []


@pytest.mark.parametrize("target", ["/a", "/a?b=d", "/b?b=c", "/"])
def test_a_proof_is_for_one_target(rig: Rig, target: str) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    decision = guard.check(asked(target, **proof(challenge)), "/")
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 400


def test_a_proof_is_for_one_request(rig: Rig) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    request = asked(**proof(challenge))
    assert allows(guard.check(request, "/")) == "ann"
    assert allows(guard.check(request, "/")) == "ann", "the same request, behind a local redirect or asked again"
    assert [each["stale"] for each in challenges(guard.check(asked(**proof(challenge)), "/"))] == ["true", "true"]
    assert rig.slept == []


@pytest.mark.parametrize("spoil", ["age", "forged", "other realm", "garbage", "no time"])
def test_a_stale_nonce(rig: Rig, spoil: str) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    if spoil == "age":
        rig.clock.now += 301
    elif spoil == "forged":
        challenge["nonce"] = "ff" + challenge["nonce"]
    elif spoil == "other realm":
        challenge["nonce"] = guard._nonces.make(b"other")
    else:
        challenge["nonce"] = {"garbage": "nonsense", "no time": "." + "0" * 32}[spoil]
    fresh = challenges(guard.check(asked(**proof(challenge)), "/"))[0]
    assert fresh["stale"] == "true"
    assert allows(guard.check(asked(**proof(fresh)), "/")) == "ann"


def test_a_nonce_of_another_gateway(rig: Rig) -> None:
    """The browser has the right password: it is told a nonce of ours, and does not ask its user."""
    there, here = rig.digest(), rig.digest()
    (challenge, *_) = challenges(there.check(asked(), "/"))
    (fresh, *_) = challenges(here.check(asked(**proof(challenge)), "/"))
    assert (fresh["stale"], rig.slept) == ("true", [])
    assert allows(here.check(asked(**proof(fresh)), "/")) == "ann"


def test_what_is_forgotten_is_stale(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfastcgi.auth.digest._MOST_USED", 3)
    nonces = Nonces(rig.clock)
    old = nonces.make(b"r")
    rig.clock.now += 1
    young = nonces.make(b"r")
    assert nonces.use(old, 1, b"r", "1")
    assert [nonces.use(young, count, b"r", "2") for count in (1, 2, 3)] == [True] * 3
    assert not nonces.use(old, 1, b"r", "3"), "what was forgotten is not good again"
    assert not nonces.use(old, 2, b"r", "3")
    assert not nonces.use(young, 3, b"r", "4")


def test_only_what_the_file_can_judge_is_offered(rig: Rig) -> None:
    secret = hashlib.md5(b'ann:the "realm":secret').hexdigest()
    (rig.folder / "users").write_text(f'ann:the "realm":{secret}\n')
    guard = rig.digest("htdigest")
    (challenge,) = challenges(guard.check(asked(), "/"))
    assert challenge["algorithm"] == "MD5"
    assert allows(guard.check(asked(**proof(challenge)), "/")) == "ann"
    challenge["algorithm"] = "SHA-256"
    assert len(challenges(guard.check(asked(**proof(challenge)), "/"))) == 1
    strict = rig.digest("htdigest", ("SHA-256",))
    assert [each["algorithm"] for each in challenges(strict.check(asked(), "/"))] == ["SHA-256"]
    (rig.folder / "users").unlink()
    with pytest.raises(FileNotFoundError):
        guard.check(asked(), "/")


def test_an_empty_secret_proves_nothing(rig: Rig) -> None:
    (rig.folder / "users").write_bytes(b"\n")
    guard = rig.digest("htdigest")
    for challenge in challenges(guard.check(asked(), "/")):
        assert len(challenges(guard.check(asked(**proof(challenge, user="", password="")), "/"))) == 2


def test_what_stands_for_an_unknown_users_secret_proves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = rig.digest(algorithms=["MD5"])
    (challenge,) = challenges(guard.check(asked(), "/"))
    secret = hashlib.md5(b'nobody:the "realm":guessed').hexdigest()
    monkeypatch.setattr("gfastcgi.auth.digest._UNREACHED", secret)
    decision = guard.check(asked(**proof(challenge, user="nobody", password="guessed")), "/")
    assert len(challenges(decision)) == 1


def test_nobody_proves_to_be_who_is_not_in_the_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with the secret that stands in for theirs."""
    secret = hashlib.sha256(b'nobody:the "realm":x').hexdigest()
    monkeypatch.setattr("gfastcgi.auth.digest._UNREACHED", secret)
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    assert challenges(guard.check(asked(**proof(challenge, user="nobody", password="x")), "/"))
    assert rig.slept == [0.25]


def test_names_in_any_letters() -> None:
    words = 'realm="r", nonce="n", uri="/", response="x", cnonce="c", nc=00000001, qop=auth'
    given = parse_digest(f"Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, {words}".encode())
    assert given is not None
    assert given["username"] == "Jäsøn Doe".encode()
    assert parse_digest(f"Digest username*=latin1''a, {words}".encode()) is None
    given = parse_digest(f'Digest username="a\\"b\\\\", {words}'.encode())
    assert given is not None
    assert given["username"] == b'a"b\\'
    assert parse_digest(b"Basic x") is parse_digest(None) is None
