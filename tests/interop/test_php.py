"""PHP in all the ways it is run: php-fpm on a unix socket and on TCP, php-cgi by `bin-path` and by spawn-fcgi."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING

import pytest
from peers.processes import descendants
from peers.programs import find_peer, spawn_fcgi, start_php_fpm
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers.gateway import Gateway
    from peers.processes import Processes

PAGES = {
    "hello.php": "<?php echo 'Hello ', $_GET['name'] ?? 'World';",
    "echo.php": """<?php
        header('Content-Type: application/json');
        $body = file_get_contents('php://input');
        echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'post' => $_POST, 'cookie' => $_COOKIE,
            'size' => strlen($body), 'sha256' => hash('sha256', $body)]);""",
    "files.php": """<?php foreach ($_FILES as $file)
        echo $file['name'], ' ', $file['size'], ' ', hash_file('sha256', $file['tmp_name']), "\\n";""",
    "status.php": """<?php http_response_code((int) $_GET['code']);
        header('X-One: 1'); header('X-One: 2', false); echo 'x';""",
    "redirect.php": "<?php header('Location: ' . $_GET['to']);",
    "cookies.php": "<?php setcookie('a', '1'); setcookie('b', '2'); echo 'set';",
    "big.php": """<?php for ($i = 0; $i < (int) $_GET['mb']; $i++) {
        echo str_repeat(chr(65 + $i % 26), 1 << 20); flush(); }""",
    "length.php": "<?php header('Content-Length: 5'); echo 'exact';",
    "warn.php": "<?php error_log('a line for the log'); echo 'warned';",
    "fatal.php": "<?php no_such_function();",
    "broken.php": "<?php this is no PHP",
}
INI = {"display_errors": "Off", "log_errors": "On"}


@pytest.fixture(params=["fpm-unix", "fpm-tcp", "cgi-bin-path", "cgi-spawn-fcgi"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, processes: Processes, gateway: Callable[..., Gateway]
) -> Gateway:
    """A gateway before PHP, however that runs."""
    root = tmp_path / "www"
    root.mkdir()
    for name, source in PAGES.items():
        (root / name).write_text(source)
    kind = request.param
    if kind.startswith("fpm"):
        address = start_php_fpm(processes, tmp_path / "fpm", tcp=kind == "fpm-tcp", ini=INI)
        where = f'"socket" => "{address}"'
        if kind == "fpm-tcp":
            where = f'"host" => "127.0.0.1", "port" => {address[1]}'
    elif kind == "cgi-spawn-fcgi":
        socket = spawn_fcgi(processes, tmp_path, find_peer("php-cgi"), env={"PHP_FCGI_CHILDREN": "2"})
        where = f'"socket" => "{socket}"'
    else:
        options = " ".join(f"-d {name}={value}" for name, value in INI.items())
        where = (
            f'"socket" => "{tmp_path}/php.sock", "bin-path" => "{find_peer("php-cgi")} {options}", "max-procs" => 2,'
            ' "bin-environment" => ( "PHP_FCGI_CHILDREN" => "2" ),'
            ' "bin-copy-environment" => ( "PATH" )'
        )
    return gateway(
        f'server.document-root = "{root}"\nindex-file.names = ( "hello.php" )\n'
        f'fastcgi.server = ( ".php" => (( {where}, "broken-scriptfilename" => "enable" )) )\n'
    )


def test_pages(site: Gateway) -> None:
    assert site.get("/hello.php").body == b"Hello World"
    assert site.get("/?name=index").body == b"Hello index"
    assert site.get("/hello.php?name=M%C3%BCller").body == "Hello Müller".encode()
    answer = site.get("/status.php?code=404")
    assert (answer.status, answer.get_all("X-One"), answer.body) == (404, ["1", "2"], b"x")
    answer = site.get("/cookies.php")
    assert [value.partition(";")[0] for value in answer.get_all("Set-Cookie")] == ["a=1", "b=2"]
    answer = site.get("/redirect.php?to=http://elsewhere.example/")
    assert (answer.status, answer.get("Location")) == (302, "http://elsewhere.example/")
    assert site.get("/length.php").body == b"exact"
    assert site.get("/none.php").status == 404
    head = site.request("HEAD", "/hello.php")
    assert (head.status, head.body) == (200, b"")


def test_variables(site: Gateway) -> None:
    told = site.get("/echo.php/path/info?a=1&b[]=2", Cookie="c=3", X_Own="here").json()
    server = told["server"]
    assert told["get"] == {"a": "1", "b": ["2"]}
    assert told["cookie"] == {"c": "3"}
    assert server["PATH_INFO"] == "/path/info"
    assert server["SCRIPT_NAME"] == "/echo.php"
    assert server["PHP_SELF"] == "/echo.php/path/info"
    assert server["REQUEST_URI"] == "/echo.php/path/info?a=1&b[]=2"
    assert server["HTTP_X_OWN"] == "here"
    assert server["REMOTE_ADDR"] == "127.0.0.1"
    assert server["SERVER_PORT"] == str(site.port)


def test_bodies(site: Gateway) -> None:
    told = site.request("POST", "/echo.php", b"x=1&y=%20", Content_Type="application/x-www-form-urlencoded").json()
    assert told["post"] == {"x": "1", "y": " "}
    for size in (0, 1, 65535, 65536, 3_000_000):
        body = os.urandom(size)
        told = site.request("POST", "/echo.php", body, Content_Type="application/octet-stream").json()
        assert (told["size"], told["sha256"]) == (size, hashlib.sha256(body).hexdigest())
    with site.connect() as connection:
        chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        told = connection.request("POST", "/echo.php", chunks, Transfer_Encoding="chunked").json()
        assert (told["size"], told["server"]["CONTENT_LENGTH"]) == (11, "11")


def test_uploaded_file(site: Gateway) -> None:
    data = os.urandom(1_500_000)
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\nContent-Type: a/b\r\n\r\n'
    body = head + data + b"\r\n--b--\r\n"
    answer = site.request("POST", "/files.php", body, Content_Type="multipart/form-data; boundary=b")
    assert answer.body.decode() == f"a.bin {len(data)} {hashlib.sha256(data).hexdigest()}\n"


def test_big_answers(site: Gateway) -> None:
    with site.connect() as connection:
        for _ in range(2):
            answer = connection.request("GET", "/big.php?mb=20")
            assert answer.whole
            assert answer.body == b"".join(bytes([65 + i % 26]) * (1 << 20) for i in range(20))


def test_errors_of_scripts(site: Gateway) -> None:
    assert site.get("/fatal.php").status == 500
    site.wait_for_log("no_such_function")
    assert site.get("/broken.php").status == 500
    assert site.get("/warn.php").body == b"warned"
    site.wait_for_log("a line for the log")
    assert site.get("/hello.php").body == b"Hello World"


def test_many_at_once(site: Gateway) -> None:
    connections = [site.connect() for _ in range(30)]
    for number, connection in enumerate(connections):
        connection.send(f"GET /hello.php?name={number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    for number, connection in enumerate(connections):
        assert connection.read_answer().body == f"Hello {number}".encode()
        connection.sock.close()


def test_spawned_environment_and_respawn(tmp_path: Path, gateway: Callable[..., Gateway]) -> None:
    """`bin-environment` and `bin-copy-environment` make the environment; a killed process is started again."""
    program = find_peer("php-cgi")
    (tmp_path / "www").mkdir()
    (tmp_path / "www/env.php").write_text("<?php echo json_encode(['pid' => getmypid(), 'env' => getenv()]);")
    site = gateway(
        f'server.document-root = "{tmp_path}/www"\n'
        f'fastcgi.server = ( ".php" => (( "socket" => "{tmp_path}/php.sock", "bin-path" => "{program}",'
        ' "max-procs" => 1, "bin-environment" => ( "OWN" => "value" ), "bin-copy-environment" => ( "COPIED" ) )) )\n',
        env={"COPIED": "yes", "SECRET": "no"},
    )
    assert (tmp_path / "php.sock-0").is_socket()
    told = site.get("/env.php").json()
    environment = {name: told["env"].get(name) for name in ("OWN", "COPIED", "SECRET", "PHP_FCGI_CHILDREN")}
    assert environment == {"OWN": "value", "COPIED": "yes", "SECRET": None, "PHP_FCGI_CHILDREN": "1"}
    spawned = descendants(site.pid)
    assert told["pid"] in spawned
    for pid in spawned:
        os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        answer = site.get("/env.php")
        assert answer.status in (200, 502, 503)
        return answer.status == 200 and answer.json()["pid"] not in spawned

    wait_until(answers, "a new process", 15)
    site.stop()
    assert not (tmp_path / "php.sock-0").exists()
