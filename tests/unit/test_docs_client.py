"""docs/client.md: its examples run, one after the other, against real programs of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import webob
from gevent import socket

from gfastcgi import Client, FastCGIServer, Gateway, HostConfig, Pool, assemble, lighttpd

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def program(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What stands for php-fpm."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_FILENAME']}?{environ['QUERY_STRING']}".encode()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "php.sock"))
    listener.listen()
    server = FastCGIServer(listener, program)
    server.start()
    yield str(tmp_path / "php.sock")
    server.stop(1)


def test_the_examples_run(tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "blog").mkdir()
    (tmp_path / "blog" / "index.php").write_text("<?php")
    (tmp_path / "blog" / "style.css").write_text("body {}")
    (tmp_path / "hello.php").write_text("<?php")
    source = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    source = source.replace("/run/php/php-fpm.sock", server).replace("/srv/blog", f"{tmp_path}/blog")
    names: dict[str, Any] = {}
    exec(source.replace('document_root="/srv/www"', f'document_root="{tmp_path}"'), names)
    told = capsys.readouterr().out.splitlines()
    assert told == ["200 OK text/plain", "/srv/www/hello.php?name=Ada", "20 bytes"]

    def ask(application: Any, target: str) -> webob.Response:
        return webob.Request.blank(target).get_response(application)

    assert ask(names["application"], "/x").body == b"Python's own"
    assert ask(names["application"], "/blog/a?b").body == f"{tmp_path}/blog/index.php?b".encode()
    assert ask(names["application"], "/blog/style.css").body == b"body {}"
    assert ask(names["gateway"], "/hello.php?c").body == f"{tmp_path}/hello.php?c".encode()
    assert ask(names["gateway"], "/private/hello.php").status_int == 503
    assert isinstance(names["gateway"], Gateway)
    assert [type(names[name]) for name in ("php", "pool", "weighted", "spawned")] == [Client, Pool, Pool, Pool]
    names["gateway"].stop(1)
    names["blog"].stop()
    names["php"].stop()


def test_the_configuration_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "myshop").mkdir()
    (tmp_path / "myshop" / "web.py").write_text("def application(environ, start_response): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    (text,) = re.findall(r"^```lighttpd\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    config, warnings = lighttpd.loads(text, str(tmp_path / "site.conf"))
    assert not warnings
    assemble.build(config)


def test_the_options_that_it_names_are_there() -> None:
    HostConfig(
        max_connections=1, queue_timeout=0.5, connect_timeout=0.5, read_timeout=0.5, write_timeout=0, keep_alive=False,
        disable_time=0, x_sendfile=True, x_sendfile_docroot=("/srv",),
    )  # fmt: skip
