"""Why an answer failed, in the words of RFC 9209: the field Proxy-Status.

Contract: every cause of `errors.CAUSES` has one of the error types that the RFC registers (section 2.3) and goes
along as `details` (section 2.1.5), since it says more. Nothing else of what happened is told to a client.
"""

from __future__ import annotations

__all__ = ["ERROR_TYPES", "proxy_status"]

_NAME = "gfastcgi"
_ANSWERED = "proxy_internal_response"
_REFUSED = "http_request_error"
_DOWN = "destination_unavailable"
_BROKEN = "http_protocol_error"

ERROR_TYPES = {
    "bad_request": _REFUSED,
    "target_too_long": _REFUSED,
    "fields_too_large": _REFUSED,
    "content_too_large": _REFUSED,
    "length_required": _REFUSED,
    "request_timeout": _REFUSED,
    "expectation_failed": _REFUSED,
    "not_implemented": _ANSWERED,
    "version_not_supported": _ANSWERED,
    "client_closed": _ANSWERED,
    "bad_record": _BROKEN,
    "bad_cgi_response": _BROKEN,
    "app_status": _BROKEN,
    "cant_multiplex": _BROKEN,
    "header_too_big": "http_response_header_section_size",
    "eof_before_headers": "connection_terminated",
    "eof_in_body": "http_response_incomplete",
    "connect_refused": "connection_refused",
    "connect_timeout": "connection_timeout",
    "connect_failed": _DOWN,
    "read_timeout": "connection_read_timeout",
    "write_timeout": "connection_write_timeout",
    "queue_timeout": "connection_limit_reached",
    "overloaded": _DOWN,
    "no_backend": _DOWN,
    "spawn_failed": _DOWN,
    "unknown_role": "proxy_configuration_error",
    "too_many_redirects": "proxy_loop_detected",
    "too_many_rewrites": "proxy_loop_detected",
    "internal": "proxy_internal_error",
    # The answer is the backend's own, and sound: the intermediary met no error.
    "script_unknown": "",
}


def proxy_status(cause: str, *, received: int = 0) -> str:
    """The value of the field for a failure by `cause`; `received` is the status of a backend that did answer."""
    error = ERROR_TYPES.get(cause, "proxy_internal_error")
    parts = [_NAME, f"error={error}" if error else "", f"received-status={received}" if received else ""]
    return "; ".join([*filter(None, parts), f'details="{cause}"'])
