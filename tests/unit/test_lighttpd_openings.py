"""What would silently open a gate: directives that are not served, or misspelled, and PHP without its script."""

from __future__ import annotations

from typing import Any

import pytest

from gfastcgi import lighttpd
from gfastcgi.errors import ConfigErrors
from gfastcgi.lighttpd.unserved import UNSAFE

ROOT = 'server.document-root = "/srv"\n'


def load(text: str) -> tuple[Any, list[str]]:
    config, warnings = lighttpd.loads(ROOT + text, "s")
    return config, [str(warning) for warning in warnings]


def fault(text: str) -> str:
    """The only fault of `text`, without its place (which is line 2)."""
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(ROOT + text, "s")
    (error,) = caught.value.errors
    assert (error.filename, error.lineno) == ("s", 2)
    return error.message


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_what_would_be_unsafe_to_pass_over(name: str) -> None:
    name += "unheard-of" if name.endswith(".") else ""
    message = fault(f'$HTTP["url"] == "/" {{ {name.upper()} = ( "x" => "y" ) }}')
    assert message.startswith(f"{name.upper()} is not served yet, and serving without it would be unsafe: ")


AUTHORIZER = '( "/a" => (( "host" => "h", "mode" => "authorizer" )) )'


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("fastcgi.servr", '( ".php" => (( "host" => "h" )) )', "fastcgi.server"),
        ("FastCGI.Servers", '( ".php" => (( "host" => "h" )) )', "fastcgi.server"),
        ("fcgi.server", '( ".php" => (( "host" => "h" )) )', "scgi.server"),
        ("fastcgi.authorisers", '"any"', "fastcgi.authorizers"),
        ("fastcgi.identity-field", '( "X-User" )', "fastcgi.identity-fields"),
        ("auth.requir", '( "/" => ( "method" => "basic" ) )', "auth.require"),
        ("auht.require", '( "/" => ( "method" => "basic" ) )', "auth.require"),
        ("auth.backends", '"plain"', "auth.backend"),
        ("auth.zzz.qqq.zzz.qqq", "1", ""),
        ("url.acces-deny", '( "~" )', "url.access-deny"),
        ("url.access_alow", '( "~" )', "url.access-allow"),
        ("wsgi.serv", '( "/" => "a:b" )', "wsgi.server"),
        ("static-file.exclude-extension", '( ".php" )', "static-file.exclude-extensions"),
        ("secure.zzz", AUTHORIZER, ""),
        ("server.prot", AUTHORIZER, "server.port"),
        ("ssl.enginee", '"enable"', "ssl.engine"),
    ],
)
def test_a_misspelled_directive_of_access_is_a_fault(name: str, value: str, known: str) -> None:
    advice = f'; the nearest known is "{known}"' if known else ""
    for text in (f"{name} = {value}", f'$HTTP["url"] == "/" {{ {name} = {value} }}'):
        message = fault(text)
        assert message.startswith(f"unknown directive {name}{advice}, and serving without it may be unsafe: ")


def test_a_misspelled_directive_that_is_off_is_none() -> None:
    _, warnings = load('auth.requir = ()\nfastcgi.authorisers = ""')
    assert warnings == [
        's:2: unknown directive auth.requir; the nearest known is "auth.require"',
        's:3: unknown directive fastcgi.authorisers; the nearest known is "fastcgi.authorizers"',
    ]


@pytest.mark.parametrize("program", ["/usr/bin/php-cgi", "php", "'/opt/my php/php8.2-cgi' -d a=b", "/usr/bin/PHP-CGI"])
def test_a_php_authorizer_is_told_its_script(program: str) -> None:
    options = '"mode" => "authorizer",\n"bin-path" => "' + program + '",\n{}"port" => 1'
    text = 'fastcgi.server = ( "/a" =>\n((\n' + options + " )) )"
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(ROOT + text.format(""), "s")
    (error,) = caught.value.errors
    assert str(error).startswith('s:5: "script" is missing: it names the authorizer\'s program')
    load(text.format('"script" => "/srv/authorizer.php",\n'))
    load(text.format("").replace("authorizer", "responder"))
    load(text.format("").replace(program, "/srv/authorizer.php"))
