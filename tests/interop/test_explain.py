"""`gfastcgi explain`: what it says word for word, that it is what happens, and that nothing happens by saying it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from shlex import split
from typing import TYPE_CHECKING, Any

import pytest
from filerig import ask as request_for
from peers.backend import answer
from peers.waiting import wait_until

from gfastcgi.audit import AuditLog
from gfastcgi.auth.base import Allow, Verdict
from gfastcgi.cli.command import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway

DATA = Path(__file__).parents[1] / "data" / "explain"
GOLDEN = sorted(DATA.glob("*.txt"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in ("www/index.html", "www/page.html", "www/draft.html~", "behind/private/a.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "behind/private/out.txt").symlink_to("/etc/passwd")
    (tmp_path / "site.conf").write_text((DATA / "site.conf").read_text().replace("{root}", str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file begins with a command line; the rest is what it prints."""
    monkeypatch.chdir(root)
    line, _, expected = path.read_text().partition("\n")
    status = run(split(line.removeprefix("$ gfastcgi ")))
    printed = capsys.readouterr()
    assert (printed.out + printed.err).replace(str(root), "{root}") == expected
    assert status == (2 if "gfastcgi:" in expected else 0)


def explained(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["explain", "--json", *words]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


SITE = """
server.document-root = "{root}/www"
server.port = {port}
server.bind = "127.0.0.1"
fastcgi.audit-log = "{root}/audit.json"
var.gate = ( {guard}, "mode" => "authorizer", "check-local" => "disable" )
fastcgi.server = ( "/app/" => ( gate, ( {app}, "check-local" => "disable" ) ) )
fastcgi.server += ( "/files/" => (( {guard}, "mode" => "authorizer", "docroot" => "{root}/behind" )) )
"""


@pytest.fixture
def site(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway]
) -> tuple[Gateway, ScriptedBackend, ScriptedBackend]:
    (tmp_path / "behind/files").mkdir(parents=True)
    (tmp_path / "behind/files/a.txt").write_text("inside")
    guard, app = backend(), backend()
    text = SITE.format(root=tmp_path, guard=guard.option, app=app.option, port="0")
    site = gateway(text)
    (tmp_path / "site.conf").write_text(text.replace("server.port = 0", f"server.port = {site.port}"))
    return site, guard, app


def test_it_is_what_happens(
    site: tuple[Gateway, ScriptedBackend, ScriptedBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway, guard, app = site
    guard.script = lambda seen: answer("Status: 200\r\n\r\n")
    words = ["-X", "OPTIONS", "-H", "Cookie: SID=secret", "-H", "Remote-User: mallory", "-H", "X-Range: 1"]
    url = f"http://127.0.0.1:{gateway.port}/app/x/%C3%A9/../y?q=%20"
    record = explained(["-f", str(tmp_path / "site.conf"), "--show-secrets", *words, url], capsys)
    assert gateway.request(
        "OPTIONS", "/app/x/%C3%A9/../y?q=%20", Host=f"127.0.0.1:{gateway.port}", Cookie="SID=secret",
        Remote_User="mallory", X_Range="1",
    ).status == 200  # fmt: skip
    for said, seen in ((record["authorizers"][0]["sends"], guard.last), (record["route"]["sends"], app.last)):
        got = {name: value.decode("utf-8", "surrogateescape") for name, value in seen.params.items()}
        assert {**said, "REMOTE_PORT": ""} == {**got, "REMOTE_PORT": ""}
    assert record["dropped"] == ["remote-user"]


def test_nothing_happens(
    tmp_path: Path, backend: Callable[..., ScriptedBackend], capsys: pytest.CaptureFixture[str]
) -> None:
    """No process is started, nobody is connected to, no file is written."""
    guard = backend()
    config = tmp_path / "site.conf"
    config.write_text(
        f'server.document-root = "{tmp_path}"\naccesslog.filename = "{tmp_path}/access.log"\n'
        f'server.errorlog = "{tmp_path}/error.log"\nserver.pid-file = "{tmp_path}/pid"\n'
        f'fastcgi.audit-log = "{tmp_path}/audit.json"\nfastcgi.server = ( "/" => ('
        f' ( "mode" => "authorizer", {guard.option} ),'
        f' ( "bin-path" => "/usr/bin/touch {tmp_path}/started", "socket" => "{tmp_path}/app",'
        ' "check-local" => "disable" )'
        " ) )\n"
    )
    before = sorted(os.listdir(tmp_path))
    record = explained(["-f", str(config), "http://a/x"], capsys)
    assert record["route"]["kind"] == "responder"
    assert (guard.connections, sorted(os.listdir(tmp_path))) == (0, before)


@pytest.mark.parametrize("host", ["http", "h", "p", "example.org:8080"])
def test_a_host_of_any_name(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.conf").write_text(f'server.document-root = "{tmp_path}"\n')
    asked = explained(["-f", str(tmp_path / "site.conf"), f"http://{host}/a/{host}?{host}"], capsys)["request"]
    assert (asked["host"], asked["uri"]) == (host, f"/a/{host}?{host}")


@pytest.mark.parametrize("words", [["-f", "/none", "http://a/"], ["-f", "{bad}", "http://a/"]])
def test_a_faulty_configuration(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.conf").write_text("server.port = \n")
    assert run(["explain", *(word.replace("{bad}", str(tmp_path / "bad.conf")) for word in words)]) == 1
    assert "gfastcgi:" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["", "example.org", "10.1"])
def test_no_address(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.conf").write_text(f'server.document-root = "{tmp_path}"\n')
    assert run(["explain", "-f", str(tmp_path / "site.conf"), "--from", address, "http://a/"]) == 2
    assert capsys.readouterr().err == f"gfastcgi: expected the client's IP address, not {address!r}\n"


def test_the_audit_log_holds_the_same(
    site: tuple[Gateway, ScriptedBackend, ScriptedBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its line has all that `explain` tells of the request, of a file all but the status that it would have."""
    gateway, guard, _ = site
    log = tmp_path / "audit.json"
    for number, path in enumerate(("/files/a.txt?x=1", "/files/none/x", "/app/x/y?q"), 1):
        guard.script = lambda seen: answer("Status: 200\r\n\r\n")
        fields = {"Host": f"127.0.0.1:{gateway.port}", "Cookie": "SID=secret", "Remote-User": "mallory"}
        gateway.request("GET", path, **fields)
        words = [word for name, value in fields.items() for word in ("-H", f"{name}: {value}")]
        told = explained(["-f", str(tmp_path / "site.conf"), *words, f"http://127.0.0.1:{gateway.port}{path}"], capsys)
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == number, "its line")  # noqa: B023
        line = json.loads(log.read_text().splitlines()[-1])
        port = line["authorizers"][0]["sends"]["REMOTE_PORT"]
        told["route"].pop("status", None)
        for sends in (told["authorizers"][0]["sends"], told["route"].get("sends", {})):
            sends.update({"REMOTE_PORT": port} if sends else {})
        assert {name: line[name] for name in told} == told
        assert line["dropped"] == ["remote-user"]
        assert "SID" not in json.dumps(line)


def test_secrets_and_the_size_of_the_audit_log(
    backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """What a site takes for a credential is one; and a client does not choose how long a line is."""
    guard = backend(lambda seen: answer("Status: 403\r\n\r\nno"))
    log = tmp_path / "audit.json"
    gates = "".join(
        f'fastcgi.server += ( "{key}" => (( {guard.option}, "mode" => "authorizer", "independent" => "enable", '
        '"cache" => ( "key" => ( "header:X-Ticket" ) ) )) )\n'
        for key in ("/files/", "/files", ".txt")
    )
    site = gateway(f'server.document-root = "{tmp_path}"\nfastcgi.audit-log = "{log}"\n{gates}')
    secrets = {"X_Ticket": "T1hush", "Auth": "T2hush", "Referer": "http://a/?code=T3hush&x=1", "Pin": "T4hush"}
    big = {f"X_Big_{number}": "\xff" * 6000 for number in range(8)}
    for fields in (secrets, big):
        assert site.request("GET", "/files/a.txt?access_token=T5hush&y=1", **fields).status == 403
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "two lines")
    small, large = log.read_text().splitlines()
    assert "hush" not in small + large
    assert ("access_token=(6 bytes)&y=1" in small, "code=(6 bytes)&x=1" in small) == (True, True)
    assert len(large) < 6 * 16384 + 8192
    assert json.loads(large)["authorizers"][2]["sends"]["..."] == "..."


def test_the_audit_log(site: tuple[Gateway, ScriptedBackend, ScriptedBackend], tmp_path: Path) -> None:
    """A line for each decision, with the names of `explain`; a rotation by SIGHUP loses none."""
    gateway, guard, _ = site
    log = tmp_path / "audit.json"

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()]

    replies = {
        "yes": answer("Status: 200\r\nVariable-REMOTE_USER: bob\r\n\r\n"), "no": answer("Status: 403\r\n\r\nno"),
        "error": answer("Status: abc\r\n\r\n"),
    }  # fmt: skip
    guard.script = lambda seen: replies[seen.text("QUERY_STRING") or ""]
    assert [gateway.get(f"/files/a.txt?{query}").status for query in replies] == [200, 403, 502]
    wait_until(lambda: log.exists() and len(lines()) == 3, "three lines")
    told = [(line["outcome"], line["status"], line["cause"], line["user"], line["request"]["uri"]) for line in lines()]
    assert told == [
        ("allow", 200, "", "bob", "/files/a.txt?yes"), ("deny", 403, "", "", "/files/a.txt?no"),
        ("error", 502, "bad_cgi_response", "", "/files/a.txt?error"),
    ]  # fmt: skip
    for line, outcome in zip(lines(), ("allow", "deny", "error"), strict=True):
        (verdict,) = line["verdicts"]
        assert (verdict["key"], verdict["transport"], verdict["outcome"]) == ("/files/", "fastcgi", outcome)
        assert (verdict["source"], verdict["ms"] > 0) == ("asked", True)
    found = re.search(r"request (\S+): GET /files/a.txt\?error", gateway.log)
    assert found is not None
    assert found[1] == lines()[2]["id"]
    log.rename(tmp_path / "audit.old")
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_for_log("logs reopened")
    assert gateway.get("/app/x?no").status == 403
    wait_until(lambda: log.exists() and len(lines()) == 1, "a line in the new file")
    assert len((tmp_path / "audit.old").read_text().splitlines()) == 3


def test_the_page() -> None:
    """Its example is what the command prints, its line has the fields that are written."""
    page = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
    (example,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert example == (DATA / "file.txt").read_text().replace("{root}", "/srv")
    (text,) = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    line, written = json.loads(text), list[bytes]()
    log, request = AuditLog(written.append), request_for("/private/a.txt")

    def ask() -> Allow:
        request.user = "bob"
        log(request, Verdict("/private/", "allow", "asked", 200, 0.001234, transport="fastcgi"))
        return Allow()

    told = json.loads((DATA / "json.txt").read_text().partition("\n")[2])
    record = {name: line[name] for name in told}
    assert list(line["request"]) == list(told["request"])
    log.follow(request, record, ask)
    got = json.loads(written[0])
    assert list(got) == list(line)
    assert got["verdicts"] == line["verdicts"]
