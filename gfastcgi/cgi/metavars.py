"""Meta-variables of RFC 3875 section 4 from the fields of a request, under names that nobody can forge.

Contract: a field becomes a variable only when its name has nothing but letters, digits and "-": CGI folds every other
byte into "_", and two fields under one name would let a client speak for a proxy. What the server sets is never theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["field_variables", "is_vague", "variable_name"]

# Names that a client cannot set, each for what a backend would take it for.
_REFUSED = frozenset({
    b"proxy",  # HTTP_PROXY is libcurl's outgoing proxy (CVE-2016-5385, "httpoxy")
    b"redirect-status",  # php-cgi's proof that a web server called it
    b"x-sendfile-type", b"x-accel-mapping",  # Rack's choice of the file to send (CVE-2025-61780)
    b"remote-user", b"remote-groups", b"remote-name", b"remote-email", b"remote-ident", b"auth-type",  # identity
    b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
})  # fmt: skip
# Fields that Connection may name without taking them away: they route or authenticate, they are not hop-by-hop.
_END_TO_END = frozenset({
    b"authorization", b"content-length", b"content-type", b"cookie", b"host", b"connection", b"close",
})  # fmt: skip
_names: dict[bytes, bytes | None] = {}
_MOST_NAMES = 1024


def variable_name(field: bytes) -> bytes | None:
    """The variable of the field name `field` (lower-case), or None when it must not become one."""
    try:
        return _names[field]
    except KeyError:
        name = _name(field)
        if len(_names) < _MOST_NAMES:
            _names[field] = name
        return name


def is_vague(field: bytes) -> bool:
    """Whether `field` has bytes that CGI folds into "_", as it folds "-": X_Y would pass for X-Y."""
    return not field.replace(b"-", b"").isalnum()


def _name(field: bytes) -> bytes | None:
    if field in _REFUSED or field.startswith(b"variable-") or is_vague(field):
        return None
    if field == b"content-type":
        return b"CONTENT_TYPE"
    return b"HTTP_" + field.upper().replace(b"-", b"_")


def field_variables(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The variables of `fields` (lower-case names): repeated fields joined by ", " (Cookie: "; "), empty ones left out.

    Fields that Connection names go no further (RFC 9110 section 7.6.1).
    """
    variables: dict[bytes, bytes] = {}
    for field, value in fields:
        name = _names.get(field) or variable_name(field)
        if name is None or not value:
            continue
        if name in variables:
            variables[name] += (b"; " if name == b"HTTP_COOKIE" else b", ") + value
        else:
            variables[name] = value
    connection = variables.get(b"HTTP_CONNECTION")
    if connection is not None and connection.lower() not in (b"keep-alive", b"close"):
        for option in connection.lower().split(b","):
            option = option.strip(b" \t")
            if option not in _END_TO_END:
                variables.pop(variable_name(option) or b"", None)
    return variables
