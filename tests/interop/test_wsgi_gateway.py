"""The whole gateway, and PHP, as WSGI applications under gevent's own server and under gunicorn's gevent worker."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers.backend import Reply, answer, end, stdout
from peers.http import Connection
from peers.processes import children, free_port
from peers.programs import start_php_fpm
from peers.waiting import wait_until

from gfastcgi.conformance.bench import Bench
from gfastcgi.conformance.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.backend import ScriptedBackend
    from peers.http import Answer
    from peers.processes import Processes

PROGRAM = """
import logging, sys
logging.basicConfig()
from gfastcgi import FastCGIApp, Gateway, HostConfig, Pool
{program}
if __name__ == "__main__":
    from gevent.pywsgi import WSGIServer
    server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None)
    import gevent, signal
    gevent.signal_handler(signal.SIGTERM, server.stop)
    server.serve_forever()
"""
COMMANDS = {
    "pywsgi": "{python} -W error::ResourceWarning program.py {port}",
    "gunicorn": "{python} -m gunicorn -k gevent -w 1 --no-control-socket --graceful-timeout 5"
    " -b 127.0.0.1:{port} program:app",
}
BIG = hashlib.sha256(b"big").digest() * (5 << 15)  # 5 MiB
SECRET = b"SECRET-FILE"


@dataclass
class Hosted:
    """A program under a WSGI server, and who is behind it."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    backends: dict[str, ScriptedBackend] = field(default_factory=dict)

    def request(self, method: str, target: str, body: bytes | None = None, **fields: str) -> Answer:
        with Connection(("127.0.0.1", self.port)) as connection:
            return connection.request(method, target, body, Connection="close", **fields)

    def get(self, target: str, **fields: str) -> Answer:
        return self.request("GET", target, **fields)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "backslashreplace")


def run(server: str, program: str, folder: Path, processes: Processes) -> Hosted:
    port = free_port()
    (folder / "program.py").write_text(PROGRAM.format(program=program))
    command = COMMANDS[server].format(python=sys.executable, port=port).split()
    with open(folder / "log", "wb") as log:
        process = processes.start(command, until=("127.0.0.1", port), cwd=folder, stderr=log, stdout=log)
    return Hosted(port, process, folder)


SITE = """
server.document-root = "{root}/www"
index-file.names = ( "index.html" )
mimetype.assign = ( ".txt" => "text/plain", ".html" => "text/html" )
accesslog.filename = "{folder}/access.log"
accesslog.format = "%m %U %s %b"
server.max-request-size = 4096
wsgi.server = ( "/echo" => "told:echo" )
fastcgi.server = (
    "/private/" => (( "mode" => "authorizer", {gate}, "read-timeout" => 1, "disable-time" => 0,
                      "docroot" => "{root}/secret" )),
    "/echo/private" => (( "mode" => "authorizer", {gate}, "read-timeout" => 1, "disable-time" => 0 )),
    "/app" => (( {app}, "check-local" => "disable", "x-sendfile" => "enable",
                 "x-sendfile-docroot" => ( "{root}/secret" ), "read-timeout" => 2 )),
    "/spawned" => (( "socket" => "{folder}/spawned.sock", "check-local" => "disable", "max-procs" => 1,
                     "bin-path" => "{python} {folder}/spawned.py" )),
)
"""
TOLD = """
import json
def echo(environ, start_response):
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    told["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
"""
SPAWNED = """
import os
from gfastcgi import FastCGIServer
from gfastcgi.server.fastcgi import run
def app(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
run(app)
"""


@pytest.fixture(scope="module", params=COMMANDS)
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    module_backend: Callable[..., ScriptedBackend],
    module_processes: Processes,
) -> Hosted:
    folder: Path = tmp_path_factory.mktemp("hosted")
    (folder / "www" / "dir").mkdir(parents=True)
    (folder / "secret" / "private").mkdir(parents=True)
    (folder / "www" / "a.txt").write_bytes(b"in the open")
    (folder / "www" / "big.bin").write_bytes(BIG)
    (folder / "www" / "dir" / "index.html").write_bytes(b"index")
    (folder / "secret" / "private" / "a.txt").write_bytes(SECRET)
    (folder / "told.py").write_text(TOLD)
    (folder / "spawned.py").write_text(SPAWNED)
    gate, app = module_backend(), module_backend()
    (folder / "site.conf").write_text(
        SITE.format(root=folder, folder=folder, gate=gate.option, app=app.option, python=sys.executable)
    )
    hosted = run(request.param, 'app = Gateway("site.conf")', folder, module_processes)
    hosted.backends = {"gate": gate, "app": app}
    return hosted


def test_files(site: Hosted) -> None:
    got = site.get("/a.txt")
    assert (got.status, got.body, got.get("Content-Length")) == (200, b"in the open", "11")
    assert site.get("/a.txt", If_None_Match=got.get("ETag") or "").status == 304
    assert site.get("/a.txt", Range="bytes=3-5").body == b"the"
    assert site.get("/big.bin").body == BIG
    head = site.request("HEAD", "/big.bin")
    assert (head.status, head.get("Content-Length"), head.body) == (200, str(len(BIG)), b"")
    assert (site.get("/dir/").body, site.get("/dir").status, site.get("/none").status) == (b"index", 301, 404)
    assert site.get("/../../etc/passwd").status == 404
    wait_until(lambda: "GET /a.txt 206 3\n" in (site.folder / "access.log").read_text(), "the access log")
    lines = (site.folder / "access.log").read_text().splitlines()
    assert {"GET /a.txt 200 11", f"GET /big.bin 200 {len(BIG)}", "GET /none 404"} <= {
        line if " 404 " not in line else line.rpartition(" ")[0] for line in lines
    }


def test_responders(site: Hosted) -> None:
    app = site.backends["app"]
    app.script = lambda seen: answer(seen.echo())
    told = site.get("/app/x/y?q=1", X_Own="1", Remote_User="mallory").json()["params"]
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["QUERY_STRING"]) == ("/app", "/x/y", "q=1")
    assert (told["REQUEST_URI"], told["HTTP_X_OWN"], told["REMOTE_ADDR"]) == ("/app/x/y?q=1", "1", "127.0.0.1")
    assert not {"REMOTE_USER", "HTTP_REMOTE_USER"} & told.keys()
    for size in (1, 65536, 1_000_000):
        body = os.urandom(size)
        told = site.request("POST", "/app", body, Content_Type="a/b").json()
        assert (told["size"], told["sha256"]) == (size, hashlib.sha256(body).hexdigest())
        assert told["params"]["CONTENT_LENGTH"] == str(size)
    with Connection(("127.0.0.1", site.port)) as connection:
        told = connection.request(
            "POST", "/app", b"5\r\nhello\r\n0\r\n\r\n", Transfer_Encoding="chunked", Connection="close"
        ).json()
        assert (told["size"], told["params"]["CONTENT_LENGTH"]) == (5, "5")
    with Connection(("127.0.0.1", site.port)) as connection:
        connection.send(b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\nConnection: close\r\n\r\n")
        assert connection.read_answer().status == 413
    app.script = lambda seen: answer("Status: 404 Not Here\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nno")
    got = site.get("/app")
    assert (got.status, got.get_all("Set-Cookie"), got.body) == (404, ["a=1", "b=2"], b"no")
    app.script = lambda seen: answer(f"Status: 200 OK\r\nX-Sendfile: {site.folder}/secret/private/a.txt\r\n\r\n")
    got = site.get("/app")
    assert (got.body, got.get("X-Sendfile")) == (SECRET, None)
    app.script = lambda seen: answer("Content-Type: text/plain\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\n\r\nhop")
    got = site.get("/app")
    assert (got.get("X-A"), got.get("X-B"), got.body) == (None, "2", b"hop")


def test_answers_stream_and_never_look_whole_when_they_break_off(site: Hosted) -> None:
    app = site.backends["app"]
    app.script = lambda seen: Reply(stdout(b"Content-Type: text/plain\r\n\r\nthe first half"), "hang")
    before = app.open
    with Connection(("127.0.0.1", site.port)) as connection:
        connection.send(b"GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
        head = connection.read_head()
        assert head is not None
        assert head.status == 200
    # The client has left: that shows when the next piece is sent, or when the backend's time is up.
    wait_until(lambda: app.open == before, "the backend's connection to end")
    app.script = lambda seen: Reply(stdout(b"Content-Type: text/plain\r\n\r\nthe first half"), "close")
    got = site.get("/app")
    assert (got.status, got.whole) == (502, True) or not got.whole


def test_gates(site: Hosted) -> None:
    gate = site.backends["gate"]
    gate.script = lambda seen: answer("Status: 401 Who\r\nWWW-Authenticate: Basic\r\n\r\nwho")
    got = site.get("/private/a.txt")
    assert (got.status, got.get("WWW-Authenticate"), got.body) == (401, "Basic", b"who")
    assert site.get("/private//%2e/a.txt").status == 401
    assert site.get("/echo/private").status == 401
    gate.script = lambda seen: answer("Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\nSet-Cookie: s=1\r\n\r\n")
    got = site.get("/private/a.txt")
    assert (got.status, got.body, got.get("Set-Cookie")) == (200, SECRET, "s=1")
    assert site.get("/echo/private", Remote_User="mallory").json()["REMOTE_USER"] == "ada"
    assert gate.last.role == 2
    for reply, status in (
        (Reply(stdout(b"Status: 200 OK\r\n\r\n"), "close"), 502),
        (Reply(stdout(b"Status: 200 OK\r\n\r\n"), "hang"), 504),
        (end(), 502),
        (end(protocol_status=2), 503),
    ):
        gate.script = lambda seen, reply=reply: reply
        got = site.get("/private/a.txt")
        assert (got.status, SECRET in got.body) == (status, False)


def test_applications_in_the_same_process(site: Hosted) -> None:
    told = site.request("POST", "/echo/x", b"hello").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["body"]) == ("/echo", "/x", "hello")


def test_spawned_backends_run_and_end_with_their_host(
    tmp_path: Path, request: pytest.FixtureRequest, processes: Processes
) -> None:
    for server in COMMANDS:
        folder = tmp_path / server
        folder.mkdir()
        (folder / "spawned.py").write_text(SPAWNED)
        (folder / "told.py").write_text(TOLD)
        gone = '"socket" => "/nowhere"'
        (folder / "site.conf").write_text(
            SITE.format(root=folder, folder=folder, gate=gone, app=gone, python=sys.executable)
        )
        before = children(os.getpid())
        hosted = run(server, 'app = Gateway("site.conf")', folder, processes)
        pid = int(hosted.get("/spawned").body)
        assert int(hosted.get("/spawned").body) == pid
        assert Path(f"/proc/{pid}").exists()
        hosted.process.send_signal(signal.SIGTERM)
        assert hosted.process.wait(20) == 0, hosted.log
        assert not Path(f"/proc/{pid}").exists()
        assert children(os.getpid()) <= before
        assert not list(folder.glob("spawned.sock*"))


def test_what_cannot_start_serves_nobody(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "site.conf").write_text(
        f'server.document-root = "{tmp_path}"\n'
        'fastcgi.server = ( "/" => (( "socket" => "/run/x.sock", "bin-path" => "/no/such/program" )) )'
    )
    (tmp_path / "other.conf").write_text(
        f'server.document-root = "{tmp_path}"\n$SERVER["socket"] == "127.0.0.1:80" {{ url.access-deny = ( "" ) }}\n'
    )
    (tmp_path / "a.txt").write_bytes(SECRET)
    program = """
first, second = Gateway("site.conf"), Gateway("other.conf")
def app(environ, start_response):
    return (first if environ["QUERY_STRING"] else second)(environ, start_response)
"""
    hosted = run("pywsgi", program, tmp_path, processes)
    for target, words in (("/a.txt?1", "/no/such/program"), ("/a.txt", "cannot be told behind a WSGI server")):
        for _ in range(2):
            got = hosted.get(target)
            assert (got.status, SECRET in got.body) == (503, False)
        assert words in hosted.log


PHP = {
    "index.php": "<?php echo 'index ', $_SERVER['SCRIPT_NAME'], ' ', $_SERVER['QUERY_STRING'];",
    "told.php": """<?php header('Content-Type: application/json'); $body = file_get_contents('php://input');
        echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'post' => $_POST, 'size' => strlen($body),
            'sha256' => hash('sha256', $body)]);""",
    "big.php": "<?php for ($i = 0; $i < 20; $i++) { echo str_repeat(chr(65 + $i), 1 << 18); flush(); }",
    "status.php": "<?php http_response_code(404); header('X-One: 1'); header('X-One: 2', false); echo 'x';",
    "private.php": "<?php header('X-Sendfile: ' . $_SERVER['DOCUMENT_ROOT'] . '/style.css');",
    "style.css": "body {}",
}
PHP_PROGRAM = """
from gfastcgi import AuthorizerMiddleware
pool = Pool([HostConfig(socket="{socket}", max_connections=3, x_sendfile=True, x_sendfile_docroot=("{root}",))])
plain = FastCGIApp(pool, "{root}")
files = FastCGIApp(pool, "{root}", files=True, fallback="/index.php", mimetypes={{".css": "text/css"}})
guarded = AuthorizerMiddleware(plain, [lambda request: request.GET.get("user")])
def app(environ, start_response):
    for mount, each in (("/files", files), ("/guarded", guarded)):
        if environ["PATH_INFO"].startswith(mount):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount, environ["PATH_INFO"][len(mount):]
            return each(environ, start_response)
    return plain(environ, start_response)
"""


@pytest.fixture(scope="module", params=COMMANDS)
def php(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, module_processes: Processes
) -> Hosted:
    folder: Path = tmp_path_factory.mktemp("php")
    root = folder / "www"
    (root / "dir").mkdir(parents=True)
    for name, source in PHP.items():
        (root / name).write_text(source)
    socket = start_php_fpm(module_processes, folder / "fpm")
    return run(request.param, PHP_PROGRAM.format(socket=socket, root=root), folder, module_processes)


def test_php_pages(php: Hosted) -> None:
    assert php.get("/?a=1").body == b"index /index.php a=1"
    got = php.get("/told.php/path/info?a=1&b[]=2", Cookie="c=3", Remote_User="mallory").json()
    told = got["server"]
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["PHP_SELF"]) == (
        "/told.php", "/path/info", "/told.php/path/info",
    )  # fmt: skip
    assert (told["REQUEST_URI"], got["get"]) == ("/told.php/path/info?a=1&b[]=2", {"a": "1", "b": ["2"]})
    assert told["SCRIPT_FILENAME"] == f"{php.folder}/www/told.php"
    assert not {"REMOTE_USER", "HTTP_REMOTE_USER"} & told.keys()
    got = php.request("POST", "/told.php", b"x=1&y=%20", Content_Type="application/x-www-form-urlencoded").json()
    assert got["post"] == {"x": "1", "y": " "}
    body = os.urandom(1_500_000)
    got = php.request("POST", "/told.php", body, Content_Type="a/b").json()
    assert (got["size"], got["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert php.get("/big.php").body == b"".join(bytes([65 + i]) * (1 << 18) for i in range(20))
    got = php.get("/status.php")
    assert (got.status, got.get_all("X-One"), got.body) == (404, ["1", "2"], b"x")
    assert php.get("/private.php").body == b"body {}"
    assert [php.get(path).status for path in ("/none.php", "/none", "/style.css", "/dir/", "/../x.php")] == [
        404, 404, 403, 403, 404,
    ]  # fmt: skip


def test_php_mounted(php: Hosted) -> None:
    told = php.get("/files/told.php/more").json()["server"]
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["DOCUMENT_ROOT"]) == (
        "/files/told.php", "/more", f"{php.folder}/www",
    )  # fmt: skip
    assert told["SCRIPT_FILENAME"] == f"{php.folder}/www/told.php"
    got = php.get("/files/style.css")
    assert (got.body, got.get("Content-Type")) == (b"body {}", "text/css")
    assert php.get("/files/a/b?c=%20d").body == b"index /files/index.php c=%20d"
    assert php.get("/files").body == b"index /files/index.php "
    got = php.get("/guarded/told.php?user=ada", Remote_User="mallory").json()["server"]
    assert got["REMOTE_USER"] == "ada"
    assert php.get("/guarded/told.php").status == 403


def test_conformance(tmp_path: Path) -> None:
    rows = [row for row in ROWS if len(row.steps) == 1][::4]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(program="app = Gateway(sys.argv[2])"))
    with Bench(f"{sys.executable} {program} {{port}} {{config}}", rows) as bench:
        faults = [(result.row.name, result.door, result.fault) for result in bench.run() if result.fault]
    assert not faults
