"""What a server does to its own process: `server.username`, `server.groupname`, `server.chroot`, `server.max-fds`.

Contract: either all of it holds, or `ConfigError` is raised and the caller ends; root is never kept by accident.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import resource

from gfastcgi.config import ServerConfig
from gfastcgi.errors import InvalidValue

__all__ = ["drop_privileges", "make_sure_that_root_is_gone", "raise_file_limit"]

logger = logging.getLogger("gfastcgi")


def raise_file_limit(max_fds: int) -> None:
    """Set the soft limit of open files to `max_fds` (`server.max-fds`); 0 leaves it. Root may go beyond the hard limit.

    Raises `InvalidValue` when the system does not allow it.
    """
    if not max_fds:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max_fds, hard if 0 <= max_fds <= hard else max_fds))
    except (OSError, ValueError) as error:
        raise InvalidValue(f"server.max-fds: {max_fds} open files are not allowed here, the limit is {hard}") from error


def drop_privileges(config: ServerConfig) -> None:
    """Become `username` and `groupname`, inside `chroot` when set. Raises `InvalidValue`.

    As in lighttpd only root changes itself; anybody else stays who they are, and the log says so.
    """
    if not (config.username or config.groupname or config.chroot):
        return
    if os.geteuid() != 0:
        logger.warning("server.username, server.groupname and server.chroot need root and are not applied")
        return
    user = _user(config.username)
    group = _group(config.groupname, user)
    try:
        if user is not None:
            os.initgroups(user.pw_name, group)
        elif config.groupname:
            os.setgroups([])
        if config.chroot:
            os.chroot(config.chroot)
            os.chdir("/")
        os.setgid(group)
        if user is not None:
            os.setuid(user.pw_uid)
            make_sure_that_root_is_gone("server.username")
    except OSError as error:
        raise InvalidValue(f"server.username, server.groupname, server.chroot: {error.strerror}") from error


def _user(name: str) -> pwd.struct_passwd | None:
    if not name:
        return None
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise InvalidValue(f"server.username: there is no user {name!r}") from None
    if user.pw_uid == 0:
        raise InvalidValue(f"server.username: {name!r} is root")
    return user


def _group(name: str, user: pwd.struct_passwd | None) -> int:
    if not name:
        return os.getegid() if user is None else user.pw_gid
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidValue(f"server.groupname: there is no group {name!r}") from None
    if group == 0:
        raise InvalidValue(f"server.groupname: {name!r} is root's")
    return group


def make_sure_that_root_is_gone(option: str) -> None:
    """Raises `InvalidValue`, which names `option`, when root could be had again."""
    # A saved set-user-id that survives setuid() would be a way back (CWE-273).
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise InvalidValue(f"{option}: root could be regained after it was given up")
