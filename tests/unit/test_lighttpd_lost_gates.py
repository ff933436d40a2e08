"""Conditionals that set `fastcgi.server` or `auth.require` anew: the gates that they take away are told."""

from __future__ import annotations

import pytest

from gfastcgi import lighttpd
from gfastcgi.lighttpd.lost_gates import lost_beside

GATE = '(( "host" => "h", "mode" => "authorizer" ))'
APP = '(( "host" => "h" ))'
LOGIN = '( "method" => "basic", "realm" => "r", "require" => "valid-user" )'
HEAD = f"""server.document-root = "/www"
fastcgi.server = (
    "/private/" => {GATE},
    ".secret" => {GATE},
    ".php" => {APP},
)
auth.require = ( "/staff/" => {LOGIN} )
"""


def warnings(text: str, head: str = HEAD) -> list[str]:
    return [str(warning) for warning in lighttpd.loads(head + text, "s")[1]]


def lost(line: int, *gates: tuple[str, int], name: str = "fastcgi.server") -> list[str]:
    advice = "is not guarded; += adds to what is there"
    return [f's:{line}: {name}: in here "{key}" (s:{place}) {advice}' for key, place in gates]


@pytest.mark.parametrize(
    ("value", "gates"),
    [
        (f'( ".php" => {APP} )', [("/private/", 3), (".secret", 4)]),
        ("()", []),  # plainly meant
        (f'( "/private/" => {GATE} )', [(".secret", 4)]),
        (f'( "/private/" => {APP}, ".secret" => {GATE} )', [("/private/", 3)]),
        (f'( "/private/x" => {GATE}, ".very.secret" => {GATE} )', [("/private/", 3), (".secret", 4)]),
        (f'( "/priv" => {GATE}, "t" => {GATE} )', []),
        (f'( "/" => {GATE} )', []),
        (f'( "" => {GATE} )', []),
        (f'( ".secret" => {GATE}, "/private/" => {GATE} )', []),
    ],
)
def test_a_value_without_the_gates_around_it(value: str, gates: list[tuple[str, int]]) -> None:
    assert warnings(f'$HTTP["host"] == "a" {{\n    fastcgi.server = {value}\n}}') == lost(9, *gates)


def test_what_is_added_loses_nothing() -> None:
    assert warnings(f'$HTTP["host"] == "a" {{ fastcgi.server += ( ".pl" => {APP} ) }}') == []
    assert warnings(f'$HTTP["host"] == "a" {{ auth.require += ( "/x/" => {LOGIN} ) }}') == []
    assert warnings('$HTTP["host"] == "a" { server.tag = "t" }') == []


def test_requirements_of_passwords() -> None:
    text = f'$HTTP["host"] == "a" {{ auth.require = ( "/x/" => {LOGIN} ) }} else {{ auth.require = () }}'
    assert warnings(text) == lost(8, ("/staff/", 7), name="auth.require")
    assert warnings(f'$HTTP["host"] == "a" {{ auth.require = ( "/s" => {LOGIN} ) }}') == []


def test_the_scope_around_it_is_the_nearest_that_sets_it() -> None:
    inner = f'$HTTP["url"] == "/" {{\n fastcgi.server = ( ".php" => {APP} ) }}'
    text = f'$HTTP["host"] == "a" {{\n fastcgi.server = ( "/" => {GATE} )\n $HTTP["scheme"] == "http" {{ {inner} }} }}'
    assert warnings(text) == lost(11, ("/", 9))
    assert warnings(f'$HTTP["host"] == "a" {{ {inner} }}') == lost(9, ("/private/", 3), (".secret", 4))


def test_gates_that_stand_further_down_are_around_it_too() -> None:
    head = f'server.document-root = "/www"\n$HTTP["host"] == "a" {{ fastcgi.server = ( ".php" => {APP} ) }}\n'
    assert warnings(f'fastcgi.server = ( "/x" => {GATE} )', head) == lost(2, ("/x", 3))


def beside(text: str) -> list[str]:
    """What is lost where every conditional of `text` holds."""
    return list(lost_beside(lighttpd.loads(HEAD + text, "s")[0].blocks))


def test_conditionals_beside_each_other() -> None:
    first = f'$HTTP["host"] == "a" {{\n    fastcgi.server += ( "/more/" => {GATE} )\n}}\n'
    second = f'$HTTP["url"] =^ "/m" {{\n    fastcgi.server += ( ".pl" => {APP} )\n}}'
    assert beside(first + second) == [
        "s:11: fastcgi.server: a request meets this conditional and the one of s:8, and this value holds alone: "
        '"/more/" (s:9) is not guarded; put one into the other, with +='
    ]
    assert beside(first) == beside(second + "\n" + first) == []


@pytest.mark.parametrize(
    "second",
    [
        "fastcgi.server = ()",  # plainly meant
        f'fastcgi.server += ( "/mo" => {GATE} )',
        f'auth.require += ( "/x/" => {LOGIN} )',
        'server.tag = "t"',
    ],
)
def test_one_beside_it_that_takes_nothing_away(second: str) -> None:
    first = f'$HTTP["host"] == "a" {{ fastcgi.server += ( "/more/" => {GATE} ) }}\n'
    assert beside(first + f'$HTTP["url"] =^ "/m" {{ {second} }}') == []


def test_one_within_it_was_told_when_the_file_was_read() -> None:
    inner = f'$HTTP["url"] =^ "/m" {{ fastcgi.server = ( "/" => {APP} ) }}'
    text = f'$HTTP["host"] == "a" {{ fastcgi.server += ( "/more/" => {GATE} )\n {inner} }}'
    assert beside(text) == []
    assert len(warnings(text)) == 3


def test_passwords_of_conditionals_beside_each_other() -> None:
    first = f'$HTTP["host"] == "a" {{ auth.require += ( "/more/" => {LOGIN} ) }}\n'
    assert len(beside(first + f'$HTTP["url"] =^ "/m" {{ auth.require += ( "/x/" => {LOGIN} ) }}')) == 1
