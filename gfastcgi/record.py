"""What is known of a request before anybody is asked: settings, authorizers, route, all in one record.

Contract: `gfastcgi explain` prints it, the audit log keeps it. Nothing is asked, opened or remembered for it; the
functions that make it are those that serve. Secrets stand in it as their lengths, unless they are wanted; so do what
the keys of decisions are made of, and secret parameters of URLs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from gfastcgi.auth.gate import Gate
from gfastcgi.auth.hygiene import fold
from gfastcgi.backend.pool import Pool
from gfastcgi.cgi.metavars import variable_name
from gfastcgi.config import Block
from gfastcgi.request import Request
from gfastcgi.resolve import Resource
from gfastcgi.secrecy import without_secrets
from gfastcgi.site import Mounting, Own, Place, Responder, Site
from gfastcgi.variables import responder_variables

__all__ = ["Record", "record"]

Record = dict[str, Any]
"""Plain data, fit for JSON."""


def record(
    request: Request, site: Site, place: Place, *, shows_secrets: bool = False, room: int = sys.maxsize
) -> Record:
    """The record of `request`, which `site` has adopted and which leads to `place`.

    `room` is about how many characters may be told of what the client sent; "..." stands for the rest.
    """
    return _Teller(request, site, place, shows_secrets, room).record()


class _Teller:
    def __init__(self, request: Request, site: Site, place: Place, shows_secrets: bool, room: int) -> None:
        self._request = request
        self._site = site
        self._place = place
        self._shows_secrets = shows_secrets
        self._room = room
        keepers = [gate.keeper for gate in place.gates if gate.keeper is not None]
        self._credentials = {name for keeper in keepers for name in keeper.credentials}

    def record(self) -> Record:
        request, place = self._request, self._place
        kept = {name for name, _ in request.fields}
        dropped = sorted(name.decode("latin-1") for name in request.head.names if not _is_told(name, kept, request))
        return {
            "request": {
                "method": request.method,
                "host": request.authority,
                "uri": self._uri(request.original_uri),
                "path": self._cut(request.path),
                "peer": request.remote_addr,
            },
            "settings": [_told_block(block) for block in self._site.blocks],
            "lost_gates": list(self._site.lost_gates),
            "rewritten": self._uri(request.uri) if request.uri != request.original_uri else None,
            "dropped": [self._cut(name) for name in dropped if self._room > 0],
            "need": self._site.settings.authorizers,
            "authorizers": [] if place.to is Own.DENIAL else [self._gate(gate) for gate in place.gates],
            "route": self._route(),
        }

    def _gate(self, gate: Gate) -> Record:
        request = self._request
        question = getattr(gate.authorizer, "question", None)
        asks = question(request, self._place.root) if question is not None else None
        return {
            "key": gate.key,
            "transport": gate.transport,
            "to": list(asks.to) if asks else [],
            "requires": asks.requires if asks else "",
            "independent": gate.is_independent,
            "recheck": gate.recheck,
            "login": gate.login,
            "unasked": gate.passes_unasked(request),
            "cache": _told_cache(gate, request),
            "sends": self._pairs(asks.sends) if asks else {},
        }

    def _route(self) -> Record:
        request, to = self._request, self._place.to
        if to is Own.DENIAL:
            return {"kind": "denied", "status": 403}
        if to is Own.STATISTICS:
            return {"kind": "statistics", "status": 200}
        if isinstance(to, Resource):
            return {"kind": "file", "root": to.root, "filename": to.filename, "is": to.kind}
        route = to.route
        leads = {"script_name": route.script_name, "path_info": route.path_info}
        if isinstance(to, Mounting):
            sends = self._pairs(to.app.variables(request, route))
            return {"kind": "wsgi", "key": to.app.key, "app": to.app.name, **leads, "sends": sends}
        responder, length = to.responder, request.head.content_length or 0
        return {
            "kind": "responder",
            "key": self._key(responder),
            **leads,
            "filename": route.filename,
            "root": route.root,
            "balance": self._site.settings.balance,
            "backends": _told_backends(responder.pool),
            "sends": self._pairs(responder_variables(request, route, responder.host, length)),
        }

    def _key(self, responder: Responder) -> str:
        return next(key for key, each in self._site.responders if each is responder)

    def _pairs(self, pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        told: dict[str, str] = {}
        for name, value in pairs:
            if self._room <= 0:
                told["..."] = "..."
                break
            told[self._cut(name.decode("latin-1"))] = self._cut(self._value(name, value))
        return told

    def _value(self, name: bytes, value: bytes) -> str:
        if self._shows_secrets:
            return os.fsdecode(value)
        field = name.removeprefix(b"HTTP_")
        if fold(field) in self._credentials:
            return f"({len(value)} bytes)"
        return without_secrets(field.decode("latin-1"), os.fsdecode(value))

    def _uri(self, uri: bytes) -> str:
        text = uri.decode("latin-1")
        return self._cut(text if self._shows_secrets else without_secrets("", text))

    def _cut(self, text: str) -> str:
        """`text`, as far as there is room for it."""
        room, self._room = max(self._room, 0), self._room - len(text)
        return text if len(text) <= room else text[:room] + "..."


def _is_told(name: bytes, kept: set[bytes], request: Request) -> bool:
    """Whether a program is told of the field: as it is, `kept`, or since `fastcgi.allow-fields` names it."""
    if name in kept:
        return variable_name(name) is not None
    return b"HTTP_" + fold(name) in request.variables


def _told_block(block: Block) -> Record:
    spelt = [
        ("" if truth else "not ") + f'${condition.variable} {condition.operator} "{condition.operand}"'
        for condition, truth in block.conditions
    ]
    return {"where": str(block.where), "conditions": spelt, "sets": sorted(block.overrides)}


def _told_cache(gate: Gate, request: Request) -> Record | None:
    if gate.keeper is None:
        return None
    config, is_kept = gate.keeper.outlook(request)
    key = [f"{kind}:{name}" if name else kind for kind, name in config.key]
    return {"key": key, "ttl": config.ttl, "negative_ttl": config.negative_ttl, "kept": is_kept}


def _told_backends(pool: Pool) -> list[str]:
    found: list[str] = []
    for host in pool.hosts:
        config = host.config
        found += [str(proc.address) for proc in host.procs] or [config.socket or f"{config.host}:{config.port or 80}"]
    return found
