"""What the pages show of nginx, lighttpd, gunicorn and the gateway, run as it stands there but for its places."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers.backend import Reply, answer, stdout
from peers.http import Connection
from peers.processes import free_port
from peers.programs import find_peer, start_lighttpd

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.gateway import Gateway
    from peers.processes import Processes

ROOT = Path(__file__).parents[2]
OURS = [sys.executable, "-m", "gfastcgi"]
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err; {user}
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/1; fastcgi_temp_path {folder}/2; proxy_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  {upstream}
  server {{ listen 127.0.0.1:{port}; {location} }}
}}
"""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def get(port: int, target: str, **fields: str) -> tuple[int, bytes]:
    with Connection(("127.0.0.1", port)) as connection:
        got = connection.request("GET", target, Host="a", **fields)
        return got.status, got.body


SERVER = page("docs/server.md")


@pytest.fixture
def mysite(tmp_path: Path) -> Path:
    """A folder with the application of the page, by the name that the page has for it."""
    (tmp_path / "mysite").mkdir()
    (tmp_path / "mysite/wsgi.py").write_text(blocks("python", SERVER)[0].partition("listener =")[0])
    (tmp_path / "www").mkdir()
    return tmp_path


def test_behind_nginx(mysite: Path, processes: Processes) -> None:
    [line] = re.findall(r"^    gfastcgi (wsgi .+)$", SERVER, re.MULTILINE)
    words = shlex.split(line.replace("/run", str(mysite)))
    processes.start(
        [*OURS, *words], until=f"{mysite}/mysite.sock", cwd=mysite, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (mysite / "mysite.sock").stat().st_mode & 0o777 == 0o660
    upstream, location = re.findall(
        r"^    (upstream .+\n)    (location / \{\n(?:     .+\n)+    \}\n)", SERVER, re.MULTILINE
    )[0]
    port = free_port()
    (mysite / "nginx.conf").write_text(
        NGINX.format(
            folder=mysite, port=port, user="user root;" if os.getuid() == 0 else "",
            upstream=upstream.replace("/run", str(mysite)),
            location=location.replace("include fastcgi_params", "include /etc/nginx/fastcgi_params"),
        )
    )  # fmt: skip
    command = [find_peer("nginx"), "-p", str(mysite), "-c", str(mysite / "nginx.conf")]
    processes.start(command, until=("127.0.0.1", port))
    assert get(port, "/a/b?c") == (200, b"hello from /a/b")
    assert get(port, "/") == (200, b"hello from /")


@pytest.mark.parametrize("is_ours", [True, False], ids=["gfastcgi", "lighttpd"])
def test_spawned(
    is_ours: bool, mysite: Path, processes: Processes, gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    [config] = blocks("lighttpd", SERVER)
    places = {"/run/": f"{mysite}/", "/srv/www": f"{mysite}/www", "/srv/mysite": str(mysite)}
    for there, here in {**places, "/usr/bin/gfastcgi": " ".join(OURS)}.items():
        assert there in config
        config = config.replace(there, here)
    port = gateway(config).port if is_ours else start_lighttpd(processes, mysite, config, "mod_fastcgi")
    assert get(port, "/a/b") == (200, b"hello from /a/b")


def test_private_files_under_gunicorn(tmp_path: Path, backend: Callable[..., Any], processes: Processes) -> None:
    text = page("docs/wsgi.md")
    (tmp_path / "private").mkdir()
    (tmp_path / "private/plan.txt").write_text("the plan")
    program = "\n".join(blocks("python", text)).replace("/srv/private", f"{tmp_path}/private")
    (tmp_path / "myapp.py").write_text(program)
    [line] = re.findall(r"^    (gunicorn .+)$", text, re.MULTILINE)
    port = free_port()
    processes.start(
        [sys.executable, "-m", *line.split(), "--no-control-socket", "-b", f"127.0.0.1:{port}"],
        until=("127.0.0.1", port), cwd=tmp_path, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert get(port, "/plan.txt")[0] == 403
    assert get(port, "/plan.txt", Cookie="SID=0123456789abcdef") == (200, b"the plan")


def test_statistics(backend: Callable[..., ScriptedBackend], gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """The names that the page shows; how its counters count is told elsewhere."""
    text = page("docs/status.md")
    peer = backend(lambda seen: Reply(stdout(b"Content-Type: text/plain\r\n"), "close"))
    (tmp_path / "a.php").write_text("<?php")
    [config] = blocks("lighttpd", text)
    site = gateway(config.replace("/srv/www", str(tmp_path)).replace("/run/php.sock", str(peer.address)))
    assert site.get("/a.php").status == 502
    peer.script = lambda seen: answer("Content-Type: text/plain\r\n\r\nhello")
    assert site.get("/a.php").body == b"hello"
    told = dict(line.split(": ") for line in site.get("/server-statistics").body.decode().splitlines())
    [shown] = re.findall(r"^\$ curl \S+/server-statistics\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names = re.findall(r"^([a-z]\S+): \d+$", shown, re.MULTILINE)
    assert len(names) > 4
    assert [name for name in names if name not in told and not name.startswith("gw.failed.")] == []
    assert told["gw.failed.eof_before_headers"] == "1"


def test_the_example_for_who_writes_tests(backend: Callable[..., Any], gateway: Callable[..., Any]) -> None:
    [program] = blocks("python", page("CONTRIBUTING.md"))
    names: dict[str, Any] = {"answer": answer}
    exec(program, names)
    names["test_hello"](backend, gateway)


def test_what_explain_prints() -> None:
    """The page shows what a test has it print, in a folder of another name."""
    shown = page("docs/explain.md")
    [text] = blocks("text", shown)
    assert text.replace("/srv/", "{root}/") == page("tests/data/explain/file.txt")
