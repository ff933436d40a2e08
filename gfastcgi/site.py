"""One combination of settings, live: its gates, responders and roots, and where a path of it leads.

Contract: a `Place` is all that a path alone decides. Its gates are every authorizer whose key fits what was asked for
or what would be served for it. Places of files are remembered for a second, as lighttpd's stat cache does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from gfastcgi.audit import AuditLog
from gfastcgi.auth.gate import Gate
from gfastcgi.auth.hygiene import Hygiene
from gfastcgi.backend.pool import Pool
from gfastcgi.config import Block, HostConfig, Settings
from gfastcgi.files.shelf import Shelf
from gfastcgi.request import Log
from gfastcgi.resolve import Resolver, Resource
from gfastcgi.rewrite import Redirector, Rewriter
from gfastcgi.routing import Route, mapped, match, matches, split
from gfastcgi.wsgi.mounted import Mounted

__all__ = ["Destination", "Forwarding", "Mounting", "Own", "Place", "Responder", "Site"]

_REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Responder:
    """The backends of one key. `host` is the first entry: its options route, before a host is chosen."""

    host: HostConfig
    pool: Pool


class Forwarding(NamedTuple):
    """The backends that have a path, and what it is for them."""

    responder: Responder
    route: Route


class Mounting(NamedTuple):
    """The application in our own process that has a path, and what it is for it."""

    app: Mounted
    route: Route


class Own(Enum):
    """What the gateway answers by itself."""

    DENIAL = "url.access-deny, url.access-allow"
    STATISTICS = "status.statistics-url"


Destination: TypeAlias = Forwarding | Mounting | Resource | Own


class Place(NamedTuple):
    """Where a path leads: `to` what, behind `gates`, for something beneath `root`."""

    gates: Sequence[Gate]
    root: str
    to: Destination
    recheck: int = 0
    """Seconds after which the gates are asked again while an answer is sent; 0: never."""
    local: str = ""
    """What is asked for, beneath `root`: the file, where one was found."""


@dataclass(slots=True, eq=False)
class Site:
    """What holds for a request. `clock` is monotonic seconds."""

    settings: Settings
    server_tag: str
    resolvers: Sequence[Resolver]
    """Aliases first, the docroot last."""
    gates: Sequence[Gate]
    responders: Sequence[tuple[str, Responder]]
    rewriter: Rewriter | None
    redirector: Redirector | None
    access_log: Log | None
    upload_dir: str | None
    clock: Callable[[], float]
    logins: Sequence[Gate] = ()
    """Those of `auth.require`: of these the first whose key fits guards a path, before all others."""
    apps: Sequence[Mounted] = ()
    hygiene: Hygiene | None = None
    audit: AuditLog | None = None
    blocks: Sequence[Block] = ()
    """The conditional parts of the configuration that went into `settings`."""
    lost_gates: Sequence[str] = ()
    """Which gates of one of `blocks` another takes away, in words."""
    shelf: Shelf = field(init=False, default_factory=Shelf)
    _places: dict[str, tuple[float, Place]] = field(init=False, default_factory=dict)

    def locate(self, path: str) -> Place:
        """Where the normalised `path` leads."""
        known = self._places.get(path)
        if known is not None and known[0] > self.clock():
            return known[1]
        place = self._locate(path)
        if isinstance(place.to, (Forwarding, Mounting)) or (isinstance(place.to, Resource) and place.to.kind == "file"):
            if len(self._places) >= _MOST_REMEMBERED:
                self._places.clear()
            self._places[path] = self.clock() + _REMEMBERED_SECONDS, place
        return place

    def resolver(self, path: str) -> Resolver:
        """Who looks `path` up, when no authorizer has a docroot of its own for it."""
        for resolver in self.resolvers:
            if resolver.covers(path):
                return resolver
        return self.resolvers[-1]

    def _locate(self, path: str) -> Place:
        gates = [*self._login(path), *(gate for gate in self.gates if self._guards(gate, path))]
        if path == self.settings.statistics_url:
            return Place(gates, self.resolver(path).root, Own.DENIAL if self._is_denied(path) else Own.STATISTICS)
        resolver = next((gate.resolver for gate in gates if gate.resolver is not None), None) or self.resolver(path)
        app = next((app for app in self.apps if app.fits(path)), None)
        root, local, is_denied = resolver.root, "", False
        to: Destination
        if app is not None:
            to, served = Mounting(app, app.route(path, root)), path
        elif (forwarding := self._route_by_prefix(path, resolver)) is not None:
            to, served, local = forwarding, forwarding.route.script_name, resolver.local(path)
            gates += [gate for gate in self.gates if gate not in gates and self._may_be_within(gate, path)]
            is_denied = any(f"{suffix}/" in path for suffix in self.settings.access_deny)
        else:
            resource = resolver.find(path)
            to, served, local = self._route_by_file(path, resource) or resource, resource.path, resource.local
        also = [*self._login(served), *(gate for gate in self.gates if self._guards(gate, served))]
        gates += [gate for gate in also if gate not in gates]
        if is_denied or self._is_denied(path) or self._is_denied(served):
            to = Own.DENIAL
        return Place(gates, root, to, _recheck(gates), local)

    def _login(self, path: str) -> list[Gate]:
        return [gate for gate in self.logins if path.startswith(gate.key)][:1]

    def _guards(self, gate: Gate, path: str) -> bool:
        """Whether the gate's key fits: a mapped extension is guarded by its own key and by the one it is mapped to."""
        return matches(gate.key, path, path) or gate.key == mapped(self.settings.map_extensions, path)

    def _may_be_within(self, gate: Gate, path: str) -> bool:
        """Whether a script that the gate guards may stand in the middle of `path`, where nobody has looked.

        PHP looks for its script by itself (`cgi.fix_pathinfo`), and finds it in what is PATH_INFO to us.
        """
        suffixes = [extension for extension, key in self.settings.map_extensions if key == gate.key]
        if not gate.key.startswith("/"):
            suffixes.append(gate.key)
        return any(f"{suffix}/" in path for suffix in suffixes)

    def _route_by_prefix(self, path: str, resolver: Resolver) -> Forwarding | None:
        """The responder that takes `path` without a look at files (`"check-local" => "disable"`)."""
        found = match(self.responders, self.settings.map_extensions, path, path)
        if found is None or found[1].host.check_local:
            return None
        key, responder = found
        script, path_info = split(key, path, fix_root_scriptname=responder.host.fix_root_scriptname)
        return Forwarding(responder, Route(script, path_info, resolver.root, resolver.root.rstrip("/") + script))

    def _route_by_file(self, path: str, resource: Resource) -> Forwarding | None:
        """The responder for what was found; a directory can only belong to a prefix."""
        if resource.kind not in ("file", "directory"):
            return None
        found = match(self.responders, self.settings.map_extensions, path, resource.path)
        if found is None or (resource.kind == "directory" and not (path.endswith("/") and found[0].startswith("/"))):
            return None
        return Forwarding(found[1], Route(resource.path, resource.path_info, resource.root, resource.filename))

    def _is_denied(self, path: str) -> bool:
        """url.access-deny and url.access-allow: suffixes of the path; any deny wins."""
        settings = self.settings
        if settings.access_deny and path.endswith(settings.access_deny):
            return True
        return bool(settings.access_allow) and not path.endswith(settings.access_allow)


def _recheck(gates: Sequence[Gate]) -> int:
    return min((gate.recheck for gate in gates if gate.recheck), default=0)
