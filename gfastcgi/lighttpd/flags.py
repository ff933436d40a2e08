"""`server.feature-flags`: lighttpd's list of switches, of which gfastcgi serves one."""

from __future__ import annotations

from gfastcgi.config import ServerConfig
from gfastcgi.errors import InvalidValue
from gfastcgi.lighttpd.kinds import Context, Kind, array
from gfastcgi.lighttpd.nodes import Array, Value
from gfastcgi.lighttpd.report import nearest

__all__ = ["feature_flags"]

GRACEFUL_TIMEOUT = "server.graceful-shutdown-timeout"
KNOWN = (
    GRACEFUL_TIMEOUT, "server.graceful-restart-bg", "server.h2proto", "server.h2c", "server.h1-discard-backend-1xx",
    "server.h2-discard-backend-1xx", "server.clock-jump-restart", "server.errorlog-high-precision",
    "server.metrics-high-precision", "auth.delay-invalid-creds", "chunkqueue.splice", "http10.range",
    "cgi.tempfile-accum", "gw.upgrade-with-request-body", "ssl.stapling-file-renew",
)  # fmt: skip


def _parse(value: Value, context: Context) -> int:
    if not isinstance(value, Array):
        raise ValueError
    timeout = ServerConfig().graceful_timeout
    for item in value:
        if item.key is None:
            raise ValueError
        if item.key == GRACEFUL_TIMEOUT:
            if not isinstance(item.value, int) or item.value < 0:
                message = f'{context.name}: "{item.key}" takes a number of seconds'
                context.report.error(InvalidValue, message, item.where)
            else:
                timeout = item.value
        elif item.key in KNOWN:
            if item.value not in ("disable", 0):
                context.report.warn(f'{context.name}: "{item.key}" is known, but not served yet', item.where)
        else:
            message = f'{context.name}: unknown flag "{item.key}"{nearest(item.key, KNOWN)}'
            context.report.warn(message, item.where)
    return timeout


feature_flags = Kind('a list like ( "flag" => "enable" )', _parse, lambda value: array([(GRACEFUL_TIMEOUT, value)]))
