"""`fastcgi.server`: extensions, hosts and their options, checked one by one.

Contract: a host list that several scopes share (by a variable or by `+=`) is made once, so that its processes are
spawned once; two lists that look alike are two lists. An option that would weaken access control is an error.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

from gfastcgi.config import AUTHORIZER_READ_TIMEOUT, Extension, HostConfig, Where
from gfastcgi.config.soundness import extension_faults
from gfastcgi.errors import InvalidValue, UnknownOption
from gfastcgi.lighttpd.kinds import Context
from gfastcgi.lighttpd.nodes import Array, Item, Value, describe
from gfastcgi.lighttpd.options import HOST_OPTIONS
from gfastcgi.lighttpd.report import Report, nearest

__all__ = ["HostMaker"]

MAX_NAME = 128
"""Characters of a backend's name, as in lighttpd."""
MAX_SOCKET_PATH = 105
"""Bytes of the path of a unix socket: what `sun_path` takes, less what lighttpd keeps back."""

_BACKEND = ("host", "port", "socket", "bin-path")
"""Options that name a FastCGI backend."""


_FOR_AUTHORIZERS = (
    "cache", "decision-timeout", "independent", "login", "mode-compat", "preflight", "recheck", "require-status",
    "stale-allow", "variables",
)  # fmt: skip


class HostMaker:
    """Makes the extensions of one configuration, each array of hosts once."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._hosts: dict[int, tuple[HostConfig, ...]] = {}
        self._extensions: dict[tuple[str, int], Extension] = {}
        self._spawned: dict[tuple[str, int], HostConfig] = {}
        self._places: dict[HostConfig, dict[str, Where]] = {}

    def extensions(self, value: Value, context: Context) -> tuple[Extension, ...]:
        if not isinstance(value, Array) or any(item.key is None for item in value):
            raise ValueError
        found: list[Extension] = []
        for item in value:
            key = item.key or ""
            if not isinstance(item.value, Array) or not all(isinstance(host.value, Array) for host in item.value):
                message = f'{context.name}: "{key}" takes a list of hosts, each in parentheses: (( "host" => ... ))'
                self.report.error(InvalidValue, message, item.where)
                continue
            known = self._extensions.get((key, id(item.value)))
            if known is None:
                faults = len(self.report.errors)
                known = Extension(key, self._host_list(item.value), item.where)
                self._extensions[key, id(item.value)] = known
                if len(self.report.errors) == faults:
                    self._check_soundness(known)
            found.append(known)
        return tuple(found)

    def _host_list(self, value: Array) -> tuple[HostConfig, ...]:
        if id(value) not in self._hosts:
            self._hosts[id(value)] = tuple(self._host(item) for item in value)
        return self._hosts[id(value)]

    def _check_soundness(self, extension: Extension) -> None:
        for fault in extension_faults(extension):
            where = extension.where
            if fault.host is not None:
                where = self._places[fault.host].get(fault.option, fault.host.where)
            self.report.error(InvalidValue, fault.message, where)

    def _host(self, item: Item) -> HostConfig:
        assert isinstance(item.value, Array)
        where = item.value.where
        values: dict[str, Any] = {"name": item.key or "", "where": where}
        places: dict[str, Where] = {}
        for option in item.value:
            if option.key is None:
                message = f'a host is made of options like "port" => 9000, found {describe(option.value)}'
                self.report.error(InvalidValue, message, option.where)
            else:
                places[option.key] = option.where
                self._option(option.key, option.value, option.where, values)
        values.setdefault("min_procs", values.get("max_procs", HostConfig().max_procs))
        faults = len(self.report.errors)
        self._check(values, places, where)
        host = HostConfig(**values)
        self._places[host] = places
        if len(self.report.errors) == faults:
            self._check_spawning(host)
        return host

    def _option(self, name: str, value: Value, where: Where, values: dict[str, Any]) -> None:
        option = HOST_OPTIONS.get(name)
        if option is None:
            self._unknown(name, where)
            return
        context = Context(self.report, name, where, None, self.extensions)
        try:
            values[option.attributes[0]] = option.kind.parse(value, context)
        except ValueError:
            message = f'"{name}" takes {option.kind.label}, found {describe(value)}'
            self.report.error(InvalidValue, message, where)
        if values.get("upgrade") and name == "upgrade":
            self.report.warn('"upgrade" is known, but not served yet', where)

    def _unknown(self, name: str, where: Where) -> None:
        message = f'unknown option "{name}" of a fastcgi.server host{nearest(name, HOST_OPTIONS)}'
        self.report.error(UnknownOption, message, where)

    def _check(self, values: dict[str, Any], places: dict[str, Where], where: Where) -> None:
        """What holds between options, and lighttpd's defaults for those that name the backend's address."""
        error = self.report.error
        if len(values["name"]) > MAX_NAME:
            error(InvalidValue, f"the name of a host has more than {MAX_NAME} characters", where)
        if values.get("socket") and ("host" in values or "port" in values):
            error(InvalidValue, 'either "host" and "port" or "socket" name a backend, not both', places["socket"])
            return
        if values.get("host", "").startswith("/"):
            values["socket"] = values.pop("host")
            values.pop("port", None)
        if values.get("socket") and not ({"url", "python"} & places.keys()):
            self._check_socket(values, places.get("socket", where))
        elif "url" in places or "python" in places:
            self._check_elsewhere(values, places)
        elif not values.get("host") and not values.get("bin_path"):
            if not {"host", "socket", "bin-path"} & places.keys():
                error(InvalidValue, 'a host needs "host" (and "port"), "socket" or "bin-path"', where)
        else:
            values["host"] = _strip_brackets(values.get("host") or "127.0.0.1")
            values.setdefault("port", 80)
            self._check_name(values["host"], places.get("host", where))
            if values.get("bin_path"):
                self._check_listening(values, places.get("host", where))
        if values["min_procs"] > values.get("max_procs", HostConfig().max_procs):
            error(InvalidValue, '"min-procs" is more than "max-procs"', places.get("min-procs", where))
        if values.get("bin_path") and values.get("disable_time") == 0:
            self.report.warn('"disable-time" 0 shortens no pause of a spawned process', places["disable-time"])
        self._check_x_sendfile(values, places, where)
        self._check_authorizer(values, places)

    def _check_elsewhere(self, values: dict[str, Any], places: dict[str, Where]) -> None:
        """An authorizer over HTTP or in Python has no FastCGI backend, and is the only one of its key."""
        name = "url" if "url" in places else "python"
        for other in (*_BACKEND, "python"):
            if other in places and other != name:
                message = f'"{name}" and "{other}" name two authorizers: an entry has one'
                self.report.error(InvalidValue, message, places[other])

    def _check_authorizer(self, values: dict[str, Any], places: dict[str, Where]) -> None:
        """What only authorizers have. A client is never kept waiting for a silent one without end."""
        if values.get("mode") == "authorizer":
            values["read_timeout"] = values.get("read_timeout") or AUTHORIZER_READ_TIMEOUT
            if values.get("stale_allow") and not values.get("cache"):
                message = '"stale-allow" needs "cache", whose key tells whom an authorizer has allowed'
                self.report.error(InvalidValue, message, places["stale-allow"])
            if "variables" in places and not values.get("url"):
                self.report.warn('"variables" is for an authorizer with "url"', places["variables"])
            return
        for name in _FOR_AUTHORIZERS:
            if name in places:
                self.report.warn(f'"{name}" is for a host with "mode" => "authorizer"', places[name])

    def _check_name(self, name: str, where: Where) -> None:
        """A port beside the name, as other servers write it, would be looked up as part of the name."""
        host, colon, port = name.rpartition(":")
        if colon and ":" not in host and port.isdigit():
            message = f'"host" is a name or an address, the number is "port": "host" => "{host}", "port" => {port}'
            self.report.error(InvalidValue, message, where)

    def _check_socket(self, values: dict[str, Any], where: Where) -> None:
        if values["socket"].startswith("unix:"):
            message = f'"socket" is a path: "{values["socket"].removeprefix("unix:")}"'
            self.report.error(InvalidValue, message, where)
        last = f"-{values.get('max_procs', HostConfig().max_procs) - 1}" if values.get("bin_path") else ""
        if len(os.fsencode(values["socket"] + last)) > MAX_SOCKET_PATH:
            message = f'"socket" is longer than {MAX_SOCKET_PATH} bytes, with the number of a spawned process'
            self.report.error(InvalidValue, message, where)

    def _check_x_sendfile(self, values: dict[str, Any], places: dict[str, Where], where: Where) -> None:
        if values.get("x_sendfile") and not values.get("x_sendfile_docroot"):
            place = places.get("x-sendfile") or places.get("allow-x-send-file") or where
            message = '"x-sendfile" without "x-sendfile-docroot" lets the backend send any file that gfastcgi can read'
            self.report.warn(message, place)
        if any(os.path.normpath(folder) in ("/", "//") for _, folder in values.get("x_accel_redirect", ())):
            message = '"x-accel-redirect" names "/": the backend may send any file that gfastcgi can read'
            self.report.warn(message, places["x-accel-redirect"])
        if any(os.path.normpath(folder) in ("/", "//") for folder in values.get("x_sendfile_docroot", ())):
            message = '"x-sendfile-docroot" names "/": the backend may send any file that gfastcgi can read'
            self.report.warn(message, places["x-sendfile-docroot"])

    def _check_listening(self, values: dict[str, Any], where: Where) -> None:
        """A spawned process listens on an address, which is not to depend on what a name server says."""
        if values["host"] == "localhost":
            values["host"] = "127.0.0.1"
        try:
            ip_address(values["host"])
        except ValueError:
            self.report.error(InvalidValue, '"bin-path" needs an address as "host", not a name', where)

    def _check_spawning(self, host: HostConfig) -> None:
        """Two commands cannot share the socket that they are to listen on."""
        if not host.bin_path:
            return
        if not host.socket and host.port + host.max_procs - 1 > 65535:
            self.report.error(InvalidValue, '"port" and "max-procs" reach beyond port 65535', host.where)
        count = 1 if host.socket else host.max_procs
        for number in range(count):
            endpoint = (host.socket or host.host, host.port + number)
            other = self._spawned.setdefault(endpoint, host)
            if other.bin_path != host.bin_path or other.port != host.port:
                what = f'socket "{host.socket}"' if host.socket else f'socket "{endpoint[0]}:{endpoint[1]}"'
                message = f'the {what} belongs to the "bin-path" of {other.where}, and cannot have another one'
                self.report.error(InvalidValue, message, host.where)
                return


def _strip_brackets(name: str) -> str:
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
