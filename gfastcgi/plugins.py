"""Names in a configuration, and the classes behind them: our own, and those that other packages install.

Contract: every name goes through one door, an entry point, ours as well as a plugin's; a plugin cannot take a name of
ours. What is installed under a name, but cannot be loaded or is not what it has to be, is a `PluginError` that tells
the package and the cause.
"""

from __future__ import annotations

import logging
import random
from importlib.metadata import EntryPoint, entry_points

from gfastcgi.balance import POLICIES, Factory
from gfastcgi.balance.guarded import Guard
from gfastcgi.errors import PluginError

__all__ = ["BALANCE", "balances", "find_balance"]

BALANCE = "gfastcgi.balance"
"""The group of entry points for `fastcgi.balance`: each names a `balance.base.Factory`."""

log = logging.getLogger("gfastcgi")

_OURS = {
    name: EntryPoint(name, f"{policy.__module__}:{policy.__qualname__}", BALANCE) for name, policy in POLICIES.items()
}


def find_balance(name: str) -> Factory | None:
    """What makes the policies of a balance, a plugin's under guard; None: nobody has one of that name.

    Raises `PluginError`.
    """
    if name in _OURS:
        return _load(_OURS[name])
    found = list(entry_points(group=BALANCE, name=name))
    if len(found) > 1:
        raise PluginError(f"{name} is in several packages: {', '.join(sorted(map(_describe, found)))}")
    return Guard(name, _load(found[0]), log.error) if found else None


def balances() -> dict[str, bool]:
    """Every balance, a plugin's with its package, and whether it can be loaded."""
    plugins = sorted((entry for entry in entry_points(group=BALANCE) if entry.name not in _OURS), key=_describe)
    return dict.fromkeys(_OURS, True) | {f"{entry.name}, {_describe(entry)}": _is_sound(entry) for entry in plugins}


def _is_sound(entry: EntryPoint) -> bool:
    try:
        return find_balance(entry.name) is not None
    except PluginError:
        return False


def _load(entry: EntryPoint) -> Factory:
    try:
        factory: Factory = entry.load()
        policy = factory(random.Random())
    except Exception as error:  # whatever the code of others raises
        raise PluginError(f"{_describe(entry)} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(getattr(policy, "select", None)):
        raise PluginError(f"{_describe(entry)} makes {type(policy).__name__}, which has no method `select`")
    return factory


def _describe(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version} ({entry.value})" if entry.dist else entry.value
