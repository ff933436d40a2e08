"""What tells kept decisions apart: whose credentials count, how they are read, and what of the target."""

from __future__ import annotations

import pytest
from filerig import ask as request_for

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
