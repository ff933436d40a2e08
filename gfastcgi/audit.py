"""The audit log (`fastcgi.audit-log`): one JSON object a line for each request that authorizers decided about.

Contract: a line holds every verdict and the outcome, joined to the other logs by the request's id; a verdict on an
answer that was already on its way has a line of its own. A log that cannot be written never stops, or lets in, anybody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

import webob

from gfastcgi.auth.base import Verdict
from gfastcgi.errors import StreamError
from gfastcgi.request import Request

__all__ = ["AuditLog"]

T = TypeVar("T", bound="webob.Response | list[tuple[str, str]]")


class AuditLog:
    """Gets the verdicts of all gates. `write` takes whole lines; `now` is seconds since 1970."""

    def __init__(self, write: Callable[[bytes], object], now: Callable[[], float] = time.time) -> None:
        self._write = write
        self._now = now
        self._trails: dict[int, list[Verdict]] = {}

    def __repr__(self) -> str:
        return f"<AuditLog of {len(self._trails)} requests under way>"

    def __call__(self, request: Request, verdict: Verdict) -> None:
        """Takes a verdict."""
        trail = self._trails.get(id(request))
        if trail is None:
            # Asked again while the answer is sent: that request's line is written.
            self._tell(request, verdict.outcome, verdict.status, verdict.cause, [verdict])
        else:
            trail.append(verdict)

    def follow(self, request: Request, ask: Callable[[], T]) -> T:
        """What `ask` returns or raises, and a line about it, unless the client left."""
        trail = self._trails[id(request)] = []
        try:
            decision = ask()
        except StreamError:
            raise
        except Exception as error:
            self._tell(request, "error", getattr(error, "status_hint", 500), getattr(error, "cause", "internal"), trail)
            raise
        finally:
            del self._trails[id(request)]
        if isinstance(decision, webob.Response):
            self._tell(request, "deny", decision.status_int, "", trail)
        else:
            self._tell(request, "allow", 200, "", trail)
        return decision

    def _tell(self, request: Request, outcome: str, status: int, cause: str, verdicts: Sequence[Verdict]) -> None:
        line = {
            "time": datetime.fromtimestamp(self._now(), timezone.utc).isoformat(timespec="milliseconds"),
            "request": request.id,
            "peer": request.remote_addr,
            "method": request.method,
            "host": request.authority,
            "uri": request.uri.decode("latin-1"),
            "user": request.user,
            "outcome": outcome,
            "status": status,
            "cause": cause,
            "authorizers": [_told(verdict) for verdict in verdicts],
        }
        # ASCII, and no line end: nothing that a client sent can begin a line or steer a terminal (CWE-117).
        self._write(json.dumps(line).encode() + b"\n")


def _told(verdict: Verdict) -> dict[str, Any]:
    return {
        "key": verdict.gate,
        "transport": verdict.transport,
        "outcome": verdict.outcome,
        "status": verdict.status,
        "cause": verdict.cause,
        "source": verdict.source,
        "recheck": verdict.is_recheck,
        "ms": round(verdict.seconds * 1000, 3),
    }
