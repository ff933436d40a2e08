"""`wsgi.server`: Python applications in the gateway's own process, by prefix."""

from __future__ import annotations

import re

from gfastcgi.config import WSGIMount
from gfastcgi.errors import InvalidValue
from gfastcgi.lighttpd.kinds import Context, Kind, array
from gfastcgi.lighttpd.nodes import Array, Value, describe

__all__ = ["mounts"]

_APP = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _mounts(value: Value, context: Context) -> tuple[WSGIMount, ...]:
    if not isinstance(value, Array):
        raise ValueError
    found: list[WSGIMount] = []
    for item in value:
        key, app = item.key or "", item.value
        if not key.startswith("/"):
            message = f'{context.name}: an application has a prefix, like "/app" => "package.module:name"'
            context.report.error(InvalidValue, message, item.where)
        elif not isinstance(app, str) or not _APP.fullmatch(app):
            message = f'{context.name}: "{key}" takes "package.module:name", found {describe(app)}'
            context.report.error(InvalidValue, message, item.where)
        elif any(mount.covers(key) for mount in found):
            message = f'{context.name}: "{key}" is never reached, since a prefix of it stands before it'
            context.report.error(InvalidValue, message, item.where)
        else:
            found.append(WSGIMount(key, app, item.where))
    return tuple(found)


mounts = Kind(
    'applications by prefix like ( "/app" => "package.module:name" )',
    _mounts,
    lambda value: array([(mount.key, str(mount.app)) for mount in value]),
)
