"""Regular expressions from a configuration, matched against what a client sent, in bounded time.

Plan: the `regex` package has nearly all of PCRE's syntax, which lighttpd.conf is written in, and can be given a time
limit. The limit costs 2.5 us a search, so an expression that cannot backtrack far does without it.
"""

from __future__ import annotations

import re

import regex

from gfastcgi.config.expressions import expression_fault
from gfastcgi.errors import BadRequest

__all__ = ["MATCH_TIMEOUT", "Pattern", "is_linear"]

MATCH_TIMEOUT = 0.05
"""Seconds of processor time for one search; then the request is refused with 400 (CWE-1333, regular expression DoS)."""

_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPETITION = re.compile(r"[*+]|\{[0-9]*,?[0-9]*\}")
_GROUP_START = re.compile(r"\(\?(?:[:=!>]|<[=!])")


def is_linear(pattern: str) -> bool:
    """Whether a search in n characters takes a few times n steps at most. A guess that errs on the side of False.

    Without repetitions each place is tried in constant time. One repetition, of a single character and behind `^`,
    is tried from one place only. Each `?` and each group of alternatives multiplies the tries, hence their limits.
    """
    plain = _GROUP_START.sub("(", _ESCAPE_OR_CLASS.sub("x", pattern))
    if "(?" in plain or plain.count("?") > 3 or re.search(r"\)[*+{]", plain):
        return False
    if "|" in plain and plain.count("(") > 2:
        return False
    repetitions = len(_REPETITION.findall(plain))
    return repetitions == 0 or (repetitions == 1 and plain.startswith("^") and "|" not in plain)


class Pattern:
    """One compiled expression. `search` raises `BadRequest` when the text takes too long to match.

    Raises ValueError for what is no expression, or reads otherwise in PCRE.
    """

    __slots__ = ("_compiled", "search", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        fault = expression_fault(text)
        if fault:
            raise ValueError(fault)
        self._compiled = regex.compile(text, regex.ASCII)
        self.search = self._compiled.search if is_linear(text) else self._timed_search
        """`search(subject)`: the match or None."""

    def __repr__(self) -> str:
        return f"<Pattern {self.text!r}>"

    def _timed_search(self, subject: str) -> regex.Match[str] | None:
        try:
            return self._compiled.search(subject, timeout=MATCH_TIMEOUT)
        except TimeoutError as error:
            message = f"{len(subject)} characters take more than {MATCH_TIMEOUT} s to match {self.text!r}"
            raise BadRequest(message) from error
