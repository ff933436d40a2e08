"""The command line's answers: versions, checks, faults with their places, and exit statuses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from gfastcgi._version import __version__
from gfastcgi.cli.command import run

GOOD = """server.document-root = "{root}"
server.port = 0
fastcgi.server = ( ".php" => (( "socket" => "{root}/php.sock" )) )
"""
BAD = """server.document-root = "{root}"
fastcgi.balance = "fastest"
fastcgi.server = ( ".php" => (( "host" => "127.0.0.1", "port" => 70000 )) )
fastcgi.server += ( "/x" => (( "socket" => "{root}/x", "sockett" => "" )) )
"""


def write(folder: Path, text: str) -> str:
    file = folder / "site.conf"
    file.write_text(text.replace("{root}", str(folder)))
    return str(file)


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([flag]) == 0
    assert re.fullmatch(rf"gfastcgi/{re.escape(__version__)} - .+\n", capsys.readouterr().out)


def test_features_stand_in_lighttpd_s_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-V"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"gfastcgi/{__version__}")
    assert "\t+ round-robin" in rest
    assert "\t+ authorizer" in rest
    assert "\t- HTTP/2" in rest
    assert all(re.fullmatch(r"|[A-Z][^:]*:|\t[+-] \S.*", line) for line in rest)


def test_features_tell_which_extras_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    assert run(["-V"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"\t- redis (decisions that gateways share)", "\t+ completion"} <= set(lines)


def test_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "-f FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["-f"], ["serve"], ["check"], ["check", "a", "-f", "b"], ["demo", "--port", "x"]]
)
def test_arguments_that_make_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    assert "usage: gfastcgi" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["-t"], ["-t", "-D"], ["-tt"], ["-t", "-t"]])
def test_a_good_file(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*flags, "-f", write(tmp_path, GOOD)]) == 0
    assert capsys.readouterr().out == "Syntax OK\n"


@pytest.mark.parametrize("flags", [["check"], ["check", "-f"]])
def test_check_is_the_same(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*flags, write(tmp_path, GOOD)]) == 0
    assert capsys.readouterr().out == "Syntax OK\n"


@pytest.mark.parametrize("flags", [["-t", "-f"], ["-p", "-f"], ["check"]])
def test_every_fault_is_told_with_its_place(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filename = write(tmp_path, BAD)
    assert run([*flags, filename]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [re.findall(r":(\d+): ", line)[:1] for line in lines] == [["2"], ["3"], ["4"], []]
    assert all(line.startswith(f"gfastcgi: {filename}:") for line in lines[:3])
    assert ("balance" in lines[0], "port" in lines[1], "socket" in lines[2]) == (True, True, True)
    assert lines[3] == "gfastcgi: 3 faults"


@pytest.mark.parametrize("flags", [["-t", "-f"], ["-p", "-f"], ["check"]])
def test_what_would_stop_a_start_is_a_fault(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filename = write(
        tmp_path,
        GOOD + 'auth.require = ( "/a" => ( "method" => "basic", "realm" => "r", "require" => "valid-user" ) )\n',
    )
    assert run([*flags, filename]) == 1
    assert "auth.backend" in capsys.readouterr().err


def test_what_would_stop_a_host_alone_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what stands around it: that holds wherever it holds."""
    require = 'auth.require = ( "/a" => ( "method" => "basic", "realm" => "r", "require" => "valid-user" ) )'
    backend = 'auth.backend = "plain"\nauth.backend.plain.userfile = "/users"'
    assert run(["-t", "-f", write(tmp_path, f'{GOOD}$HTTP["host"] == "a" {{\n{require}\n}}\n')]) == 1
    assert ":5: auth.require needs auth.backend" in capsys.readouterr().err
    nested = f'$HTTP["host"] == "a" {{\n{backend}\n$HTTP["url"] =^ "/a" {{\n{require}\n}} }}\n'
    assert run(["-t", "-f", write(tmp_path, GOOD + nested)]) == 0


def test_folders_that_are_not_there_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = '"mode" => "authorizer", "socket" => "/run/x", "docroot" => "/nowhere/a"'
    elsewhere = '"socket" => "/run/y", "docroot" => "/at/the/backend"'
    filename = write(
        tmp_path,
        'server.document-root = "/nowhere"\nserver.port = 0\n'
        f'fastcgi.server = ( "/p/" => (( {gate} )), ".php" => (( {elsewhere} )) )\n'
        '$HTTP["host"] == "b" { server.document-root = "/nowhere/b" }\n',
    )
    assert run(["-t", "-f", filename]) == 0
    assert capsys.readouterr().err.splitlines() == [
        'gfastcgi: warning: server.document-root: there is no folder "/nowhere"',
        f'gfastcgi: warning: {filename}:3: "docroot": there is no folder "/nowhere/a"',
        'gfastcgi: warning: server.document-root: there is no folder "/nowhere/b"',
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('server.errorlog = "/nowhere/log"', ":4: server.errorlog: '/nowhere/log': No such file or directory"),
        ('server.pid-file = "{root}/site.conf/pid"', ":4: server.pid-file: '{root}/site.conf/pid': Not a directory"),
        ('server.control-socket = "/nowhere/s"', ":4: server.control-socket: '/nowhere/s': No such file or directory"),
        ('fastcgi.audit-log = "{root}"', ":4: fastcgi.audit-log: '{root}': Is a directory"),
        ('accesslog.filename = "/nowhere/a"', ":4: accesslog.filename: '/nowhere/a': No such file or directory"),
        (
            '$HTTP["host"] == "a" { accesslog.filename = "/nowhere/a" }',
            ":4: accesslog.filename: '/nowhere/a': No such file or directory",
        ),
        (
            'fastcgi.server += ( "/x" => (( "bin-path" => "/nowhere/program -x" )) )',
            ":4: \"bin-path\": '/nowhere/program': No such file or directory",
        ),
        (
            '$HTTP["host"] == "a" {\nfastcgi.server += ( "/x" => (( "bin-path" => "{root}/site.conf" )) ) }',
            ":5: \"bin-path\": '{root}/site.conf': Permission denied",
        ),
    ],
)
@pytest.mark.parametrize("flags", [["-t", "-f"], ["check"]])
def test_places_that_would_stop_a_start(
    flags: list[str], line: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filename = write(tmp_path, GOOD + line)
    assert run([*flags, filename]) == 1
    assert capsys.readouterr().err == f"gfastcgi: {filename}{fault.replace('{root}', str(tmp_path))}\n"
    assert run(["-p", "-f", filename]) == 0


def test_places_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "program").write_text("")
    (tmp_path / "program").chmod(0o700)
    text = """
        server.errorlog = "{root}/log"
        server.pid-file = "{root}/pid"
        accesslog.filename = "-"
        fastcgi.audit-log = "log"
        fastcgi.server += ( "/x" => (( "bin-path" => "{root}/program", "x-sendfile-docroot" => ( "{root}" ) )) )
        fastcgi.server += ( "/y" => (( "bin-path" => "sh", "port" => 90 )) )
    """
    assert run(["-t", "-f", write(tmp_path, GOOD + text)]) == 0
    assert capsys.readouterr().err == ""


def test_what_is_built_and_what_is_named_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require = 'auth.require = ( "/a" => ( "method" => "basic", "realm" => "r", "require" => "valid-user" ) )'
    filename = write(tmp_path, f'{GOOD}server.errorlog = "/nowhere/log"\n{require}\n')
    assert run(["-t", "-f", filename]) == 1
    assert re.findall(r":(\d): (\S+)", capsys.readouterr().err) == [("4", "server.errorlog:"), ("5", "auth.require")]


def test_files_that_are_missed_later_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filename = write(
        tmp_path,
        GOOD
        + """auth.backend = "htpasswd"
auth.backend.htpasswd.userfile = "{root}/users"
auth.backend.plain.groupfile = "{root}/groups"
auth.require = ( "/a" => ( "method" => "basic", "realm" => "r", "require" => "valid-user" ),
                 "/b" => ( "method" => "basic", "realm" => "r", "require" => "group=x" ) )
fastcgi.server += (
    "/c" => (( "mode" => "authorizer", "socket" => "/run/s", "script" => "{root}/gate.php" )),
    "/d" => (( "mode" => "authorizer", "host" => "192.0.2.1", "script" => "/there/gate.php" )),
    "/e" => (( "socket" => "/run/t", "x-sendfile-docroot" => ( "{root}", "{root}/x", "{root}/site.conf" ) )),
    "/f" => (( "bin-path" => "{root}/late", "min-procs" => 0 )),
)
""",
    )
    assert run(["-t", "-f", filename]) == 0
    told = capsys.readouterr().err.replace(f"{filename}:", ":").replace(str(tmp_path), "")
    assert told.replace("gfastcgi: warning: ", "").splitlines() == [
        ":13: \"bin-path\": '/late': No such file or directory",
        ':10: "script": there is no file "/gate.php"',
        ':12: "x-sendfile-docroot": there is no folder "/x"',
        ':12: "x-sendfile-docroot": there is no folder "/site.conf"',
        ':7: auth.require: there is no file "/users" (auth.backend.htpasswd.userfile)',
        ':8: auth.require: there is no file "/users" (auth.backend.htpasswd.userfile)',
        ':8: auth.require: there is no file "/groups" (auth.backend.plain.groupfile)',
    ]


def test_a_word_that_is_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filename = write(tmp_path, GOOD)
    answers = []
    for word in ("sevre", "zzz", filename):
        assert run([word]) == 2
        answers.append(capsys.readouterr().err)
    assert answers == [
        'gfastcgi: unknown command "sevre"; the nearest known is "serve"; see `gfastcgi --help`\n',
        'gfastcgi: unknown command "zzz"; see `gfastcgi --help`\n',
        f"gfastcgi: to serve {filename}: gfastcgi -f {filename}\n",
    ]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-t", "-f", str(tmp_path / "none.conf")]) == 1
    assert "none.conf" in capsys.readouterr().err


def test_a_server_does_not_start_from_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-D", "-f", write(tmp_path, BAD)]) == 255
    assert capsys.readouterr().err.splitlines()[-1] == "gfastcgi: 3 faults"


def test_an_unknown_directive_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filename = write(tmp_path, GOOD + "server.no-such-thing = 1\n")
    assert run(["-t", "-f", filename]) == 0
    out, err = capsys.readouterr()
    assert out == "Syntax OK\n"
    assert err.startswith(f"gfastcgi: warning: {filename}:4: ")
    assert "server.no-such-thing" in err


def test_what_was_understood_is_printed_and_understood_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-p", "-f", write(tmp_path, GOOD)]) == 0
    printed = capsys.readouterr().out
    assert "php.sock" in printed
    again = tmp_path / "again.conf"
    again.write_text(printed)
    assert run(["-p", "-f", str(again)]) == 0
    assert capsys.readouterr().out == printed


SECRETS = """
fastcgi.cache-redis  = "redis://:hunter2@10.0.0.5:6379/0"
fastcgi.cache-secret = "b7c2d4f0e6a84d51929c7f0e3a5d8b16"
var.gate = ( "mode" => "authorizer", "url" => "http://127.0.0.1:4180/auth?token=t0ken" )
fastcgi.server += ( "/a/" => ( gate ) )
$HTTP["host"] == "b" {
  fastcgi.server = ( "/b/" => (( "bin-path" => "/bin/b", "bin-environment" => ( "DB_PASSWORD" => "swordf1sh" ) )) )
}
"""


@pytest.mark.parametrize("flags", [["-p", "-f"], ["check", "-p"]])
def test_secrets_are_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    filename = write(tmp_path, GOOD + SECRETS)
    assert run([*flags, filename]) == 0
    printed = capsys.readouterr().out
    secrets = ("hunter2", "b7c2d4f0", "t0ken", "swordf1sh")
    assert [secret for secret in secrets if secret in printed] == []
    assert "redis://:(7 bytes)@10.0.0.5:6379/0" in printed
    assert run([*flags[:-1], "--show-secrets", *flags[-1:], filename]) == 0
    shown = capsys.readouterr().out
    assert [secret for secret in secrets if secret not in shown] == []
    assert run(["-t", "-f", write(tmp_path, printed)]) == 1, "nobody signs with what everybody may read"
    assert "needs fastcgi.cache-secret, of at least 32" in capsys.readouterr().err


def test_messages_hold_no_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = 'fastcgi.cache-redis = "redis://:hunter2@h:port"\n'
    assert run(["-t", "-f", write(tmp_path, GOOD + wrong)]) == 1
    told = capsys.readouterr().err
    assert "fastcgi.cache-redis takes a URL" in told
    assert "hunter2" not in told


def test_nothing_is_coloured_away_from_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["-t", "-f", write(tmp_path, BAD)])
    assert "\x1b" not in capsys.readouterr().err


def test_faults_hide_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "site.conf"
    conf.write_text('server.document-root = "/srv"\nserver.prot = 1\nserver.port = "x"\n')
    assert run(["-t", "-f", str(conf)]) == 1
    told = capsys.readouterr().err
    assert f"{conf}:2: unknown directive server.prot" in told
    assert f"{conf}:3: " in told
