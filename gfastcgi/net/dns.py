"""Host names looked up by gevent's resolver, which keeps the hub running meanwhile.

Contract: OSError and time-outs leave here as `LookupFailed`.
"""

from __future__ import annotations

import socket

import gevent

from gfastcgi.errors import GfastcgiError

__all__ = ["LookupFailed", "look_up"]


class LookupFailed(GfastcgiError):
    """The name has no address now; the message says why."""


def look_up(name: str, *, seconds: float = 5.0) -> list[str]:
    """The addresses of `name` as text, IPv4 and IPv6, each once. Raises `LookupFailed`, at the latest in `seconds`."""
    resolver = gevent.get_hub().resolver
    try:
        name.encode("idna")  # what is no name at all is not worth a thread, which would log a traceback
        with gevent.Timeout(seconds):
            found = resolver.getaddrinfo(name, 0, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except gevent.Timeout:
        raise LookupFailed(f"no answer within {seconds:g} s") from None
    except (OSError, UnicodeError) as error:
        raise LookupFailed(getattr(error, "strerror", None) or str(error)) from error
    addresses = [str(address[0]) for family, _, _, _, address in found if family in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(addresses))
