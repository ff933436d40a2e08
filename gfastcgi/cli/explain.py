"""`gfastcgi explain -f FILE URL`: what would become of a request, without side effects.

Contract: exit status 0 for a request that would be served or refused by somebody's decision, 1 for a configuration at
fault, 2 for arguments, or bytes, that make no request.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator

from gfastcgi import assemble, explain, lighttpd, plugins
from gfastcgi.cli.console import paint, print_fault, print_warnings
from gfastcgi.errors import InvalidValue, ProtocolError
from gfastcgi.record import Record

__all__ = ["parser", "render", "run"]


def parser() -> argparse.ArgumentParser:
    """The arguments of `gfastcgi explain`."""
    parser = argparse.ArgumentParser(
        prog="gfastcgi explain",
        description="Tells which settings hold for a request, whom it would be shown to, and where it leads. Nothing "
        "is started, and nobody is asked.",
        epilog="example:\n  gfastcgi explain -f site.conf -H 'Cookie: SID=x' http://www.example.org/private/a.pdf",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-f", metavar="FILE", dest="filename", required=True, help="the configuration file")
    parser.add_argument("-X", metavar="METHOD", dest="method", default="GET", help="the method (default GET)")
    parser.add_argument(
        "-H", metavar="FIELD", dest="fields", action="append", default=[],
        help="a header field, 'Name: value'; may be repeated",
    )  # fmt: skip
    parser.add_argument("--from", metavar="ADDRESS", dest="remote", default="127.0.0.1", help="the client's IP address")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.add_argument(
        "--show-secrets", action="store_true", help="print cookies and the like instead of their lengths"
    )
    parser.add_argument("url", metavar="URL", help="http://host[:port]/path?query")
    return parser


def run(options: argparse.Namespace) -> int:
    """Prints the record of one request. Raises `ConfigError`."""
    # What serving would write to the error log is told by the record.
    logging.getLogger("gfastcgi").addHandler(logging.NullHandler())
    config, warnings = lighttpd.load(options.filename, find_balance=plugins.find_balance)
    print_warnings(warnings)
    app = assemble.build(config)
    asked = explain.Asked(options.url, options.method, options.fields, options.remote)
    try:
        request = explain.make_request(asked, config.server.listeners)
    except InvalidValue as error:
        print_fault(str(error))
        return 2
    except ProtocolError as error:
        return _refused(error)
    try:
        record = explain.explain(app, request, shows_secrets=options.show_secrets)
    except ProtocolError as error:
        return _refused(error)
    print(json.dumps(record, indent=2) if options.json else "\n".join(render(record)))
    return 0


def _refused(error: ProtocolError) -> int:
    print_fault(f"refused with {error.status_hint}: {error}")
    return 2


def render(record: Record) -> Iterator[str]:
    """The lines of `record` for people."""
    asked = record["request"]
    yield paint(f"{asked['method']} {asked['host']}{asked['uri']}  from {asked['peer']}", "bold", sys.stdout)
    for block in record["settings"]:
        yield _line("settings", f"{block['where']}  {' and '.join(block['conditions'])}")
    for warning in record["lost_gates"]:
        yield paint(_line("warning", warning), "yellow", sys.stdout)
    if record["rewritten"] is not None:
        yield _line("rewritten", record["rewritten"])
    yield _line("path", asked["path"])
    if record["dropped"]:
        yield _line("not passed on", ", ".join(record["dropped"]))
    if len(record["authorizers"]) > 1:
        yield _line("gate", f"{record['need']} of {len(record['authorizers'])} authorizers must allow")
    for gate in record["authorizers"]:
        yield ""
        yield from _gate(gate)
    yield ""
    yield from _route(record["route"], is_guarded=bool(record["authorizers"]))


def _gate(gate: Record) -> Iterator[str]:
    yield paint(_line("authorizer", f"{gate['key']}  {gate['transport']}  {', '.join(gate['to'])}"), "cyan", sys.stdout)
    if gate["requires"]:
        yield _line("requires", gate["requires"])
    cache = gate["cache"]
    if cache is not None:
        kept = f"a yes for {cache['ttl']} s, a no for {cache['negative_ttl']} s, by {', '.join(cache['key'])}"
        wanted = ", ".join(each for each in cache["key"] if each.startswith(("cookie:", "header:")))
        yield _line("remembers", kept if cache["kept"] else f"nothing: the request shows no credential ({wanted})")
    if gate["unasked"]:
        yield _line("not asked", "this is a CORS preflight, which passes")
        return
    if gate["independent"]:
        yield _line("asked", "beside its independent neighbours")
    if gate["recheck"]:
        yield _line("asked again", f"every {gate['recheck']} s while the answer is sent")
    if gate["login"]:
        yield _line("login", f"{gate['login']}  for a browser, instead of 401")
    yield from _pairs(gate["sends"])


def _route(route: Record, *, is_guarded: bool) -> Iterator[str]:
    kind = route["kind"]
    condition = ", once the gate allows" if is_guarded else ""
    if kind == "redirect":
        yield _line("redirect", f"{route['status']} to {route['location']}")
    elif kind == "denied":
        yield _line("denied", "403 by url.access-deny or url.access-allow; nobody is asked")
    elif kind == "statistics":
        yield _line("statistics", f"the counters{condition}")
    elif kind == "file":
        yield paint(_line("file", f"{route['filename']}  {route['is']}"), "cyan", sys.stdout)
        yield _line("beneath", route["root"])
        yield _line("answer", f"{route['status']}{condition}")
    else:
        if kind == "wsgi":
            yield paint(_line("application", f"{route['key']}  {route['app']}"), "cyan", sys.stdout)
        else:
            yield paint(_line("responder", f"{route['key']}  {', '.join(route['backends'])}"), "cyan", sys.stdout)
            yield _line("balance", route["balance"])
        yield _line("script", f"{route['script_name']} + {route['path_info'] or '(no PATH_INFO)'}")
        yield _line(
            "asked", f"with these{condition}, and with what the authorizers say" if is_guarded else "with these"
        )
        yield from _pairs(route["sends"])


def _pairs(pairs: dict[str, str]) -> Iterator[str]:
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        yield f"    {name:{width}}  {_printable(value)}".rstrip()


def _line(name: str, text: str) -> str:
    return f"{name:13} {_printable(text)}".rstrip()


def _printable(text: str) -> str:
    """`text` without what could steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
