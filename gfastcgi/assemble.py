"""The only place where live objects are built from a configuration.

Plan: `build(config)` checks and connects everything without touching the network; `App.bind` takes the addresses,
`App.start` starts the backends and accepts, `App.stop` lets requests finish and ends what was started.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import replace

import gevent
from gevent.event import Event

from gfastcgi._version import __version__
from gfastcgi.auth.fastcgi import FastCGIAuthorizer
from gfastcgi.backend.backend import Host, Proc, make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import AsConfigured
from gfastcgi.config import Address, Config, Extension, HostConfig, Settings
from gfastcgi.errors import InvalidValue
from gfastcgi.gateway import Gateway, log_stderr
from gfastcgi.http.request import Limits
from gfastcgi.log import LogFile
from gfastcgi.net.listeners import listen
from gfastcgi.request import Log
from gfastcgi.resolve import Resolver
from gfastcgi.rewrite import Redirector, Rewriter
from gfastcgi.server.accesslog import AccessLog, BufferedLog
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service, Timeouts
from gfastcgi.site import Gate, Responder, Site
from gfastcgi.sites import SiteTable
from gfastcgi.supervise.supervisor import Supervisor

__all__ = ["App", "build"]

log = logging.getLogger("gfastcgi")

DEFAULT_TAG = f"gfastcgi/{__version__}"

_PREPARED = frozenset({"extensions", "accesslog_filename", "accesslog_format"})


class App:
    """A gateway with its listeners, backends and logs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._parts = _Parts(config)
        self._sites = SiteTable(config, self._parts.site)
        self._gateway = Gateway(self._sites)
        self._servers: list[HTTPServer] = []
        self._ended = Event()
        for settings in self._all_settings():
            # Backends and logs that a conditional names start with the others, not with the first request they meet.
            self._parts.pools_of(settings)
            self._parts.access_log(settings)

    def __repr__(self) -> str:
        return f"<App on {', '.join(map(str, self.addresses))}>"

    def _all_settings(self) -> Iterable[Settings]:
        yield self.config.settings
        for block in self.config.blocks:
            if not _PREPARED.isdisjoint(block.overrides):
                yield replace(self.config.settings, **block.overrides)

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, with the ports that the kernel chose."""
        return [server.address for server in self._servers]

    @property
    def gateway(self) -> Gateway:
        """What answers the requests."""
        return self._gateway

    def bind(self) -> None:
        """Opens the access logs and takes every address. Raises `InvalidValue`; `ListenError`, with none left taken."""
        self._parts.open_logs()
        server, settings = self.config.server, self.config.settings
        timeouts = Timeouts(
            keep_alive_idle=settings.max_keep_alive_idle,
            keep_alive_requests=settings.max_keep_alive_requests,
            read_idle=settings.max_read_idle,
            write_idle=settings.max_write_idle,
        )
        limits = Limits(
            target=server.max_target_size,
            field=server.max_field_size,
            fields=server.max_fields_size,
            count=server.max_fields,
            decode_2f=server.url_normalize_2f == "decode",
        )
        service = Service(
            handler=self._gateway.handle,
            refuse=self._gateway.refuse,
            server_tag=DEFAULT_TAG if settings.server_tag is None else settings.server_tag,
            limits=limits,
            timeouts=timeouts,
        )
        for address in server.listeners:
            listener = listen(address, server.listen_backlog)
            self._servers.append(HTTPServer(listener=listener, service=service, max_connections=server.max_connections))

    def start(self) -> None:
        """Starts the backends, then accepts. Raises `SpawnError` when one cannot be started."""
        if not self._servers:
            self.bind()
        for supervisor in self._parts.supervisors:
            supervisor.start()
        for server in self._servers:
            server.start()
            address = server.address
            log.info("listening on %s", f"unix:{address.path}" if address.path else f"http://{address}")

    def serve_forever(self) -> None:
        """Starts, unless that was done, and returns when `stop` was called."""
        if not any(server.is_started for server in self._servers):
            self.start()
        self._ended.wait()

    def stop(self, timeout: float = 30) -> None:
        """Closes the listeners at once, lets requests finish for `timeout` seconds, cuts the rest, ends backends."""
        for server in self._servers:
            server.close()
        gevent.wait([server.drained for server in self._servers], timeout=timeout)
        for server in self._servers:
            server.cut()
        gevent.joinall([gevent.spawn(supervisor.stop, max(timeout, 10)) for supervisor in self._parts.supervisors])
        for pool in self._parts.pools:
            for connection in pool.drain():
                connection.close()
        for file in self._parts.log_files.values():
            file.flush()
        self._ended.set()

    def reopen_logs(self) -> None:
        """Opens the access logs again, for a log rotation that renamed them."""
        for file in self._parts.log_files.values():
            file.reopen()


def build(config: Config) -> App:
    """The gateway that `config` describes. Raises `ConfigError`."""
    return App(config)


class _Parts:
    """What sites share: a pool for each `fastcgi.server` entry, a file for each access log."""

    def __init__(self, config: Config) -> None:
        self._default_log = "-" if "mod_accesslog" in config.server.modules else ""
        self._upload_dir = config.server.upload_dirs[0] if config.server.upload_dirs else None
        self.supervisors: list[Supervisor] = []
        self.pools: list[Pool] = []
        self.log_files: dict[str, BufferedLog] = {}
        self._pools: dict[tuple[int, ...], Pool] = {}
        self._procs: dict[str, list[Proc]] = {}

    def pools_of(self, settings: Settings) -> None:
        """Makes the pools of `settings`, those that are not there yet."""
        for extension in settings.extensions:
            for mode in ("responder", "authorizer"):
                hosts = [host for host in extension.hosts if host.mode == mode]
                if hosts:
                    self._pool(extension, mode, hosts, settings)

    def _pool(self, extension: Extension, mode: str, hosts: list[HostConfig], settings: Settings) -> Pool:
        # Keys that share a list of hosts share its pool.
        key = tuple(map(id, hosts))
        found = self._pools.get(key)
        if found is not None:
            return found
        live = make_hosts(hosts)
        self._keep_no_shared(live)
        debug = log.info if settings.debug else None
        pool = Pool(live, AsConfigured(random.Random()), clock=time.monotonic, log=debug)
        self._pools[key] = pool
        self.pools.append(pool)
        supervisors = [Supervisor(host, pool, log=log.info) for host in live if host.config.bin_path]
        self.supervisors += supervisors
        # For "min-procs" => 0: the first request starts a process.
        pool.wake = lambda: any(supervisor.want_one() for supervisor in supervisors)
        return pool

    def _keep_no_shared(self, hosts: Iterable[Host]) -> None:
        """An address that several pools use keeps no connection: one that is idle would starve the other pools."""
        for proc in (proc for host in hosts for proc in host.procs):
            same = self._procs.setdefault(proc.name, [])
            same.append(proc)
            for each in same:
                each.keep_alive = each.keep_alive and len(same) == 1

    def site(self, settings: Settings) -> Site:
        """The live objects of `settings`."""
        gates: list[Gate] = []
        responders: list[tuple[str, Responder]] = []
        for extension in settings.extensions:
            for mode in ("authorizer", "responder"):
                hosts = [host for host in extension.hosts if host.mode == mode]
                if not hosts:
                    continue
                pool = self._pool(extension, mode, hosts, settings)
                if mode == "authorizer":
                    gates.append(_gate(extension.key, pool, hosts[0], settings))
                else:
                    responders.append((extension.key, Responder(hosts[0], pool)))
        tag = DEFAULT_TAG if settings.server_tag is None else settings.server_tag
        return Site(
            settings=settings,
            server_tag=tag,
            resolvers=_resolvers(settings),
            gates=gates,
            responders=responders,
            rewriter=Rewriter((*settings.rewrite, *settings.rewrite_if_not_file)) or None,
            redirector=Redirector(settings.redirect) or None,
            access_log=self.access_log(settings),
            upload_dir=self._upload_dir,
            clock=time.monotonic,
        )

    def access_log(self, settings: Settings) -> Log | None:
        """The access log of `settings`. Raises `InvalidValue` for its format."""
        name = settings.accesslog_filename or self._default_log
        if not name:
            return None
        file = self.log_files.get(name)
        if file is None:
            file = self.log_files[name] = BufferedLog(LogFile("" if name == "-" else name))
        root = settings.document_root
        return AccessLog(settings.accesslog_format, file.write, server_name=settings.server_name, document_root=root)

    def open_logs(self) -> None:
        """Opens every access log. Raises `InvalidValue`."""
        for name, file in self.log_files.items():
            try:
                file.open()
            except OSError as error:
                raise InvalidValue(f"accesslog.filename: {name!r}: {error.strerror}") from error


def _gate(key: str, pool: Pool, host: HostConfig, settings: Settings) -> Gate:
    resolver = None
    if host.docroot:
        resolver = Resolver(host.docroot, settings.index_file_names, settings.symlink_roots)
    return Gate(key, FastCGIAuthorizer(key, pool, log_stderr), resolver)


def _resolvers(settings: Settings) -> list[Resolver]:
    names, links = settings.index_file_names, settings.symlink_roots
    aliases = [Resolver(root, names, links, prefix=prefix) for prefix, root in settings.alias]
    return [*aliases, Resolver(settings.document_root, names, links)]
