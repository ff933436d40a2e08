"""Regular expressions of a configuration: PCRE's, as lighttpd has them, matched by the package `regex`.

Contract: what the two read differently is a fault. An expression that holds for something else than its author means
may be what keeps somebody out.
"""

from __future__ import annotations

import re

import regex

__all__ = ["expression_fault"]

_TOKEN = re.compile(
    r"\\[pPk]\{[^}]*\}|\\."  # an escape
    r"|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]"  # a class
    r"|\(\?[A-Za-z0-9^-]+(?=[:)])"  # options
    r"|\{[^}]*\}|.",  # a number of repetitions
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_OTHER_ESCAPES = frozenset("gLmMNuU")
_OTHER_OPTIONS = frozenset("abefLpruVw")
_OTHER_REPETITION = re.compile(r"\{,|\{.*[a-z]")


def expression_fault(text: str) -> str:
    """What is wrong with a regular expression; "": nothing."""
    try:
        regex.compile(text, regex.ASCII)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        return f"{error}"
    return next(filter(None, map(_difference, _TOKEN.findall(text))), "")


def _difference(token: str) -> str:
    """What the packages read differently in `token`; "": nothing."""
    if token[0] in "\\[":
        other = _OTHER_ESCAPES.intersection(_ESCAPE.findall(token))
        return f"\\{min(other)} is not served" if other else ""
    if token[:2] == "(?":
        others = "".join(sorted(_OTHER_OPTIONS.intersection(token[2:])))
        return f"{token}...: there is no option {others}" if others else ""
    if _OTHER_REPETITION.match(token):
        return f"{token} is no number of repetitions; what is meant as it stands is written \\{token[:-1]}\\}}"
    return ""
