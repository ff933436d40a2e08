"""Conditions as `sites` evaluates them: known variables, one spelling of each, operands that can match.

Contract: a condition that cannot be evaluated is an error, never a condition that is silently false: it may be what
keeps somebody out.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace

from gfastcgi.config import Address, Condition
from gfastcgi.config.expressions import expression_fault
from gfastcgi.config.soundness import path_fault
from gfastcgi.errors import InvalidValue, UnknownOption
from gfastcgi.lighttpd.report import Report, nearest

__all__ = ["HTTP_NAMES", "SOCKET", "canonical", "parse_address"]

HTTP_NAMES = {
    "url": "url", "host": "host", "querystring": "query-string", "cookie": "cookie", "useragent": "user-agent",
    "referer": "referer", "remoteip": "remote-ip", "request-method": "request-method", "scheme": "scheme",
    "language": "language",
}  # fmt: skip
"""What `$HTTP[...]` takes: lighttpd's older spelling (which is ours) and its newer one."""

SOCKET = 'SERVER["socket"]'
_VARIABLE = re.compile(r'([A-Za-z_]+)\["([^"]*)"\]', re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)


def canonical(condition: Condition, port: int, report: Report) -> Condition:
    """`condition` with one spelling for its variable and operand; `port` is that of sockets without one."""
    variable = _variable(condition, report)
    operand = condition.operand
    fault = ""
    if condition.operator in ("=~", "!~"):
        fault = expression_fault(operand)
        fault = fault and f"the regular expression {operand!r} is at fault: {fault}"
    elif variable == SOCKET:
        try:
            operand = str(parse_address(operand, port))
        except ValueError as error:
            fault = str(error)
    elif variable == 'HTTP["remoteip"]':
        fault = _address_fault(condition)
    elif variable == 'HTTP["host"]':
        operand = operand.lower().removesuffix(".") if condition.operator in ("==", "!=") else operand.lower()
    if fault:
        report.error(InvalidValue, f"${condition.variable}: {fault}", condition.where)
    elif doubt := _doubt(variable, condition.operator, operand):
        outcome = "always" if condition.operator == "!=" else "never"
        report.warn(f'${variable} {condition.operator} "{operand}" {outcome} holds: {doubt}', condition.where)
    return replace(condition, variable=variable, operand=operand)


def _doubt(variable: str, operator: str, operand: str) -> str:
    """Why what is asked for is the same for every request; "": it is not."""
    if variable == 'HTTP["url"]' and operator in ("==", "!=", "=^", "=$"):
        if operator != "=$" and operand != "*" and not operand.startswith("/") and (operand or operator != "=^"):
            return 'a path begins with "/"'
        return path_fault(operand)
    if variable == 'HTTP["request-method"]' and operator in ("==", "!=") and not operand.isupper():
        return "methods are in capitals"
    if variable == 'HTTP["scheme"]' and operator in ("==", "!=") and operand not in ("http", "https"):
        return "it is http or https"
    return ""


def _variable(condition: Condition, report: Report) -> str:
    match = _VARIABLE.fullmatch(condition.variable)
    group, name = match.groups() if match else ("", "")
    if group == "HTTP":
        for ours, newer in HTTP_NAMES.items():
            if name in (ours, newer):
                return f'HTTP["{ours}"]'
    elif group == "REQUEST_HEADER" and _TOKEN.fullmatch(name):
        return f'REQUEST_HEADER["{name.lower()}"]'
    elif condition.variable == SOCKET:
        return SOCKET
    known = [f'HTTP["{name}"]' for name in HTTP_NAMES] + [SOCKET, 'REQUEST_HEADER["name"]']
    message = f"${condition.variable} cannot be evaluated{nearest(condition.variable, known)}"
    report.error(UnknownOption, message, condition.where)
    return condition.variable


def _address_fault(condition: Condition) -> str:
    """What is wrong with the operand of `$HTTP["remoteip"]`: an address, a network (CIDR), or a path."""
    if condition.operator not in ("==", "!="):
        return f"{condition.operator} does not suit addresses; name a network like 10.0.0.0/8"
    if condition.operand.startswith("/"):
        return ""
    try:
        ipaddress.ip_network(condition.operand, strict=False)
    except ValueError as error:
        return f"expected an address or a network: {error}"
    return ""


def parse_address(text: str, port: int, mode: int | None = None) -> Address:
    """`host:port`, `:port`, `host`, `[IPv6]:port` or the path of a unix socket. Raises ValueError."""
    if text.startswith(("/", "unix:/")):
        path = text.removeprefix("unix:")
        if len(path.encode("utf-8", "surrogateescape")) > 107:
            raise ValueError("the path of a unix socket is longer than 107 bytes")
        return Address(path=path, mode=mode)
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]*)(?::([0-9]{1,5}))?", text, re.ASCII)
    if match is None:
        raise ValueError(f'expected an address like "127.0.0.1:80" or "[::1]:80", found "{text}"')
    number = int(match[2]) if match[2] else port
    if number > 65535:
        raise ValueError(f"there is no port {number}")
    host = match[1].strip("[]")
    if match[1].startswith("["):
        host = str(ipaddress.IPv6Address(host))
    return Address(host="0.0.0.0" if host in ("", "*") else host, port=number)
