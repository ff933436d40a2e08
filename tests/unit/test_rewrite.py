"""Rewriting, redirecting, and the regular expressions under both."""

from __future__ import annotations

import pytest

from gfastcgi.config import Condition, RewriteRule, Where
from gfastcgi.errors import BadRequest, InvalidValue, LocalProtocolError
from gfastcgi.patterns import Pattern, is_linear
from gfastcgi.rewrite import Origin, Redirector, Rewriter

ORIGIN = Origin("https", "example.org:8443", 8443)
HOST = Condition('HTTP["host"]', "=~", "^(.*)$")


def rewrite(
    target: str, *rules: RewriteRule, files: tuple[str, ...] = (), if_not_file: tuple[RewriteRule, ...] = ()
) -> str | None:
    return Rewriter(rules, if_not_file).apply(target, {HOST: ("a.b", "a", "b")}, files.__contains__, ORIGIN)


def once(pattern: str, replacement: str) -> RewriteRule:
    return RewriteRule(pattern, replacement)


def repeat(pattern: str, replacement: str) -> RewriteRule:
    return RewriteRule(pattern, replacement, once=False)


@pytest.mark.parametrize(
    ("target", "rules", "expected"),
    [
        ("/myapp/", [once("^/myapp/$", "/myapp/index.php")], "/myapp/index.php"),
        ("/myapp/x", [once("^/myapp/$", "/myapp/index.php")], None),
        ("/a/b?c=d", [once(r"^/(\w+)/(\w+)\?(.*)", "/$2/$1?$3&all=$0")], "/b/a?c=d&all=/a/b?c=d"),
        ("/a", [once("^/(a)(b)?", "/x$2y$3z$1")], "/xyza"),
        ("/a", [once("^/a", "/b"), once("^/b", "/c")], "/b"),
        ("/a", [once("^/b", "/c"), once("^/a", "/d")], "/d"),
        ("/a", [once("^/a", ""), once("^/", "/x")], None),
        ("/a", [once("^/a", "/a")], None),
        ("/aaa", [repeat("^(/a*)a(b*)$", "$1${2}b")], "/bbb"),
        ("/a", [repeat("^/a", "/b"), once("^/b", "/c")], "/c"),
        ("/a", [once("^/a", "/$$1%%2%a$")], "/$1%2%a$"),
        ("/a%2fb", [once("%2f", "/x")], None),
        ("/a%2Fb", [once("%2f", "/x")], "/x"),
        ("/%C3%A9", [once("^/é", "/e")], "/e"),
        ("/x", [once("^/(.)", "/ü $1")], "/%C3%BC%20x"),
    ],
)
def test_rewriting(target: str, rules: list[RewriteRule], expected: str | None) -> None:
    assert rewrite(target, *rules) == expected


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        ("${url.scheme}://${url.authority}${url.path}?${url.query}", "https://example.org:8443/a/B%20c?q=1"),
        ("/${url.port}/${url.nothing}", "/8443/"),
        ("/x${qsa}", "/x?q=1"),
        ("/x?y${qsa}", "/x?y&q=1"),
        ("/${1}", "/a/B%20c"),
        ("/${esc:1}", "/a%2FB%2520c"),
        ("/${escape:1}", "/a%2FB%2520c"),
        ("/${escnde:1}", "/a%2FB%20c"),
        ("/${escpsnde:1}", "/a/B%20c"),
        ("/${noesc:1}", "/a/B%20c"),
        ("/${tolower:1}", "/a/b%20c"),
        ("/${noesc:toupper:1}", "/A/B%20C"),
        ("/${encb64u:2}", "/cT0x"),
        ("/${decb64u:${", "/$%7Bdecb64u:$%7B"),
        ("/${unknown:1}", "/a/B%20c"),
        ("/${99}", "/"),
    ],
)
def test_what_stands_in_braces(replacement: str, expected: str) -> None:
    assert rewrite("/a/B%20c?q=1", once(r"^/([^?]*)\?(.*)", replacement)) == expected


def test_base64_there_and_back() -> None:
    assert rewrite("/L2E_Yg", once("^/(.*)", "${decb64u:1}")) == "/a?b"
    assert rewrite("/A", once("^/(.*)", "/x${decb64u:1}")) == "/x"


def test_captures_of_the_condition_around_a_rule() -> None:
    assert rewrite("/", RewriteRule("", "/%2/%1/%{esc:0}/%7", condition=HOST)) == "/b/a/a.b/"
    assert rewrite("/", once("", "/%1")) is None


def test_captures_cannot_break_out_of_a_line() -> None:
    rule = RewriteRule("", "http://%1/", condition=HOST)
    found = Redirector([rule]).apply("/", {HOST: ("", "a\r\nSet-Cookie: b=c\0\xff\udcff")}, ORIGIN)
    assert found == "http://a%0D%0ASet-Cookie:%20b=c%00%C3%BF%FF/"


def test_rules_for_what_is_no_file() -> None:
    rules = (once(r"^/([^?]*)", "/index.php/$1"),)
    assert rewrite("/a", if_not_file=rules) == "/index.php/a"
    assert rewrite("/a", if_not_file=rules, files=("/a",)) is None
    assert rewrite("/a", once("^/a", "/b"), if_not_file=rules) == "/b"
    assert rewrite("/a", once("^/a", ""), if_not_file=rules) == "/index.php/a"
    assert rewrite("/a", repeat("^/a", "/b"), if_not_file=rules) == "/index.php/b"


def test_the_file_system_is_asked_only_where_a_rule_wants_it() -> None:
    def never(target: str) -> bool:
        raise AssertionError(target)

    assert Rewriter([once("^/b", "/c")]).apply("/a", {}, never) is None
    assert Rewriter([once("^/a", "/c")], [once("", "/d")]).apply("/a", {}, never) == "/c"


def test_rewriting_without_end() -> None:
    with pytest.raises(LocalProtocolError, match="goes on after 100 rounds") as caught:
        rewrite("/a", repeat("^/", "/x"))
    assert caught.value.cause == "too_many_rewrites"


def test_what_is_no_regular_expression() -> None:
    rule = RewriteRule("(", "/", where=Where("s", 7))
    for make in (Rewriter, Redirector):
        with pytest.raises(InvalidValue, match=r's:7: the regular expression "\(" is at fault: missing \)'):
            make([rule])


@pytest.mark.parametrize(
    ("target", "pattern", "replacement", "expected"),
    [
        ("/a?b", "^/(.*)", "https://%1/$1", "https://a/a?b"),
        ("/a", "^/b", "/c", None),
        ("/a", "^/a", "", None),
        ("/a", "^", "https://${url.authority}${url.path}${qsa}", "https://example.org:8443/a"),
    ],
)
def test_redirecting(target: str, pattern: str, replacement: str, expected: str | None) -> None:
    rule = RewriteRule(pattern, replacement, condition=HOST)
    assert Redirector([rule]).apply(target, {HOST: ("a.b", "a", "b")}, ORIGIN) == expected


def test_no_rules() -> None:
    assert not Rewriter([])
    assert not Redirector([])
    assert Rewriter([], [once("a", "b")])
    assert Redirector([once("a", "b")])
    assert repr(Rewriter([once("a", "b")])) == "<Rewriter of 1 rules>"
    assert repr(Redirector([])) == "<Redirector of 0 rules>"


@pytest.mark.parametrize(
    "pattern",
    [
        "^/a", r"\.(php|inc)$", r"^/myapp/.+\.php$", "^www[.](.*)", "[*+?{(|]", r"\*\+\(", "^/x/?$", "^(?:a|b)$", "a.b",
        "",
    ],
)  # fmt: skip
def test_expressions_that_need_no_limit(pattern: str) -> None:
    assert is_linear(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$", "(a|aa)+$", "^(a|aa)*$", "^(a|b|ab){2,}$", "a+b", "^a|b.+c", "^a.*b.*c", "^a*a*$", "^a?a?a?a?b",
        "(a|b)(a|c)(a|d)", "(?i)x", "^a{1,9}b{1,9}", "(?<name>x)",
    ],
)  # fmt: skip
def test_expressions_that_are_watched(pattern: str) -> None:
    assert not is_linear(pattern)


def test_a_match_takes_no_longer_than_the_limit() -> None:
    with pytest.raises(BadRequest) as caught:
        rewrite("/" + "a" * 8000 + "!", once("^/(a+)+$", "/x"))
    assert caught.value.status_hint == 400


def test_patterns() -> None:
    assert Pattern("(?i)^A").search("abc") is not None
    assert Pattern("(?i)^A").search("b") is None
    assert Pattern(r"^\d$").search("\u0663") is None  # digits are ASCII, as in PCRE
    assert repr(Pattern("a")) == "<Pattern 'a'>"
