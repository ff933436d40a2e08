"""What the gateway tells of itself: its counters, and why an answer failed."""

from gfastcgi.status.counters import render, snapshot
from gfastcgi.status.overview import Overview, authorizers_of, backends_of
from gfastcgi.status.proxy_status import proxy_status

__all__ = ["Overview", "authorizers_of", "backends_of", "proxy_status", "render", "snapshot"]
