"""The numbers of the FastCGI 1.0 specification, as plain integers: they are compared for every record."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ABORT_REQUEST",
    "AUTHORIZER",
    "BEGIN_REQUEST",
    "CANT_MPX_CONN",
    "DATA",
    "END_REQUEST",
    "FILTER",
    "GET_VALUES",
    "GET_VALUES_RESULT",
    "HEADER_SIZE",
    "KEEP_CONN",
    "KIND_NAMES",
    "LISTENSOCK_FILENO",
    "MANAGEMENT_ID",
    "MAX_CONNS",
    "MAX_CONTENT",
    "MAX_REQS",
    "MAX_REQUEST_ID",
    "MPXS_CONNS",
    "OVERLOADED",
    "PARAMS",
    "REQUEST_COMPLETE",
    "RESPONDER",
    "ROLE_NAMES",
    "STATUS_NAMES",
    "STDERR",
    "STDIN",
    "STDOUT",
    "UNKNOWN_ROLE",
    "UNKNOWN_TYPE",
    "VERSION",
]

# Section 2.2: the descriptor on which a spawned application finds its listening socket.
LISTENSOCK_FILENO: Final = 0

# Section 3.3
VERSION: Final = 1
HEADER_SIZE: Final = 8
MAX_CONTENT: Final = 65535
MAX_REQUEST_ID: Final = 65535
MANAGEMENT_ID: Final = 0

# Section 8: record types
BEGIN_REQUEST: Final = 1
ABORT_REQUEST: Final = 2
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7
DATA: Final = 8
GET_VALUES: Final = 9
GET_VALUES_RESULT: Final = 10
UNKNOWN_TYPE: Final = 11

KIND_NAMES: Final = {
    BEGIN_REQUEST: "BEGIN_REQUEST",
    ABORT_REQUEST: "ABORT_REQUEST",
    END_REQUEST: "END_REQUEST",
    PARAMS: "PARAMS",
    STDIN: "STDIN",
    STDOUT: "STDOUT",
    STDERR: "STDERR",
    DATA: "DATA",
    GET_VALUES: "GET_VALUES",
    GET_VALUES_RESULT: "GET_VALUES_RESULT",
    UNKNOWN_TYPE: "UNKNOWN_TYPE",
}

# Section 5.1: the flag of BEGIN_REQUEST, and the roles
KEEP_CONN: Final = 1
RESPONDER: Final = 1
AUTHORIZER: Final = 2
FILTER: Final = 3

ROLE_NAMES: Final = {RESPONDER: "RESPONDER", AUTHORIZER: "AUTHORIZER", FILTER: "FILTER"}

# Section 5.5: the protocol status of END_REQUEST
REQUEST_COMPLETE: Final = 0
CANT_MPX_CONN: Final = 1
OVERLOADED: Final = 2
UNKNOWN_ROLE: Final = 3

STATUS_NAMES: Final = {
    REQUEST_COMPLETE: "REQUEST_COMPLETE",
    CANT_MPX_CONN: "CANT_MPX_CONN",
    OVERLOADED: "OVERLOADED",
    UNKNOWN_ROLE: "UNKNOWN_ROLE",
}

# Section 4.1: what GET_VALUES may ask for
MAX_CONNS: Final = b"FCGI_MAX_CONNS"
MAX_REQS: Final = b"FCGI_MAX_REQS"
MPXS_CONNS: Final = b"FCGI_MPXS_CONNS"
