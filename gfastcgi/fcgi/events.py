"""What a connection reports: one class for each thing that a peer can say.

Slotted and compared by value; what is named after a stream (`Stdin`, `Stdout`, ...) ends that stream with b"".
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AbortRequest",
    "BeginRequest",
    "Data",
    "EndRequest",
    "Event",
    "GetValues",
    "Params",
    "ParamsText",
    "Stderr",
    "Stdin",
    "Stdout",
    "UnknownManagement",
    "UnknownType",
    "Values",
    "WholeRequest",
]


@dataclass(slots=True)
class Stdout:
    """A piece of the CGI response (section 5.3)."""

    request_id: int
    data: bytes


@dataclass(slots=True)
class Stderr:
    """A piece of the application's error text (section 5.3)."""

    request_id: int
    data: bytes


@dataclass(slots=True)
class EndRequest:
    """The answer is complete (section 5.5)."""

    request_id: int
    app_status: int
    protocol_status: int


@dataclass(slots=True)
class Values:
    """The answer to GET_VALUES (section 4.1)."""

    values: dict[bytes, bytes]


@dataclass(slots=True)
class UnknownType:
    """The application does not know the management record `kind` (section 4.2)."""

    kind: int


@dataclass(slots=True)
class UnknownManagement:
    """A management record of a type beyond the specification's; the application answers `unknown_type(kind)`."""

    kind: int


@dataclass(slots=True)
class BeginRequest:
    """A request begins (section 5.1). `keep_conn`: the connection stays open behind it."""

    request_id: int
    role: int
    keep_conn: bool


@dataclass(slots=True)
class Params:
    """All the meta-variables (section 5.2), in the order sent."""

    request_id: int
    pairs: list[tuple[bytes, bytes]]


@dataclass(slots=True)
class ParamsText:
    """The same as text: each byte is a character (Latin-1), as WSGI has it; of equal names the last counts."""

    request_id: int
    variables: dict[str, str]


@dataclass(slots=True)
class WholeRequest:
    """`BeginRequest`, `ParamsText` and the end of `Stdin` at once: a request for a responder, without content."""

    request_id: int
    keep_conn: bool
    variables: dict[str, str]


@dataclass(slots=True)
class Stdin:
    """A piece of the request's content (section 5.3)."""

    request_id: int
    data: bytes


@dataclass(slots=True)
class Data:
    """A piece of the file that a filter works on (section 6.4)."""

    request_id: int
    data: bytes


@dataclass(slots=True)
class AbortRequest:
    """The web server wants no more of this request (section 5.4); it still waits for END_REQUEST."""

    request_id: int


@dataclass(slots=True)
class GetValues:
    """The web server asks for the values of these variables (section 4.1)."""

    names: list[bytes]


Event = (
    Stdout | Stderr | EndRequest | Values | UnknownType | UnknownManagement
    | BeginRequest | Params | ParamsText | Stdin | Data | AbortRequest | GetValues
    | WholeRequest
)  # fmt: skip
