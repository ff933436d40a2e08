"""`gfastcgi serve`: arguments become the same dataclasses that a file makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfastcgi.cli import site
from gfastcgi.config import Address, Config
from gfastcgi.errors import InvalidValue


def build(*arguments: str) -> Config:
    return site.build(site.parser().parse_args(arguments))


def test_php_behind_a_unix_socket(tmp_path: Path) -> None:
    config = build("--root", str(tmp_path), "--fastcgi", ".php=unix:/run/php.sock")
    assert config.server.listeners == (Address("127.0.0.1", 8080),)
    assert config.settings.document_root == str(tmp_path)
    assert config.settings.index_file_names == ("index.php", "index.html")
    assert config.settings.static_exclude_extensions == (".php",)
    (extension,) = config.settings.extensions
    (host,) = extension.hosts
    assert (extension.key, host.socket, host.check_local) == (".php", "/run/php.sock", True)


def test_a_prefix_belongs_to_its_backend_and_shares_its_load(tmp_path: Path) -> None:
    config = build(
        "--root", str(tmp_path), "--fastcgi", "/app/=tcp://127.0.0.1:9000", "--fastcgi", "/app/=[::1]:9001"
    )  # fmt: skip
    (extension,) = config.settings.extensions
    assert [(host.host, host.port, host.check_local) for host in extension.hosts] == [
        ("127.0.0.1", 9000, False), ("::1", 9001, False),
    ]  # fmt: skip
    assert config.settings.static_exclude_extensions == ()
    assert config.settings.index_file_names == ("index.html",)


def test_the_rest_of_the_arguments(tmp_path: Path) -> None:
    config = build(
        "--root", str(tmp_path), "--bind", "[::1]:81", "--bind", "unix:/run/g.sock",
        "--index", "a.html", "--index", "b", "--access-log", "-",
    )  # fmt: skip
    assert config.server.listeners == (Address("::1", 81), Address(path="/run/g.sock"))
    assert config.settings.index_file_names == ("a.html", "b")
    assert config.settings.accesslog_filename == "/dev/stdout"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/x", Address(path="/run/x")),
        ("tcp://localhost:1", Address("localhost", 1)),
        ("127.0.0.1:65535", Address("127.0.0.1", 65535)),
        ("tcp://[::1]:0", Address("::1", 0)),
    ],
)
def test_parse_address(text: str, address: Address) -> None:
    assert site.parse_address(text, "--bind") == address


@pytest.mark.parametrize(
    "text", ["", "unix:", "127.0.0.1", ":80", "h:", "h:x", "h:65536", "::1:80", "[::1]", "h:-1", "h:\u0661"]
)
def test_an_address_that_is_none_is_refused_by_option(text: str) -> None:
    with pytest.raises(InvalidValue, match="--bind"):
        site.parse_address(text, "--bind")


@pytest.mark.parametrize("backend", [".php", ".php=", "=unix:/x", "php=unix:/x", "/app/=nowhere"])
def test_a_backend_that_is_none_is_refused(tmp_path: Path, backend: str) -> None:
    with pytest.raises(InvalidValue, match="--fastcgi"):
        build("--root", str(tmp_path), "--fastcgi", backend)


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="--root"):
        build("--root", str(tmp_path / "none"))
