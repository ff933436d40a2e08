"""Conditionals, evaluated for requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gfastcgi import lighttpd, sites
from gfastcgi.config import Block, Settings
from gfastcgi.errors import BadRequest
from gfastcgi.sites import SiteTable

ROOT = 'server.document-root = "/srv"\nserver.tag = "none"\n'


@dataclass
class Peer:
    remote_addr: str = "192.0.2.7"
    scheme: str = "http"
    server_port: int = 8080
    socket: str = "0.0.0.0:8080"


@dataclass
class Asked:
    """A request, and how often each of its parts was looked at."""

    path: str = "/"
    query: str = ""
    authority: str = "example.org"
    method: str = "GET"
    peer: Peer = field(default_factory=Peer)
    fields: dict[bytes, bytes] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)

    def field(self, name: bytes) -> bytes | None:
        self.asked.append(name)
        return self.fields.get(name)


def table(text: str, built: list[Settings] | None = None) -> SiteTable[str]:
    def build(settings: Settings, blocks: Sequence[Block]) -> str:
        if built is not None:
            built.append(settings)
        return settings.server_tag or ""

    return SiteTable(lighttpd.loads(ROOT + text)[0], build)


def find(text: str, **request: Any) -> str:
    return table(text).find(Asked(**request))[0]


def holds(condition: str, **request: Any) -> bool:
    return find(f'{condition} {{ server.tag = "held" }}', **request) == "held"


def peer(**parts: Any) -> dict[str, Peer]:
    return {"peer": Peer(**parts)}


@pytest.mark.parametrize(
    ("condition", "request_", "expected"),
    [
        ('$HTTP["url"] == "/a"', {"path": "/a", "query": "x"}, True),
        ('$HTTP["url"] == "/a"', {"path": "/a/"}, False),
        ('$HTTP["url"] != "/a"', {"path": "/b"}, True),
        ('$HTTP["url"] != "/a"', {"path": "/a"}, False),
        ('$HTTP["url"] =~ "^/a/"', {"path": "/a/b"}, True),
        ('$HTTP["url"] =~ "^/a/"', {"path": "/b/a/"}, False),
        ('$HTTP["url"] !~ "^/a/"', {"path": "/b/a/"}, True),
        ('$HTTP["url"] !~ "^/a/"', {"path": "/a/"}, False),
        ('$HTTP["url"] =~ "(?i)\\.PHP$"', {"path": "/x.php"}, True),
        ('$HTTP["url"] =~ "^/(?!public)"', {"path": "/public/x"}, False),
        ('$HTTP["url"] =^ "/a"', {"path": "/ab"}, True),
        ('$HTTP["url"] =^ "/a"', {"path": "/b/a"}, False),
        ('$HTTP["url"] =$ ".php"', {"path": "/a.php"}, True),
        ('$HTTP["url"] =$ ".php"', {"path": "/a.php5"}, False),
        ('$HTTP["querystring"] == "a=1"', {"query": "a=1"}, True),
        ('$HTTP["request-method"] == "POST"', {"method": "POST"}, True),
        ('$HTTP["request-method"] =~ "^(GET|HEAD)$"', {"method": "POST"}, False),
        ('$HTTP["scheme"] == "https"', peer(scheme="https"), True),
        ('$HTTP["scheme"] == "https"', {}, False),
        ('$HTTP["cookie"] =~ "sid="', {"fields": {b"cookie": b"a=b; sid=1"}}, True),
        ('$HTTP["useragent"] =~ "curl"', {"fields": {b"user-agent": b"curl/8"}}, True),
        ('$HTTP["referer"] == ""', {}, True),
        ('$HTTP["language"] =^ "de"', {"fields": {b"accept-language": b"de-AT"}}, True),
        ('$REQUEST_HEADER["X-A"] == "b"', {"fields": {b"x-a": b"b"}}, True),
        ('$REQUEST_HEADER["X-A"] == "\xe9"', {"fields": {b"x-a": "\xe9".encode()}}, True),
        ('$REQUEST_HEADER["X-A"] != "b"', {}, True),
        # the port counts where both have one
        ('$HTTP["host"] == "example.org"', {"authority": "example.org:8080"}, True),
        ('$HTTP["host"] == "Example.org"', {}, True),
        ('$HTTP["host"] == "example.org."', {}, True),
        ('$HTTP["host"] != "example.org."', {}, False),
        ('$HTTP["host"] == "example.org:8080"', {}, True),
        ('$HTTP["host"] == "example.org:80"', {}, True),
        ('$HTTP["host"] == "example.org:080"', {}, True),
        ('$HTTP["host"] == "example.org:80"', {"authority": "example.org:81"}, False),
        ('$HTTP["host"] == "example.org:81"', {"authority": "example.org:81"}, True),
        ('$HTTP["host"] != "example.org:80"', {"authority": "example.org:81"}, True),
        ('$HTTP["host"] == "[0::1]"', {"authority": "[::1]"}, True),
        ('$HTTP["host"] =$ ".org."', {}, True),
        # a port that a client names takes no host away from an expression that has none
        ('$HTTP["host"] =~ "^example\\.org$"', {"authority": "example.org:81"}, True),
        ('$HTTP["host"] !~ "^(?:www\\.)?example\\.org$"', {"authority": "example.org:81"}, False),
        ('$HTTP["host"] =~ "^example\\.org:80$"', {"authority": "example.org:81"}, False),
        ('$HTTP["host"] =~ "^\\[::1\\]$"', {"authority": "[::1]:81"}, True),
        ('$HTTP["host"] == "[::1]"', {"authority": "[::1]:80"}, True),
        ('$HTTP["host"] == "[::1]"', {"authority": "[::1]"}, True),
        ('$HTTP["host"] == "[::1]:8080"', {"authority": "[::1]"}, True),
        ('$HTTP["host"] =$ ".org"', {"authority": "example.org:81"}, True),
        ('$HTTP["host"] != "example.org"', {"authority": "example.org:81"}, False),
        ('$HTTP["host"] =~ ":81$"', {"authority": "example.org:81"}, True),
        ('$HTTP["host"] == "x:8080"', {"authority": ""}, False),
        ('$HTTP["host"] == ""', {"authority": ""}, True),
        ('$HTTP["remoteip"] == "192.0.2.7"', {}, True),
        ('$HTTP["remoteip"] == "192.0.2.0/24"', {}, True),
        ('$HTTP["remoteip"] == "192.0.2.99/24"', {}, True),
        ('$HTTP["remoteip"] != "192.0.2.0/24"', {}, False),
        ('$HTTP["remoteip"] == "192.0.3.0/24"', {}, False),
        ('$HTTP["remoteip"] == "::/0"', {}, False),
        ('$HTTP["remoteip"] == "2001:db8::/32"', peer(remote_addr="2001:db8::9"), True),
        ('$HTTP["remoteip"] == "fe80::/10"', peer(remote_addr="fe80::1%eth0"), True),
        ('$HTTP["remoteip"] == "192.0.2.7"', peer(remote_addr="::ffff:192.0.2.7"), True),
        ('$HTTP["remoteip"] == "0.0.0.0/0"', peer(remote_addr=""), False),
        ('$HTTP["remoteip"] != "0.0.0.0/0"', peer(remote_addr=""), True),
        ('$HTTP["remoteip"] == "/run/s"', peer(remote_addr="/run/s"), True),
        ('$HTTP["remoteip"] =~ "^192\\."', {}, True),
        ('$SERVER["socket"] == ":8080"', {}, True),
        ('$SERVER["socket"] == ":8081"', {}, False),
        ('$SERVER["socket"] =~ ":8080$"', {}, True),
    ],
)  # fmt: skip
def test_conditions(condition: str, request_: dict[str, Any], expected: bool) -> None:
    assert holds(condition, **request_) is expected


CHAIN = """
$HTTP["host"] == "a" {
  server.tag = "a"
  $HTTP["url"] =^ "/x" { server.tag = "ax" } else $HTTP["url"] =^ "/y" { server.tag = "ay" } else { server.tag = "a-" }
}
else $HTTP["host"] == "b" { server.tag = "b" }
else { server.tag = "-" }
"""


@pytest.mark.parametrize(
    ("authority", "path", "expected"),
    [("a", "/x", "ax"), ("a", "/y", "ay"), ("a", "/z", "a-"), ("b", "/x", "b"), ("c", "/x", "-")],
)
def test_chains(authority: str, path: str, expected: str) -> None:
    assert find(CHAIN, authority=authority, path=path) == expected


def test_later_blocks_win() -> None:
    text = '$HTTP["url"] =^ "/" { server.tag = "first" }\n$HTTP["host"] =~ "." { server.tag = "second" }'
    assert find(text) == "second"
    assert find(text, authority="") == "first"


def test_settings_are_built_once_for_what_holds() -> None:
    built: list[Settings] = []
    found = table('$HTTP["url"] == "/a" { server.tag = "a" }\n$HTTP["url"] == "/b" { server.name = "b" }', built)
    assert [found.find(Asked(path=path))[0] for path in ("/", "/a", "/b", "/a", "/b", "/")] == [
        "none", "a", "none", "a", "none", "none",
    ]  # fmt: skip
    assert [(settings.server_tag, settings.server_name) for settings in built] == [
        ("none", ""), ("a", ""), ("none", "b"),
    ]  # fmt: skip


def test_what_is_built_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "MAX_CACHED", 2)
    built: list[Settings] = []
    found = table("\n".join(f'$HTTP["url"] == "/{n}" {{ server.tag = "{n}" }}' for n in range(4)), built)
    for _ in range(2):
        assert [found.find(Asked(path=f"/{n}"))[0] for n in range(5)] == ["0", "1", "2", "3", "none"]
    assert len(built) > 5


def test_without_conditionals_nothing_is_asked() -> None:
    found, captures = table("").find(None)  # type: ignore[arg-type]
    assert (found, captures) == ("none", {})


def test_a_condition_is_asked_once_and_only_when_needed() -> None:
    text = (
        '$HTTP["host"] == "a" { $HTTP["cookie"] =~ "x" { server.tag = "1" } }\n'
        '$HTTP["referer"] == "r" { server.tag = "2" }\n'
        '$HTTP["url"] == "/" { $HTTP["referer"] == "r" { server.name = "3" } }'
    )
    request = Asked()
    table(text).find(request)
    assert request.asked == [b"referer"]


def test_captures_belong_to_their_condition() -> None:
    config, _ = lighttpd.loads(
        ROOT + '$HTTP["host"] =~ "^(www)\\.(.*)" { url.redirect = ( "" => "%2" )\n'
        ' $HTTP["scheme"] == "http" { url.rewrite = ( "" => "%1%9" ) } }\n$HTTP["url"] =~ "^/(x)?" { server.tag = "t" }'
    )
    found = SiteTable(config, lambda settings, _: settings)
    settings, captures = found.find(Asked(authority="www.example.org", path="/"))
    assert captures == {settings.redirect[0].condition: ("www.example.org", "www", "example.org")}
    assert settings.rewrite[0].condition == settings.redirect[0].condition
    assert found.find(Asked(authority="example.org"))[1] == {}


def test_a_group_that_took_no_part_is_empty() -> None:
    config, _ = lighttpd.loads(ROOT + '$HTTP["url"] =~ "^/(x)?(y)" { url.rewrite = ( "" => "%1%2" ) }')
    assert list(SiteTable(config, lambda *_: None).find(Asked(path="/y"))[1].values()) == [("/y", "", "y")]


def test_a_regular_expression_that_never_ends_refuses_the_request() -> None:
    found = table('$HTTP["url"] =~ "^(a+)+$" { server.tag = "x" }')
    assert found.find(Asked(path="a" * 30))[0] == "x"
    with pytest.raises(BadRequest, match=r"8192 characters take more than 0\.05 s to match"):
        found.find(Asked(path="a" * 8191 + "b"))


def test_repr() -> None:
    assert repr(table(CHAIN)) == "<SiteTable of 6 blocks and 4 conditions>"
