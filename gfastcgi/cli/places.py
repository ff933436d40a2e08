"""Files, folders and programs that a configuration names on this machine: are they there?

Contract: `find_faults` finds what would stop a start, without making anything; `doubts` are what serves badly then.
What cannot be known, since we may not look there or the server will have another root, is passed over.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gfastcgi.assemble import settings_of
from gfastcgi.config import Config, HostConfig, Requirement, Settings, Where
from gfastcgi.errors import InvalidValue, SpawnError
from gfastcgi.faults import Faults
from gfastcgi.supervise.command import make_command

__all__ = ["doubts", "find_faults"]

_LOCAL = ("127.", "::1", "localhost")


def find_faults(config: Config, faults: Faults) -> None:
    """Adds to `faults` each file that could not be written and each program that could not be started."""
    for name, where, path in _written(config):
        fault = _write_fault(path)
        if fault:
            faults.add(InvalidValue(f"{name}: {path!r}: {fault}", where.filename, where.lineno))
    for host, program, fault in _programs(config):
        if host.min_procs:
            message = f'"bin-path": {program!r}: {fault}'
            faults.add(InvalidValue(message, host.where.filename, host.where.lineno))


def doubts(config: Config) -> Iterator[str]:
    """What is missing although the server starts, each told once."""
    yield from dict.fromkeys(_doubts(config))


def _written(config: Config) -> Iterator[tuple[str, Where, str]]:
    server, places = config.server, config.places
    for name, path in (
        ("server.errorlog", server.errorlog),
        ("server.pid-file", server.pid_file),
        ("server.control-socket", server.control_socket),
        ("fastcgi.audit-log", server.audit_log),
        ("accesslog.filename", config.settings.accesslog_filename),
    ):
        yield name, places.get(name, Where()), path
    for block in config.blocks:
        yield "accesslog.filename", block.where, block.overrides.get("accesslog_filename", "")


def _write_fault(path: str) -> str:
    """Why no file can be at `path`, or "" when it can, as far as is known. "-" is stderr."""
    if path in ("", "-"):
        return ""
    try:
        if os.path.isdir(path):
            return os.strerror(errno.EISDIR)
        folder = os.stat(os.path.dirname(path) or ".")
    except OSError as error:
        return _known(error)
    return "" if stat.S_ISDIR(folder.st_mode) else os.strerror(errno.ENOTDIR)


def _programs(config: Config) -> Iterator[tuple[HostConfig, str, str]]:
    """The spawned programs that cannot be run, with the reason."""
    if config.server.chroot:
        return
    for host in _hosts(config):
        if host.bin_path:
            try:
                program = make_command(host, os.environ).words[0]
            except SpawnError as error:
                yield host, host.bin_path, str(error)
                continue
            fault = _run_fault(program)
            if fault:
                yield host, program, fault


def _run_fault(program: str) -> str:
    try:
        found = os.stat(program)
    except OSError as error:
        return _known(error)
    is_program = stat.S_ISREG(found.st_mode) and found.st_mode & 0o111
    return "" if is_program else os.strerror(errno.EACCES)


def _known(error: OSError) -> str:
    """The reason, unless it is that we may not look: the server may be somebody who may."""
    return "" if error.errno == errno.EACCES else error.strerror or str(error)


def _hosts(config: Config) -> Iterable[HostConfig]:
    """Every host entry, once."""
    return dict.fromkeys(
        host for settings in settings_of(config) for extension in settings.extensions for host in extension.hosts
    )


def _doubts(config: Config) -> Iterator[str]:
    for settings in (config.settings, *(replace(config.settings, **block.overrides) for block in config.blocks)):
        yield from _missing_roots(settings)
    if config.server.chroot:
        return
    for host, program, fault in _programs(config):
        if not host.min_procs:
            yield f'{host.where}: "bin-path": {program!r}: {fault}'
    for host in _hosts(config):
        if host.mode == "authorizer" and _is_local(host) and _is_missing(host.script):
            yield f'{host.where}: "script": there is no file "{host.script}"'
        for folder in filter(_is_no_folder, host.x_sendfile_docroot):
            yield f'{host.where}: "x-sendfile-docroot": there is no folder "{folder}"'
    for settings in settings_of(config):
        for requirement in settings.auth_require:
            yield from _missing_users(requirement, settings)


def _missing_roots(settings: Settings) -> Iterator[str]:
    """Nothing below them will ever be found."""
    if _is_no_folder(settings.document_root):
        yield f'server.document-root: there is no folder "{settings.document_root}"'
    for extension in settings.extensions:
        for host in extension.hosts:
            # That of a responder may be elsewhere: it is for the program to look there.
            if host.mode == "authorizer" and _is_no_folder(host.docroot):
                yield f'{host.where}: "docroot": there is no folder "{host.docroot}"'


def _missing_users(requirement: Requirement, settings: Settings) -> Iterator[str]:
    kind = settings.auth_backend
    files = {f"auth.backend.{kind}.userfile": getattr(settings, f"auth_{kind}_userfile", "")}
    if requirement.groups:
        files["auth.backend.plain.groupfile"] = settings.auth_plain_groupfile
    for name, path in files.items():
        if _is_missing(path):
            yield f'{requirement.where}: auth.require: there is no file "{path}" ({name})'


def _is_local(host: HostConfig) -> bool:
    return not host.host or host.host.startswith(_LOCAL)


def _is_missing(path: str) -> bool:
    """Whether `path` is named and nothing is there."""
    try:
        os.stat(path or "/")
    except OSError as error:
        return bool(_known(error))
    return False


def _is_no_folder(path: str) -> bool:
    return _is_missing(path) or (bool(path) and os.path.exists(path) and not os.path.isdir(path))
