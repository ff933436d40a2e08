"""The FastCGI client for greenlets: a lease from the pool, one request, its answer as it comes."""

from gfastcgi.client.connection import Connection, RequestBody
from gfastcgi.client.exchange import Exchange

__all__ = ["Connection", "Exchange", "RequestBody"]
