"""The FastCGI client for greenlets: a lease from the pool, one request, its answer as it comes."""

from gfastcgi.client.exchange import Connection, Exchange, RequestBody

__all__ = ["Connection", "Exchange", "RequestBody"]
