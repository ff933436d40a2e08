"""The lines of `fastcgi.debug`, as lighttpd's documentation shows them under "Load-Balancing".

1  proc: 127.0.0.1 1031  1 1 1 31454  address, port, unix socket, is local, state, load, PID; sorted by load
   got proc: 34 31454                 number of the lease, PID
   release proc: 40 31438             and the table after it
2  connect succeeded: 34 127.0.0.1:1031
3  the table after each change of a state, too
"""

from __future__ import annotations

from collections.abc import Iterable

from gfastcgi.backend.backend import Host, Proc

__all__ = ["CHOICES", "CONNECTIONS", "STATES", "format_connected", "format_got", "format_release", "format_table"]

CHOICES, CONNECTIONS, STATES = 1, 2, 3
"""From which level on something is told."""


def format_table(hosts: Iterable[Host]) -> list[str]:
    """One line a proc, the lowest load first; equal loads in the order of the configuration."""
    procs = sorted((proc for host in hosts for proc in host.procs), key=lambda proc: proc.load)
    return [
        f"proc: {proc.address.host} {proc.address.port} {proc.address.path} "
        f"{proc.is_local:d} {proc.state:d} {proc.load} {proc.pid}"
        for proc in procs
    ]


def format_got(number: int, proc: Proc) -> str:
    """Lease `number` was given a connection to `proc`."""
    return f"got proc: {number} {proc.pid}"


def format_release(number: int, proc: Proc) -> str:
    """Lease `number` gave its connection to `proc` back."""
    return f"release proc: {number} {proc.pid}"


def format_connected(number: int, proc: Proc) -> str:
    """Lease `number` made a new connection to `proc`."""
    return f"connect succeeded: {number} {proc.name}"
