"""What of a request is nobody's business: which names have secret values, and texts without those values.

Contract: pure. A name is a meta-variable, a field, a cookie or a parameter of a query, in any case.
"""

from __future__ import annotations

import re

__all__ = ["is_secret", "without_secrets"]

_SECRET = re.compile(
    r"AUTHORIZATION|COOKIE|PASSW|PASSPHRASE|PASSCODE|PHP_AUTH|SECRET|TOKEN|(API|AUTH|SIGNING|PRIVATE|ACCESS)[-_]?KEY|SESSION"
    r"|SESSID|SIGNATURE|CREDENTIAL|(^|[-_])(PWD|JWT|OTP|SID)$|^(AUTH|CODE|KEY|PASS|PIN|SIG)$",
    re.IGNORECASE,
)
"""Short words are secrets as whole names only: `code` is OAuth's, `sig` that of a signed URL."""
_PASSWORD = re.compile(r"(?<=://)([^/?#@\s:]*):([^/?#\s]+)@")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;?#\s]+)=([^&;#\s]+)")


def is_secret(name: str) -> bool:
    """Whether what has this name is not to be shown."""
    return _SECRET.search(name) is not None


def without_secrets(name: str, value: str) -> str:
    """`value`, or how long it is; of a URL the password, and in a query the values of secret parameters."""
    if is_secret(name):
        return f"({len(value)} bytes)"
    text = f"?{value}" if name == "QUERY_STRING" else _PASSWORD.sub(_without_password, value)
    told = _PARAMETER.sub(_without_secret, text)
    return told[1:] if name == "QUERY_STRING" else told


def _without_password(found: re.Match[str]) -> str:
    return f"{found[1]}:({len(found[2])} bytes)@"


def _without_secret(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}=({len(parameter[2])} bytes)" if is_secret(parameter[1]) else parameter[0]
