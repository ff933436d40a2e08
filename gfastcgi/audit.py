"""The audit log (`fastcgi.audit-log`): one JSON object a line for each request that authorizers decided about.

Contract: a line holds the record that `gfastcgi explain` prints, every verdict and the outcome, joined to the other
logs by the request's id; a verdict on an answer that was already on its way has a line of its own. A log that cannot
be written never stops, or lets in, anybody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from gfastcgi.auth.base import Allow, Decision, Verdict
from gfastcgi.errors import StreamError
from gfastcgi.request import Request

__all__ = ["AuditLog"]

Record = dict[str, Any]


class _Trail:
    """The `record` of a request, and what was decided about it so far."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.verdicts: list[Verdict] = []
        self.is_open = True


class AuditLog:
    """Gets the verdicts of all gates. `write` takes whole lines; `now` is seconds since 1970."""

    def __init__(self, write: Callable[[bytes], object], now: Callable[[], float] = time.time) -> None:
        self._write = write
        self._now = now

    def __call__(self, request: Request, verdict: Verdict) -> None:
        """Takes a verdict."""
        trail = request.trail
        assert isinstance(trail, _Trail)
        trail.verdicts.append(verdict)
        if not trail.is_open:
            # Asked again while the answer is sent: that request's line is written.
            self._tell(request, trail, verdict.outcome, verdict.status, verdict.cause)

    def follow(self, request: Request, record: Record, ask: Callable[[], Decision]) -> Decision:
        """What `ask` returns or raises, and a line about it, unless the client left."""
        trail = request.trail = _Trail(record)
        try:
            decision = ask()
        except StreamError:
            raise
        except Exception as error:
            self._tell(request, trail, "error", getattr(error, "status_hint", 500), getattr(error, "cause", "internal"))
            raise
        finally:
            trail.is_open = False
        if isinstance(decision, Allow):
            self._tell(request, trail, "allow", 200, "")
        else:
            self._tell(request, trail, "deny", decision.response.status_int, "")
        return decision

    def _tell(self, request: Request, trail: _Trail, outcome: str, status: int, cause: str) -> None:
        verdicts, trail.verdicts = trail.verdicts, []
        line = {
            "time": datetime.fromtimestamp(self._now(), timezone.utc).isoformat(timespec="milliseconds"),
            "id": request.id,
            "user": request.user,
            "outcome": outcome,
            "status": status,
            "cause": cause,
            "verdicts": [_told(verdict) for verdict in verdicts],
            **trail.record,
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
