"""Basic: who passes, who waits, and what is remembered of whom."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from filerig import ask
from loginrig import Clock, LoginRig, allows, basic

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.basic import BasicAuthorizer, Remembered, parse_basic
from gfastcgi.auth.throttle import FORGIVEN_AFTER, LONGEST_DELAY, MOST_CLIENTS, MOST_WAITING, Throttle
from gfastcgi.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def rig(tmp_path: Path) -> LoginRig:
    return LoginRig(tmp_path)


def test_the_right_password(rig: LoginRig) -> None:
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
def test_what_is_no_password_is_asked_for(rig: LoginRig, value: str) -> None:
    decision = rig.basic().check(ask("/", **({"authorization": value} if value else {})), "/")
    assert allows(decision) is None
    assert isinstance(decision, Deny)
    assert decision.response.headers["WWW-Authenticate"] == 'Basic realm="the \\"realm\\"", charset="UTF-8"'
    assert rig.slept == [], "nobody guessed"


def test_the_parser() -> None:
    assert parse_basic(b"bAsIc " + base64.b64encode(b"a:b:c")) == (b"a", b"b:c")
    assert parse_basic(b"Basic " + base64.b64encode(b"a:")) == (b"a", b"")
    assert parse_basic(None) is None


def test_wrong_guesses_wait_longer_and_longer(rig: LoginRig) -> None:
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
def test_the_rules(rig: LoginRig, rules: dict[str, Any], passing: set[str]) -> None:
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
def test_the_rule_of_addresses(rig: LoginRig, address: str, passes: bool) -> None:
    """An IPv4 client of an IPv6 socket is the one that `host=` names; a unix socket has no address."""
    request = ask("/", **basic("bob", "böb"))
    request.peer.remote_addr = address
    guard = rig.basic(hosts=("10.0.0.1", "fe80::1"))
    assert (allows(guard.check(request, "/")) == "bob") is passes


def test_a_file_that_cannot_be_read_lets_nobody_in(rig: LoginRig) -> None:
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


def test_what_fitted_is_remembered_while_the_file_is_the_same(rig: LoginRig) -> None:
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


def test_what_did_not_fit_is_not_remembered(rig: LoginRig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd", seconds=0)
    for password in ("wrong", "wrong", "password", "password"):
        guard.check(ask("/", **basic("ann", password)), "/")
    assert rig.compared == 4


def test_an_unknown_user_costs_as_much_as_a_wrong_password(rig: LoginRig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd")
    assert allows(guard.check(ask("/", **basic("nobody", "password")), "/")) is None
    assert rig.compared == 1


def test_the_same_credentials_are_checked_once_at_a_time(rig: LoginRig) -> None:
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
    rig = LoginRig(tmp_path)
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


def test_many_guesses_at_once_are_not_looked_at(rig: LoginRig) -> None:
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
    rig.clock.now += LONGEST_DELAY
    assert allows(guard.check(ask("/", **basic("ann", "secret")), "/")) == "ann"


@pytest.mark.parametrize("kind", ["plain", "htpasswd"])
def test_a_guess_waits_when_its_client_does_not(rig: LoginRig, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever hangs up on a late answer has learned by then that it is a no; and leaves a trace."""
    if kind == "htpasswd":
        (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic(kind)
    guard._login._sleep = gevent.sleep
    for number in range(MOST_WAITING):
        guessing = gevent.spawn(guard.check, ask("/", **basic("ann", f"{number}" * 99)), "/")
        while len(caplog.records) == number:
            gevent.sleep(0)
        guessing.kill(ClientClosed)
    for number in range(3):
        decision = guard.check(ask("/", **basic("ann", f"other {number}")), "/")
        assert isinstance(decision, Deny)
        assert decision.response.status_int == 429
    assert len(caplog.records) == MOST_WAITING
    assert "from 127.0.0.1 for /: 'ann': no such user, or not with this password" in caplog.messages[0]
    rig.clock.now += LONGEST_DELAY
    assert allows(guard.check(ask("/", **basic("ann", "secret" if kind == "plain" else "password")), "/")) == "ann"


def test_a_client_that_leaves_during_a_slow_hash_keeps_its_turn(rig: LoginRig) -> None:
    (rig.folder / "users").write_bytes(SLOW)
    guard = rig.basic("htpasswd")
    release, working = gevent.event.Event(), [0]

    def slowly(work: Callable[[], bool]) -> bool:
        working[0] += 1
        release.wait()
        return work()

    guard._in_thread = slowly
    for number in range(9):
        guessing = gevent.spawn(guard.check, ask("/", **basic("ann", f"{number}")), "/")
        gevent.idle()
        guessing.kill(ClientClosed)
    assert working == [1], "the next one is not begun before its thread is done"
    release.set()
    assert allows(guard.check(ask("/", **basic("ann", "password")), "/")) == "ann"


def test_many_guesses_at_once_at_a_slow_hash_take_turns(rig: LoginRig) -> None:
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
    rig.clock.now += LONGEST_DELAY
    assert allows(guard.check(ask("/", **basic("ann", "password")), "/")) == "ann"


def test_the_throttle() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.fail("10.0.0.1") for _ in range(6)][-1] == LONGEST_DELAY
    assert throttle.is_busy("10.0.0.1")
    assert not throttle.is_busy("10.0.0.2")
    # They are due after 0.25, 0.5, 1, 2, 4 and 4 s.
    clock.now += 1.0
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
