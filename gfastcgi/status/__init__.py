"""What the gateway tells of itself: its counters, and why an answer failed."""

from gfastcgi.status.counters import render, snapshot
from gfastcgi.status.proxy_status import proxy_status

__all__ = ["proxy_status", "render", "snapshot"]
