"""The peers that the tests start: PHP, Perl, C programs, fcgiwrap, spawn-fcgi, lighttpd."""

from __future__ import annotations

import os
import shutil
import subprocess
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers.processes import free_port
from peers.waiting import wait_until

if TYPE_CHECKING:
    from peers.processes import Processes

# What a peer is called -> (its file or files, the Debian package that brings it).
PEERS = {
    "php-cgi": ("/usr/bin/php-cgi", "php-cgi"),
    "php-fpm": ("/usr/sbin/php-fpm[0-9]*", "php-fpm"),
    "gcc": ("/usr/bin/gcc", "gcc libc6-dev"),
    "libfcgi": ("/usr/include/fcgi_stdio.h", "libfcgi-dev"),
    "cgi-fcgi": ("/usr/bin/cgi-fcgi", "libfcgi-bin"),
    "perl-fcgi": ("/usr/lib/*/perl5/*/FCGI.pm", "libfcgi-perl"),
    "fcgiwrap": ("/usr/sbin/fcgiwrap", "fcgiwrap"),
    "spawn-fcgi": ("/usr/bin/spawn-fcgi", "spawn-fcgi"),
    "lighttpd": ("/usr/sbin/lighttpd", "lighttpd"),
    "htpasswd": ("/usr/bin/htpasswd", "apache2-utils"),
    "htdigest": ("/usr/bin/htdigest", "apache2-utils"),
    "openssl": ("/usr/bin/openssl", "openssl"),
    "curl": ("/usr/bin/curl", "curl"),
    "redis": ("/usr/bin/redis-server", "redis-server"),
    "nginx": ("/usr/sbin/nginx", "nginx-light"),
    "apache": ("/usr/sbin/apache2", "apache2"),
    "mod_fcgid": ("/usr/lib/apache2/modules/mod_fcgid.so", "libapache2-mod-fcgid"),
    "caddy": ("/usr/bin/caddy", "caddy"),
    "haproxy": ("/usr/sbin/haproxy", "haproxy"),
    "mandoc": ("/usr/bin/mandoc", "mandoc"),
    "bash": ("/bin/bash", "bash"),
    "zsh": ("/usr/bin/zsh", "zsh"),
    "fish": ("/usr/bin/fish", "fish"),
    "dokuwiki": ("/usr/share/dokuwiki/doku.php", "dokuwiki"),
}


def find_peer(name: str) -> str:
    """The file of a peer. Where it is missing the test is skipped, in CI (`CI` is set) it fails."""
    pattern, package = PEERS[name]
    program = shutil.which(Path(pattern).name) if "/bin/" in pattern or "/sbin/" in pattern else None
    found = [program] if program else sorted(glob(pattern))
    if found:
        return found[-1]
    message = f"{name} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def compile_c(source: str, output: Path, *libraries: str) -> Path:
    """Compiles a C program against libfcgi."""
    find_peer("libfcgi")
    command = [find_peer("gcc"), "-O1", "-x", "c", "-", "-I/usr/include/fastcgi", "-o", str(output)]
    subprocess.run([*command, *(f"-l{name}" for name in libraries)], input=source.encode(), check=True)
    return output


def start_php_fpm(
    processes: Processes,
    folder: Path,
    *,
    tcp: bool = False,
    workers: int = 4,
    ping: str = "",
    ini: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
) -> str | tuple[str, int]:
    """Starts php-fpm; returns where it listens. As root its workers are root too, since the folders are private."""
    program = find_peer("php-fpm")
    folder.mkdir(parents=True, exist_ok=True)
    address: str | tuple[str, int] = ("127.0.0.1", free_port()) if tcp else str(folder / "php.sock")
    listen = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
    as_root = ["user = root", "group = root"] if os.getuid() == 0 else []
    lines = [
        "[global]", f"error_log = {folder}/php-fpm.log", "daemonize = no",
        "[www]", f"listen = {listen}", *as_root,
        "pm = static", f"pm.max_children = {workers}", *([f"ping.path = {ping}"] if ping else []),
        "catch_workers_output = yes", "security.limit_extensions = .php .php3 .phtml",
        f"php_admin_value[session.save_path] = {folder}", f"php_admin_value[upload_tmp_dir] = {folder}",
        *(f"php_admin_value[{name}] = {value}" for name, value in (ini or {}).items()),
        *(f"env[{name}] = {value}" for name, value in (env or {}).items()),
    ]  # fmt: skip
    config = folder / "php-fpm.conf"
    config.write_text("\n".join(lines) + "\n")
    allow_root = ["--allow-to-run-as-root"] if as_root else []
    processes.start([program, "--nodaemonize", *allow_root, "--fpm-config", str(config)], until=address,
                    stderr=subprocess.DEVNULL)  # fmt: skip
    return address


def start_lighttpd(processes: Processes, folder: Path, config: str, modules: str) -> int:
    """Starts lighttpd with `config` and returns its port."""
    program = find_peer("lighttpd")
    port = free_port()
    path = folder / "lighttpd.conf"
    names = ", ".join(f'"{name}"' for name in modules.split())
    path.write_text(
        f'server.modules = ( {names} )\nserver.port = {port}\nserver.bind = "127.0.0.1"\n'
        f'server.errorlog = "{folder}/lighttpd.log"\n{config}'
    )
    processes.start([program, "-D", "-f", str(path)], until=("127.0.0.1", port))
    return port


def spawn_fcgi(processes: Processes, folder: Path, program: str, *, env: dict[str, str]) -> str:
    """Starts a program by spawn-fcgi and returns its socket."""
    path, pid_file = str(folder / "spawned.sock"), folder / "spawned.pid"
    command = [find_peer("spawn-fcgi"), "-s", path, "-P", str(pid_file), "--", program]
    subprocess.run(command, check=True, env={**os.environ, **env}, stdout=subprocess.DEVNULL)
    processes.adopt(int(wait_until(pid_file.read_text, "spawn-fcgi's pid file")))
    return path
