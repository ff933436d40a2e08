#!/usr/bin/env python3
"""FastCGI servers for Python beside each other: one WSGI hello-world behind one nginx, measured in turn.

    python3 -m venv peers && peers/bin/pip install flup gevent-fastcgi
    apt-get install nginx-light wrk uwsgi-core uwsgi-plugin-python3 uwsgi-plugin-gevent-python3
    .venv/bin/python contrib/bench/fastcgi_servers.py --peers peers/bin/python [--keep] [--rounds 5]

All servers run at once, each as one process on a unix socket, and nginx passes `/NAME/` to it; wrk asks one after the
other, round after round, so that a drift of the machine hits all alike. Quote the medians and their ratios.
rps: requests per second behind nginx; us/req: CPU microseconds of the server's own processes per request.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = """
def app(environ, start_response):
    body = b"Hello World!\\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

OURS = """
from app import app
from gevent import socket
from gfastcgi.server.fastcgi import run
listener = socket.socket(socket.AF_UNIX)
listener.bind("gfastcgi.sock")
listener.listen(1024)
run(app, listener=listener)
"""

FLUP = """
from app import app
from flup.server.fcgi import WSGIServer
WSGIServer(app, bindAddress="flup.sock", maxSpare=40, maxThreads=200).run()
"""

GEVENT_FASTCGI = """
from app import app
from gevent_fastcgi.server import FastCGIServer
from gevent_fastcgi.wsgi import WSGIRequestHandler
FastCGIServer("gevent-fastcgi.sock", WSGIRequestHandler(app)).serve_forever()
"""

UWSGI = [
    "uwsgi-core", "--plugins", "python3,gevent_python3", "--fastcgi-socket", "uwsgi.sock", "--gevent", "1000",
    "--listen", "128", "--master", "--disable-logging", "--wsgi-file", "app.py", "--callable", "app", "--die-on-term",
]  # fmt: skip

NGINX = """
worker_processes 1; daemon off; pid nginx.pid; error_log nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path t1; fastcgi_temp_path t2; proxy_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  {upstreams}
  server {{
    listen 127.0.0.1:{port};
    include /etc/nginx/fastcgi_params;
    {keep}
    {locations}
  }}
}}
"""

TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Of a process and its children."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total


class Lab:
    """The servers of one run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "app.py").write_text(APP)

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(self.folder)}
            )
        self.processes.append(process)
        return process

    def wait_for(self, name: str, process: subprocess.Popen[bytes], address: str | tuple[str, int]) -> bool:
        """Whether the server listens within ten seconds."""
        end = time.monotonic() + 10
        while time.monotonic() < end and process.poll() is None:
            with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
                if not sock.connect_ex(address):
                    os.chmod(address, 0o666) if isinstance(address, str) else None
                    return True
            time.sleep(0.05)
        print(f"{name} does not start:\n{(self.folder / f'{name}.log').read_text()[-800:]}", file=sys.stderr)
        return False

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def commands(peers: str, folder: Path) -> dict[str, list[str]]:
    """name -> how it is started."""
    for name, source in {"gfastcgi": OURS, "flup": FLUP, "gevent-fastcgi": GEVENT_FASTCGI}.items():
        (folder / f"run-{name}.py").write_text(source)
    started = {"gfastcgi": [sys.executable, "run-gfastcgi.py"]}
    if peers:
        started |= {name: [peers, f"run-{name}.py"] for name in ("flup", "gevent-fastcgi")}
    if shutil.which(UWSGI[0]):
        started["uwsgi"] = UWSGI
    return started


def nginx(lab: Lab, names: list[str], keep: bool) -> int:
    port = free_port()
    kept = " keepalive 64;" if keep else ""
    upstreams = [f"upstream {name} {{ server unix:{lab.folder}/{name}.sock;{kept} }}" for name in names]
    locations = [f"location /{name}/ {{ fastcgi_pass {name}; }}" for name in names]
    config = lab.folder / "nginx.conf"
    config.write_text(NGINX.format(
        port=port, upstreams="\n  ".join(upstreams), locations="\n    ".join(locations),
        keep="fastcgi_keep_conn on;" if keep else "",
    ))  # fmt: skip
    process = lab.start("nginx", ["/usr/sbin/nginx", "-p", str(lab.folder), "-c", str(config)])
    if not lab.wait_for("nginx", process, ("127.0.0.1", port)):
        raise SystemExit(1)
    return port


def measure(url: str, process: subprocess.Popen[bytes], connections: int, seconds: int) -> dict[str, float]:
    before = cpu_seconds(process.pid)
    out = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", url], capture_output=True, text=True, check=True
    ).stdout
    used = cpu_seconds(process.pid) - before
    count = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    bad = re.search(r"Non-2xx.*: (\d+)", out)
    assert count is not None, out
    assert rate is not None, out
    requests = int(count[1])
    return {"rps": float(rate[1]), "us/req": 1e6 * used / max(requests, 1), "bad": float(bad[1]) if bad else 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", help="a Python with flup and gevent-fastcgi")
    parser.add_argument("--only", default="", help="names, with commas between them")
    parser.add_argument("--keep", action="store_true", help="nginx keeps its connections (fastcgi_keep_conn)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of one measurement")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gfastcgi-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        lab = Lab(folder)
        try:
            run(lab, options)
        finally:
            lab.close()


def run(lab: Lab, options: argparse.Namespace) -> None:
    chosen = {
        name: command
        for name, command in commands(options.peers, lab.folder).items()
        if not options.only or name in options.only.split(",")
    }
    started = {name: lab.start(name, command) for name, command in chosen.items()}
    names = [name for name, process in started.items() if lab.wait_for(name, process, str(lab.folder / f"{name}.sock"))]
    port = nginx(lab, names, options.keep)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for name in names:
        measure(f"http://127.0.0.1:{port}/{name}/", started[name], options.connections, 1)
    for _ in range(options.rounds):
        for name in names:
            url = f"http://127.0.0.1:{port}/{name}/"
            rows[name].append(measure(url, started[name], options.connections, options.seconds))
    kept = "kept" if options.keep else "fresh"
    print(f"{options.connections} clients, {kept} connections to the servers, medians of {options.rounds}")
    medians = {name: {key: statistics.median(row[key] for row in found) for key in found[0]}
               for name, found in rows.items()}  # fmt: skip
    ours = medians.get("gfastcgi")
    for name, median in medians.items():
        ratio = f"   gfastcgi has {ours['rps'] / median['rps']:.2f} x its rps" if ours and name != "gfastcgi" else ""
        print(f"{name:15} {median['rps']:9.0f} rps {median['us/req']:8.1f} us/req {median['bad']:6.0f} bad{ratio}")


if __name__ == "__main__":
    main()
