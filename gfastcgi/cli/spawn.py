"""`gfastcgi spawn`: a FastCGI program on a socket of its own, with every flag of spawn-fcgi 1.6.

Plan: check the arguments -> open the PID file -> groups, chroot, socket, user, as root only -> fork (not with -n) and
exec. Exit status: the program's own when it ends within a moment, 255 for what was refused, 0 otherwise.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import gevent

from gfastcgi._version import __version__
from gfastcgi.cli.console import print_warnings
from gfastcgi.cli.daemon import Program, become, start
from gfastcgi.cli.privileges import make_sure_that_root_is_gone
from gfastcgi.config import Address
from gfastcgi.errors import InvalidValue
from gfastcgi.net.listeners import SocketFile, address_of, listen

__all__ = ["parse", "parser", "run"]

_MOST_ID = 2**32 - 2
"""Of users and groups on Linux; the one beyond means nobody: setuid(2), chown(2)."""

_EPILOG = """examples:
  gfastcgi spawn -s /run/php.sock -u www-data -C 4 -P /run/php.pid -- /usr/bin/php-cgi
  gfastcgi spawn -a 127.0.0.1 -p 9000 -n -- /usr/bin/php-cgi -q
  gfastcgi spawn -s /run/app.sock -M 0600 -F 4 -- /srv/app/app.fcgi

exit status: 0 the program runs; its own, or 1 for one killed by a signal, when it ended within a moment;
255 what was asked for is refused; 2 there is no such flag"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi spawn`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi spawn",
        usage="gfastcgi spawn [options] (-s PATH | -p PORT) [--] PROGRAM [ARGUMENT ...]",
        description="Start a FastCGI program on a socket, as spawn-fcgi does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    add = parser.add_argument
    add("-s", metavar="PATH", dest="socket", help="listen on this unix socket")
    add("-p", metavar="PORT", dest="port", help="listen on this TCP port")
    add("-a", metavar="ADDRESS", dest="address", help="with -p: listen on this IPv4 or IPv6 address (default 0.0.0.0)")
    add("-M", metavar="MODE", dest="mode", help="the unix socket's mode, in octal (default 0660 without the umask)")
    add("-b", metavar="BACKLOG", dest="backlog", default="1024", help="connections that may wait (default 1024)")
    add("-d", metavar="DIR", dest="folder", help="start the program in this folder")
    add("-f", metavar="PROGRAM", dest="shell", help="the program, by way of /bin/sh; of no account beside PROGRAM")
    add("-C", metavar="N", dest="children", default="-1", help="PHP_FCGI_CHILDREN in the program's environment")
    add("-F", metavar="N", dest="forks", default="1", help="start so many processes (default 1)")
    add("-P", metavar="FILE", dest="pid_file", help="write the process ids there, a line each; not with -n")
    add("-n", action="store_true", dest="stays", help="do not fork: become the program, for daemontools and systemd")
    add("-v", action="version", version=f"gfastcgi spawn {__version__}", help="print the version and exit")
    add("-?", "-h", "--help", action="help", help="print this and exit")
    root = parser.add_argument_group("for root only, without effect for others")
    add = root.add_argument
    add("-u", metavar="USER", dest="user", help="become this user")
    add("-g", metavar="GROUP", dest="group", help="become this group (default: that of the user)")
    add("-U", metavar="USER", dest="socket_user", help="give the unix socket to this user (default: -u)")
    add("-G", metavar="GROUP", dest="socket_group", help="give it to this group (default: that of -U, or -g)")
    add("-c", metavar="DIR", dest="root", help="change the root directory")
    add("-S", action="store_true", dest="binds_before", help="open the socket before that, not inside")
    parser.add_argument("app", metavar="PROGRAM", nargs="*", default=[], help="the program and its arguments")
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """As getopt: flags may stand behind the program, and everything behind `--` is the program's."""
    words = list(arguments)
    cut = words.index("--") if "--" in words else len(words)
    options = parser().parse_intermixed_args(words[:cut])
    options.app = [*options.app, *words[cut + 1 :]]
    return options


class _Identity(NamedTuple):
    """Who to become; 0: as we are. `name` is known for users whose other groups are known."""

    uid: int = 0
    gid: int = 0
    name: str = ""


class _Plan(NamedTuple):
    """The arguments, understood."""

    address: IPv4Address | IPv6Address
    port: int
    mode: int
    backlog: int
    forks: int
    program: Program
    identity: _Identity
    owner: tuple[int, int] | None


def run(options: argparse.Namespace) -> int:
    """Starts the program. Raises `InvalidValue` and `ListenError` for what is refused."""
    plan = _plan(options)
    pid_file = None if options.stays or options.pid_file is None else _open_pid_file(options.pid_file)
    # Before the chroot, where there may be neither /dev nor Python: what opens sockets needs its hub.
    output = os.open(os.devnull, os.O_RDWR)
    gevent.get_hub()
    try:
        listener = _enter(options, plan)
        if options.folder is not None:
            _change_folder(options.folder, listener)
    except OSError as error:
        raise InvalidValue(f"{error.strerror}{': ' + str(error.filename) if error.filename else ''}") from error
    if options.stays:
        return become(plan.program, listener)
    return start(plan.program, listener, plan.forks, output=output, pid_file=pid_file)


def _change_folder(folder: str, listener: socket.socket) -> None:
    """Raises OSError; nobody will serve `listener` then."""
    try:
        os.chdir(folder)
    except OSError:
        with suppress(OSError):  # its folder may be out of reach since we became somebody else
            SocketFile(address_of(listener)).remove()
        raise


def _plan(options: argparse.Namespace) -> _Plan:
    if not options.app and options.shell is None:
        raise InvalidValue("no FastCGI program given, see gfastcgi spawn --help")
    port = _number(options.port or "0", "-p", 65535)
    if not port and not options.socket:
        raise InvalidValue("no socket given (use either -p or -s)")
    if port and options.socket is not None:
        raise InvalidValue("either a unix socket or a TCP port, but not both")
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        raise InvalidValue("this program must not be set-user-id: whoever may start it could become anybody (CWE-250)")
    umask = os.umask(0o077)
    os.umask(umask)
    identity, owner = _identities(options)
    return _Plan(
        address=_address(options.address or "0.0.0.0"),
        port=port,
        mode=0o660 & ~umask if options.mode is None else _number(options.mode, "-M", 0o7777, base=8),
        backlog=_number(options.backlog, "-b", 65535),
        forks=_number(options.forks, "-F", 4096) or 1,
        program=_program(options),
        identity=identity,
        owner=owner,
    )


def _number(text: str, flag: str, most: int, base: int = 10) -> int:
    try:
        number = int(text, base) if text.isascii() and text.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        limit = f"a{'n octal' if base == 8 else ''} number up to {most:o}" if base == 8 else f"a number up to {most}"
        raise InvalidValue(f"{flag}: {text!r} is not {limit}")
    return number


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidValue(f"-a: {text!r} is not a valid IP address") from None


def _program(options: argparse.Namespace) -> Program:
    environment = dict(os.environ)
    # Below zero: as if it were not given, in spawn-fcgi too.
    if not options.children.startswith("-"):
        environment["PHP_FCGI_CHILDREN"] = str(_number(options.children, "-C", 65535))
    if options.app:
        return Program(options.app[0], tuple(options.app), environment)
    return Program("/bin/sh", ("sh", "-c", f"exec {options.shell}"), environment)


def _identities(options: argparse.Namespace) -> tuple[_Identity, tuple[int, int] | None]:
    """Who to become, and the owner of the unix socket. Raises `InvalidValue`."""
    flags = {"-u": "user", "-g": "group", "-U": "socket_user", "-G": "socket_group", "-c": "root", "-S": "binds_before"}
    if os.getuid() != 0:
        print_warnings(
            f"{flag} needs root and is not applied" for flag, name in flags.items() if getattr(options, name)
        )
        return _Identity(), None
    identity = _find_identity(options.user, options.group)
    owner = _find_identity(options.socket_user, options.socket_group)
    uid, gid = owner.uid or identity.uid, owner.gid or identity.gid
    return identity, (uid or -1, gid or -1) if uid or gid else None


def _find_identity(user: str | None, group: str | None) -> _Identity:
    """The ids of names or numbers; root's are refused."""
    uid, gid, name = 0, 0, ""
    known: pwd.struct_passwd | None = None
    if user is not None:
        try:
            known = pwd.getpwnam(user) if not _is_number(user) else pwd.getpwuid(int(user))
        except KeyError:
            if not _is_number(user):
                raise InvalidValue(f"can't find user name {user}") from None
        uid, name = (known.pw_uid, known.pw_name) if known is not None else (int(user), "")
        if uid == 0:
            raise InvalidValue("I will not set uid to 0")
    if group is not None:
        try:
            gid = int(group) if _is_number(group) else grp.getgrnam(group).gr_gid
        except KeyError:
            raise InvalidValue(f"can't find group name {group}") from None
    elif known is not None:
        gid = known.pw_gid
    if gid == 0 and (group is not None or known is not None):
        raise InvalidValue("I will not set gid to 0")
    return _Identity(uid, gid, name)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_ID


def _open_pid_file(filename: str) -> int:
    """Its descriptor; what is in it stays there until there is something to write."""
    try:
        # Not waiting: a FIFO without a reader would hold us here.
        descriptor = os.open(filename, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise InvalidValue(f"opening PID-file {filename!r} failed: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidValue(f"PID-file exists and isn't a regular file: {filename!r}")
    return descriptor


def _enter(options: argparse.Namespace, plan: _Plan) -> socket.socket:
    """The listening socket; what root asked us to become, we are. Raises OSError, `ListenError`, `InvalidValue`."""
    if os.getuid() != 0:
        return _listen(options, plan)
    identity = plan.identity
    listener = _listen(options, plan) if options.binds_before else None
    # Before the chroot, where there may be no file of groups.
    if identity.gid:
        os.setgid(identity.gid)
    if identity.name:
        os.initgroups(identity.name, identity.gid)
    elif identity.gid or identity.uid:
        os.setgroups([])
    if identity.uid and not identity.gid:
        print_warnings([f"there is no user {identity.uid}, and no group was given: the group stays that of root"])
    if options.root is not None:
        os.chroot(options.root)
        os.chdir("/")
    listener = listener or _listen(options, plan)
    if identity.uid:
        os.setuid(identity.uid)
        make_sure_that_root_is_gone("-u")
    return listener


def _listen(options: argparse.Namespace, plan: _Plan) -> socket.socket:
    if options.socket is not None:
        return listen(Address(path=options.socket, mode=plan.mode), plan.backlog, owner=plan.owner)
    family = socket.AF_INET if plan.address.version == 4 else socket.AF_INET6
    try:
        return socket.create_server(
            (str(plan.address), plan.port), family=family, backlog=plan.backlog,
            dualstack_ipv6=family == socket.AF_INET6 and plan.address.is_unspecified,
        )  # fmt: skip
    except OSError as error:
        raise InvalidValue(f"cannot listen on {plan.address} port {plan.port}: {error.strerror}") from error
