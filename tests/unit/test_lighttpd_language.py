"""The language of lighttpd.conf: what statements come to, and what faults are told, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfastcgi import lighttpd
from gfastcgi.config import Block
from gfastcgi.errors import ConfigErrors
from gfastcgi.lighttpd import evaluate

ROOT = 'server.document-root = "/srv"\n'


def load(text: str, **options: object) -> object:
    return lighttpd.loads(ROOT + text, **options)[0]  # type: ignore[arg-type]


def tag(text: str, env: dict[str, str] | None = None) -> str | None:
    """The value of server.tag after `text`."""
    return lighttpd.loads(ROOT + text, env=env or {})[0].settings.server_tag


def faults(text: str, filename: str = "site.conf") -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(text, filename)
    return [str(error) for error in caught.value.errors]


def blocks(text: str) -> list[tuple[list[tuple[str, str, str, bool]], dict[str, object]]]:
    config, _ = lighttpd.loads(ROOT + text)
    return [
        ([(held.variable, held.operator, held.operand, truth) for held, truth in block.conditions], {**block.overrides})
        for block in config.blocks
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('server.tag = "plain" # a comment', "plain"),
        (r'server.tag = "a\tb\"c\\d\.e"', r"a\tb" + '"' + r"c\\d\.e"),  # \" is the only escape
        ('server.tag = "a" + 1 + "b"', "a1b"),
        ('server.tag = 1 + 2 + "b"', "3b"),
        ('server.tag\n =\n "a"\n + "b"', "ab"),
        ('server.tag="a"+"b" server.name="c"', "ab"),
        ('x = "v"\nserver.tag = x', "v"),
        ('var.x = "v"\nserver.tag = X', "v"),
        ('x-y.z = "v"\nserver.tag = x-y.z', "v"),
        ('server.name = "n"\nserver.tag = server.name + "!"', "n!"),
        ('server.tag = "a"\nserver.tag += "b"', "ab"),
        ('server.tag = "a"\nserver.tag := "b"', "b"),
        ('x = 1\nx += 2\nserver.tag = "" + x', "3"),
        ('server.tag = "x" + env.USER_NAME', "xjane"),
        ('global { server.tag = "g" }', "g"),
        ('$HTTP["host"] == "a" { global { server.tag = "g" } }', "g"),
        ('\tserver.tag = "crlf"\r\n', "crlf"),
    ],
)
def test_values(text: str, expected: str) -> None:
    assert tag(text, {"USER_NAME": "jane"}) == expected


def test_arrays_nest_and_add_up() -> None:
    text = 'a = ( ".a" => "1", )\nmimetype.assign = a + ( "." + "b" => "2", , ) + ()\nmimetype.assign += ( 3 => "3" )'
    assert load(text).settings.mimetypes == ((".a", "1"), (".b", "2"), ("3", "3"))


def test_an_array_may_repeat_what_has_no_key() -> None:
    assert load('index-file.names = ( "a", "b" ) + ( "a" )').settings.index_file_names == ("a", "b", "a")


def test_a_byte_order_mark_and_bytes_beyond_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "site.conf"
    path.write_bytes(b'\xef\xbb\xbfserver.document-root = "/srv/\xff"\n')
    assert lighttpd.load(str(path))[0].settings.document_root == "/srv/\udcff"


def test_conditionals_are_flattened() -> None:
    host, url = 'HTTP["host"]', 'HTTP["url"]'
    found = blocks(
        '$HTTP["host"] == "a" {\n server.tag = "1"\n'
        ' $HTTP["url"] =~ "^/x" { server.tag = "2" } else { server.tag = "3" }\n}\n'
        '# between\nelse if $HTTP["host"] =^ "b" { server.tag = "4" }\nelse $HTTP["host"] =$ "c" { server.tag = "5" }\n'
        'else\n{ server.tag = "6" }'
    )
    a, b, c = (host, "==", "a"), (host, "=^", "b"), (host, "=$", "c")
    assert found == [
        ([(*a, True)], {"server_tag": "1"}),
        ([(*a, True), (url, "=~", "^/x", True)], {"server_tag": "2"}),
        ([(*a, True), (url, "=~", "^/x", False)], {"server_tag": "3"}),
        ([(*a, False), (*b, True)], {"server_tag": "4"}),
        ([(*a, False), (*b, False), (*c, True)], {"server_tag": "5"}),
        ([(*a, False), (*b, False), (*c, False)], {"server_tag": "6"}),
    ]


@pytest.mark.parametrize("word", ["else if", "elseif", "elsif", "elif", "else"])
def test_every_spelling_of_else_if(word: str) -> None:
    found = blocks(f'$HTTP["url"] != "a" {{ server.tag = "1" }} {word} $HTTP["url"] !~ "b" {{ server.tag = "2" }}')
    assert found[1][0] == [('HTTP["url"]', "!=", "a", False), ('HTTP["url"]', "!~", "b", True)]


def test_a_conditional_that_stands_twice_is_one() -> None:
    text = '$HTTP["host"] == "a" { server.tag = "1" }\n$HTTP["url"] == "/" { server.tag = "2" }\n'
    found = blocks(text + '$HTTP["host"] == "a" { server.name = "n" }')
    assert [overrides for _, overrides in found] == [{"server_tag": "1", "server_name": "n"}, {"server_tag": "2"}]
    (fault,) = faults(ROOT + text + '$HTTP["host"] == "a" { server.tag = "3" }')
    assert fault == "site.conf:4: Duplicate config variable: server.tag is already set at site.conf:2"


def test_a_scope_sees_what_surrounds_it() -> None:
    found = blocks(
        'var.a = 1\nindex-file.names = ( "x" )\n$HTTP["host"] == "a" {\n var.a += 1\n server.tag = "t" + a\n'
        ' index-file.names += ( "y" )\n}\nserver.tag = "t" + a'
    )
    assert found[0][1] == {"server_tag": "t2", "index_file_names": ("x", "y")}
    assert tag('var.a = 1\n$HTTP["host"] == "a" { var.a = 2 }\nserver.tag = "t" + a') == "t1"


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "site.conf").write_text(
        ROOT + 'include "conf.d/*.conf"\ninclude "none/*.conf"\ninclude "{one,two}.inc"\nserver.tag = "" + total'
    )
    (tmp_path / "conf.d" / "b.conf").write_text('total += "b"')
    (tmp_path / "conf.d" / "a.conf").write_text('total = "a"\ninclude "one.inc"')
    (tmp_path / "one.inc").write_text('total += "1"')
    (tmp_path / "two.inc").write_text('total += "2"')
    assert lighttpd.load(str(tmp_path / "site.conf"))[0].settings.server_tag == "a1b12"


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text(ROOT + 'include "other.conf"')
    (tmp_path / "other.conf").write_text('\ninclude "../' + tmp_path.name + '/site.conf"')
    (fault,) = faults((tmp_path / "site.conf").read_text(), str(tmp_path / "site.conf"))
    assert fault.startswith(f"{tmp_path}/other.conf:2: ")
    assert fault.endswith("includes itself")


def test_include_shell(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("8123")
    text = 'include_shell "echo server.port = $(cat " + "port); echo \'server.tag = \\"x\\"\'"'
    config, _ = lighttpd.loads(ROOT + text, str(tmp_path / "site.conf"))
    assert (config.server.listeners[0].port, config.settings.server_tag) == (8123, "x")


def test_include_shell_that_fails_or_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "SHELL_TIMEOUT", 0.05)
    assert faults(ROOT + 'include_shell "exit 3"') == ['site.conf:2: include_shell: "exit 3" ended with status 3']
    (fault,) = faults(ROOT + 'include_shell "exec sleep 5"')
    assert "took longer than 0.05 seconds" in fault
    (fault,) = faults(ROOT + 'include_shell "echo oops"')
    assert fault == "echo oops:1: expected '=' behind 'oops', found the end of the file"


def test_all_faults_are_told_in_order() -> None:
    assert faults(
        'server.document-root = "/srv"\nserver.tag =\nserver.port = 0x50\n$HTTP["host" == "a" {\n server.tag = "x"\n}\n'
        'fastcgi.server = ( ".php" (( "port" => 1 )) )\nserver.name = nobody\nserver.port = "abc"\nelse { }\n}\n'
        'x = ( "a" => 1, "a" => 2 )\ny = ( 1 ) + "a"\nenv.A = "1"\nserver.bind = env.NO_SUCH_NAME\nz = y + x\n'
    ) == [
        "site.conf:2: expected a value, found 'server.port'",
        "site.conf:3: expected a value, found '0x50'",
        "site.conf:4: expected ']', found '=='",
        "site.conf:7: expected ',' or ')', found '('",
        "site.conf:8: Undefined config variable: nobody",
        'site.conf:9: server.port takes a number from 0 to 65535, found "abc"',
        "site.conf:10: 'else' follows no conditional",
        "site.conf:11: expected a statement, found '}'",
        'site.conf:12: Duplicate array-key: "a"',
        'site.conf:13: cannot add ( 1 ) and "a"',
        "site.conf:14: env.A cannot be set: the environment is only read",
        "site.conf:15: Undefined environment variable: NO_SUCH_NAME",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('server.tag = "open', "2: a string has no closing quote"),
        ("server.tag = 'x'", "2: expected a value, found '''; text stands in double quotes"),
        ("server.tag = /tmp", "2: expected a value, found '/'; text stands in double quotes"),
        ("server.tag = enabled", "2: Undefined config variable: enabled"),
        ('hostt = "h"\nserver.tag = host', 'host; the nearest known is "hostt"'),
        ('$HTTP["host"] == "a" {', "the block that opens in line 2 has no '}'"),
        ('$HTTP["host"] == ("a") { }', '2: expected a string, found ( "a" )'),
        ('$HTTP["host"] "a" { }', "2: expected one of == != =~ !~ =^ =$"),
        ('$HTTP["host"] == "a" { } else { } else { }', "'else' follows an 'else' without a condition"),
        ('include "nope.conf"', "/nope.conf"),
        ('include ( "a" )', '2: expected a string to include, found ( "a" )'),
        ('include_shell "\0"', "2: a NUL byte"),
        ("x = " + "(" * 500 + ")" * 500, "2: blocks and arrays are nested more than 64 deep"),
        ("server.port = " + "9" * 5000, "2: expected a value"),
        ("server.document-root = 1", "Duplicate config variable: server.document-root is already set at site.conf:1"),
    ],
)
def test_faults(text: str, expected: str) -> None:
    (fault,) = faults(ROOT + text)
    assert expected in fault
    assert fault.startswith("site.conf:")


def test_a_string_that_runs_on() -> None:
    found = faults(ROOT + 'server.tag = "open\nserver.name = "x"\nserver.bind = "y"\n')
    assert "site.conf:3: expected '=' behind 'x'" in found[1]
    assert "(the string that opens in line 2 may lack its closing quote)" in found[1]


def test_reading_goes_on_behind_a_fault() -> None:
    text = 'server.tag "a"\n$HTTP["host"] == "a" {\n oops\n server.tag = unknown\n}\nserver.nope = nowhere\n'
    found = faults(ROOT + text)
    assert [fault.split(": ")[0] for fault in found] == ["site.conf:2", "site.conf:4", "site.conf:5", "site.conf:7"]


def test_an_array_as_a_key() -> None:
    assert "cannot be the key" in faults(ROOT + 'x = ( ( "a" ) => 1 )')[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.load(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: cannot read the configuration: Is a directory"
    with pytest.raises(ConfigErrors, match="cannot read"):
        lighttpd.load("a\0b")


def test_blocks_know_their_place() -> None:
    block: Block = lighttpd.loads(ROOT + '\n$HTTP["host"] == "a" { server.tag = "x" }', "s.conf")[0].blocks[0]
    assert str(block.where) == "s.conf:3"
    assert repr(block.conditions[0][0].where).endswith("lineno=3)")
