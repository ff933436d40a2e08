"""Builds the Python applications that a configuration mounts (`wsgi.server`).

Contract: each is imported once, when the gateway is built; what cannot be is a `ConfigError` with its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from gfastcgi.auth.python import folder_of, load
from gfastcgi.config import Settings, WSGIMount
from gfastcgi.errors import InvalidValue
from gfastcgi.faults import Faults
from gfastcgi.wsgi.mounted import Mounted

__all__ = ["Mounts"]


class Mounts:
    """The applications of one configuration."""

    def __init__(self) -> None:
        self._made: dict[WSGIMount, Mounted] = {}

    def prepare(self, settings: Settings, faults: Faults) -> None:
        """Imports those of `settings`, so that their `faults` are found before the first request."""
        for mount in settings.wsgi_server:
            with faults.caught():
                self._mounted(mount)

    def find(self, settings: Settings) -> Sequence[Mounted]:
        """Those of `settings`, in their order. Raises `InvalidValue`."""
        return [self._mounted(mount) for mount in settings.wsgi_server]

    def _mounted(self, mount: WSGIMount) -> Mounted:
        if mount not in self._made:
            app, name = mount.app, str(mount.app)
            if isinstance(app, str):
                try:
                    app = load(app, folder_of(mount.where.filename), option=f'wsgi.server: "{mount.key}"')
                except InvalidValue as error:
                    raise InvalidValue(error.message, mount.where.filename, mount.where.lineno) from error
            else:
                name = f"{getattr(app, '__module__', '')}:{getattr(app, '__name__', type(app).__name__)}"
            self._made[mount] = Mounted(mount, app, name)
        return self._made[mount]
