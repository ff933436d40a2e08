"""What tells decisions apart, what is kept of them and for how long: keys, Cache-Control, the cache, grants."""

from __future__ import annotations

from typing import Any

import pytest
import webob
from filerig import ask as request_for

from gfastcgi.auth.base import Allow, Decision, Deny
from gfastcgi.auth.cache import DecisionCache
from gfastcgi.auth.freshness import max_age, vary
from gfastcgi.auth.grants import Grants, covers, parse_grant, without_grant
from gfastcgi.auth.hygiene import Hygiene
from gfastcgi.auth.keys import KeyMaker
from gfastcgi.config import CacheConfig
from gfastcgi.errors import InvalidValue
from gfastcgi.request import Peer, Request

SID = ("cookie", "SID")
T = ("cookie", "T")


def keys(*parts: tuple[str, str]) -> KeyMaker:
    return KeyMaker(CacheConfig(key=parts))


def with_peer(request: Request, address: str) -> Request:
    request.peer = Peer((address, 1), ("127.0.0.1", 80))
    return request


# Keys


@pytest.mark.parametrize(
    ("parts", "one", "other"),
    [
        ([SID], {"cookie": "SID=a"}, {"cookie": "SID=b"}),
        ([SID], {"cookie": "SID=a; SID=b"}, {"cookie": "SID=a"}),
        ([SID], {"cookie": "SID=a; SID=b"}, {"cookie": "SID=b; SID=a"}),
        ([SID], {"cookie": "SID=; SID=b"}, {"cookie": "SID=b"}),
        ([SID], {"cookie": "SID=a; SID="}, {"cookie": "SID=a"}),
        ([SID, ("cookie", "T")], {"cookie": "SID=a; T=b"}, {"cookie": "SID=a"}),
        ([SID, ("cookie", "T")], {"cookie": "SID=a"}, {"cookie": "T=a"}),
        ([("header", "authorization")], {"authorization": "x"}, {"authorization": "y"}),
        ([("cookie", "a"), ("header", "a")], {"cookie": "a=x"}, {"a": "x"}),
        ([("header", "a"), ("header", "b")], {"a": "x"}, {"b": "x"}),
        ([("header", "cookie")], {"cookie": "SID=a; x=1"}, {"cookie": "SID=a; x=2"}),
        ([SID, ("header", "cookie")], {"cookie": "SID=a; x=1"}, {"cookie": "SID=a; x=2"}),
        ([SID, ("header", "accept")], {"cookie": "SID=a", "accept": "x"}, {"cookie": "SID=a", "accept": "y"}),
        ([SID], {"cookie": "SID=" + "a" * 2000}, {"cookie": "SID=" + "a" * 1999}),
        # What a program may read as another cookie T: PHP decodes names, CGI.pm ends at commas, Python at blanks.
        ([SID, T], {"cookie": "SID=a; %54=mine; T=other"}, {"cookie": "SID=a; T=other"}),
        ([SID, T], {"cookie": "SID=a; T =mine; T=other"}, {"cookie": "SID=a; T=other"}),
        ([SID, T], {"cookie": "SID=a; x=1,T=mine; T=other"}, {"cookie": "SID=a; T=other"}),
        ([SID, T], {"cookie": "SID=a; x=1 T=mine; T=other"}, {"cookie": "SID=a; T=other"}),
        ([SID, T], {"cookie": 'SID=a; x="; T=mine; y="; T=other'}, {"cookie": "SID=a; T=mine; T=other"}),
        ([SID, T], {"cookie": "SID=a; x; T=other"}, {"cookie": "SID=a; T=other"}),
        ([SID, T], {"cookie": "SID=a; \xff=1; T=other"}, {"cookie": "SID=a; T=other"}),
        ([("cookie", "a_b"), T], {"cookie": "T=a; a.b=mine; a_b=other"}, {"cookie": "T=a; a_b=other"}),
    ],
)
def test_other_credentials_are_another_client(
    parts: list[tuple[str, str]], one: dict[str, str], other: dict[str, str]
) -> None:
    maker = keys(*parts)
    who = maker.who(request_for("/", **one))
    assert who is not None
    assert who == maker.who(request_for("/", **one))
    assert who != maker.who(request_for("/", **other))


def test_cookie_fields_are_read_as_one() -> None:
    """They are joined on the way to a program: what is odd in one of them may swallow what stands in the next."""
    maker = keys(SID)

    def who(*cookies: str) -> object:
        request = request_for("/")
        request.fields = [(b"cookie", cookie.encode()) for cookie in cookies]
        return maker.who(request)

    assert who("SID=a", "x=1") == who("SID=a; x=1") == who("SID=a")
    assert who('x="', "SID=a") != who("SID=a")
    assert who("SID=a", 'x="; SID=b') == who('SID=a; x="; SID=b') != who("SID=a", 'x=","; SID=b')


def test_an_odd_spelling_in_a_cookie_field_of_its_own_counts() -> None:
    maker, request = keys(SID, T), request_for("/", cookie="SID=a; T=other")
    plain = maker.who(request)
    request.fields = [(b"cookie", b"%54=mine"), *request.fields]
    assert maker.who(request) not in (plain, None)


def test_a_name_of_the_operators_is_not_odd() -> None:
    maker = keys(("cookie", "connect.sid"))
    who = maker.who(request_for("/", cookie="connect.sid=a"))
    assert who is not None
    assert who == maker.who(request_for("/", cookie="x.y=2; connect.sid=a"))


@pytest.mark.parametrize("options", ["x-tenant", "close, X-Tenant", "keep-alive,\tx-tenant"])
def test_nothing_is_kept_under_a_field_that_connection_takes_away(options: str) -> None:
    """The authorizer does not see it, so it has decided about another request."""
    maker = keys(SID, ("header", "x-tenant"))
    fields = {"cookie": "SID=a", "x_tenant": "other"}
    assert maker.who(request_for("/", **fields, connection="keep-alive, x-other")) is not None
    assert maker.who(request_for("/", **fields, connection=options)) is None


def test_what_an_answer_may_vary_by() -> None:
    assert keys(SID, ("header", "accept")).vary == {b"cookie", b"host", b"accept"}
    assert keys(("header", "x-token"), ("path", "")).vary == {b"host", b"x-token"}


def test_a_client_does_not_choose_the_size_of_a_key() -> None:
    maker = keys(SID, ("header", "x"))
    for fields in ({"cookie": "SID=" + "a" * 8000}, {"cookie": "SID=a", "x": "b" * 8000}):
        assert len(repr(maker.who(request_for("/", **fields)))) < 300
    short = maker.who(request_for("/", cookie="SID=a", x="b"))
    assert short is not None
    assert short[-2:] == ((b"header", b"x", b"b"), (b"SID", b"a"))


def test_every_value_of_a_field_counts() -> None:
    maker = keys(("header", "a"))
    twice = request_for("/", a="x")
    twice.fields = [*twice.fields, (b"a", b"y")]
    assert maker.who(twice) not in (maker.who(request_for("/", a="x")), maker.who(request_for("/", a="y")))


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ([SID], {}),
        ([SID], {"cookie": "SID="}),
        ([SID], {"cookie": "SID=; x=1"}),
        ([SID], {"cookie": 'SID=""'}),
        ([SID], {"cookie": 'SID= \t"" ; x=1'}),
        ([SID], {"cookie": "XSID=a; sid=b; SID"}),
        ([SID], {"x": "SID=a"}),
        ([("header", "authorization")], {"authorization": ""}),
        ([SID, ("header", "user-agent")], {"user-agent": "browser"}),
    ],
)
def test_without_a_credential_nothing_is_kept(parts: list[tuple[str, str]], fields: dict[str, str]) -> None:
    assert keys(*parts).who(request_for("/", **fields)) is None


def test_a_credential_that_the_site_lets_through_is_one() -> None:
    """`fastcgi.allow-fields` makes a variable of the field, which a front sets for each of its users."""
    maker = keys(("header", "remote-user"), ("header", "user-agent"))

    def who(user: str) -> object:
        request = request_for("/", remote_user=user, connection="keep-alive")
        Hygiene((), ("Remote-User",), clock=lambda: 0.0, tell=lambda *_: None).apply(request)
        assert request.field(b"remote-user") is None
        return maker.who(request)

    assert who("ann") == who("ann") != who("bob")
    assert None not in (who("ann"), who("bob"))
    assert who("") is None
    request = request_for("/")
    request.variables[b"HTTP_USER_AGENT"] = b"browser"
    assert maker.who(request) is None


@pytest.mark.parametrize("cookie", ["SID=a", "x=1; SID=a", "x=1;SID=a;y=2", "x=;  SID=a;", "SID=a; XSID=b=1"])
def test_a_cookie_among_others(cookie: str) -> None:
    maker = keys(SID)
    assert maker.who(request_for("/", cookie=cookie)) == maker.who(request_for("/", cookie="SID=a; other=2"))


def test_what_always_counts() -> None:
    """The host, and what earlier authorizers said."""
    maker = keys(SID)
    who = maker.who(request_for("/", cookie="SID=a"))
    elsewhere, known = request_for("/", cookie="SID=a"), request_for("/", cookie="SID=a")
    elsewhere.authority = "other.example"
    known.variables = {b"REMOTE_USER": b"bob"}
    swapped = request_for("/", cookie="SID=a")
    swapped.variables = {b"B": b"2", b"A": b"1"}
    again = request_for("/", cookie="SID=a")
    again.variables = {b"A": b"1", b"B": b"2"}
    assert len({who, maker.who(elsewhere), maker.who(known), maker.who(swapped)}) == 4
    assert maker.who(swapped) == maker.who(again)


@pytest.mark.parametrize(
    ("part", "one", "same", "other"),
    [
        (("path", ""), "/a/b?x", "/a/b?y", "/a/c?x"),
        (("query", ""), "/a?x", "/b?x", "/a?y"),
        (("prefix", ""), "/a/b", "/a/c", "/b/b"),
        (("prefix", "2"), "/a/b/c/d", "/a/b/x", "/a/c/c/d"),
        (("prefix", "2"), "/a/b", "/a/b/", "/a/bb"),
    ],
)
def test_what_of_the_target_counts(part: tuple[str, str], one: str, same: str, other: str) -> None:
    maker = keys(SID, part)
    assert maker.has_where
    assert maker.where(request_for(one)) == maker.where(request_for(same)) != maker.where(request_for(other))


def test_only_what_is_named_counts() -> None:
    maker = keys(SID)
    one = with_peer(request_for("/a?x", "GET", cookie="SID=a"), "192.0.2.1")
    other = with_peer(request_for("/b?y", "POST", cookie="SID=a", accept="x"), "192.0.2.2")
    assert (maker.who(one), maker.where(one)) == (maker.who(other), maker.where(other))
    for part in (("address", ""), ("method", "")):
        assert keys(SID, part).who(one) != keys(SID, part).who(other)


@pytest.mark.parametrize("parts", [[], [("path", "")], [("header", "user-agent"), ("address", "")]])
def test_a_key_without_a_credential_is_refused(parts: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidValue, match="credential"):
        keys(*parts)


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
    config = CacheConfig(key=(SID,), **{"ttl": 60, "negative_ttl": 10, **options})
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
    assert [path for path in ("/a", "/a/", "/a/b", "/ab", "/", "/b/a/") if covers("/a", path)] == ["/a", "/a/", "/a/b"]
    assert [path for path in ("/a", "/a/", "/a/b", "/a//") if covers("/a/", path)] == ["/a/", "/a/b", "/a//"]


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
