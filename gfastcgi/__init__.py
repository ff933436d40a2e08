"""An access-control gateway and FastCGI toolkit for gevent."""

from gfastcgi._version import __version__

__all__ = ["__version__"]
