"""The documentation site (Sphinx and MyST): the pages as they are, and the reference from the docstrings.

Plan: index.md is the table of contents: pages stand on the site in the order, and under the headings, of their first
links there. A line "::: module" of api.md stands for all public names of that module.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from pygments.lexer import inherit
from pygments.lexers.configs import LighttpdConfLexer
from pygments.token import Operator

from gfastcgi import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "gfastcgi"
version = release = __version__
project_copyright = "the gfastcgi contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"gfastcgi {__version__}"
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []

myst_heading_anchors = 4
highlight_language = "none"

default_role = "literal"
smartquotes = False
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": True}
python_maximum_signature_line_length = 100


class Lexer(LighttpdConfLexer):
    """Pygments' own, with the operators that lighttpd has got since."""

    tokens = {"root": [(r":=|![=~]|=[\^$]", Operator), inherit]}  # noqa: RUF012


def contents(text: str) -> str:
    """The tables of contents, which the pages of the repository do without."""
    lines, seen = [], set()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        pages = [page for page in re.findall(r"\]\(([a-z-]+)\.md\)", section) if page not in seen]
        seen |= set(pages)
        pages = list(dict.fromkeys(pages))
        lines += ["", "```{toctree}", ":hidden:", f":caption: {section.splitlines()[0]}", "", *pages, "```"]
    return "\n".join([text, *lines, ""])


def reference(text: str) -> str:
    """The directives for every public name, in the place of each "::: module"; for a class where it comes first."""
    seen: set[type] = set()
    return re.sub(r"^::: (\S+)$", lambda match: "\n".join(_directives(match[1], seen)), text, flags=re.MULTILINE)


def _directives(name: str, seen: set[type]) -> list[str]:
    module = import_module(name)
    lines = ["```{eval-rst}", f".. module:: {name}", ""]
    for public in module.__all__:
        value = getattr(module, public)
        kind, options = "data", ["   :no-value:"]
        if isinstance(value, TypeVar):
            continue
        if inspect.isclass(value):
            if value in seen:
                continue
            seen.add(value)
            is_error = issubclass(value, BaseException)
            kind, options = ("exception", ["   :show-inheritance:"]) if is_error else ("class", [])
        elif inspect.isfunction(value):
            kind, options = "function", []
        lines += [f".. auto{kind}:: {name}.{public}", *options]
    return [*lines, "```"]


def read_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes of a page of the repository one of the site."""
    if name == "index":
        source[0] = contents(source[0])
    elif name == "api":
        source[0] = reference(source[0])


def read_docstring(app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Docstrings put code between backticks, as Markdown does: "`HostConfig`s" is none for reStructuredText.

    A constant without a docstring of its own is no place for that of its type.
    """
    if kind == "data" and inspect.cleandoc(type(value).__doc__ or "").splitlines() == lines[:-1]:
        lines.clear()
    lines[:] = [re.sub(r"(`[^`]+`)(\w?)", _close, line) for line in lines]


def _close(found: re.Match[str]) -> str:
    return f"{found[1]}\\ {found[2]}" if found[2] else found[1]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("lighttpd", Lexer)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", read_docstring)
