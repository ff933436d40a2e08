"""Directives and host options: where their values go, and which are refused, warned of or passed over."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gfastcgi import lighttpd
from gfastcgi.config import Address, HealthCheck, HostConfig, ServerConfig, Settings
from gfastcgi.errors import ConfigErrors, InvalidValue, UnknownOption
from gfastcgi.lighttpd.options import DIRECTIVES, HOST_OPTIONS
from gfastcgi.lighttpd.unserved import UNSAFE, UNSERVED

ROOT = 'server.document-root = "/srv"\n'
DOCS = Path(__file__).parents[2] / "docs" / "lighttpd.md"


def load(text: str) -> tuple[Any, list[str]]:
    config, warnings = lighttpd.loads(ROOT + text, "s")
    return config, [str(warning) for warning in warnings]


def host(options: str) -> tuple[HostConfig, list[str]]:
    config, warnings = load(f'fastcgi.server = ( ".x" => (({options})) )')
    return config.settings.extensions[0].hosts[0], warnings


def fault(text: str) -> str:
    """The only fault of `text`, without its place (which is line 2)."""
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(ROOT + text, "s")
    (error,) = caught.value.errors
    assert (error.filename, error.lineno) == ("s", 2)
    return error.message


def host_fault(options: str) -> str:
    return fault(f'fastcgi.server = ( ".x" => (({options})) )')


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ('server.name = "n"', "server_name", "n"),
        ('server.tag = ""', "server_tag", ""),
        ('index-file.names = ( "a", "b" )', "index_file_names", ("a", "b")),
        ('mimetype.assign = ( ".a" => "a/b", "" => "c/d" )', "mimetypes", ((".a", "a/b"), ("", "c/d"))),
        ('static-file.etags = "disable"', "etags", False),
        ('static-file.exclude-extensions = ( ".php" )', "static_exclude_extensions", (".php",)),
        ('server.symlink-docroots = ( "/data" )', "symlink_roots", ("/data",)),
        ('url.access-deny = ( "~", "" )', "access_deny", ("~", "")),
        ('url.access-allow = ( ".html" )', "access_allow", (".html",)),
        ('alias.url = ( "/doc/" => "/usr/share/doc/" )', "alias", (("/doc/", "/usr/share/doc/"),)),
        ("url.redirect-code = 308", "redirect_code", 308),
        ('fastcgi.balance = "sticky"', "balance", "sticky"),
        ("server.max-request-size = 3", "max_request_size", 3072),
        ('server.max-request-size = "3"', "max_request_size", 3072),
        ("server.stream-request-body = 2", "stream_request_body", 2),
        ("server.stream-response-body = 0", "stream_response_body", 0),
        ("server.max-keep-alive-requests = 0", "max_keep_alive_requests", 0),
        ("server.max-keep-alive-idle = 4", "max_keep_alive_idle", 4),
        ("server.max-read-idle = 9", "max_read_idle", 9),
        ("server.max-write-idle = 9", "max_write_idle", 9),
        ('accesslog.filename = "/var/log/a"', "accesslog_filename", "/var/log/a"),
        ('accesslog.format = "%h"', "accesslog_format", "%h"),
        ('Server.Name = "n"', "server_name", "n"),
    ],
)
def test_settings(text: str, attribute: str, value: object) -> None:
    config, warnings = load(text)
    assert getattr(config.settings, attribute) == value
    assert not warnings


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ('server.modules = ( "mod_a" )\nserver.modules += ( "mod_b" )', "modules", ("mod_a", "mod_b")),
        ('server.errorlog = "/var/log/e"', "errorlog", "/var/log/e"),
        ('server.pid-file = "/run/p"', "pid_file", "/run/p"),
        ('server.username = "u"', "username", "u"),
        ('server.groupname = "g"', "groupname", "g"),
        ('server.chroot = "/jail"', "chroot", "/jail"),
        ('server.upload-dirs = ( "/var/tmp" )', "upload_dirs", ("/var/tmp",)),
        ("server.max-connections = 7", "max_connections", 7),
        ("server.max-fds = 4096", "max_fds", 4096),
        ("server.max-request-field-size = 16384", "max_field_size", 16384),
        ("server.max-request-field-size = 16384", "max_target_size", 16384),
        ("server.listen-backlog = 5", "listen_backlog", 5),
        ('server.http-parseopts = ( "url-path-2f-decode" => "enable" )', "url_normalize_2f", "decode"),
        ('server.http-parseopts = ( "url-path-2f-reject" => "enable" )', "url_normalize_2f", "reject"),
        ('server.http-parseopts = ( "url-path-2f-decode" => "disable" )', "url_normalize_2f", "reject"),
        ('server.feature-flags = ( "server.graceful-shutdown-timeout" => 5 )', "graceful_timeout", 5),
    ],
)
def test_server(text: str, attribute: str, value: object) -> None:
    config, warnings = load(text)
    assert getattr(config.server, attribute) == value
    assert not warnings


@pytest.mark.parametrize("text", ['server.follow-symlink = "enable"', "etag.use-inode = 1", 'etag.use-mtime = "true"'])
def test_accepted_without_effect(text: str) -> None:
    assert not load(text)[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["0.0.0.0:80"]),
        ("server.port = 8080", ["0.0.0.0:8080"]),
        ('server.port = 0\nserver.bind = "127.0.0.1"', ["127.0.0.1:0"]),
        ('server.bind = "[::1]"\nserver.port = 81', ["[::1]:81"]),
        ('server.bind = "[::1]:82"', ["[::1]:82"]),
        ('server.bind = "*"', ["0.0.0.0:80"]),
        ('server.bind = "/run/g.sock"', ["/run/g.sock"]),
        ('server.bind = "unix:/run/g.sock"', ["/run/g.sock"]),
        (
            'server.port = 8080\n$SERVER["socket"] == "[::]:81" { }\n$SERVER["socket"] == ":8080" { }\n'
            '$SERVER["socket"] == "127.0.0.1" { server.tag = "x" }\n$SERVER["socket"] != ":1" { }\n'
            '$SERVER["socket"] =~ ":2" { }\n$HTTP["host"] == "a" { $SERVER["socket"] == ":83" { } }',
            ["0.0.0.0:8080", "[::]:81", "127.0.0.1:8080", "0.0.0.0:83"],
        ),
    ],
)
def test_listeners(text: str, expected: list[str]) -> None:
    assert [str(address) for address in load(text)[0].server.listeners] == expected


def test_modes_of_unix_sockets() -> None:
    config, warnings = load(
        'server.bind = "/run/a"\nserver.socket-perms = "0770"\n$SERVER["socket"] == "/run/b" { }\n'
        '$SERVER["socket"] == "/run/c" { server.socket-perms = "0600" }'
    )
    assert config.server.listeners == (
        Address(path="/run/a", mode=0o770), Address(path="/run/b", mode=0o770), Address(path="/run/c", mode=0o600),
    )  # fmt: skip
    assert not warnings


def test_a_socket_condition_names_the_listener() -> None:
    config, _ = load('server.port = 8080\n$SERVER["socket"] == ":8080" { server.tag = "x" }')
    assert config.blocks[0].conditions[0][0].operand == str(config.server.listeners[0]) == "0.0.0.0:8080"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server.port = 65536", "server.port takes a number from 0 to 65535, found 65536"),
        ('server.bind = "::1"', 'server.bind: expected an address like "127.0.0.1:80" or "[::1]:80", found "::1"'),
        ('server.bind = "a:99999"', "server.bind: there is no port 99999"),
        ('server.bind = "/' + "x" * 107 + '"', "server.bind: the path of a unix socket is longer than 107 bytes"),
        ('server.tag = "a\nb"', 'server.tag takes a string without control characters, found "a\\nb"'),
        ('server.name = ( "a" )', 'server.name takes a string without control characters, found ( "a" )'),
        ('server.errorlog = "|/usr/bin/logger"', "server.errorlog takes the path of a file (a pipe is not served)"),
        ('server.upload-dirs = ( "tmp" )', "server.upload-dirs takes a list of absolute paths"),
        ('static-file.etags = "maybe"', 'static-file.etags takes "enable" or "disable", found "maybe"'),
        ('server.follow-symlink = "yes"', 'server.follow-symlink takes "enable" or "disable", found "yes"'),
        ('index-file.names = ( "a" => "b" )', "index-file.names takes a list of strings"),
        ('index-file.names = "a"', "index-file.names takes a list of strings"),
        ('mimetype.assign = ( "a" )', "mimetype.assign takes a list of strings with keys"),
        ('alias.url = ( "/a" => "b" )', "alias.url takes a list of absolute paths"),
        ('alias.url = ( "/a" => "/b", "/a/x" => "/c" )', 'alias.url: "/a/x" is never reached, since "/a" stands'),
        ("url.redirect-code = 200", "url.redirect-code takes a number from 300 to 399, found 200"),
        ('url.rewrite = ( "(" => "/" )', 'url.rewrite: the regular expression "(" is at fault: missing )'),
        ('url.redirect = ( "' + "(" * 5000 + '" => "/" )', "url.redirect: the regular expression"),
        ("server.http-parseopts = 1", "server.http-parseopts takes a list like"),
        ('server.http-parseopts = ( "a" )', "server.http-parseopts takes a list like"),
        ('server.http-parseopts = ( "header-strict" => "x" )', "server.http-parseopts takes a list like"),
        (
            'server.http-parseopts = ( "url-path-2f-decode" => "enable", "url-path-2f-reject" => "enable" )',
            'server.http-parseopts: "url-path-2f-decode" and "url-path-2f-reject" exclude each other',
        ),
        ('server.feature-flags = ( "x" )', "server.feature-flags takes a list like"),
        ("server.feature-flags = 1", "server.feature-flags takes a list like"),
        ('server.feature-flags = ( "server.graceful-shutdown-timeout" => "x" )', "takes a number of seconds"),
        ('server.socket-perms = "999"', "server.socket-perms takes an octal mode"),
        ('server.socket-perms = "7777"', "server.socket-perms takes an octal mode"),
        ("server.max-read-idle = 0", "server.max-read-idle takes a number of seconds, at least 1, found 0"),
    ],
)
def test_invalid_values(text: str, expected: str) -> None:
    assert expected in fault(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server.prot = 1", 's:2: unknown directive server.prot; the nearest known is "server.port"'),
        ("server.max_fds = 1", 's:2: unknown directive server.max_fds; the nearest known is "server.max-fds"'),
        ("zzz.qqq = 1", "s:2: unknown directive zzz.qqq"),
        ('dir-listing.activate = "enable"', "s:2: dir-listing.activate is known, but not served yet"),
        ('ssl.engine = "disable"', "s:2: ssl.engine is known, but not served yet"),
        ("cgi.assign = ()", "s:2: cgi.assign is known, but not served yet"),
        (
            'server.http-parseopts = ( "url-ctrls-reject" => "disable" )',
            's:2: server.http-parseopts: "url-ctrls-reject" stays enabled: gfastcgi relaxes no check of a request',
        ),
        (
            'server.http-parseopts = ( "method-get-body" => "enable" )',
            's:2: server.http-parseopts: "method-get-body" is known, but not served yet',
        ),
        (
            'server.feature-flags = ( "server.h2c" => 1 )',
            's:2: server.feature-flags: "server.h2c" is known, but not served yet',
        ),
        (
            'server.feature-flags = ( "server.h2d" => 1 )',
            's:2: server.feature-flags: unknown flag "server.h2d"; the nearest known is "server.h2c"',
        ),
        (
            '$HTTP["host"] == "a" { server.port = 1 }',
            "s:2: server.port holds for the whole process: inside a conditional it is passed over",
        ),
    ],
)
def test_warnings(text: str, expected: str) -> None:
    config, warnings = load(text)
    assert warnings == [expected]
    assert config.server.listeners[0].port == 80
    assert config.server.url_normalize_2f == "reject"


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ('$HTTP["url"] == "/a%20b"', 'never holds: no path has "/a%20b"'),
        ('$HTTP["url"] =^ "/a//"', 'never holds: no path has "/a//"'),
        ('$HTTP["url"] =$ "/../x"', 'never holds: no path has "/../x"'),
        ('$HTTP["url"] != "a"', 'always holds: a path begins with "/"'),
        ('$HTTP["request-method"] == "get"', "never holds: methods are in capitals"),
        ('$HTTP["scheme"] == "HTTPS"', "never holds: it is http or https"),
        ('$HTTP["url"] == "/a b"', ""), ('$HTTP["url"] =^ ""', ""), ('$HTTP["url"] == "*"', ""),
        ('$HTTP["url"] =$ "x/"', ""), ('$HTTP["url"] =~ "%20"', ""), ('$HTTP["request-method"] == "GET"', ""),
        ('$HTTP["scheme"] != "https"', ""),
    ],
)  # fmt: skip
def test_conditionals_that_are_the_same_for_every_request(condition: str, told: str) -> None:
    _, warnings = load(condition + ' { server.tag = "x" }')
    assert [warning.startswith(f"s:2: {condition} {told}") for warning in warnings] == ([True] if told else [])


def test_no_directive_is_known_in_two_ways() -> None:
    assert not UNSERVED & DIRECTIVES.keys()
    assert not UNSERVED & UNSAFE.keys()
    assert all(name == name.lower() for name in (*UNSERVED, *UNSAFE, *DIRECTIVES))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('"host" => "h"', {"host": "h", "port": 80}),
        ('"host" => "h", "port" => "81"', {"host": "h", "port": 81}),
        ('"host" => "/run/s", "port" => 1', {"host": "", "port": 0, "socket": "/run/s"}),
        ('"bin-path" => "/b"', {"host": "127.0.0.1", "port": 80, "min_procs": 4, "max_procs": 4}),
        ('"bin-path" => "/b", "port" => 1, "max-procs" => 2', {"port": 1, "min_procs": 2, "max_procs": 2}),
        ('"host" => "h", "allow-x-send-file" => "enable"', {"x_sendfile": True}),
        ('"host" => "h", "check-local" => "Disabled"', {"check_local": False}),
        ('"host" => "h", "check-local" => 0', {"check_local": False}),
        ('"host" => "h", "mode" => "authorizer"', {"mode": "authorizer", "docroot": "", "read_timeout": 30}),
        ('"host" => "h", "mode" => "authorizer", "read-timeout" => 0', {"read_timeout": 30}),
        ('"host" => "h", "mode" => "authorizer", "read-timeout" => 5', {"read_timeout": 5}),
        ('"host" => "h", "mode" => "authorizer"', {"decision_timeout": None, "decision_seconds": 38}),
        ('"host" => "h", "mode" => "authorizer", "decision-timeout" => 5', {"decision_seconds": 5}),
        ('"host" => "h", "strip-request-uri" => "/p"', {"strip_request_uri": "/p"}),
        ('"host" => "h", "keep-alive" => "disable"', {"keep_alive": False}),
        ('"host" => "h", "max-connections" => 3', {"max_connections": 3}),
        ('"host" => "h", "queue-timeout" => 0, "weight" => 2', {"queue_timeout": 0, "weight": 2}),
        ('"host" => "[::1]", "resolve" => 5', {"host": "::1", "resolve": 5}),
        ('"host" => "localhost", "bin-path" => "/b"', {"host": "127.0.0.1"}),
        ('"host" => "h", "health-check" => ()', {"health_check": None}),
        (
            '"host" => "h", "health-check" => ( "path" => "/ping", "interval" => 2, "fall" => 1 )',
            {"health_check": HealthCheck(path="/ping", interval=2, timeout=3, rise=2, fall=1)},
        ),
        ('"host" => "h"', {"tcp_fin_propagate": None}),
        ('"host" => "h", "tcp-fin-propagate" => "disable"', {"tcp_fin_propagate": False}),
        ('"host" => "h", "require-status" => "enable"', {"require_status": True}),
        ('"socket" => "/' + "s" * 104 + '"', {"socket": "/" + "s" * 104}),
        ('"socket" => "/' + "s" * 102 + '", "bin-path" => "/b"', {"socket": "/" + "s" * 102}),
    ],
)
def test_hosts(options: str, expected: dict[str, Any]) -> None:
    found, _ = host(options)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('"host" => "h", "check_local" => "enable"', 'unknown option "check_local" of a fastcgi.server host; the'),
        ('"host" => "h", "Port" => 1', 'unknown option "Port" of a fastcgi.server host; the nearest known is "port"'),
        ('"host" => "h", "zzz" => 1', 'unknown option "zzz" of a fastcgi.server host'),
        ('"host" => "h", "mode" => "authoriser"', '"mode" takes one of "responder", "authorizer", found "authoriser"'),
        ('"host" => "h", "x-sendfile-docroot" => "/x"', '"x-sendfile-docroot" takes a list of absolute paths'),
        ('"url" => "http://a/"', '"url" needs "mode" => "authorizer"'),
        ('"python" => "a:b"', '"python" needs "mode" => "authorizer"'),
        ('"mode" => "authorizer", "host" => "h", "url" => "http://a/"', '"url" and "host" name two authorizers'),
        ('"mode" => "authorizer", "url" => "ftp://a/"', '"url" takes a URL like'),
        ('"mode" => "authorizer", "url" => "http://u:p@a/"', '"url" takes a URL like'),
        ('"mode" => "authorizer", "url" => "http://a:x/"', '"url" takes a URL like'),
        ('"mode" => "authorizer", "url" => "http://a/", "login" => "//evil"', '"login" takes a URL or a path'),
        ('"mode" => "authorizer", "url" => "http://a/", "login" => "/in?{x}"', '"login" takes a URL or a path'),
        (
            '"mode" => "authorizer", "url" => "http://a/", "variables" => ( "X" => "a b" )',
            '"variables" takes variables',
        ),
        (
            '"mode" => "authorizer", "url" => "http://a/" ), ( "mode" => "authorizer", "host" => "h"',
            "beside the one over",
        ),
        ('"host" => "h", 9000', 'a host is made of options like "port" => 9000, found 9000'),
        ('"bin-path" => "/b", "min-procs" => 5', '"min-procs" is more than "max-procs"'),
        ('"bin-path" => "/b \'c"', '"bin-path" takes a command, split as a shell does, found "/b \'c"'),
        ('"bin-path" => " "', '"bin-path" takes a command, split as a shell does, found " "'),
        ('"bin-path" => "/b", "port" => 65535', '"port" and "max-procs" reach beyond port 65535'),
        ('"socket" => "/' + "s" * 105 + '"', '"socket" is longer than 105 bytes'),
        ('"socket" => "/' + "s" * 103 + '", "bin-path" => "/b"', '"socket" is longer than 105 bytes'),
        ('"host" => "h", "weight" => 0', '"weight" takes a number from 1 to 1000, found 0'),
        ('"host" => "", "port" => 1', '"host" takes a name or an address, found ""'),
        ('"host" => "h:9000"', '"host" is a name or an address, the number is "port": "host" => "h", "port" => 9000'),
        ('"socket" => "unix:/s"', '"socket" is a path: "/s"'),
        ('"host" => "h", "bin-path" => "/b"', '"bin-path" needs an address as "host", not a name'),
        (
            '"bin-path" => "/b", "port" => 90 ), ( "bin-path" => "/b", "port" => 92',
            'the socket "127.0.0.1:92" belongs to the "bin-path" of s:2, and cannot have another one',
        ),
        ('"host" => "h", "resolve" => 0', '"resolve" takes a number of seconds, at least 1, found 0'),
        ('"host" => "h", "health-check" => "/ping"', '"health-check" takes a list like ( "path" => "/ping"'),
        ('"host" => "h", "health-check" => ( "interval" => 5 )', '"health-check" takes a list like ( "path"'),
        ('"host" => "h", "health-check" => ( "path" => "ping" )', '"health-check" takes a list like ( "path"'),
        (
            '"host" => "h", "health-check" => ( "path" => "/", "interval" => 0 )',
            'health-check: "interval" takes a number, at least 1',
        ),
        (
            '"host" => "h", "health-check" => ( "path" => "/", "intervall" => 5 )',
            'health-check: unknown option "intervall"; the nearest known is "interval"',
        ),
    ],
)
def test_faults_of_hosts(options: str, expected: str) -> None:
    assert expected in host_fault(options)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('( ".x" => ( "host" => "h", "port" => 1 ) )', 'fastcgi.server: ".x" takes a list of hosts, each in'),
        ('( ".x" => "h" )', 'fastcgi.server: ".x" takes a list of hosts'),
        ('( ".x" => () )', 'fastcgi.server: ".x" has no host'),
        ('( (( "host" => "h" )) )', "fastcgi.server takes hosts by extension"),
        ('( ".x" => ( "' + "n" * 129 + '" => ( "host" => "h" )) )', "the name of a host has more than 128 characters"),
    ],
)
def test_faults_of_extensions(value: str, expected: str) -> None:
    assert expected in fault(f"fastcgi.server = {value}")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('"host" => "h", "upgrade" => "enable"', '"upgrade" is known, but not served yet'),
        ('"host" => "h", "recheck" => 5', '"recheck" is for a host with "mode" => "authorizer"'),
        ('"bin-path" => "/b", "disable-time" => 0', '"disable-time" 0 shortens no pause of a spawned process'),
    ],
)
def test_warnings_of_hosts(options: str, expected: str) -> None:
    assert host(options)[1] == [f"s:2: {expected}"]


def test_kinds_of_errors() -> None:
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(ROOT + 'fastcgi.server = ( ".x" => (( "hostt" => "h", "port" => "x", "host" => "a" )) )')
    assert [type(error) for error in caught.value.errors] == [UnknownOption, InvalidValue]


def test_each_option_has_its_own_line() -> None:
    with pytest.raises(ConfigErrors) as caught:
        lighttpd.loads(ROOT + 'fastcgi.server = ( ".x" =>\n((\n"host" => "h",\n"port" => 0,\n"mod" => "x"\n)) )')
    assert [error.lineno for error in caught.value.errors] == [5, 6]


def test_a_list_of_hosts_that_scopes_share_is_made_once() -> None:
    config, _ = load(
        'php = (( "socket" => "/s", "bin-path" => "/b" ))\nfastcgi.server = ( ".php" => php, ".phtml" => php )\n'
        '$HTTP["host"] == "a" { fastcgi.server += ( ".x" => (( "host" => "h" )) ) }'
    )
    php, phtml = config.settings.extensions
    inherited = config.blocks[0].overrides["extensions"]
    assert inherited[0] is php
    assert inherited[1] is phtml
    assert php.hosts[0] is phtml.hosts[0]


def test_two_lists_that_look_alike_are_two() -> None:
    config, _ = load('h = ( "host" => "h" )\nfastcgi.server = ( ".x" => ( h, h ) )')
    first, second = config.settings.extensions[0].hosts
    assert first is not second


def test_rewriting_directives_add_up() -> None:
    config, _ = load(
        'url.rewrite-repeat-if-not-file = ( "d" => "4" )\nurl.rewrite-if-not-file = ( "c" => "3" )\n'
        'url.rewrite-repeat = ( "b" => "2" )\nurl.rewrite = ( "a" => "1" )\nurl.rewrite-final = ( "aa" => "" )\n'
        '$HTTP["host"] =~ "^x(.)" { $HTTP["url"] == "/" { url.redirect = ( "e" => "%1" ) } }'
    )
    found = [(rule.pattern, rule.once) for rule in config.settings.rewrite]
    assert found == [("a", True), ("aa", True), ("b", False)]
    found = [(rule.pattern, rule.once) for rule in config.settings.rewrite_if_not_file]
    assert found == [("c", True), ("d", False)]
    (rule,) = config.blocks[0].overrides["redirect"]
    assert rule.condition is config.blocks[0].conditions[0][0]
    assert all(rule.condition is None for rule in config.settings.rewrite)


@pytest.mark.parametrize(
    ("condition", "variable", "operand"),
    [
        ('$HTTP["user-agent"] == "x"', 'HTTP["useragent"]', "x"),
        ('$HTTP["remote-ip"] == "10.0.0.0/8"', 'HTTP["remoteip"]', "10.0.0.0/8"),
        ('$HTTP["remoteip"] == "10.1.2.3/8"', 'HTTP["remoteip"]', "10.1.2.3/8"),
        ('$HTTP["remoteip"] != "::1"', 'HTTP["remoteip"]', "::1"),
        ('$HTTP["remoteip"] == "/run/s"', 'HTTP["remoteip"]', "/run/s"),
        ('$HTTP["remoteip"] =~ "^127\\."', 'HTTP["remoteip"]', "^127\\."),
        ('$HTTP["query-string"] == "x"', 'HTTP["querystring"]', "x"),
        ('$HTTP["host"] == "Example.ORG"', 'HTTP["host"]', "example.org"),
        ('$HTTP["host"] =~ "Example"', 'HTTP["host"]', "Example"),
        ('$REQUEST_HEADER["X-Forwarded-Proto"] == "https"', 'REQUEST_HEADER["x-forwarded-proto"]', "https"),
    ],
)
def test_one_spelling_of_each_condition(condition: str, variable: str, operand: str) -> None:
    config, _ = load(f'{condition} {{ server.tag = "x" }}')
    held = config.blocks[0].conditions[0][0]
    assert (held.variable, held.operand) == (variable, operand)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('$HTTP["hostt"] == "x"', '$HTTP["hostt"] cannot be evaluated; the nearest known is "HTTP["host"]"'),
        ('$PHYSICAL["path"] =~ "x"', '$PHYSICAL["path"] cannot be evaluated'),
        ('$REQUEST_HEADER["a b"] == "x"', '$REQUEST_HEADER["a b"] cannot be evaluated'),
        ('$SERVER["port"] == "1"', '$SERVER["port"] cannot be evaluated'),
        ('$SERVER["socket"] == "::1"', '$SERVER["socket"]: expected an address'),
        ('$HTTP["remoteip"] == "10.0.0.0/40"', '$HTTP["remoteip"]: expected an address or a network'),
        ('$HTTP["remoteip"] == "banana"', '$HTTP["remoteip"]: expected an address or a network'),
        ('$HTTP["remoteip"] =^ "10."', '$HTTP["remoteip"]: =^ does not suit addresses'),
        ('$HTTP["url"] =~ "("', "$HTTP[\"url\"]: the regular expression '(' is at fault: missing )"),
        ('$HTTP["url"] !~ "a**b++"', "$HTTP[\"url\"]: the regular expression 'a**b++' is at fault: multiple repeat"),
    ],
)
def test_conditions_that_cannot_be_evaluated(condition: str, expected: str) -> None:
    assert fault(f'{condition} {{ server.tag = "x" }}').startswith(expected)


def test_every_option_has_a_place_to_go_to() -> None:
    holders = {"server": ServerConfig, "request": Settings, "host": HostConfig}
    names = {scope: {field.name for field in fields(holder)} for scope, holder in holders.items()}
    for option in (*DIRECTIVES.values(), *HOST_OPTIONS.values()):
        assert set(option.attributes) <= names[option.scope], option.name
    reached = {scope: set() for scope in names} | {"host": {"name", "where"}, "server": {"listeners"}}
    reached["server"] |= {"max_fields", "max_fields_size"}
    for option in (*DIRECTIVES.values(), *HOST_OPTIONS.values()):
        reached[option.scope] |= set(option.attributes)
    assert reached == names


def test_the_page_shows_the_table() -> None:
    assert lighttpd.options_table() in DOCS.read_text()


@pytest.mark.skipif(not os.path.exists("/etc/lighttpd/lighttpd.conf"), reason="Debian's lighttpd is not installed")
def test_debians_own_configuration() -> None:
    config, _ = lighttpd.load("/etc/lighttpd/lighttpd.conf")
    assert config.settings.index_file_names[0] == "index.php"
    assert (".html", "text/html") in config.settings.mimetypes
