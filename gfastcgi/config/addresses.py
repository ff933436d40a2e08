"""IP addresses as clients have them, in one spelling. What is judged by a client's address is judged by this."""

from __future__ import annotations

import ipaddress

__all__ = ["IPAddress", "client_address"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(text: str) -> IPAddress | None:
    """The address that `text` spells, without its zone; an IPv4 client of an IPv6 socket counts as IPv4.

    None for what is none: a unix socket's client has no address.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
