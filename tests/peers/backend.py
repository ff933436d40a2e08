"""A FastCGI application of the tests' own, on threads: it answers as its script says, rightly or wrongly.

It is the one that ships for other people's tests. Its codec is by hand: the gateway's is never its own judge.
"""

from gfastcgi.conformance.conversation import Asked as Seen
from gfastcgi.conformance.conversation import Conversation as BackendConnection
from gfastcgi.conformance.rows import Reply
from gfastcgi.conformance.wire import (
    ABORT_REQUEST,
    AUTHORIZER,
    BEGIN_REQUEST,
    CANT_MPX_CONN,
    END_REQUEST,
    FILTER,
    GET_VALUES,
    GET_VALUES_RESULT,
    OVERLOADED,
    PARAMS,
    REQUEST_COMPLETE,
    RESPONDER,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_ROLE,
    answer,
    end,
    pairs,
    record,
    stderr,
    stdout,
)
from gfastcgi.testing.backends import FakeFPM as ScriptedBackend

__all__ = [
    "ABORT_REQUEST", "AUTHORIZER", "BEGIN_REQUEST", "CANT_MPX_CONN", "END_REQUEST", "FILTER", "GET_VALUES",
    "GET_VALUES_RESULT", "OVERLOADED", "PARAMS", "REQUEST_COMPLETE", "RESPONDER", "STDERR", "STDIN", "STDOUT",
    "UNKNOWN_ROLE", "BackendConnection", "Reply", "ScriptedBackend", "Seen", "answer", "end", "pairs", "record",
    "stderr", "stdout",
]  # fmt: skip
