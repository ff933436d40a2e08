"""`Gateway`: a whole configuration, served by itself or hosted by any WSGI server on gevent.

Contract: hosted, its backends start with the first request, in the process that got it, and end with the process. What
it cannot know there, it does not guess: a configuration that asks for it is served nobody.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import gevent

from gfastcgi import lighttpd, plugins
from gfastcgi.assemble import App
from gfastcgi.config import Config
from gfastcgi.errors import GfastcgiError, InvalidValue
from gfastcgi.library.life import Life
from gfastcgi.pages import error_page
from gfastcgi.wsgi.hosting import StartResponse, host, send

__all__ = ["Gateway"]

log = logging.getLogger("gfastcgi")

_SOCKET = 'SERVER["socket"]'


class Gateway(App):
    """The gateway of `config`, or of the lighttpd.conf that it names. Raises `ConfigError`.

    Called it is a WSGI application: `gunicorn -k gevent module:gateway`. `serve` is its own server instead. As a
    context manager it is started, on the listeners of its configuration, and stopped.
    """

    def __init__(self, config: Config | str | os.PathLike[str]) -> None:
        if not isinstance(config, Config):
            config, warnings = lighttpd.load(os.fspath(config), find_balance=plugins.find_balance)
            for warning in warnings:
                log.warning("%s", warning)
        super().__init__(config)
        self._life = Life(self._start_hosted, super().stop)

    def __repr__(self) -> str:
        return f"<Gateway on {', '.join(map(str, self.addresses)) or 'no listener'}>"

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333). The path that counts is the whole one, SCRIPT_NAME and PATH_INFO."""
        try:
            self._life.start()
        except GfastcgiError as error:
            log.error("nobody is served: %s", error)
            return send(error_page(503, cause=getattr(error, "cause", "internal")), environ, start_response)
        return host(environ, start_response, self.gateway.handle, self.gateway.refuse)

    def _start_hosted(self) -> None:
        if self.addresses:
            return  # its own server runs, too
        for block in self.config.blocks:
            for condition, _ in block.conditions:
                if condition.variable == _SOCKET:
                    # What holds for one listener alone may be the gate in front of everything.
                    message = f"${_SOCKET} cannot be told behind a WSGI server"
                    raise InvalidValue(message, condition.where.filename, condition.where.lineno)
        super().start(listens=False)

    def stop(self, timeout: float = 30) -> None:
        """Closes the listeners at once, lets their requests finish for `timeout` seconds, ends backends; for good."""
        self._life.stop(timeout)

    def serve(self) -> None:
        """Serves on the listeners of its configuration until SIGTERM, SIGINT or `stop`.

        Raises `ListenError`, `SpawnError`, `InvalidValue`; then nothing is left running.
        """
        timeout = self.config.server.graceful_timeout
        watchers = [gevent.signal_handler(number, self.stop, timeout) for number in (signal.SIGTERM, signal.SIGINT)]
        try:
            self.serve_forever()
        finally:
            for watcher in watchers:
                watcher.cancel()
            self.stop(0)

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
