"""auth.require, and authorizers that are no FastCGI programs: what is understood, and every slip of the pen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gfastcgi import assemble, lighttpd
from gfastcgi.cli import command
from gfastcgi.config import Requirement
from gfastcgi.elsewhere import identity_fields
from gfastcgi.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from pathlib import Path

    from gfastcgi.config import Config

HEAD = 'server.document-root = "/www"\n'


def load(text: str) -> Config:
    config, warnings = lighttpd.loads(HEAD + text, "s")
    assert warnings == []
    return config


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as failure:
        lighttpd.loads(HEAD + text, "s")
    return str(failure.value)


def requirement(words: str) -> str:
    return f'auth.require = ( "/a/" => ( {words} ) )'


WORDS = '"method" => "basic", "realm" => "r", "require" => '


def test_a_requirement() -> None:
    text = """
        auth.backend = "htdigest"
        auth.backend.htdigest.userfile = "/etc/users"
        auth.backend.plain.groupfile = "/etc/groups"
        auth.cache = ( "max-age" => 30 )
        auth.require = (
            "/a/" => ( "method" => "basic", "realm" => "a realm", "require" => "valid-user" ),
            "" => ( "method" => "Digest", "realm" => "r", "algorithm" => "MD5",
                    "require" => "user=ann|user=bob| group=x |host=10.0.0.0/8" ),
        )
    """
    config = load(text)
    settings = config.settings
    assert settings.auth_require == (
        Requirement(prefix="/a/", method="basic", realm="a realm", any_user=True),
        Requirement(
            prefix="", method="digest", realm="r", users=("ann", "bob"), groups=("x",), hosts=("10.0.0.0/8",),
            algorithms=("MD5",),
        ),
    )  # fmt: skip
    assert (settings.auth_backend, settings.auth_htdigest_userfile, settings.auth_cache) == (
        "htdigest",
        "/etc/users",
        30,
    )
    again = lighttpd.loads(lighttpd.render(config), "again")[0].settings
    assert (again.auth_require, again.auth_cache) == (settings.auth_require, 30)
    assemble.build(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('auth.require = "x"', "auth.require takes requirements like"),
        ('auth.require = ( "x" )', "a requirement looks like"),
        ('auth.require = ( "/a" => "x" )', "a requirement looks like"),
        ('auth.require = ( ".php" => ( ) )', '".php" does not begin with "/"'),
        (requirement(WORDS + '"valid-user"').replace("/a/", "/a%20b/"), 'no path has "/a%20b/": paths are decoded'),
        (requirement('"realm" => "r", "require" => "valid-user"'), '"/a/": lacks "method"'),
        (requirement('"method" => "basic", "require" => "valid-user"'), '"/a/": lacks "realm"'),
        (requirement('"method" => "basic", "realm" => "r"'), '"/a/": lacks "require"'),
        (
            requirement('"method" => "ntlm", "realm" => "r", "require" => "valid-user"'),
            '"method" is "basic" or "digest"',
        ),
        (requirement(WORDS + '""'), '"require" takes a string'),
        (requirement(WORDS + '"valid-users"'), '"require" is made of'),
        (requirement(WORDS + '"valid-user|"'), '"require" is made of'),
        (requirement(WORDS + '"user="'), '"require" is made of'),
        (requirement(WORDS + '"user"'), '"require" is made of'),
        (requirement(WORDS + '"users=ann"'), '"require" is made of'),
        (requirement(WORDS + '"host=example.org"'), '"host=" takes an address or a network'),
        (requirement(WORDS + '"valid-user", "algorithm" => "MD5-sess"'), '"algorithm" is made of'),
        (requirement(WORDS + '"valid-user", "realms" => "x"'), 'unknown option "realms"; the nearest known is "realm"'),
        (requirement('"method" => "basic", "require" => "valid-user", "realm" => "a\nb"'), '"realm" takes a string'),
        ('auth.backend = "ldap"', "auth.backend takes one of"),
        ('auth.backend.ldap.hostname = "h"', "auth.backend.ldap.hostname is not served yet, and serving without it"),
        ('auth.extern-authn = "enable"', "auth.extern-authn is not served yet, and serving without it"),
        ('auth.cache = ( "max-age" => "x" )', "auth.cache takes a list"),
        ('auth.cache = ( "min-age" => 1 )', "auth.cache takes a list"),
        ('fastcgi.allow-fields = ( "Proxy" )', "fastcgi.allow-fields takes names of fields"),
        ('fastcgi.allow-fields = ( "X_Accel_Mapping" )', "fastcgi.allow-fields takes names of fields"),
        ('fastcgi.allow-fields = ( "a b" )', "fastcgi.allow-fields takes names of fields"),
        ('fastcgi.cache-redis = "http://127.0.0.1"', "fastcgi.cache-redis takes a URL like"),
        ('fastcgi.cache-redis = "redis://127.0.0.1:port"', "fastcgi.cache-redis takes a URL like"),
        ('fastcgi.cache-redis = "unix:"', "fastcgi.cache-redis takes a URL like"),
    ],
)
def test_faults(text: str, expected: str) -> None:
    message = fault(text)
    assert expected in message
    assert message.startswith("s:2: ")


def all_faults(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as failure:
        lighttpd.loads(HEAD + text, "s")
    return [str(error).replace("auth.require: ", "") for error in failure.value.errors]


RULES = 'is made of "valid-user", "user=...", "group=..." and "host=...", found'


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            '"method" => "ntlm",\n"realm" => "r",\n"require" => "valid-users"',
            ['3: "/a/": "method" is "basic" or "digest", found "ntlm"', f'5: "/a/": "require" {RULES} "valid-users"'],
        ),
        (
            '"method" => "ntlm",\n"realm" => "r",\n"requir" => "valid-user"',
            [
                '2: "/a/": lacks "require"',
                '3: "/a/": "method" is "basic" or "digest", found "ntlm"',
                '5: "/a/": unknown option "requir"; the nearest known is "require"',
            ],
        ),
        (
            '"method" => "basic",\n"realm" => 5,\n"require" => ""',
            ['4: "/a/": "realm" takes a string, found 5', '5: "/a/": "require" takes a string, found ""'],
        ),
        (
            '"method" => "basic",\n"realm" => "r",\n"require" => "users=a|user=b|host=c|d", "algorithm" => "MD4"',
            [
                f'5: "/a/": "require" {RULES} "users=a"',
                '5: "/a/": "require": "host=" takes an address or a network, found "c"',
                f'5: "/a/": "require" {RULES} "d"',
                '5: "/a/": "algorithm" is made of SHA-256 and MD5, found "MD4"',
            ],
        ),
        (
            '"method",\n"basic", "realm" => "r"',
            ['3: "/a/": options have names, like "method" => "basic", found "method" without one'],
        ),
        ("", ['2: "/a/": lacks "method" and "realm" and "require"']),
    ],
)
def test_all_faults_of_a_requirement_with_their_lines(options: str, expected: list[str]) -> None:
    assert all_faults(f'auth.require = ( "/a/" => (\n{options} ) )') == [f"s:{line}" for line in expected]


def test_keys_that_begin_no_path_and_values_that_are_no_list() -> None:
    text = f'auth.require = (\n"a/" => ( {WORDS} "user" ),\n"/b/" => "basic",\n"/c%20/" => 5,\n"x" )'
    looks = 'a requirement looks like "/path" => ( "method" => ..., "realm" => ..., "require" => ... )'
    assert all_faults(text) == [
        's:3: "a/" does not begin with "/": the key is the beginning of the paths that are guarded',
        f's:3: "a/": "require" {RULES} "user"',
        f's:4: "/b/" takes options, found "basic": {looks}',
        's:5: no path has "/c%20/": paths are decoded, without doubled slashes and dot segments',
        f's:5: "/c%20/" takes options, found 5: {looks}',
        f's:6: {looks}, found "x"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (requirement(WORDS + '"valid-user"'), "auth.require needs auth.backend"),
        ('auth.backend = "plain"\n' + requirement(WORDS + '"valid-user"'), "needs auth.backend.plain.userfile"),
        (
            'auth.backend = "htpasswd"\nauth.backend.htpasswd.userfile = "/x"\n'
            + requirement('"method" => "digest", "realm" => "r", "require" => "valid-user"'),
            '"digest" needs the backend "htdigest" or "plain"',
        ),
        (
            'auth.backend = "plain"\nauth.backend.plain.userfile = "/x"\n' + requirement(WORDS + '"group=x"'),
            "group= needs auth.backend.plain.groupfile",
        ),
    ],
)
def test_what_cannot_be_judged_is_not_served(text: str, expected: str) -> None:
    config = load(text)
    with pytest.raises(ConfigError, match=expected) as failure:
        assemble.build(config)
    assert (failure.value.filename, failure.value.lineno) == (
        "s",
        1 + text[: text.index("auth.require")].count("\n") + 1,
    )


def test_variables_that_are_not_for_an_authorizer_to_set() -> None:
    config = load(
        'fastcgi.server = ( "/a" => (( "mode" => "authorizer", "url" => "http://127.0.0.1",\n'
        '"variables" => ( "X" => "CONTENT_LENGTH" ) )) )'
    )
    with pytest.raises(ConfigError, match=r'^s:2: "variables": CONTENT_LENGTH is not for an authorizer to set$'):
        assemble.build(config)


def test_variables_of_no_url() -> None:
    text = '"mode" => "authorizer", "socket" => "/s", "variables" => ( "X" => "TENANT" )'
    _, warnings = lighttpd.loads(HEAD + f'fastcgi.server = ( "/a" => (( {text} )) )', "s")
    assert list(map(str, warnings)) == ['s:2: "variables" is for an authorizer with "url"']


def test_authorizers_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "site_gate.py").write_text("def check(request): return True\n")
    text = """
        fastcgi.allow-fields = ( "X_Under" )
        fastcgi.identity-fields = ( "X-Tenant" )
        fastcgi.server = (
            "/a/" => (( "mode" => "authorizer", "url" => "https://[::1]:4180/auth?a=b", "login" => "/in?rd={uri}",
                        "variables" => ( "X-User" => "REMOTE_USER" ), "preflight" => "allow" )),
            "/b/" => (( "mode" => "authorizer", "python" => "site_gate:check", "docroot" => "/private" )),
            "/c/" => (( "host" => "::1", "x-accel-redirect" => ( "/private/" => "/srv/private" ) )),
        )
    """
    config, warnings = lighttpd.loads(HEAD + text, str(tmp_path / "site.conf"))
    assert warnings == []
    url, python, responder = (extension.hosts[0] for extension in config.settings.extensions)
    assert (url.url, url.login, url.preflight) == ("https://[::1]:4180/auth?a=b", "/in?rd={uri}", "allow")
    assert (url.variables, url.read_timeout) == ((("X-User", "REMOTE_USER"),), 30)
    assert (python.python, python.docroot) == ("site_gate:check", "/private")
    assert responder.x_accel_redirect == (("/private/", "/srv/private"),)
    assert (url.host, python.host) == ("", "")
    assert {b"X-Tenant", b"X-User", b"Remote-Groups"} <= set(identity_fields(config.settings))
    again = lighttpd.loads(lighttpd.render(config), "again")[0].settings
    hosts = [extension.hosts[0] for extension in again.extensions]
    assert [host.url or host.python for host in hosts] == [url.url, python.python, ""]
    assert (hosts[0].login, hosts[0].variables, again.allow_fields) == (url.login, url.variables, ("X_Under",))
    assemble.build(config)


GATE = '"mode" => "authorizer", "host" => "h"'


@pytest.mark.parametrize(
    "key", ["/my%20files/", "/a//b/", "/a/../b/", "/a/.", "/a/./", "/a\\\\b", "private/", "//", "/%2e/", "/a\tb"]
)
def test_a_key_that_guards_nothing_stops_the_start(key: str) -> None:
    """It would look guarded, and be open."""
    message = fault(f'fastcgi.server = ( "{key}" => (( {GATE} )) )')
    assert message.startswith("s:2: fastcgi.server: ")
    assert "no path has" in message or "is the end of paths" in message
    lighttpd.loads(f'{HEAD}fastcgi.server = ( "{key}" => (( "host" => "h" )) )', "s")


@pytest.mark.parametrize(
    "key", ["/", "", "/a b/", "/caf\xe9/", "/100%/", "/a?b", "/.well-known/", "/a..", ".php", "/a"]
)
def test_a_key_that_paths_have(key: str) -> None:
    lighttpd.loads(f'{HEAD}fastcgi.server = ( "{key}" => (( {GATE} )) )', "s")


@pytest.mark.parametrize(
    "option", ['"recheck" => 5', '"docroot" => "/x"', '"cache" => ( "key" => ( "cookie:A" ) )', '"login" => "/in"']
)
def test_the_backends_of_one_authorizer_are_one_gate(option: str) -> None:
    """What only the second says would be in force for nobody."""
    name = option.split('"')[1]
    hosts = f'( {GATE} ), ( {GATE}, {option} ), ( "host" => "responder" )'
    assert f'"{name}" is the same for all backends' in fault(f'fastcgi.server = ( "/" => ( {hosts} ) )')
    hosts = f'( {GATE}, {option} ), ( {GATE}, {option}, "weight" => 2 ), ( "host" => "responder" )'
    lighttpd.loads(f'{HEAD}fastcgi.server = ( "/" => ( {hosts} ) )', "s")


@pytest.mark.parametrize("name", ["missing_gate:check", "broken_gate:check", "broken_gate"])
def test_a_function_that_is_not_there_stops_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken_gate.py").write_text("1 / 0\n")
    entry = f'fastcgi.server = ( "/" => (( "mode" => "authorizer", "python" => "{name}" )) )'
    filename = str(tmp_path / "site.conf")
    for text, line in ((entry, 2), (f'$HTTP["host"] == "a" {{\n{entry}\n}}', 3)):
        config, _ = lighttpd.loads(HEAD + text, filename)
        with pytest.raises(ConfigError, match="python") as failure:
            assemble.build(config)
        assert (failure.value.filename, failure.value.lineno) == (filename, line)


def test_all_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    text = f"""
        auth.backend = "htpasswd"
        auth.backend.htpasswd.userfile = "/x"
        auth.require = (
            "/a/" => ( "method" => "digest", "realm" => "r", "require" => "group=x" ),
            "/b/" => ( {WORDS} "group=x" ),
        )
        fastcgi.server = (
            "/c/" => (( "mode" => "authorizer", "python" => "no_gate_one:check" )),
            "/d/" => (( "mode" => "authorizer", "python" => "no_gate_two:check" )),
        )
        $HTTP["host"] == "a" {{ wsgi.server = ( "/e" => "no_app:app" ) }}
    """
    with pytest.raises(ConfigErrors) as failure:
        assemble.build(lighttpd.loads(HEAD + text, str(tmp_path / "site.conf"))[0])
    told = [(error.filename, error.lineno, error.message[:40]) for error in failure.value.errors]
    filename = str(tmp_path / "site.conf")
    assert told == [
        (filename, 6, 'auth.require: "digest" needs the backend'),
        (filename, 6, "auth.require: group= needs auth.backend."),
        (filename, 7, "auth.require: group= needs auth.backend."),
        (filename, 10, '"python" => "no_gate_one:check": ModuleN'),
        (filename, 11, '"python" => "no_gate_two:check": ModuleN'),
        (filename, 13, 'wsgi.server: "/e" => "no_app:app": Modul'),
    ]


NEVER = """
from functools import partial
import gfastcgi
class Check:
    def __call__(self, request): return True
    async def later(self, request): return True
class Later:
    async def __call__(self, request): return True
async def later(request): return True
async def many(request): yield True
def some(request): yield True
decorated = gfastcgi.authorizer(later)
part = partial(later, None)
made = partial(Check)
instance, awaited = Check(), Later()
method = instance.later
function = gfastcgi.authorizer(instance)
usual = partial(lambda word, request: True, "x")
"""


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Check", "a class"), ("made", "a class"), ("later", "a coroutine function"), ("many", "a coroutine function"),
        ("some", "a generator function"), ("decorated", "a coroutine function"), ("part", "a coroutine function"),
        ("awaited", "a coroutine function"), ("method", "a coroutine function"), ("instance", ""), ("function", ""),
        ("usual", ""), ("instance.__call__", ""),
    ],
)  # fmt: skip
def test_what_can_never_allow_stops_the_start(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "never_gate.py").write_text(NEVER)
    entry = f'fastcgi.server = ( "/" =>\n(( "mode" => "authorizer", "python" => "never_gate:{name}" )) )'
    config, _ = lighttpd.loads(HEAD + entry, str(tmp_path / "site.conf"))
    if not what:
        assemble.build(config)
        return
    with pytest.raises(ConfigError) as failure:
        assemble.build(config)
    assert str(failure.value).startswith(f'{tmp_path}/site.conf:3: "python" => "never_gate:{name}" is {what}')


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('"host" => "h", "login" => "/in"', '"login" is for a host with "mode" => "authorizer"'),
        ('"host" => "h", "preflight" => "allow"', '"preflight" is for a host with "mode" => "authorizer"'),
        ('"host" => "h", "x-accel-redirect" => ( "/a/" => "/" )', '"x-accel-redirect" names "/"'),
    ],
)
def test_warnings(options: str, expected: str) -> None:
    _, warnings = lighttpd.loads(f'{HEAD}fastcgi.server = ( "/" => (( {options} )) )', "s")
    assert [expected in str(warning) for warning in warnings] == [True]


def test_the_check_of_a_file_imports_what_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site.conf"
    site.write_text(f'{HEAD}fastcgi.server = ( "/" => (( "mode" => "authorizer", "python" => "t_gate:check" )) )\n')
    assert command.run(["-t", "-f", str(site)]) == 1
    told = capsys.readouterr()
    assert f'{site}:2: "python" => "t_gate:check": ModuleNotFoundError' in told.out + told.err
    (tmp_path / "t_gate.py").write_text("def check(request): return True\n")
    assert command.run(["-t", "-f", str(site)]) == 0
