"""The arguments: lighttpd's bare flags (`-f FILE -D -t -p -v -V`) and the commands `serve`, `check`, `demo`.

Contract: `run(arguments)` -> exit status: 0 done, 1 a check that failed, 2 arguments that make no sense, 255 a server
that could not start. What a command needs is imported when it runs, so that `-v` and `-t` answer fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from gfastcgi._version import __version__
from gfastcgi.cli.console import print_fault, print_faults, print_warnings
from gfastcgi.config import Config
from gfastcgi.errors import ConfigError, GfastcgiError

__all__ = ["EXIT_CHECK", "EXIT_START", "EXIT_USAGE", "run"]

EXIT_CHECK = 1
EXIT_USAGE = 2
EXIT_START = 255

_VERSION_LINE = f"gfastcgi/{__version__} - an access-control gateway for FastCGI"

_EPILOG = """commands (each has its own --help):
  gfastcgi serve    a site without a file: a document root and FastCGI backends
  gfastcgi check    check a configuration file: like -t
  gfastcgi purge    let a running gateway forget the decisions of its authorizers
  gfastcgi wsgi     a WSGI application as a FastCGI server, in one process or several
  gfastcgi demo     see it all at work, without a configuration and without PHP
  gfastcgi explain  what would become of a request: authorizers, backend, file, and why
  gfastcgi conformance authorizer
                    what a gateway, ours or another, makes of every answer of an authorizer

signals: SIGTERM and SIGINT stop gracefully (a second one at once), SIGHUP reopens the logs"""


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name); the value is the exit status."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "check": _check, "conformance": _conformance, "demo": _demo, "explain": _explain, "purge": _purge,
        "serve": _serve, "wsgi": _wsgi,
    }  # fmt: skip
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](arguments[1:])
    return _lighttpd(arguments)


def _lighttpd(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gfastcgi",
        description="A web server and access-control gateway for FastCGI, configured by a lighttpd.conf.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("-f", metavar="FILE", dest="filename", help="the configuration file")
    parser.add_argument("-D", action="store_true", help="stay in the foreground (gfastcgi always does)")
    parser.add_argument("-t", action="count", default=0, help="check the file and exit: 0 or 1; -tt checks more")
    parser.add_argument("-p", action="store_true", help="print what was understood of the file and exit")
    parser.add_argument("-v", action="store_true", help="print the version and exit")
    parser.add_argument("-V", action="store_true", help="print the version and the features and exit")
    options = parser.parse_args(arguments)
    if options.v or options.V:
        return _version(with_features=options.V)
    if options.filename is None:
        print_fault("no configuration: name one with -f FILE, or try `gfastcgi demo` or `gfastcgi --help`")
        return EXIT_USAGE
    if options.t or options.p:
        return _examine(options.filename, prints=options.p, builds=options.t > 1)
    return _start(lambda: _load(options.filename))


def _version(*, with_features: bool) -> int:
    print(_VERSION_LINE)
    if with_features:
        from gfastcgi.cli.features import features

        print(features(), end="")
    return 0


def _load(filename: str) -> Config:
    from gfastcgi import lighttpd, plugins

    config, warnings = lighttpd.load(filename, find_balance=plugins.find_balance)
    print_warnings(warnings)
    return config


def _examine(filename: str, *, prints: bool, builds: bool) -> int:
    try:
        config = _load(filename)
        # What a configuration names in Python has to be there: that is seen by importing it.
        if builds or _names_python(config):
            from gfastcgi import assemble

            assemble.build(config)
    except ConfigError as error:
        print_faults(error)
        return EXIT_CHECK
    if prints:
        from gfastcgi import lighttpd

        print(lighttpd.render(config))
    else:
        print("Syntax OK")
    return 0


def _names_python(config: Config) -> bool:
    settings = [config.settings.extensions, *(block.overrides.get("extensions", ()) for block in config.blocks)]
    return any(host.python for extensions in settings for extension in extensions for host in extension.hosts)


def _start(load: Callable[[], Config]) -> int:
    from gfastcgi.cli.serve import serve

    try:
        return serve(load())
    except ConfigError as error:
        print_faults(error)
    return EXIT_START


def _check(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="gfastcgi check", description="Check a lighttpd.conf; exit 0 or 1.")
    parser.add_argument("filename", metavar="FILE", help="the configuration file")
    parser.add_argument("-p", action="store_true", help="print what was understood instead of `Syntax OK`")
    options = parser.parse_args(arguments)
    return _examine(options.filename, prints=options.p, builds=True)


def _serve(arguments: Sequence[str]) -> int:
    from gfastcgi.cli import site

    parser = site.parser()
    options = parser.parse_args(arguments)
    try:
        config = site.build(options)
    except ConfigError as error:
        parser.error(error.message)
    return _start(lambda: config)


def _demo(arguments: Sequence[str]) -> int:
    from gfastcgi.cli import demo

    options = demo.parser().parse_args(arguments)
    try:
        return demo.run(options)
    except ConfigError as error:
        print_faults(error)
    return EXIT_START


def _conformance(arguments: Sequence[str]) -> int:
    from gfastcgi.cli import conformance

    return conformance.run(conformance.parser().parse_args(arguments))


def _wsgi(arguments: Sequence[str]) -> int:
    from gfastcgi.cli import wsgi

    options = wsgi.parser().parse_args(arguments)
    try:
        return wsgi.run(options)
    except GfastcgiError as error:
        print_fault(error)
    return EXIT_START


def _purge(arguments: Sequence[str]) -> int:
    from gfastcgi.cli import purge

    options = purge.parser().parse_args(arguments)
    try:
        return purge.run(options)
    except ConfigError as error:
        print_faults(error)
    except GfastcgiError as error:
        print_fault(error)
    return EXIT_CHECK


def _explain(arguments: Sequence[str]) -> int:
    from gfastcgi.cli import explain

    return explain.run(explain.parser().parse_args(arguments))
