"""Every `fastcgi.server` example of lighttpd's reference parses, and means what the reference says."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gfastcgi import lighttpd
from gfastcgi.config import Config, HostConfig

DATA = Path(__file__).parents[1] / "data" / "lighttpd"

PHP = {"socket": "/tmp/php-fastcgi.socket", "bin_path": "/usr/local/bin/php"}
ENVIRONMENT = {"bin_environment": (("PHP_FCGI_CHILDREN", "16"), ("PHP_FCGI_MAX_REQUESTS", "10000"))}
COPIED = {"bin_copy_environment": ("PATH", "SHELL", "USER")}
THREE = [{"host": f"192.168.1.10{n}", "port": 10000, "check_local": False} for n in (1, 2, 3)]


def load(name: str) -> Config:
    return lighttpd.load(str(DATA / f"{name}.conf"))[0]


def differences(host: HostConfig) -> dict[str, Any]:
    """What of `host` is not as in an empty entry."""
    empty = HostConfig()
    values = {field.name: getattr(host, field.name) for field in fields(host) if field.name != "where"}
    return {name: value for name, value in values.items() if value != getattr(empty, name)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "multiple-extensions",
            {
                ".php": [{"host": "127.0.0.1", "port": 1026, "bin_path": "/usr/local/bin/php"}],
                ".php4": [{"host": "127.0.0.1", "port": 1026}],
            },
        ),
        ("prefix", {"/remote_scripts/": [{"host": "192.168.0.3", "port": 9000, "check_local": False, "docroot": "/"}]}),
        (
            "authorizer",
            {
                "/remote_scripts/": [
                    {
                        "host": "10.0.0.2", "port": 9000, "docroot": "/path_to_private_docs", "mode": "authorizer",
                        "read_timeout": 30,
                    }
                ]
            },
        ),
        ("variables", {".php": THREE}),
        ("sums", {".php": THREE}),
        ("balancing", {".php": [{"host": "10.0.0.2", "port": 1030}, {"host": "10.0.0.3", "port": 1030}]}),
        ("spawning", {".php": [PHP]}),
        ("environment", {".php": [PHP | ENVIRONMENT]}),
        ("copy-environment", {".php": [PHP | ENVIRONMENT | COPIED]}),
        ("broken-scriptfilename", {".php": [PHP | ENVIRONMENT | COPIED | {"broken_scriptfilename": True}]}),
        (
            "roadsend",
            {
                ".php": [
                    {
                        "name": "localhost", "host": "127.0.0.1", "port": 1026,
                        "bin_path": "/opt/roadsend/pcc/modules/fastcgi/pcc.fcgi",
                    }
                ]
            },
        ),
        (
            "login",
            {
                "/login": [
                    {
                        "name": "test.fastcgi.handler", "socket": "/run/sockets/test.fastcgi.socket",
                        "check_local": False, "bin_path": "/usr/bin/test.fastcgi", "max_procs": 30, "min_procs": 30,
                    }
                ]
            },
        ),
        (
            "flup",
            {
                ".py": [
                    {
                        "name": "python-fcgi", "socket": "/run/sockets/fastcgi.python.socket", "bin_path": "test.py",
                        "check_local": False, "max_procs": 1, "min_procs": 1,
                    }
                ]
            },
        ),
    ],
)  # fmt: skip
def test_examples(name: str, expected: dict[str, list[dict[str, Any]]]) -> None:
    config = load(f"seed-{name}")
    found = {extension.key: [differences(host) for host in extension.hosts] for extension in config.settings.extensions}
    assert found == expected
    assert config.server.modules == ("mod_fastcgi",)


def test_debug_map_extensions_and_balance() -> None:
    settings = load("seed-debug").settings
    assert settings.debug == 1
    assert settings.map_extensions == ((".php3", ".php"), (".php4", ".php"))
    assert settings.balance == "least-connection"


def test_an_application_within_a_conditional() -> None:
    config = load("seed-roadsend-app")
    (rule,) = config.settings.rewrite
    assert (rule.pattern, rule.replacement, rule.once) == ("^/myapp/$", "/myapp/index.php", True)
    (block,) = config.blocks
    ((condition, truth),) = block.conditions
    assert (condition.variable, condition.operator, condition.operand, truth) == (
        'HTTP["url"]', "=~", r"^/myapp/.+\.php$", True,
    )  # fmt: skip
    (extension,) = block.overrides["extensions"]
    assert extension.key == "/myapp"
    assert differences(extension.hosts[0]) == {
        "name": "localhost", "host": "127.0.0.1", "port": 1026, "docroot": "/var/www/localhost/htdocs/myapp",
        "bin_path": "/var/www/localhost/cgi-bin/myapp.fcgi", "check_local": False,
    }  # fmt: skip


def test_every_option() -> None:
    config, warnings = lighttpd.load(str(DATA / "seed-all-options.conf"))
    everything, second = config.settings.extensions[0].hosts
    assert differences(everything) == {
        "name": "everything", "host": "127.0.0.1", "port": 9000, "bin_path": "/usr/bin/app --serve",
        "bin_environment": (("A", "1"),), "bin_copy_environment": ("PATH",), "docroot": "/srv/app",
        "check_local": False, "min_procs": 1, "max_procs": 2, "max_load_per_proc": 3, "listen_backlog": 512,
        "broken_scriptfilename": True, "fix_root_scriptname": True, "disable_time": 2, "idle_timeout": 30,
        "x_sendfile": True, "x_sendfile_docroot": ("/srv/private",), "kill_signal": 10, "tcp_fin_propagate": True,
        "connect_timeout": 5, "write_timeout": 15, "read_timeout": 30, "upgrade": True,
    }  # fmt: skip
    assert differences(second) == {"host": "127.0.0.2", "port": 80}
    assert [str(warning).split(": ", 1)[1] for warning in warnings] == ['"upgrade" is known, but not served yet']
    assert second.where.lineno == 31


@pytest.mark.parametrize("path", sorted(DATA.glob("*.conf")), ids=lambda path: path.stem)
def test_examples_come_back_from_what_is_printed(path: Path) -> None:
    printed = lighttpd.render(lighttpd.load(str(path))[0])
    assert lighttpd.render(lighttpd.loads(printed)[0]) == printed
