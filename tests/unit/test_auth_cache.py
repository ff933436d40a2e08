"""What is kept of decisions, and for how long: Cache-Control, the cache, grants."""

from __future__ import annotations

from typing import Any

import pytest
import webob

from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.auth.cache import DecisionCache
from gfastcgi.auth.freshness import max_age, vary
from gfastcgi.auth.grants import Grants, parse_grant, without_grant
from gfastcgi.config import CacheConfig
from gfastcgi.config.paths import is_beneath

# Cache-Control


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"Cache-Control": "private"}, None),
        ({"Cache-Control": "public, MAX-AGE=30"}, 30),
        ({"cache-control": 'private, max-age="30"'}, 30),
        ({"Cache-Control": "max-age=30, s-maxage=10"}, 10),
        ({"Cache-Control": "max-age=30", "Age": "10"}, 20),
        ({"Cache-Control": "max-age=30", "Age": "31"}, 0),
        ({"Cache-Control": "max-age=30", "Age": "soon"}, 0),
        ({"Cache-Control": "max-age=30, No-Store"}, 0),
        ({"Cache-Control": "no-cache"}, 0),
        ({"Cache-Control": "max-age"}, 0),
        ({"Cache-Control": "max-age=-1"}, 0),
        ({"Cache-Control": "max-age=1e3"}, 0),
        ({"Cache-Control": "max-age = 30,, private"}, 30),
        ({"Cache-Control": "max-age = 0"}, 0),
        ({"Cache-Control": "max-age:0"}, 0),
        ({"Cache-Control": "max-age 0"}, 0),
        ({"Cache-Control": "no-store; max-age=0"}, 0),
        ({"Cache-Control": "private; no-store"}, 0),
        ({"Cache-Control": "no-cache;"}, 0),
        ({"Cache-Control": '"no-store"'}, 0),
        ({"Cache-Control": 'no-cache="set-cookie"'}, 0),
        ({"Cache-Control": 'max-age=9, private="a, b"'}, 0),
        ({"Vary": "Cookie, *"}, 0),
        ({"Age": "5"}, None),
        ({"Expires": "Thu, 19 Nov 1981 08:52:00 GMT"}, 0),
        ({"Expires": "Thu, 19 Nov 2099 08:52:00 GMT"}, 0),
        ({"Expires": "0"}, 0),
        ({"Pragma": "No-Cache"}, 0),
        ({"Pragma": "x"}, None),
        ({"Expires": "0", "Pragma": "no-cache", "Cache-Control": "private, max-age=5"}, 5),
    ],
)
def test_max_age(fields: dict[str, str], seconds: float | None) -> None:
    assert max_age(fields.items()) == seconds


def test_vary() -> None:
    fields = [("Vary", "Cookie, Accept-Language"), ("vary", "X-A,"), ("X-Vary", "no")]
    assert vary(fields) == (b"cookie", b"accept-language", b"x-a")


# The cache


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def cache(clock: Clock, *, stale: float = 0, **options: Any) -> DecisionCache:
    config = CacheConfig(key=(("cookie", "SID"),), **{"ttl": 60, "negative_ttl": 10, **options})
    return DecisionCache(config, vary=frozenset({b"cookie"}), stale_seconds=stale, clock=clock)


def no(status: int = 403, **fields: str) -> Deny:
    named = [(name.replace("_", "-"), value) for name, value in fields.items()]
    return Deny(webob.Response(status=status, headerlist=named, app_iter=[b"no"]))


YES = Allow({b"REMOTE_USER": b"bob"})


@pytest.mark.parametrize(
    ("decision", "seconds"),
    [
        (YES, 60),
        (Allow(max_age=5), 5),
        (Allow(max_age=500), 60),
        (Allow(vary=(b"cookie",)), 60),
        (no(), 10),
        (no(401), 10),
        (no(Cache_Control="max-age=5"), 5),
        (no(Vary="Cookie"), 10),
    ],
)
def test_kept_for_its_time(decision: Decision, seconds: float) -> None:
    clock = Clock()
    kept = cache(clock)
    result = kept.keep("k", decision, kept.generation)
    assert result is not None
    assert result[1] == seconds
    for moment in (0, seconds - 0.1):
        clock.now = 1000 + moment
        assert type(kept.find("k")) is type(decision)
    assert kept.find("other") is None
    clock.now = 1000 + seconds
    assert kept.find("k") is None
    assert kept.find_stale("k", "w") is None


@pytest.mark.parametrize(
    "decision",
    [
        Allow(max_age=0),
        Allow(response_headers=(("Set-Cookie", "a=1"),)),
        Allow(vary=(b"accept",)),
        Allow(vary=(b"cookie", b"accept")),
        no(404), no(302), no(503), no(200), no(429), no(500), no(304),
        no(Cache_Control="no-store"),
        no(Set_Cookie="a=1"),
        no(Vary="Accept"),
        Deny(webob.Response(status=403, body=b"x" * 65537)),
        Deny(webob.Response(status=403, app_iter=iter([b"x"]))),
    ],
)  # fmt: skip
def test_not_kept(decision: Decision) -> None:
    for stale in (0, 100):
        kept = cache(Clock(), stale=stale)
        kept.keep("k", YES, 0)
        assert kept.keep("k", decision, 0) is None
        assert (kept.find("k"), kept.find_stale("k", "w"), len(kept)) == (None, None, 0), "the earlier yes is gone, too"


def test_denials_are_kept_on_request_alone() -> None:
    kept = cache(Clock(), negative_ttl=0)
    assert kept.keep("k", no(), 0) is None
    assert kept.find("k") is None


def test_a_kept_denial_is_whole_each_time() -> None:
    kept = cache(Clock())
    kept.keep("k", no(401, WWW_Authenticate="Basic"), 0)
    for _ in range(2):
        found = kept.find("k")
        assert isinstance(found, Deny)
        response = found.response
        assert (response.status_int, response.headerlist) == (401, [("WWW-Authenticate", "Basic")])
        assert b"".join(response.app_iter) == b"no"
        response.headerlist.append(("X", "1"))


def test_the_latest_word_counts() -> None:
    kept = cache(Clock())
    kept.keep("k", YES, 0)
    kept.keep("k", no(), 0)
    assert isinstance(kept.find("k"), Deny)
    kept.keep("k", YES, 0)
    assert kept.find("k") is YES
    kept.forget("k")
    assert kept.find("k") is None


def test_bounded() -> None:
    kept = cache(Clock(), size=2)
    for key in "ab":
        kept.keep(key, YES, 0)
    kept.find("a")
    for key in "cde":
        kept.keep(key, no(), 0)
    assert kept.find("a") is kept.find("b") is YES, "denials drive nobody out"
    kept.find("a")
    kept.keep("f", YES, 0)
    assert [kept.find(key) is not None for key in "abcdef"] == [True, False, False, True, True, True]
    assert len(kept) == 4


def test_purge() -> None:
    kept = cache(Clock(), stale=100)
    before = kept.generation
    kept.keep("k", YES, before)
    kept.keep("d", no(), before)
    kept.purge()
    assert (kept.find("k"), kept.find("d"), kept.find_stale("k", "w"), len(kept)) == (None, None, None, 0)
    assert kept.keep("k", YES, before) is None, "it was asked for before the purge"
    assert kept.find("k") is None
    assert kept.keep("k", YES, kept.generation) is not None


def test_stale() -> None:
    clock = Clock()
    kept = cache(clock, stale=100)
    kept.keep("k", YES, 0)
    for moment, fresh, stale in ((0, YES, YES), (60, None, YES), (159, None, YES), (160, None, None)):
        clock.now = 1000 + moment
        assert (kept.find("k"), kept.find_stale("k", "w")) == (fresh, stale)


def test_stale_without_a_ttl() -> None:
    """ttl 0 asks every time, and still knows whom it let in."""
    clock = Clock()
    kept = cache(clock, stale=100, ttl=0)
    assert kept.keep("k", YES, 0) is None
    assert (kept.find("k"), kept.find_stale("k", "w")) == (None, YES)
    without = cache(clock, ttl=0)
    assert (without.keep("k", YES, 0), len(without)) == (None, 0)


def test_no_stale_after_a_refusal() -> None:
    clock = Clock()
    kept = cache(clock, stale=100)
    kept.keep("k", YES, 0)
    kept.keep("other", YES, 0)
    kept.refuse("w")
    assert kept.find_stale("k", "w") is None
    assert kept.find_stale("other", "v") is YES
    clock.now += 1
    kept.keep("k", YES, 0)
    assert kept.find_stale("k", "w") is YES


def test_too_many_refusals_count_for_all() -> None:
    clock = Clock()
    kept = cache(clock, stale=100, size=2)
    kept.keep("k", YES, 0)
    for who in "abc":
        kept.refuse(who)
    assert kept.find_stale("k", "w") is None
    clock.now += 1
    kept.keep("k", YES, 0)
    assert kept.find_stale("k", "w") is YES


def test_from_another_gateway() -> None:
    clock = Clock()
    kept = cache(clock)
    kept.put("k", YES, 1000)
    clock.now += 59
    assert kept.find("k") is YES
    clock.now += 1
    assert kept.find("k") is None, "never longer than is configured here"


# Grants


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"path=/maps/12/; ttl=300", ("/maps/12/", 300)),
        (b"ttl=300;path=/maps/12", ("/maps/12", 300)),
        (b"path=/maps/; ttl=99999", ("/maps/", 3600)),
        (b"path=/maps/a%20b%C3%bc/; ttl=1", ("/maps/a bü/", 1)),
        (b"path=/maps/a%3Bb; ttl=1", ("/maps/a;b", 1)),
    ],
)
def test_parse_grant(value: bytes, expected: tuple[str, int]) -> None:
    assert parse_grant(value, "/maps/", 3600) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"", b"/maps/", b"path=/maps/", b"ttl=5", b"path=/maps/; ttl=", b"path=/maps/; ttl=-1", b"path=/maps/; ttl=1.5",
        b"path=/; ttl=5", b"path=/other/; ttl=5", b"path=/mapsx/; ttl=5", b"path=/maps/../; ttl=5",
        b"path=/maps/../other/; ttl=5", b"path=//maps/; ttl=5", b"path=/maps/./x; ttl=5", b"path=/maps/%2e%2e/; ttl=5",
        b"path=/maps/%2fx; ttl=5", b"path=/maps/?x; ttl=5", b"path=http://a/maps/; ttl=5", b"path=*; ttl=5",
        b"path=maps/; ttl=5", b"path=/maps/; ttl=5; path=/maps/a/", b"path=/maps/; ttl=5; x=1", b"path=/maps/ ; ttl=5;",
        b"path=/maps/%; ttl=5", b"path=/maps/%00; ttl=5",
    ],
)  # fmt: skip
def test_no_grant(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"grant|beneath|path|target"):
        parse_grant(value, "/maps/", 3600)


def test_an_extension_grants_any_folder() -> None:
    assert parse_grant(b"path=/a/; ttl=5", ".php", 3600) == ("/a/", 5)


def test_a_grant_ends_at_a_slash() -> None:
    assert [path for path in ("/a", "/a/", "/a/b", "/ab", "/", "/b/a/") if is_beneath(path, "/a")] == [
        "/a",
        "/a/",
        "/a/b",
    ]
    assert [path for path in ("/a", "/a/", "/a/b", "/a//") if is_beneath(path, "/a/")] == ["/a/", "/a/b", "/a//"]


def test_grants_end() -> None:
    clock = Clock()
    grants = Grants(2, clock=clock)
    assert not grants
    grants.give("w", parse_grant(b"path=/a/; ttl=10", "/", 3600), YES)
    assert grants
    assert (grants.find("w", "/a/x"), grants.find("w", "/b"), grants.find("v", "/a/x")) == (YES, None, None)
    clock.now += 9.9
    assert grants.find("w", "/a/x") is YES
    clock.now += 0.1
    assert grants.find("w", "/a/x") is None
    grants.give("w", parse_grant(b"path=/a/; ttl=10", "/", 3600), YES)
    grants.give("w", parse_grant(b"path=/b/; ttl=10", "/", 3600), YES)
    grants.take_back("w", "/a/x/y")
    assert (grants.find("w", "/a/x"), grants.find("w", "/b/x")) == (None, YES)
    grants.take_back("w", "/b/")
    assert not grants
    grants.give("w", parse_grant(b"path=/a/; ttl=10", "/", 3600), YES)
    grants.purge()
    assert grants.find("w", "/a/x") is None


def test_grants_are_bounded() -> None:
    grants = Grants(2, clock=Clock())
    for who in "abc":
        for number in range(20):
            grants.give(who, parse_grant(b"path=/%d/; ttl=10" % number, "/", 3600), YES)
    assert [grants.find(who, "/19/") is YES for who in "abc"] == [False, True, True]
    assert [grants.find("c", f"/{number}/") is YES for number in range(20)] == [False] * 4 + [True] * 16


def test_a_grant_is_no_variable() -> None:
    allow = Allow({b"GFASTCGI_GRANT": b"path=/", b"A": b"1"}, (("Set-Cookie", "a"),), 5, (b"x",))
    assert without_grant(allow) == Allow({b"A": b"1"}, (("Set-Cookie", "a"),), 5, (b"x",))
    assert without_grant(YES) is YES
