"""`gfastcgi serve`: a site without a file, built from arguments with the dataclasses that a file also makes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from gfastcgi.config import Address, Config, Extension, HostConfig, ServerConfig, Settings
from gfastcgi.errors import ConfigError, InvalidValue

__all__ = ["build", "parse_address", "parser", "run"]

DEFAULT_BIND = "127.0.0.1:8080"

# Editors' backups and lighttpd's own example: names that no visitor should fetch.
_DENIED = ("~", ".inc")


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi serve`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi serve",
        description="Serve a directory, with FastCGI backends for suffixes and prefixes.",
        epilog="example:\n  gfastcgi serve --root /srv/www --fastcgi .php=unix:/run/php/php-fpm.sock",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", required=True, metavar="DIR", help="the document root")
    parser.add_argument(
        "--fastcgi", action="append", default=[], metavar="KEY=ADDRESS",
        help="a backend: KEY is a suffix (.php, for files that exist) or a prefix (/app/, for every path below); "
        "ADDRESS is unix:PATH or tcp://HOST:PORT; several for one KEY share its load",
    )  # fmt: skip
    parser.add_argument(
        "--bind", action="append", metavar="ADDR:PORT",
        help=f"listen here, also unix:PATH; may be repeated (default {DEFAULT_BIND})",
    )  # fmt: skip
    parser.add_argument(
        "--index", action="append", metavar="NAME",
        help="an index file; may be repeated (default index.html, after index.php where .php has a backend)",
    )  # fmt: skip
    parser.add_argument("--access-log", default="", metavar="FILE", help="log requests here; - is the standard output")
    return parser


def run(options: argparse.Namespace) -> int:
    """Serves until a signal ends it; what makes no site ends the process, as arguments that make no sense do."""
    from gfastcgi.cli.serve import serve

    try:
        config = build(options)
    except ConfigError as error:
        parser().error(error.message)
    return serve(config)


def build(options: argparse.Namespace) -> Config:
    """The configuration of parsed arguments. Raises `InvalidValue`."""
    root = os.path.abspath(options.root)
    if not os.path.isdir(root):
        raise InvalidValue(f"--root: {options.root!r} is not a directory")
    extensions = _extensions(options.fastcgi)
    suffixes = tuple(extension.key for extension in extensions if not extension.is_prefix)
    index = options.index or (["index.php"] if ".php" in suffixes else []) + ["index.html"]
    listeners = tuple(parse_address(bind, "--bind") for bind in options.bind or [DEFAULT_BIND])
    return Config(
        server=ServerConfig(listeners=listeners),
        settings=Settings(
            document_root=root,
            index_file_names=tuple(index),
            static_exclude_extensions=suffixes,
            access_deny=_DENIED,
            extensions=extensions,
            accesslog_filename="/dev/stdout" if options.access_log == "-" else options.access_log,
        ),
    )


def _extensions(backends: Sequence[str]) -> tuple[Extension, ...]:
    hosts: dict[str, list[HostConfig]] = {}
    for backend in backends:
        key, _, target = backend.partition("=")
        if not key.startswith(("/", ".")) or not target:
            raise InvalidValue(f"--fastcgi: {backend!r} is not KEY=ADDRESS with a KEY like .php or /app/")
        address = parse_address(target, "--fastcgi")
        # A prefix belongs to its backend whether or not such files exist; a suffix stands for files.
        host = HostConfig(
            host=address.host, port=address.port, socket=address.path, check_local=not key.startswith("/"),
        )  # fmt: skip
        hosts.setdefault(key, []).append(host)
    return tuple(Extension(key, tuple(group)) for key, group in hosts.items())


def parse_address(text: str, option: str) -> Address:
    """`unix:PATH`, `tcp://HOST:PORT` or `HOST:PORT`, IPv6 in brackets. Raises `InvalidValue` that names `option`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise InvalidValue(f"{option}: {text!r} names no path")
        return Address(path=os.path.abspath(path))
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidValue(f"{option}: in {text!r} the IPv6 address needs brackets: [{host}]:{port}")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidValue(f"{option}: {text!r} is neither unix:PATH nor HOST:PORT")
    return Address(host=host, port=int(port))
