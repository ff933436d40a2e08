"""The FastCGI programs of `gfastcgi demo`: `python -m gfastcgi.cli.demo_apps responder|authorizer`, socket on fd 0.

Ordinary FastCGI applications on gfastcgi's own server; they know nothing of the gateway that spawned them.
The environment says who they are: DEMO_NAME, DEMO_SLOWNESS (a factor), and DEMO_STATE, the folder with the session
key and the PID files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gevent
import webob

from gfastcgi.server.fastcgi import run

__all__ = ["Authorizer", "Responder", "sign", "user_of"]

COOKIE = "gfastcgi_demo"
USER, PASSWORD = "ada", "lovelace"
SESSION_SECONDS = 3600


def sign(key: bytes, user: str, expires: int) -> str:
    """A session cookie: who and until when (seconds since the epoch), and an HMAC over both."""
    claim = f"{user}.{expires}"
    return f"{claim}.{hmac.new(key, claim.encode(), hashlib.sha256).hexdigest()}"


def user_of(key: bytes, cookie: str, now: float) -> str | None:
    """The user whose session `cookie` carries, or None when it is empty, forged or past its end."""
    try:
        user, expires, _ = cookie.rsplit(".", 2)
        is_signed = hmac.compare_digest(cookie, sign(key, user, int(expires)))
    except (ValueError, TypeError):
        return None
    return user if is_signed and now < int(expires) else None


class Authorizer:
    """Says yes, with the user's name, to a request with a session; to any other 403."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, request: webob.Request) -> webob.Response:
        user = user_of(self._key, request.cookies.get(COOKIE, ""), time.time())
        if user is None:
            return webob.Response("The authorizer says: log in first.\n", status=403, content_type="text/plain")
        response = webob.Response(status=200)
        response.headers["Variable-REMOTE_USER"] = user
        return response


class Responder:
    """The WSGI application: who answers, login and logout, the private file by X-Sendfile, and the plug to pull."""

    def __init__(self, name: str, slowness: float, state: Path, key: bytes) -> None:
        self._name = name
        self._slowness = slowness
        self._state = state
        self._key = key
        self._served = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = webob.Request(environ)
        self._served += 1
        return self._answer(request)(environ, start_response)

    def _answer(self, request: webob.Request) -> webob.Response:
        path = request.environ.get("SCRIPT_NAME", "") + request.path_info
        if path.startswith("/private/"):
            return self._private(request, path)
        if path.startswith("/app/who/"):
            return self._who(request)
        actions = {"/app/login": self._login, "/app/logout": self._logout, "/app/kill": self._kill}
        if path not in actions:
            return _json(404, error="there is no such thing here")
        # A form of another site can send the cookie, yet not this field.
        if request.method != "POST" or request.headers.get("X-Demo") != "1":
            return _json(405, error="POST with the field `X-Demo: 1`")
        return actions[path](request)

    def _who(self, request: webob.Request) -> webob.Response:
        pause = request.GET.get("ms", "0")
        gevent.sleep(self._slowness * min(int(pause), 500) / 1000 if pause.isdecimal() else 0)
        return _json(200, name=self._name, pid=os.getpid(), served=self._served, slowness=self._slowness)

    def _private(self, request: webob.Request, path: str) -> webob.Response:
        # Only an allowed request comes this far; the gateway itself opens the file, beneath x-sendfile-docroot.
        user = request.environ.get("REMOTE_USER", "")
        response = webob.Response(status=200)
        del response.headers["Content-Type"], response.headers["Content-Length"]
        response.headers["X-Sendfile"] = quote(request.environ["DOCUMENT_ROOT"] + path)
        response.headers["X-Served-For"] = user
        response.headers["X-Served-By"] = f"{self._name} (pid {os.getpid()})"
        response.headers["Cache-Control"] = "no-store"
        return response

    def _login(self, request: webob.Request) -> webob.Response:
        user, password = str(request.POST.get("user")), str(request.POST.get("password"))
        if not hmac.compare_digest(f"{user}:{password}".encode(), f"{USER}:{PASSWORD}".encode()):
            return _json(401, error="unknown user or wrong password")
        response = _json(200, user=user)
        response.set_cookie(
            COOKIE, sign(self._key, user, int(time.time()) + SESSION_SECONDS),
            max_age=SESSION_SECONDS, path="/", httponly=True, samesite="Strict",
        )  # fmt: skip
        return response

    def _logout(self, request: webob.Request) -> webob.Response:
        response = _json(200, user=None)
        response.delete_cookie(COOKIE, path="/")
        return response

    def _kill(self, request: webob.Request) -> webob.Response:
        killed = [pid for pid in map(_pid_of, self._state.glob("authorizer-*.pid")) if pid]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return _json(200, killed=killed)


def _pid_of(file: Path) -> int:
    """The authorizer that wrote `file`, if it still runs, else 0."""
    try:
        pid = int(file.read_text())
        is_authorizer = b"\0authorizer\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return pid if is_authorizer else 0


def _json(status: int, **values: Any) -> webob.Response:
    text = json.dumps(values) + "\n"
    return webob.Response(text, status, content_type="application/json", charset="utf-8", cache_control="no-store")


def main(role: str) -> None:
    """Serve one role on fd 0 until SIGTERM."""
    state = Path(os.environ["DEMO_STATE"])
    name = os.environ.get("DEMO_NAME", role)
    key = (state / "session.key").read_bytes()
    pid_file = state / f"{role}-{os.getpid()}.pid"
    pid_file.write_text(str(os.getpid()))
    try:
        if role == "authorizer":
            run(authorizer=Authorizer(key))
        else:
            run(Responder(name, float(os.environ.get("DEMO_SLOWNESS", "1")), state, key))
    finally:
        pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
