"""Any text is a configuration or `ConfigErrors`, and what is printed of a configuration means the same."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from gfastcgi import lighttpd
from gfastcgi.config import Address, Config
from gfastcgi.errors import ConfigError, ConfigErrors
from gfastcgi.lighttpd import evaluate
from gfastcgi.lighttpd.options import DIRECTIVES, HOST_OPTIONS
from gfastcgi.lighttpd.unserved import UNSAFE, UNSERVED

ROOT = 'server.document-root = "/srv"\n'
CONDITIONS = (
    '$HTTP["host"]', '$HTTP["url"]', '$HTTP["remote-ip"]', '$REQUEST_HEADER["a"]', '$SERVER["socket"]', '$HTTP["x"]',
)  # fmt: skip
TOKENS = st.sampled_from([
    *DIRECTIVES, *UNSERVED, *UNSAFE, *(f'"{name}"' for name in HOST_OPTIONS), *CONDITIONS, "==", "!=", "=~", "!~", "=^",
    "=$", "=", "+=", ":=", "=>", "+", "(", ")", "{", "}", "[", "]", ",", "\n", '"', "#", "\\", "\0", "\ufeff", "else",
    "if", "elsif", "global", "include", '"/x"', '".php"', '"*.none"', "0", "-1", "99", "x", "var.x", "env.X", "$", "%",
    '"enable"', '"[::1]:80"', '"10.0.0.0/8"', '"("',
])  # fmt: skip


def load(text: str) -> tuple[Config | None, list[ConfigError]]:
    """The configuration, or its errors."""
    try:
        return lighttpd.loads(text, "site.conf", env={"X": "x"})[0], []
    except ConfigErrors as error:
        return None, error.errors


def parse(text: str) -> None:
    config, errors = load(text)
    assert (config is None) is bool(errors)
    assert all(fault.message and fault.filename == "site.conf" for fault in errors)
    if config is not None:
        assert lighttpd.render(config)


@given(st.text())
def test_any_text(text: str) -> None:
    with mock.patch.object(evaluate, "_run", return_value=""):
        parse(text)


@given(st.lists(TOKENS, max_size=60).map(" ".join))
def test_any_tokens(text: str) -> None:
    parse(ROOT + text)


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    with mock.patch.object(evaluate, "_run", return_value=""):
        parse(data.decode("utf-8", "surrogateescape"))


def quote(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def assign(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return values.map(lambda value: f"{name} = {value}")


def array(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=3, unique_by=lambda item: item.partition(" => ")[0]).map(
        lambda found: f"( {', '.join(found)} )"
    )


def entry(key: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return values.map(lambda value: f"{quote(key)} => {value}")


# What a string can hold: no control characters, and no backslash at its end, which would take the quote along.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8).map(lambda text: quote(text.rstrip("\\")))
WORD = st.text("ab/.-_", min_size=1, max_size=6).map(lambda text: quote("/" + text))
NUMBER = st.integers(1, 300).map(str)
SWITCH = st.sampled_from(['"enable"', '"disable"'])
STRINGS = array(TEXT)
PATHS = array(WORD)
PAIRS = array(st.tuples(TEXT, TEXT).map(" => ".join))
RULES = array(st.tuples(st.sampled_from(['"^/a"', '"(b)"', '"c$"']), TEXT).map(" => ".join))

ADDRESS = st.one_of(
    st.tuples(entry("host", WORD.map(lambda word: word.replace("/", "h"))), entry("port", NUMBER)).map(", ".join),
    entry("socket", WORD),
    entry("bin-path", WORD),
)
HOST_VALUES = {
    "bin-environment": PAIRS, "bin-copy-environment": STRINGS, "mode": st.sampled_from(['"responder"', '"authorizer"']),
    "docroot": WORD, "check-local": SWITCH, "min-procs": st.just("1"), "max-procs": NUMBER, "x-sendfile": SWITCH,
    "x-sendfile-docroot": PATHS, "keep-alive": SWITCH, "max-connections": NUMBER, "read-timeout": NUMBER,
    "strip-request-uri": TEXT, "kill-signal": st.just("10"), "allow-x-send-file": SWITCH,
}  # fmt: skip
HOST = st.tuples(
    st.one_of(st.just(""), TEXT.map(lambda text: f"{text} => " if text != '""' else "")),
    ADDRESS,
    st.sets(st.sampled_from(sorted(HOST_VALUES)), max_size=4).flatmap(
        lambda names: st.tuples(*(entry(name, HOST_VALUES[name]) for name in sorted(names)))
    ),
).map(lambda parts: f"{parts[0]}( {', '.join([parts[1], *parts[2]])} )")
SERVER = array(
    st.tuples(TEXT, st.lists(HOST, min_size=1, max_size=2, unique_by=lambda host: host.partition("(")[0] or host)).map(
        lambda parts: f"{parts[0]} => ( {', '.join(parts[1])} )"
    )
)

REQUEST_DIRECTIVES = {
    "server.name": TEXT, "server.tag": TEXT, "index-file.names": STRINGS, "mimetype.assign": PAIRS,
    "static-file.etags": SWITCH, "server.max-request-size": NUMBER, "url.access-deny": STRINGS,
    "url.rewrite": RULES, "url.rewrite-once": RULES, "url.rewrite-repeat": RULES, "url.rewrite-if-not-file": RULES,
    "url.rewrite-repeat-if-not-file": RULES, "url.redirect": RULES, "fastcgi.server": SERVER,
    "fastcgi.map-extensions": PAIRS, "fastcgi.balance": st.just('"hash"'), "server.symlink-docroots": PATHS,
}  # fmt: skip
SERVER_DIRECTIVES = {
    "server.port": NUMBER, "server.bind": st.sampled_from(['"127.0.0.1"', '"[::1]"', '"/run/s"']),
    "server.socket-perms": st.just('"0600"'), "server.modules": STRINGS, "server.max-fds": NUMBER,
    "server.http-parseopts": st.just('( "url-path-2f-decode" => "enable" )'), "server.chroot": WORD,
    "server.feature-flags": st.just('( "server.graceful-shutdown-timeout" => 3 )'),
}  # fmt: skip


def statements(directives: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    return st.sets(st.sampled_from(sorted(directives)), max_size=4).flatmap(
        lambda names: st.tuples(*(assign(name, directives[name]) for name in sorted(names))).map("\n".join)
    )


CONDITION = st.one_of(
    st.tuples(st.sampled_from(CONDITIONS[:2]), st.sampled_from(["==", "!=", "=^", "=$"]), TEXT).map(" ".join),
    st.sampled_from([
        '$HTTP["url"] =~ "^/a(.*)"', '$HTTP["host"] !~ "b"', '$HTTP["remote-ip"] == "10.0.0.0/8"',
        '$SERVER["socket"] == ":81"', '$SERVER["socket"] != "[::]"', '$REQUEST_HEADER["X-A"] == "b"',
    ]),
)  # fmt: skip


def chain(bodies: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arms = st.lists(st.tuples(CONDITION, bodies), min_size=1, max_size=3, unique_by=lambda arm: arm[0])
    heads = arms.map(lambda found: "\nelse ".join(f"{condition} {{\n{body}\n}}" for condition, body in found))
    return st.tuples(heads, st.one_of(st.just(""), bodies.map(lambda body: f" else {{\n{body}\n}}"))).map("".join)


INNER = statements(REQUEST_DIRECTIVES)
CONFIG = st.tuples(
    statements(SERVER_DIRECTIVES),
    INNER,
    st.lists(chain(st.one_of(INNER, chain(INNER))), max_size=2),
).map(lambda parts: "\n".join([ROOT, parts[0], parts[1], *parts[2]]))


def plain(value: Any) -> Any:
    """`value` for comparison: hosts and blocks by what they hold, no place in a file, listeners in any order."""
    if isinstance(value, Address):
        return str(value), value.mode
    if is_dataclass(value) and not isinstance(value, type):
        told = [field.name for field in fields(value) if field.name not in ("where", "places")]
        return {name: plain(getattr(value, name)) for name in told}
    if isinstance(value, dict):
        return {key: plain(content) for key, content in value.items()}
    if isinstance(value, tuple):
        items = [plain(item) for item in value]
        return sorted(items) if items and isinstance(value[0], Address) else items
    return value


@given(CONFIG)
def test_what_is_printed_means_the_same(text: str) -> None:
    config, errors = load(text)
    # Two chains may set a name for the same condition, two hosts may want one socket, a gate no path: nothing else.
    allowed = (
        "Duplicate config variable", "cannot have another one", "reach beyond port 65535", "no path has",
        "is the end of paths",
    )  # fmt: skip
    assert all(any(words in fault.message for words in allowed) for fault in errors), errors
    if config is None:
        return
    printed = lighttpd.render(config)
    again, errors = load(printed)
    assert again is not None, (errors, printed)
    assert plain(again) == plain(config), printed
