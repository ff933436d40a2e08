"""Digest: whose proof holds, for which request, and how often."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest
from filerig import ask
from loginrig import LoginRig, allows

from gfastcgi.auth.base import Allow, Deny
from gfastcgi.auth.digest import Nonces, parse_digest

if TYPE_CHECKING:
    from pathlib import Path

    from gfastcgi.auth.base import Decision
    from gfastcgi.request import Request


@pytest.fixture
def rig(tmp_path: Path) -> LoginRig:
    return LoginRig(tmp_path)


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
def test_a_proof(rig: LoginRig, number: int) -> None:
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
def test_a_wrong_proof_waits(rig: LoginRig, changed: dict[str, str]) -> None:
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
def test_what_is_no_proof_is_asked_for(rig: LoginRig, changed: dict[str, str]) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    assert len(challenges(guard.check(asked(**proof(challenge, **changed)), "/"))) == 2
    assert rig.slept == []


@pytest.mark.parametrize("target", ["/a", "/a?b=d", "/b?b=c", "/"])
def test_a_proof_is_for_one_target(rig: LoginRig, target: str) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    decision = guard.check(asked(target, **proof(challenge)), "/")
    assert isinstance(decision, Deny)
    assert decision.response.status_int == 400


def test_a_proof_is_for_one_request(rig: LoginRig) -> None:
    guard = rig.digest()
    (challenge, _) = challenges(guard.check(asked(), "/"))
    request = asked(**proof(challenge))
    assert allows(guard.check(request, "/")) == "ann"
    assert allows(guard.check(request, "/")) == "ann", "the same request, behind a local redirect or asked again"
    assert [each["stale"] for each in challenges(guard.check(asked(**proof(challenge)), "/"))] == ["true", "true"]
    assert rig.slept == []


@pytest.mark.parametrize("spoil", ["age", "forged", "other realm", "garbage", "no time"])
def test_a_stale_nonce(rig: LoginRig, spoil: str) -> None:
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


def test_a_nonce_of_another_gateway(rig: LoginRig) -> None:
    """The browser has the right password: it is told a nonce of ours, and does not ask its user."""
    there, here = rig.digest(), rig.digest()
    (challenge, *_) = challenges(there.check(asked(), "/"))
    (fresh, *_) = challenges(here.check(asked(**proof(challenge)), "/"))
    assert (fresh["stale"], rig.slept) == ("true", [])
    assert allows(here.check(asked(**proof(fresh)), "/")) == "ann"


def test_what_is_forgotten_is_stale(rig: LoginRig, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_only_what_the_file_can_judge_is_offered(rig: LoginRig) -> None:
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


def test_an_empty_secret_proves_nothing(rig: LoginRig) -> None:
    (rig.folder / "users").write_bytes(b"\n")
    guard = rig.digest("htdigest")
    for challenge in challenges(guard.check(asked(), "/")):
        assert len(challenges(guard.check(asked(**proof(challenge, user="", password="")), "/"))) == 2


def test_what_stands_for_an_unknown_users_secret_proves_nothing(rig: LoginRig, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = rig.digest(algorithms=["MD5"])
    (challenge,) = challenges(guard.check(asked(), "/"))
    secret = hashlib.md5(b'nobody:the "realm":guessed').hexdigest()
    monkeypatch.setattr("gfastcgi.auth.digest._UNREACHED", secret)
    decision = guard.check(asked(**proof(challenge, user="nobody", password="guessed")), "/")
    assert len(challenges(decision)) == 1


def test_nobody_proves_to_be_who_is_not_in_the_file(rig: LoginRig, monkeypatch: pytest.MonkeyPatch) -> None:
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
