"""The configuration language of lighttpd: text in, a frozen `Config` out.

Plan: `grammar` reads text into statements, `evaluate` runs them into scopes (variables, includes, conditionals), and
`compile` checks every directive against the one table in `options`. `render` is the way back. Nothing but
`ConfigErrors` is raised, and it holds all the faults, each with file and line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from gfastcgi.config import Config, Where
from gfastcgi.errors import ConfigError
from gfastcgi.lighttpd.compile import compile_config
from gfastcgi.lighttpd.evaluate import read_text, scopes_of
from gfastcgi.lighttpd.options import options_table
from gfastcgi.lighttpd.render import render, veiled
from gfastcgi.lighttpd.report import ConfigWarning, Report

__all__ = ["ConfigWarning", "load", "loads", "options_table", "render", "veiled"]


def load(
    filename: str, *, env: Mapping[str, str] | None = None, find_balance: Callable[[str], object | None] | None = None
) -> tuple[Config, list[ConfigWarning]]:
    """Reads a lighttpd.conf; relative includes are looked for beside it. `env` stands for `env.NAME` (os.environ).

    `find_balance` (`plugins.find_balance`) says for a balance that is none of ours whether a plugin has it. Raises
    ConfigErrors with every fault, also when the file cannot be read.
    """
    try:
        text = read_text(filename)
    except (OSError, ValueError) as error:
        report = Report()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report.error(ConfigError, f"cannot read the configuration: {reason}", Where(filename))
        report.raise_errors()
        raise
    return loads(text, filename, env=env, find_balance=find_balance)


def loads(
    text: str,
    filename: str = "lighttpd.conf",
    *,
    env: Mapping[str, str] | None = None,
    find_balance: Callable[[str], object | None] | None = None,
) -> tuple[Config, list[ConfigWarning]]:
    """As `load`, for text at hand; `filename` names it in messages, and its folder is where includes are looked for."""
    report = Report()
    folder = os.path.dirname(os.path.abspath(filename))
    scopes = scopes_of(text, filename, report, base=folder, environment=os.environ if env is None else env)
    config = compile_config(scopes, report, find_balance)
    report.raise_errors()
    return config, report.warnings
