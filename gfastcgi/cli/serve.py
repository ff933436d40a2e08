"""Running one server from its start to its end: logs, limits, ports, privileges, PID file, signals.

Contract: `serve(config)` returns the exit status: 0 after a graceful stop, 255 when it could not start, 128 + signal
when a second signal cut the stop short. SIGTERM, SIGINT and SIGQUIT stop; SIGHUP and SIGUSR1 reopen the logs.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

from gfastcgi import assemble, log
from gfastcgi.cli.commands import EXIT_START
from gfastcgi.cli.console import print_fault
from gfastcgi.cli.privileges import drop_privileges, raise_file_limit
from gfastcgi.config import Config
from gfastcgi.errors import GfastcgiError, InvalidValue

__all__ = ["serve"]

logger = logging.getLogger("gfastcgi")


def serve(config: Config, *, on_start: Callable[[assemble.App], None] | None = None, hangup_stops: bool = False) -> int:
    """Run the server of `config` until a signal stops it; `on_start` is called once it accepts connections.

    `hangup_stops`: SIGHUP ends it, as for a program that belongs to its terminal, instead of reopening the logs.
    Raises `ConfigError` for what is found wrong before anything was started.
    """
    try:
        error_log = log.setup(config.server.errorlog)
    except OSError as error:
        raise InvalidValue(f"server.errorlog: {config.server.errorlog!r}: {error.strerror}") from error
    raise_file_limit(config.server.max_fds)
    app = assemble.build(config)
    reopen = partial(_reopen_logs, app, error_log)
    with _caught_signals(reopen, hangup_stops=hangup_stops) as signals, ExitStack() as stack:
        try:
            app.bind()
            stack.enter_context(_pid_file(config.server.pid_file))
            drop_privileges(config.server)
            app.start()
            if on_start is not None:
                on_start(app)
            signals.first.wait()
        except GfastcgiError as error:
            print_fault(error)
            app.stop(0)
            return EXIT_START
        except BaseException:
            app.stop(0)
            raise
        return _stop(app, config.server.graceful_timeout, signals)


class _Signals:
    """The signals that ask for an end: `first` and `second` are set when they came, `number` is the last one's."""

    def __init__(self) -> None:
        self.first = Event()
        self.second = Event()
        self.number = 0

    def ask(self, number: int) -> None:
        self.number = number
        if self.first.is_set():
            self.second.set()
        self.first.set()


@contextmanager
def _caught_signals(reopen: Callable[[], None], *, hangup_stops: bool) -> Iterator[_Signals]:
    signals = _Signals()
    callbacks: dict[int, tuple[Any, ...]] = {
        number: (signals.ask, number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    }
    callbacks[signal.SIGHUP] = (signals.ask, signal.SIGHUP) if hangup_stops else (gevent.spawn, reopen)
    # What rotates the logs of nginx sends this one; a site must not end by that.
    callbacks[signal.SIGUSR1] = (gevent.spawn, reopen)
    callbacks[signal.SIGUSR2] = (gevent.spawn, logger.warning, "SIGUSR2 means nothing here, and is passed over")
    loop = gevent.get_hub().loop
    watchers = []
    for number, callback in callbacks.items():
        watchers.append(watcher := loop.signal(number))
        watcher.start(*callback)
    try:
        yield signals
    finally:
        for watcher in watchers:
            watcher.stop()
            watcher.close()


def _stop(app: assemble.App, timeout: float, signals: _Signals) -> int:
    logger.info("stopping: requests under way have %g s, a second signal ends them at once", timeout)
    stopping = gevent.spawn(app.stop, timeout)
    either: list[Any] = [stopping, signals.second]
    gevent.wait(either, count=1)
    if signals.second.is_set() and not stopping.ready():
        stopping.kill()
        app.stop(0)
        logger.info("stopped at once")
        return 128 + signals.number
    stopping.get()
    logger.info("stopped")
    return 0


def _reopen_logs(app: assemble.App, error_log: log.ErrorLog) -> None:
    for reopen in (error_log.reopen, app.reopen_logs):
        try:
            reopen()
        except OSError as error:
            logger.error("log not reopened, the old file stays in use: %s", error)
    logger.info("logs reopened")


@contextmanager
def _pid_file(filename: str) -> Iterator[None]:
    """The file of `server.pid-file`, gone at the end; empty: none. Raises `InvalidValue` when it cannot be written."""
    if not filename:
        yield
        return
    try:
        file = open(filename, "w", encoding="ascii")  # noqa: SIM115
        file.write(f"{os.getpid()}\n")
        file.flush()
    except OSError as error:
        raise InvalidValue(f"server.pid-file: {filename!r}: {error.strerror}") from error
    with file:
        try:
            yield
        finally:
            try:
                os.unlink(filename)
            except OSError:  # its folder is no longer ours since the privileges were dropped
                file.truncate(0)
