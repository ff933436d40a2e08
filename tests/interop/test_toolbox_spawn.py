"""`gfastcgi spawn` beside spawn-fcgi: what is refused, what a program finds, who it is, what is left."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import procrig
import pytest
from peers.processes import Processes, can_connect, free_port
from peers.programs import find_peer
from peers.waiting import wait_until
from procrig import ask, fastcgi_get

from gfastcgi.cli.command import run
from gfastcgi.config import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
OURS = [sys.executable, "-m", "gfastcgi", "spawn"]
NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
both = pytest.mark.parametrize("is_ours", [True, False], ids=["gfastcgi", "spawn-fcgi"])

# A teller that does not mind who leaves, and tells who it is.
TELLER = (
    procrig.TELLER.replace("    connection.sendall", "    with contextlib.suppress(OSError): connection.sendall")
    .replace("import json", "import contextlib, json")
    .replace('"pid": ', '"ids": [os.getuid(), os.getgid()], "groups": os.getgroups(), "pid": ')
)

Capture = pytest.CaptureFixture[str]
Spawn = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that any user may enter, with a short name; pytest's own is private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def spawn(folder: Path, processes: Processes) -> Spawn:
    """Runs either program; what it leaves running ends with the test."""

    def spawn(is_ours: bool, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = OURS if is_ours else [find_peer("spawn-fcgi")]
        done = subprocess.run(
            [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=30, umask=0o027,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, check=False,
        )  # fmt: skip
        for pid in re.findall(r"child spawned successfully: PID: (\d+)", done.stdout):
            processes.adopt(int(pid))
        return done

    return spawn


def told(folder: Path) -> Any:
    path = str(folder / "a.sock")
    wait_until(lambda: can_connect(path), path)
    return ask(Address(path=path))


REFUSED = [
    "", "-f /bin/true", "-s {folder}/a --", "-s {folder}/a -p 9 -- /bin/true", "-p 0 -- /bin/true", "-p x -- /bin/true",
    "-p 9 -a 1.2.3 -- /bin/true", "-s {folder}/none/a -- /bin/true", "-s {folder} -- /bin/true",
    f"-s {{folder}}/{'a' * 100} -- /bin/true", "-s {folder}/a -P {folder}/none/pid -- /bin/true",
    "-s {folder}/a -P /dev/null -- /bin/true", "-s {listening} -- /bin/true", "-p {port} -a 127.0.0.1 -- /bin/true",
    "-s '' -- /bin/true", "-s '' -p 9 -- /bin/true",
]  # fmt: skip
REFUSED_TO_ROOT = [
    "-s {folder}/a -u root -- /bin/true", "-s {folder}/a -u 0 -- /bin/true", "-s {folder}/a -g root -- /bin/true",
    "-s {folder}/a -u no-such-user -- /bin/true", "-s {folder}/a -g no-such-group -- /bin/true",
    "-s {folder}/a -U root -- /bin/true", "-s {folder}/a -G no-such-group -- /bin/true",
    "-s {folder}/a -c {folder}/none -- /bin/true",
]  # fmt: skip


@pytest.mark.parametrize("arguments", [*REFUSED, *(pytest.param(each, marks=as_root) for each in REFUSED_TO_ROOT)])
def test_both_refuse(
    arguments: str, folder: Path, spawn: Spawn, backend: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    listening, port = backend(lambda seen: b"").address, backend(lambda seen: b"", tcp=True).address[1]
    words = shlex.split(arguments.format(folder=folder, listening=listening, port=port))
    theirs = spawn(False, *words)
    # Nothing of the process that is asked is changed before it is refused, so it can be this one.
    assert run(["spawn", *words]) == theirs.returncode == 255
    ours = capsys.readouterr()
    assert ours.out == ""
    assert re.fullmatch(r"gfastcgi: \S.+\n", ours.err)
    assert not (folder / "a").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("-p 70000 -- /bin/true", "-p: '70000' is not a number up to 65535"),
        ("-s a -M 0999 -- /bin/true", "-M: '0999' is not an octal number up to 7777"),
        ("-s a -F x -- /bin/true", "-F: 'x' is not a number"),
        ("-s a -C x -- /bin/true", "-C: 'x' is not a number"),
        ("-s a -b x -- /bin/true", "-b: 'x' is not a number"),
    ],
)
def test_numbers_that_are_none_are_refused(
    arguments: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["spawn", *arguments.split()]) == 255
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@as_root
@pytest.mark.parametrize("flag", ["-u", "-g", "-U", "-G"])
@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 10**30])
def test_numbers_of_nobody_are_refused(flag: str, number: int, tmp_path: Path, capsys: Capture) -> None:
    assert run(["spawn", "-s", str(tmp_path / "a"), flag, str(number), "--", "/bin/true"]) == 255
    assert re.fullmatch(rf"gfastcgi: can't find (user|group) name {number}\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@both
@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ("-- /nonexistent", 2), ("-n -- /nonexistent", 2), ("-f /nonexistent", 127), ("-- /bin/sh -c true", 0),
        ("-d /nonexistent -- /bin/true", 255), ("-f 'kill -9 $$'", 1),
    ],
)  # fmt: skip
def test_a_program_that_ends_at_once_gives_its_exit_status(
    is_ours: bool, flags: str, status: int, folder: Path, spawn: Spawn
) -> None:
    done = spawn(is_ours, "-s", str(folder / "a.sock"), *shlex.split(flags))
    assert done.returncode == status
    assert "successfully" not in done.stdout
    if is_ours and "-n" not in flags and "-d" not in flags:
        assert "child exited with" in done.stderr or "child signaled: 9" in done.stderr
    if is_ours and "-n" not in flags:
        assert not (folder / "a.sock").exists(), "a socket that nobody serves is not left behind"


def test_what_a_program_finds(folder: Path, spawn: Spawn, processes: Processes) -> None:
    (folder / "sub").mkdir()
    found, modes, pid_files = [], [], []
    for is_ours in (True, False):
        done = spawn(
            is_ours, "-s", str(folder / "a.sock"), "-P", "pid", "-d", str(folder / "sub"), "-C", "3", "-b", "7",
            "--", sys.executable, "-c", TELLER, "-n", "--", "-s x",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert re.search(r"child spawned successfully: PID: \d+\n$", done.stdout)
        seen = told(folder)
        assert seen["pid"] == seen["sid"] == int((folder / "pid").read_text())
        pid_files.append(re.sub(r"\d+", "N", (folder / "pid").read_text()))
        modes.append(stat.S_IMODE((folder / "a.sock").stat().st_mode))
        own = ("pid", "sid", "pgid")
        seen["environ"] = {name: value for name, value in seen["environ"].items() if name != "_"}
        found.append({name: value for name, value in seen.items() if name not in own})
        processes.stop()
    assert found[0] == found[1]
    assert found[0]["environ"]["PHP_FCGI_CHILDREN"] == "3"
    assert found[0]["cwd"] == str(folder / "sub")
    assert found[0]["blocking"] is True
    assert (modes, pid_files) == ([0o640, 0o640], ["N", "N"])


@both
def test_several_processes_share_the_socket(is_ours: bool, folder: Path, spawn: Spawn) -> None:
    (folder / "pid").write_text("an older and longer text than what is written now\n" * 9)
    done = spawn(
        is_ours, "-s", str(folder / "a.sock"), "-M", "0606", "-F", "3", "-P", "pid", "--",
        sys.executable, "-c", TELLER,
    )  # fmt: skip
    pids = re.findall(r"PID: (\d+)", done.stdout)
    assert len(pids) == 3
    assert (folder / "pid").read_text() == "\n".join(pids)
    assert str(told(folder)["pid"]) in pids
    assert stat.S_IMODE((folder / "a.sock").stat().st_mode) == 0o606


@both
@pytest.mark.parametrize("address", ["127.0.0.1", "::", ""])
def test_tcp(is_ours: bool, address: str, spawn: Spawn) -> None:
    port = free_port()
    where = ["-a", address] if address else []
    assert spawn(is_ours, *where, f"-p{port}", sys.executable, "-f", "x", "--", "-c", TELLER).returncode == 0
    ways = {"::": ["127.0.0.1", "::1"], "": ["127.0.0.1"]}.get(address, [address])
    for host in ways:
        sock = wait_until(lambda host=host: _dial(host, port), f"{host} {port}")
        assert sock["blocking"] is True


def _dial(host: str, port: int) -> Any:
    try:
        with socket.create_connection((host, port), 10) as sock:
            return json.loads(sock.makefile("rb").read())
    except ConnectionRefusedError:
        return None


@both
def test_without_a_fork_it_becomes_the_program(is_ours: bool, folder: Path, processes: Processes) -> None:
    command = OURS if is_ours else [find_peer("spawn-fcgi")]
    path = str(folder / "a.sock")
    process = processes.start(
        [*command, "-n", "-s", path, "-P", str(folder / "pid"), "-F", "4", "--", sys.executable, "-c", TELLER],
        until=path, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert told(folder)["pid"] == process.pid
    assert not (folder / "pid").exists()


@as_root
@both
@pytest.mark.parametrize(
    ("flags", "ids", "owner"),
    [
        ("-u nobody", (NOBODY.pw_uid, NOBODY.pw_gid), (NOBODY.pw_uid, NOBODY.pw_gid)),
        ("-g www-data", (0, 33), (0, 33)),
        ("-u 4242 -g 4343", (4242, 4343), (4242, 4343)),
        ("-u nobody -G www-data", (NOBODY.pw_uid, NOBODY.pw_gid), (NOBODY.pw_uid, 33)),
        ("-U www-data -G nogroup", (0, 0), (33, NOBODY.pw_gid)),
    ],
)
def test_who_the_program_is(
    is_ours: bool, flags: str, ids: tuple[int, int], owner: tuple[int, int], folder: Path, spawn: Spawn
) -> None:
    done = spawn(is_ours, "-s", str(folder / "a.sock"), *flags.split(), "--", "/usr/bin/python3", "-c", TELLER)
    assert done.returncode == 0, done.stderr
    seen = told(folder)
    assert tuple(seen["ids"]) == ids
    assert 0 not in seen["groups"] or ids[0] == 0
    status = (folder / "a.sock").stat()
    assert (status.st_uid, status.st_gid) == owner


STATIC = r"""
#include <unistd.h>
#include <sys/socket.h>
#include <sys/stat.h>
int main(void) {
    struct stat found;
    int connection;
    while ((connection = accept(0, 0, 0)) >= 0) {
        write(connection, stat("/only-here", &found) ? "out" : "in", 3);
        close(connection);
    }
    return 7;
}
"""


@as_root
@both
@pytest.mark.parametrize("before", [True, False])
def test_chroot(is_ours: bool, before: bool, folder: Path, processes: Processes) -> None:
    """Into a folder with nothing but a program: no /dev, no /proc, no libraries."""
    jail = folder / "jail"
    jail.mkdir()
    (jail / "only-here").touch()
    compiler = [find_peer("gcc"), "-static", "-w", "-x", "c", "-", "-o", str(jail / "app")]
    subprocess.run(compiler, input=STATIC, text=True, check=True)
    where = ["-S", "-s", str(folder / "a.sock")] if before else ["-s", "/a.sock"]
    done = subprocess.run(
        [*(OURS if is_ours else [find_peer("spawn-fcgi")]), "-c", str(jail), *where, "-u", "nobody",
         "-P", str(folder / "pid"), "--", "/app"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, timeout=30, check=False,
        # Without a /dev/null spawn-fcgi leaves its own output to the program: nothing may wait for its end.
        stderr=subprocess.PIPE if is_ours else subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    processes.adopt(int((folder / "pid").read_text()))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str((folder if before else jail) / "a.sock"))
        assert sock.recv(16).rstrip(b"\0") == b"in"


def test_a_file_that_is_no_socket_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.sock").write_text("precious")
    assert run(["spawn", "-s", str(tmp_path / "a.sock"), "--", "/bin/true"]) == 255
    assert "Address already in use" in capsys.readouterr().err
    assert (tmp_path / "a.sock").read_text() == "precious"


def test_flags_for_root_have_no_effect_for_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["spawn", "-s", "/nonexistent/a", "-u", "no-such-user", "-c", "/x", "-S", "--", "/bin/true"]) == 255
    told = capsys.readouterr().err
    assert re.findall(r"warning: (\S+) needs root", told) == ["-u", "-c", "-S"]
    assert "cannot listen on /nonexistent/a" in told


def test_a_set_user_id_copy_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert run(["spawn", "-s", "/nonexistent/a", "--", "/bin/true"]) == 255
    assert "set-user-id" in capsys.readouterr().err


def test_spawn_php_sh(folder: Path, processes: Processes) -> None:
    """lighttpd's own wrapper, with its variables, its clean environment, and gfastcgi in the place of spawn-fcgi."""
    port = free_port()
    (folder / "hello.php").write_text("<?php echo 'hello ', getenv('FCGI_WEB_SERVER_ADDRS'), getenv('SECRET');")
    user = 'EX="$EX -u nobody -g nogroup"' if os.getuid() == 0 else ""
    script = folder / "spawn-php.sh"
    script.write_text(f"""#!/bin/bash
SPAWNFCGI="{" ".join(OURS)}"
FCGIPROGRAM="{find_peer("php-cgi")}"
FCGIPORT="{port}"
PHP_FCGI_CHILDREN=2
PHP_FCGI_MAX_REQUESTS=1000
FCGI_WEB_SERVER_ADDRS="127.0.0.1"
ALLOWED_ENV="PATH USER PYTHONPATH"
export PHP_FCGI_MAX_REQUESTS FCGI_WEB_SERVER_ADDRS
EX="$SPAWNFCGI -a $FCGI_WEB_SERVER_ADDRS -p $FCGIPORT -f $FCGIPROGRAM -C $PHP_FCGI_CHILDREN"
{user}
E=
for i in $ALLOWED_ENV PHP_FCGI_MAX_REQUESTS FCGI_WEB_SERVER_ADDRS; do E="$E $i=${{!i}}"; done
env - $E $EX
""")
    done = subprocess.run(
        [shutil.which("bash") or "bash", str(script)], cwd=folder, capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SECRET": "x"}, check=False,
    )  # fmt: skip
    found = re.fullmatch(r"gfastcgi spawn: child spawned successfully: PID: (\d+)\n", done.stdout)
    assert found, done.stderr
    processes.adopt(int(found[1]))
    wait_until(lambda: can_connect(("127.0.0.1", port)), "php-cgi")
    params = [(b"SCRIPT_FILENAME", str(folder / "hello.php").encode()), (b"REQUEST_METHOD", b"GET"),
              (b"REDIRECT_STATUS", b"200")]  # fmt: skip
    answer = fastcgi_get(Address(host="127.0.0.1", port=port), params)
    assert answer.endswith(b"\r\n\r\nhello 127.0.0.1")
