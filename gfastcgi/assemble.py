"""The only place where live objects are built from a configuration.

Plan: `build(config)` checks and connects everything without touching the network; `App.bind` takes the addresses,
`App.start` starts the backends and accepts, `App.stop` lets requests finish and ends what was started.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.pool import Pool

from gfastcgi._version import __version__
from gfastcgi.audit import AuditLog
from gfastcgi.auth.gate import Gate
from gfastcgi.auth.hygiene import Hygiene
from gfastcgi.backends import Backends, of_mode
from gfastcgi.config import Address, Block, Config, ServerConfig, Settings
from gfastcgi.config.soundness import block_fault, extension_faults
from gfastcgi.control import Commands, ControlSocket
from gfastcgi.elsewhere import identity_fields
from gfastcgi.errors import InvalidValue
from gfastcgi.faults import Faults
from gfastcgi.gates import Gates
from gfastcgi.gateway import Gateway
from gfastcgi.http.request import Limits
from gfastcgi.lighttpd.lost_gates import lost_beside
from gfastcgi.log import LogFile
from gfastcgi.logins import Logins
from gfastcgi.mounts import Mounts
from gfastcgi.net.listeners import listen
from gfastcgi.request import Log
from gfastcgi.resolve import Resolver
from gfastcgi.rewrite import Redirector, Rewriter
from gfastcgi.server.accesslog import AccessLog, BufferedLog
from gfastcgi.server.http import HTTPServer
from gfastcgi.server.service import Service, Timeouts
from gfastcgi.site import Responder, Site
from gfastcgi.sites import SiteTable
from gfastcgi.status import Overview, authorizers_of, backends_of, snapshot

if TYPE_CHECKING:
    from gfastcgi.auth.shared import SharedDecisions

__all__ = ["App", "build", "settings_of"]

log = logging.getLogger("gfastcgi")

DEFAULT_TAG = f"gfastcgi/{__version__}"

_RESERVED_FDS = 32
"""Descriptors that clients leave to logs and listeners."""
_FDS_OF_PROC = 4
"""Those of a spawned process: its socket, its output, its end."""


class App:
    """A gateway with its listeners, backends and logs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._parts = _Parts(config)
        faults = Faults()
        for block in config.blocks:
            if fault := block_fault(block):
                faults.add(InvalidValue(fault, block.where.filename, block.where.lineno))
        faults.raise_all()
        for settings in settings_of(config):
            # Backends and logs that a conditional names start with the others, not with the first request they meet.
            self._parts.prepare(settings, faults)
        faults.raise_all()
        self._sites = SiteTable(config, self._parts.site)
        self._gateway = Gateway(self._sites, statistics=self.statistics, tells_why=config.server.proxy_status)
        self._servers: list[HTTPServer] = []
        self._control: ControlSocket | None = None
        self._ended = Event()
        self._born = time.monotonic()

    def __repr__(self) -> str:
        return f"<App on {', '.join(map(str, self.addresses))}>"

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, with the ports that the kernel chose."""
        return [server.address for server in self._servers]

    @property
    def sites(self) -> SiteTable[Site]:
        """The settings of every request."""
        return self._sites

    @property
    def gateway(self) -> Gateway:
        """What answers the requests."""
        return self._gateway

    def statistics(self) -> dict[str, int]:
        """The counters by name, as `status.statistics-url` tells them; none without a backend (docs/status.md)."""
        return snapshot(self._parts.backends.pools, self._gateway.failures)

    def overview(self) -> Overview:
        """What it is doing, as `gfastcgi top` shows it (docs/toolbox.md)."""
        backends, gates = self._parts.backends, [*self._parts.gates.made, *self._parts.logins.made]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "seconds": round(time.monotonic() - self._born, 3),
            "clients": sum(len(server.connections) for server in self._servers),
            "requests": self._gateway.requests,
            "failed": dict(self._gateway.failures),
            **backends_of({pool: backends.keys.get(pool, ()) for pool in backends.pools}),
            **authorizers_of((gate.key, gate.transport, gate.counts) for gate in gates),
        }

    def purge(self) -> int:
        """Forgets every decision of the authorizers; what is being asked now is not remembered.

        Returns the number of gates that were purged.

        Raises `SharingError` when other gateways share the decisions, and cannot be told.
        """
        count = self._parts.gates.purge()
        if self._parts.shared is not None:
            self._parts.shared.purge()
        return count

    def bind(self) -> None:
        """Opens the access logs and takes every address. Raises `InvalidValue`; `ListenError`, with none left taken."""
        self._parts.open_logs()
        server, service = self.config.server, self._service()
        procs = sum(supervisor.host.config.max_procs for supervisor in self._parts.backends.supervisors)
        clients = Pool(_most_clients(server.max_connections, procs))
        try:
            for address in server.listeners:
                listener = listen(address, server.listen_backlog)
                name = str(address) if address.port or address.path else ""
                self._servers.append(HTTPServer(listener=listener, service=service, clients=clients, name=name))
            if server.control_socket:
                self._control = ControlSocket(server.control_socket, self._commands())
        except BaseException:
            while self._servers:
                self._servers.pop().close()
            raise

    def _service(self) -> Service:
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
        return Service(
            handler=self._gateway.handle,
            refuse=self._gateway.refuse,
            server_tag=_server_tag(settings),
            limits=limits,
            timeouts=timeouts,
        )

    def _commands(self) -> Commands:
        return {
            "purge": lambda: {"gates": self.purge()},
            "statistics": self.statistics,
            "overview": self.overview,
        }

    def start(self, *, listens: bool = True) -> None:
        """Starts the backends, then accepts, unless it `listens` not: others bring the requests.

        Raises `SpawnError` when a backend cannot be started; what `bind` raises.
        """
        if not listens:
            self._parts.open_logs()
        elif not self._servers:
            self.bind()
        self._parts.backends.start()
        if self._parts.shared is not None:
            self._parts.shared.start()
        if self._control is not None:
            self._control.start()
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
        if self._control is not None:
            self._control.stop()
        for server in self._servers:
            server.close()
        gevent.wait([server.drained for server in self._servers], timeout=timeout)
        for server in self._servers:
            server.cut()
        self._parts.backends.stop(10.0 if timeout else 1.0)
        self._parts.gates.close()
        if self._parts.shared is not None:
            self._parts.shared.stop()
        for file in self._parts.log_files.values():
            file.flush()
        self._ended.set()

    def reopen_logs(self) -> None:
        """Opens the access logs again, for a log rotation that renamed them."""
        for file in self._parts.log_files.values():
            file.reopen()


def _most_clients(wanted: int, procs: int) -> int:
    """`server.max-connections`, or fewer where descriptors are short: a client may need a second one for its answer."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(1, (limit - _RESERVED_FDS - procs * _FDS_OF_PROC) // 2)
    if limit != resource.RLIM_INFINITY and room < wanted:
        log.info("%d clients at once, since %d files may be open (server.max-fds)", room, limit)
        return room
    return wanted


def _server_tag(settings: Settings) -> str:
    return DEFAULT_TAG if settings.server_tag is None else settings.server_tag


def settings_of(config: Config) -> Iterator[Settings]:
    """The settings of every request, and those of each conditional."""
    yield config.settings
    conditions = [frozenset(block.conditions) for block in config.blocks]
    for mine in conditions:
        overrides: dict[str, Any] = {}
        for block, other in zip(config.blocks, conditions, strict=True):
            # Those around it hold wherever it holds.
            if other <= mine:
                overrides.update(block.overrides)
        yield replace(config.settings, **overrides)


def build(config: Config) -> App:
    """The gateway that `config` describes. Raises `ConfigError`; `ConfigErrors` for several faults."""
    return App(config)


class _Parts:
    """What sites share: backends, gates, logins, mounted applications, decisions of other gateways, and log files."""

    def __init__(self, config: Config) -> None:
        self._default_log = "-" if "mod_accesslog" in config.server.modules else ""
        self._upload_dir = config.server.upload_dirs[0] if config.server.upload_dirs else None
        balances = {block.overrides["balance"] for block in config.blocks if "balance" in block.overrides}
        self.backends = Backends({config.settings.balance, *balances})
        self.log_files: dict[str, BufferedLog] = {}
        self._audit = self._audit_log(config.server.audit_log)
        self.shared = self._shared_decisions(config.server)
        self.gates = Gates(self.backends, audit=self._audit, shared=self.shared)
        self.logins = Logins(audit=self._audit)
        self.mounts = Mounts()
        self._identities: set[bytes] = set()
        """The variables that authorizers have set: on no path are they a client's to send."""
        self._told: set[str] = set()
        """What was said of gates that are lost: the same pair of conditionals may hold with many others."""

    def _shared_decisions(self, server: ServerConfig) -> SharedDecisions | None:
        """What gateways share. Raises `InvalidValue`."""
        if not server.cache_redis:
            return None
        from gfastcgi.auth.shared import SharedDecisions

        return SharedDecisions(server.cache_redis, server.cache_secret, on_purge=lambda: self.gates.purge())

    def prepare(self, settings: Settings, faults: Faults) -> None:
        """Makes what `settings` name; what cannot be made, and gates that would be none, are added to `faults`."""
        for extension in settings.extensions:
            for fault in extension_faults(extension):
                where = fault.host.where if fault.host is not None else extension.where
                faults.add(InvalidValue(fault.message, where.filename, where.lineno))
        with faults.caught():
            Rewriter(settings.rewrite, settings.rewrite_if_not_file)
        with faults.caught():
            Redirector(settings.redirect)
        with faults.caught():
            self.backends.prepare(settings)
        self.gates.prepare(settings, faults)
        self.logins.prepare(settings, faults)
        self.mounts.prepare(settings, faults)
        with faults.caught():
            self.access_log(settings)

    def site(self, settings: Settings, blocks: Sequence[Block]) -> Site:
        """The live objects of `settings`, into which `blocks` went."""
        gates: list[Gate] = []
        responders: list[tuple[str, Responder]] = []
        for extension in settings.extensions:
            for mode in ("authorizer", "responder"):
                hosts = of_mode(extension.hosts, mode)
                if not hosts:
                    continue
                if mode == "authorizer":
                    gates.append(self.gates.gate(extension.key, hosts, settings))
                else:
                    responders.append((extension.key, Responder(hosts[0], self.backends.pool(hosts, settings))))
        return Site(
            settings=settings,
            blocks=blocks,
            server_tag=_server_tag(settings),
            resolvers=_resolvers(settings),
            gates=gates,
            responders=responders,
            rewriter=Rewriter(settings.rewrite, settings.rewrite_if_not_file) or None,
            redirector=Redirector(settings.redirect) or None,
            access_log=self.access_log(settings),
            upload_dir=self._upload_dir,
            clock=time.monotonic,
            logins=self.logins.gates(settings),
            apps=self.mounts.find(settings),
            hygiene=Hygiene(
                identity_fields(settings),
                settings.allow_fields,
                clock=time.monotonic,
                tell=log.warning,
                learned=self._identities,
            ),
            audit=self._audit,
            lost_gates=self._tell_lost(blocks),
        )

    def _tell_lost(self, blocks: Sequence[Block]) -> list[str]:
        lost = list(lost_beside(blocks))
        for warning in lost:
            if warning not in self._told:
                self._told.add(warning)
                log.warning("%s", warning)
        return lost

    def _audit_log(self, name: str) -> AuditLog | None:
        return AuditLog(self._log_file(name).write) if name else None

    def _log_file(self, name: str) -> BufferedLog:
        file = self.log_files.get(name)
        if file is None:
            file = self.log_files[name] = BufferedLog(LogFile("" if name == "-" else name))
        return file

    def access_log(self, settings: Settings) -> Log | None:
        """The access log of `settings`. Raises `InvalidValue` for its format."""
        name = settings.accesslog_filename or self._default_log
        if not name:
            return None
        write, root = self._log_file(name).write, settings.document_root
        return AccessLog(settings.accesslog_format, write, server_name=settings.server_name, document_root=root)

    def open_logs(self) -> None:
        """Opens every access log, and the audit log. Raises `InvalidValue`."""
        for name, file in self.log_files.items():
            try:
                file.open()
            except OSError as error:
                raise InvalidValue(f"accesslog.filename or fastcgi.audit-log: {name!r}: {error.strerror}") from error


def _resolvers(settings: Settings) -> list[Resolver]:
    names, links = settings.index_file_names, settings.symlink_roots
    aliases = [Resolver(root, names, links, prefix=prefix) for prefix, root in settings.alias]
    return [*aliases, Resolver(settings.document_root, names, links)]
