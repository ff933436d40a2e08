"""`"health-check" => ( "path" => "/ping", "interval" => 5 )`: the checks of a host."""

from __future__ import annotations

from gfastcgi.config import HealthCheck
from gfastcgi.errors import InvalidValue, UnknownOption
from gfastcgi.lighttpd.kinds import Context, Kind, array
from gfastcgi.lighttpd.nodes import Array, Value
from gfastcgi.lighttpd.report import nearest

__all__ = ["health_check"]

NUMBERS = ("interval", "timeout", "rise", "fall")


def _parse(value: Value, context: Context) -> HealthCheck | None:
    if not isinstance(value, Array):
        raise ValueError
    if not value.items:
        return None
    path, numbers = "", dict[str, int]()
    for item in value:
        if item.key == "path":
            if not isinstance(item.value, str) or not item.value.startswith("/") or not item.value.isprintable():
                raise ValueError
            path = item.value
        elif item.key in NUMBERS:
            if not isinstance(item.value, int) or item.value < 1:
                message = f'{context.name}: "{item.key}" takes a number, at least 1'
                context.report.error(InvalidValue, message, item.where)
            else:
                numbers[item.key] = item.value
        else:
            message = f'{context.name}: unknown option "{item.key}"{nearest(item.key or "", ("path", *NUMBERS))}'
            context.report.error(UnknownOption, message, item.where)
    if not path:
        raise ValueError
    return HealthCheck(path=path, **numbers)


def _render(value: HealthCheck | None) -> Value | None:
    if value is None:
        return None
    default = HealthCheck(path="")
    pairs: list[tuple[str | None, Value]] = [("path", value.path)]
    pairs += [(name, getattr(value, name)) for name in NUMBERS if getattr(value, name) != getattr(default, name)]
    return array(pairs)


health_check = Kind('a list like ( "path" => "/ping", "interval" => 5 )', _parse, _render)
