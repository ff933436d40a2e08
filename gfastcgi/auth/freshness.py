"""How long an authorizer lets its answer be kept: Cache-Control, Age, Expires, Pragma, Vary (RFC 9111 sections 4.2, 5).

Contract: what cannot be understood keeps nothing. `private` is no hindrance: a decision is kept for one client's
credentials, never shared between two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["max_age", "vary"]

_NEVER = frozenset({"no-store", "no-cache"})
_LIMITS = frozenset({"max-age", "s-maxage"})
# RFC 9110 section 5.6: token [ "=" ( token / quoted-string ) ], or nothing between two commas.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9a-z]+"
_DIRECTIVE = re.compile(rf'[ \t]*(?:({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|"[^"\\]*"))?)?[ \t]*')


def max_age(fields: Iterable[tuple[str, str]]) -> float | None:
    """Seconds that the answer with these `fields` may be kept: None when it says nothing of that, 0: not at all."""
    limit: int | None = None
    age = 0
    is_old = False
    for field, value in fields:
        name = field.lower()
        if name == "cache-control":
            for directive in value.lower().split(","):
                found = _DIRECTIVE.fullmatch(directive)
                if found is None or found[1] in _NEVER:
                    return 0
                if found[1] in _LIMITS:
                    seconds = _number((found[2] or "").strip('"'))
                    limit = seconds if limit is None else min(limit, seconds)
        elif name == "vary" and "*" in value:
            return 0
        elif name == "expires" or (name == "pragma" and "no-cache" in value.lower()):
            # What HTTP/1.0 has for it; a max-age beside it holds. A date says no number of seconds: none are taken.
            is_old = True
        elif name == "age":
            age = max(age, _number(value.strip(), otherwise=1 << 31))
    if limit is None:
        return 0 if is_old else None
    return max(0, limit - age)


def vary(fields: Iterable[tuple[str, str]]) -> tuple[bytes, ...]:
    """The request fields (lower-case) that the answer depends on, as it says itself (RFC 9110 section 12.5.5)."""
    names = [name.strip() for field, value in fields if field.lower() == "vary" for name in value.lower().split(",")]
    return tuple(name.encode("latin-1", "replace") for name in names if name)


def _number(text: str, otherwise: int = 0) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else otherwise
