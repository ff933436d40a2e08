"""Web servers in front of our FastCGI server: each is started on a port of its own and passes `/app` to it.

Apache does not run as root: where the tests do, it takes itself for nobody, in a user namespace of its own.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peers.processes import free_port
from peers.programs import find_peer, start_lighttpd

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.processes import Processes

ROOT = Path(__file__).parents[2]
NOBODY = 65534

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx-{port}.pid; error_log {folder}/nginx-{port}.err; {user}
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 64m;
  client_body_temp_path {folder}/n1; fastcgi_temp_path {folder}/n2; proxy_temp_path {folder}/n3;
  uwsgi_temp_path {folder}/n4; scgi_temp_path {folder}/n5;
  upstream app {{ server unix:{socket}; {upstream} }}
  server {{
    listen 127.0.0.1:{port};
    location /app {{
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_NAME /app;
      fastcgi_split_path_info ^(/app)(.*)$;
      fastcgi_param PATH_INFO $fastcgi_path_info;
      fastcgi_buffer_size 64k; fastcgi_buffers 8 64k; fastcgi_busy_buffers_size 128k;
      {location}
      fastcgi_pass app;
    }}
  }}
}}
"""

APACHE = """
ServerRoot "{folder}"
ServerName localhost
PidFile "{folder}/apache-{port}.pid"
ErrorLog "{folder}/apache-{port}.err"
Listen 127.0.0.1:{port}
DefaultRuntimeDir "{folder}"
Mutex posixsem
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule env_module {modules}/mod_env.so
TypesConfig /dev/null
ServerLimit 1
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 64
MinSpareThreads 1
MaxSpareThreads 64
DocumentRoot "{folder}/www"
{config}
"""

CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy /app* unix/{socket} {{
    transport fastcgi {{
      root {folder}/www
    }}
    flush_interval -1
  }}
}}
"""

HAPROXY = """
global
  maxconn 512
defaults
  mode http
  timeout connect 10s
  timeout client 30s
  timeout server 30s
  option http-buffer-request
  no option http-buffer-request
fcgi-app app
  docroot {folder}/www
  path-info ^(/app)(/.*)?$
  option keep-conn
  option get-values
  option mpxs-conns
  option max-reqs 50
frontend web
  bind 127.0.0.1:{port}
  default_backend app
backend app
  use-fcgi-app app
  http-reuse always
  server app unix@{socket} proto fcgi
"""

GFASTCGI = """
server.document-root = "{folder}/www"
server.bind = "127.0.0.1"
server.port = {port}
server.stream-response-body = 1
fastcgi.server = ( "/app" => (( "socket" => "{socket}", "check-local" => "disable", "max-connections" => 64 )) )
"""

# Spawned, and run from outside: the application of the tests is a module in the folder.
WSGI = [sys.executable, "-m", "gfastcgi", "wsgi", "frontapp"]
SCRIPT = """#!/bin/sh
cd {folder} && PYTHONPATH={root} exec {command}
"""


@dataclass
class Site:
    """What a front needs to know."""

    processes: Processes
    folder: Path
    socket: str
    """Of the application that runs from outside."""

    def script(self) -> str:
        """A program that a front spawns with a socket as descriptor 0."""
        file = self.folder / "app.fcgi"
        file.write_text(SCRIPT.format(folder=self.folder, root=ROOT, command=" ".join(WSGI)))
        file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return str(file)

    def write(self, name: str, text: str, **values: object) -> tuple[Path, int]:
        port = free_port()
        file = self.folder / name
        file.write_text(text.format(folder=self.folder, socket=self.socket, port=port, **values))
        return file, port

    def start(self, command: list[str], port: int, **options: object) -> int:
        self.processes.start(command, until=("127.0.0.1", port), **options)
        return port


def lighttpd(site: Site, where: str) -> int:
    config = (
        f'server.document-root = "{site.folder}/www"\nserver.stream-response-body = 1\n'
        f'fastcgi.server = ( "/app" => (( {where}, "check-local" => "disable", "max-procs" => 1 )) )\n'
    )
    return start_lighttpd(site.processes, site.folder, config, "mod_fastcgi")


def lighttpd_external(site: Site) -> int:
    return lighttpd(site, f'"socket" => "{site.socket}"')


def lighttpd_spawned(site: Site) -> int:
    return lighttpd(site, f'"socket" => "{site.folder}/lighttpd.sock", "bin-path" => "{site.script()}"')


def nginx(site: Site, upstream: str = "", location: str = "") -> int:
    user = "user root;" if os.getuid() == 0 else ""
    config, port = site.write("nginx.conf", NGINX, user=user, upstream=upstream, location=location)
    return site.start([find_peer("nginx"), "-p", str(site.folder), "-c", str(config)], port)


def nginx_keep(site: Site) -> int:
    return nginx(site, "keepalive 8;", "fastcgi_keep_conn on; fastcgi_request_buffering off;")


def apache(site: Site, config: str) -> int:
    program, modules = find_peer("apache"), "/usr/lib/apache2/modules"
    file, port = site.write("apache.conf", APACHE, modules=modules, config=config.replace("{modules}", modules))
    as_nobody = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"] if os.getuid() == 0 else []
    return site.start([*as_nobody, program, "-f", str(file), "-DFOREGROUND"], port)


PROXY_FCGI = """
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_fcgi_module {modules}/mod_proxy_fcgi.so
"""


def apache_proxy_fcgi(site: Site) -> int:
    return apache(site, PROXY_FCGI + f'ProxyPass "/app" "unix:{site.socket}|fcgi://localhost/app" flushpackets=on\n')


def apache_fcgid(site: Site) -> int:
    find_peer("mod_fcgid")
    config = (
        "LoadModule fcgid_module {modules}/mod_fcgid.so\n"
        f'FcgidIPCDir "{site.folder}"\nFcgidProcessTableFile "{site.folder}/fcgid"\nFcgidMaxRequestLen 67108864\n'
        "FcgidOutputBufferSize 0\nFcgidMaxProcessesPerClass 2\nFcgidBusyTimeout 30\n"
        f'Alias "/app" "{site.script()}"\n'
        f'<Directory "{site.folder}">\n  Options +ExecCGI\n  SetHandler fcgid-script\n</Directory>\n'
    )
    return apache(site, config)


def caddy(site: Site) -> int:
    config, port = site.write("Caddyfile", CADDY)
    command = [find_peer("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    env = {
        **os.environ,
        "HOME": str(site.folder),
        "XDG_DATA_HOME": str(site.folder),
        "XDG_CONFIG_HOME": str(site.folder),
    }
    with (site.folder / "caddy.log").open("wb") as log:
        return site.start(command, port, env=env, stdout=log, stderr=log)


def haproxy(site: Site) -> int:
    config, port = site.write("haproxy.cfg", HAPROXY)
    return site.start([find_peer("haproxy"), "-db", "-f", str(config)], port)


def gfastcgi(site: Site) -> int:
    config, port = site.write("gfastcgi.conf", GFASTCGI)
    with (site.folder / "gfastcgi.log").open("wb") as log:
        return site.start([sys.executable, "-m", "gfastcgi", "-f", str(config)], port, stdout=log, stderr=log)


FRONTS: dict[str, Callable[[Site], int]] = {
    "lighttpd": lighttpd_external, "lighttpd-spawned": lighttpd_spawned, "nginx": nginx, "nginx-keep": nginx_keep,
    "apache-proxy-fcgi": apache_proxy_fcgi, "apache-fcgid": apache_fcgid, "caddy": caddy, "haproxy": haproxy,
    "gfastcgi": gfastcgi,
}  # fmt: skip
