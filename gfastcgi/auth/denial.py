"""Denials that fit the client: a browser is led to the login page, a script gets a plain 401 (Fetch Metadata).

Contract: it changes how a no is told, never whether it is one. The one exception is written in the configuration: with
`"preflight" => "allow"` a CORS preflight, which by its nature carries no credentials, passes unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_from_bytes

import webob

from gfastcgi.auth.base import Allow, Authorizer, Decision, Deny
from gfastcgi.auth.gate import Gate
from gfastcgi.config import HostConfig
from gfastcgi.pages import error_page
from gfastcgi.request import Request
from gfastcgi.resolve import Resolver

__all__ = ["ClientAwareGate", "is_navigation", "is_preflight", "make_gate"]


def make_gate(
    key: str, authorizer: Authorizer, config: HostConfig, resolver: Resolver | None = None, **more: Any
) -> Gate:
    """The gate of `authorizer`, with the memory and the manners that `config` gives it; `more` is for `Gate`."""
    options: dict[str, Any] = {
        "is_independent": config.independent,
        "recheck": config.recheck,
        "cache": config.cache,
        "stale_seconds": config.stale_allow,
        **more,
    }
    passes_preflight = config.preflight == "allow"
    if config.login or passes_preflight:
        return ClientAwareGate(
            key, authorizer, resolver, login=config.login, passes_preflight=passes_preflight, **options
        )
    return Gate(key, authorizer, resolver, **options)


class ClientAwareGate(Gate):
    """A gate whose denials are told as the client understands them. `login` "": as they come.

    It stands around what is remembered: two clients with one credential may be told the same no in two ways, and that
    a preflight passed says nothing of anybody else.
    """

    __slots__ = ("_passes_preflight", "login")

    def __init__(self, *arguments: Any, login: str = "", passes_preflight: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.login = login
        self._passes_preflight = passes_preflight

    def decide(self, request: Request, root: str) -> Decision:
        return self._tell_client(request, root, super().decide)

    def decide_anew(self, request: Request, root: str) -> Decision:
        return self._tell_client(request, root, super().decide_anew)

    def passes_unasked(self, request: Request) -> bool:
        return self._passes_preflight and is_preflight(request)

    def _tell_client(self, request: Request, root: str, decide: Callable[[Request, str], Decision]) -> Decision:
        if self.passes_unasked(request):
            return Allow()
        decision = decide(request, root)
        if not isinstance(decision, Deny) or not self.login:
            return decision
        response = decision.response
        if response.status_int == 401 and is_navigation(request):
            return Deny(self._lead_to_login(request, response))
        # A fetch would follow the redirect to another origin and fail there without a word.
        if response.status_int in (301, 302, 303, 307, 308) and not is_navigation(request):
            return Deny(_plain_401(request, response))
        return decision

    def _lead_to_login(self, request: Request, response: webob.Response) -> webob.Response:
        host = (request.authority or request.server_name or request.peer.server_addr).encode("latin-1", "replace")
        url = b"%b://%b%b" % (request.peer.scheme.encode(), host, request.original_uri)
        # Encoded whole: nothing of the request's can end the parameter or add another.
        back = {"{url}": quote_from_bytes(url, safe=""), "{uri}": quote_from_bytes(request.original_uri, safe="")}
        location = self.login
        for placeholder, value in back.items():
            location = location.replace(placeholder, value)
        # Behind a form the browser shall come by GET (RFC 9110 section 15.4.4).
        status = "302 Found" if request.method in ("GET", "HEAD") else "303 See Other"
        fields = [("Location", quote(location, safe="/:?#[]@!$&'()*+,;=%-._~")), ("Content-Length", "0")]
        return webob.Response(status=status, headerlist=[*fields, *_kept(response)], app_iter=[b""])


def _plain_401(request: Request, response: webob.Response) -> webob.Response:
    """401 with the place to log in for the script to read."""
    fields = [("Location", value) for name, value in response.headerlist if name.lower() == "location"]
    return error_page(401, request_id=request.id, headers=(*fields, *_kept(response)))


def _kept(response: webob.Response) -> list[tuple[str, str]]:
    """What of an authorizer's no belongs to the new one; it is for this client, now."""
    cookies = [field for field in response.headerlist if field[0].lower() == "set-cookie"]
    return [("Cache-Control", "no-store"), *cookies]


def is_navigation(request: Request) -> bool:
    """Whether a browser asks in order to show a page, by Sec-Fetch-Mode, else by what it accepts."""
    mode = request.field(b"sec-fetch-mode")
    if mode is not None:
        return mode == b"navigate"
    if (request.field(b"x-requested-with") or b"").lower() == b"xmlhttprequest":
        return False
    return b"text/html" in (request.field(b"accept") or b"").lower()


def is_preflight(request: Request) -> bool:
    """Whether this is a CORS preflight (Fetch standard, "CORS-preflight request")."""
    names = {name for name, _ in request.fields}
    return request.method == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names
