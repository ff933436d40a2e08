"""Regular expressions mean what PCRE means by them, or are faults."""

from __future__ import annotations

import re

import pytest

from gfastcgi.config.expressions import expression_fault
from gfastcgi.patterns import Pattern


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (r"^/m/s\N+$", r"\N is not served"), (r"^/a[\N]b", r"\N is not served"), (r"(\w)\g1", r"\g is not served"),
        (r"(\w)\g{-1}", r"\g is not served"), (r"/\madmin", r"\m is not served"), (r"/\u0061", r"\u is not served"),
        ("/admin{e}", r"{e} is no number of repetitions; what is meant as it stands is written \{e\}"),
        ("/adn{s<=1}in", "is no number of repetitions"), ("/a{,3}d", "is no number of repetitions"),
        ("(?r)/admin", "there is no option r"), ("(?ib:x)", "there is no option b"), ("(?V1)/[a&&b]", "no option V"),
        ("(", "missing )"), ("[a", "unterminated character set"),
    ],
)  # fmt: skip
def test_faults(text: str, fault: str) -> None:
    assert fault in expression_fault(text)
    with pytest.raises(ValueError, match=re.escape(fault)):
        Pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "", r"\{e\}", r"\\Nx", "[{e}]", "[]{e}]", "a{2}b{1,}c{1,3}", r"\p{L}\P{Lu}", r"(?<n>a)(?P<m>b)(?P=m)",
        "(?i)a", "(?i-s:a)", "(?:a)(?=b)(?!c)(?<=d)(?<!e)(?>f)", "(?R)?", "(a)(?1)", "(x)?(?(1)a|b)", r"[[:alpha:]\w]",
        r"(?|(a)|(b))\1", "(?x) a # {e\n", "(?#comment)",
    ],
)  # fmt: skip
def test_what_both_read_alike(text: str) -> None:
    assert expression_fault(text) == ""
