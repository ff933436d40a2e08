"""The options of decisions: what a file may say of them, and what is refused with its line."""

from __future__ import annotations

import pytest

from gfastcgi import assemble, lighttpd
from gfastcgi.config import CacheConfig, Config, HostConfig
from gfastcgi.errors import ConfigErrors

SITE = 'server.document-root = "/srv"\n'


def load(*options: str, mode: str = "authorizer", top: str = "") -> tuple[Config, list[str]]:
    lines = ",\n".join([f'"socket" => "/s", "mode" => "{mode}"', *options])
    config, warnings = lighttpd.loads(f'{SITE}{top}fastcgi.server = ( "/p/" => ((\n{lines} )) )\n', "s")
    return config, list(map(str, warnings))


def host_of(config: Config) -> HostConfig:
    return config.settings.extensions[0].hosts[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"ttl" => 60, "key" => ( "cookie:SID" )', CacheConfig(key=(("cookie", "SID"),))),
        (
            '"key" => ( "cookie:SID", "header:X-Key", "path", "prefix", "prefix:2", "query", "method", "address" ), '
            '"ttl" => 5, "negative-ttl" => 6, "grant-ttl" => 7, "size" => 8',
            CacheConfig(
                key=(
                    ("cookie", "SID"), ("header", "x-key"), ("path", ""), ("prefix", ""), ("prefix", "2"),
                    ("query", ""), ("method", ""), ("address", ""),
                ),
                ttl=5, negative_ttl=6, grant_ttl=7, size=8,
            ),
        ),
        ('"key" => ( "header:X-Token", "header:X-TOKEN" )', CacheConfig(key=(("header", "x-token"),))),
    ],
)  # fmt: skip
def test_cache(text: str, expected: CacheConfig) -> None:
    config, warnings = load(f'"cache" => ( {text} )')
    assert (host_of(config).cache, warnings) == (expected, [])
    again, _ = lighttpd.loads(lighttpd.render(config), "s")
    assert host_of(again).cache == expected
    assemble.build(config)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (['"cache" => ( "ttl" => 60 )'], 's:4: "cache": the key needs a credential'),
        (['"cache" => ( "key" => () )'], 's:4: "cache": the key needs a credential'),
        (['"cache" => ( "key" => ( "path", "address", "header:User-Agent" ) )'], 's:4: "cache": the key needs a crede'),
        (['"cache" => ( "key" => ( "header:X-Forwarded-For", "header:Upgrade" ) )'], 's:4: "cache": the key needs a c'),
        (['"cache" => ( "key" => ( "cookie:SID", "Path" ) )'], 's:4: "cache": the key has no part "Path"'),
        (['"cache" => ( "key" => ( "cookie:SID", "path:/x" ) )'], 's:4: "cache": the key has no part "path:/x"'),
        (['"cache" => ( "key" => ( "cookie:SID", "cookie" ) )'], 's:4: "cache": the key has no part "cookie"'),
        (['"cache" => ( "key" => ( "cookie:SID", "cookie:" ) )'], 's:4: "cache": the key has no part "cookie:"'),
        (['"cache" => ( "key" => ( "cookie:SID", "cookie:a b" ) )'], 's:4: "cache": the key has no part "cookie:a b"'),
        (['"cache" => ( "key" => ( "cookie:SID", "prefix:0" ) )'], 's:4: "cache": the key has no part "prefix:0"'),
        (['"cache" => ( "key" => ( "cookie:SID", "prefix:x" ) )'], 's:4: "cache": the key has no part "prefix:x"'),
        (['"cache" => ( "key" => ( "cookie:SID" ), "tll" => 5 )'], 's:4: "cache": unknown option "tll"'),
        (['"cache" => ( "key" => ( "cookie:SID" ), "ttl" => "soon" )'], 's:4: "cache": "ttl" takes a number'),
        (['"cache" => ( "key" => ( "cookie:SID" ), "size" => 0 )'], 's:4: "cache": "size" takes a number'),
        (['"cache" => ( "key" => "cookie:SID" )'], 's:4: "cache": "key" takes a list of strings'),
        (['"cache" => 60'], 's:4: "cache" takes a list'),
        (['"cache" => ( "cookie:SID" )'], 's:4: "cache" takes a list'),
        (['"recheck" => 5', '"stale-allow" => 5'], 's:5: "stale-allow" needs "cache"'),
        (['"recheck" => "often"'], 's:4: "recheck" takes a number of seconds'),
        (['"independent" => "perhaps"'], 's:4: "independent" takes "enable" or "disable"'),
    ],
)
def test_faults(options: list[str], fault: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(*options)
    assert fault in str(caught.value)


def test_the_other_options() -> None:
    config, warnings = load(
        '"cache" => ( "key" => ( "cookie:SID" ) )', '"stale-allow" => 300', '"recheck" => 5', '"independent" => 1',
        top='fastcgi.authorizers = "any"\n',
    )  # fmt: skip
    host = host_of(config)
    assert (host.stale_allow, host.recheck, host.independent, config.settings.authorizers) == (300, 5, True, "any")
    assert warnings == []
    assert lighttpd.render(lighttpd.loads(lighttpd.render(config), "s")[0]) == lighttpd.render(config)


@pytest.mark.parametrize(
    "option",
    [
        '"cache" => ( "key" => ( "cookie:a" ) )',
        '"stale-allow" => 5',
        '"recheck" => 5',
        '"independent" => 1',
        '"mode-compat" => "lighttpd"',
    ],
)
def test_options_of_authorizers_alone(option: str) -> None:
    _, warnings = load(option, mode="responder")
    assert [warning for warning in warnings if 'is for a host with "mode" => "authorizer"' in warning] == warnings != []


@pytest.mark.parametrize("secret", ["", 'fastcgi.cache-secret = "' + "x" * 31 + '"\n'])
def test_sharing_needs_a_secret(secret: str) -> None:
    with pytest.raises(ConfigErrors, match=r"s:2: fastcgi\.cache-redis needs fastcgi\.cache-secret, of at least 32"):
        load(top=f'fastcgi.cache-redis = "redis://localhost"\n{secret}')
    load(top='fastcgi.cache-redis = "redis://localhost"\nfastcgi.cache-secret = "' + "x" * 32 + '"\n')
