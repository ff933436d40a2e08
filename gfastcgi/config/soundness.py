"""Entries that look like a gate and would be none, wherever they come from: a file, or Python.

Contract: what stands here is never served. A fault names the option that it is about; where that stands, whoever read
the file knows.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple, get_args

from gfastcgi.config import Block, Extension, HostConfig, Mode, Settings

__all__ = ["MIN_SECRET", "Unsound", "block_fault", "extension_faults", "key_fault", "path_fault", "prefix_fault"]

MIN_SECRET = 32
"""Characters of `fastcgi.cache-secret`: who writes to Redis could open every gate, were decisions not signed."""

_OF_THE_GATE = {
    "cache": "cache", "decision-timeout": "decision_timeout", "docroot": "docroot", "independent": "independent",
    "login": "login", "preflight": "preflight", "recheck": "recheck", "stale-allow": "stale_allow",
}  # fmt: skip
"""Options of authorizers that say what a gate is, not how one of its backends is reached, with their attributes."""
_MODES = get_args(Mode)
_SETTINGS = {field.name for field in fields(Settings)}
_NO_PATH = re.compile(r"//|/\.{1,2}(?:/|\Z)|%[0-9A-Fa-f]{2}|[\x00-\x1f\x7f\\]")


class Unsound(NamedTuple):
    """One fault. `host` is the entry that it is in, None: the key; `option` the option of the entry, "": all of it."""

    message: str
    host: HostConfig | None = None
    option: str = ""


def block_fault(block: Block) -> str:
    """Why the overrides of `block` cannot hold; "": they can."""
    unknown = sorted(block.overrides.keys() - _SETTINGS)
    return f"there is no setting named {', '.join(unknown)}" if unknown else ""


def path_fault(text: str) -> str:
    """Why no path has `text`; "": one may."""
    if _NO_PATH.search(text):
        return f'no path has "{text}": paths are decoded, without doubled slashes and dot segments'
    return ""


def key_fault(key: str) -> str:
    """Why `key` guards nothing of what it seems to; "": it may be the beginning or the end of a path."""
    fault = path_fault(key)
    if fault:
        return fault
    if key.endswith("/") and not key.startswith("/"):
        return f'"{key}" is the end of paths, not their beginning: that would be "/{key}"'
    return ""


def prefix_fault(prefix: str) -> str:
    """Why no path begins with `prefix`; "": some do. The empty one is every path's."""
    if prefix and not prefix.startswith("/"):
        return f'"{prefix}" does not begin with "/": the key is the beginning of the paths that are guarded'
    return key_fault(prefix)


def extension_faults(extension: Extension) -> Iterator[Unsound]:
    """Why a key of `fastcgi.server` would stand elsewhere than it seems to, or be another gate for some requests."""
    if not extension.hosts:
        yield Unsound(f'fastcgi.server: "{extension.key}" has no host')
    for host in extension.hosts:
        yield from _host_faults(host)
    authorizers = [host for host in extension.hosts if host.mode == "authorizer"]
    if authorizers:
        yield from _gate_faults(extension.key, authorizers)


def _host_faults(host: HostConfig) -> Iterator[Unsound]:
    if host.mode not in _MODES:
        yield Unsound(f'"mode" is one of {", ".join(_MODES)}, found "{host.mode}"', host, "mode")
    if host.mode == "authorizer":
        yield from _php_faults(host)
    elif host.url or host.python:
        name = "url" if host.url else "python"
        yield Unsound(f'"{name}" needs "mode" => "authorizer"', host, name)


def _php_faults(host: HostConfig) -> Iterator[Unsound]:
    """PHP runs what SCRIPT_FILENAME names: without "script" the private file itself, which says 200 to anybody."""
    if host.bin_path and not host.script:
        program = os.path.basename(_words(host.bin_path)[0])
        if program.lower().startswith("php"):
            message = f'"script" is missing: it names the authorizer\'s program, without it {program} runs the'
            yield Unsound(f"{message} private file in its place, and lets everybody in", host, "bin-path")


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or [""]
    except ValueError:
        return [command]  # an open quote: no process will start


def _gate_faults(key: str, authorizers: Sequence[HostConfig]) -> Iterator[Unsound]:
    fault = key_fault(key)
    if fault:
        yield Unsound(f"fastcgi.server: {fault}")
    first = authorizers[0]
    for name, attribute in _OF_THE_GATE.items():
        other = next((host for host in authorizers if getattr(host, attribute) != getattr(first, attribute)), None)
        if other is not None:
            yield Unsound(f'"{name}" is the same for all backends of an authorizer, as "{key}" has one', other)
    elsewhere = next((host for host in authorizers if host.url or host.python), None)
    if elsewhere is not None and len(authorizers) > 1:
        message = f'fastcgi.server: "{key}" has another authorizer beside the one over "url" or in "python"'
        yield Unsound(message, elsewhere)
