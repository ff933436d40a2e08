"""The two tables of an open request: what the web server may send, and what the application may answer.

Contract: a key that is absent is an error: `LocalProtocolError` where the move is ours, `BadRecord` where it is the
peer's. Both roles look into both tables. A stream's empty record, its end, is the move `END | kind`.
"""

from __future__ import annotations

from typing import Final

from gfastcgi.fcgi.constants import ABORT_REQUEST, DATA, FILTER, PARAMS, STDERR, STDIN, STDOUT

__all__ = ["ANSWER", "ANSWERING", "END", "REQUEST", "SENT_STDIN", "STATE_NAMES", "begin_state"]

END: Final = 0x100

# What is still to come from the web server
SENDING_PARAMS: Final = 1
SENDING_STDIN: Final = 2
SENT_STDIN: Final = 3
FILTER_PARAMS: Final = 4
FILTER_STDIN: Final = 5
FILTER_DATA: Final = 6
ABORTED: Final = 7

# What is still to come from the application
ANSWERING: Final = 8
STDOUT_ENDED: Final = 9
STDERR_ENDED: Final = 10
BOTH_ENDED: Final = 11

STATE_NAMES: Final = {
    SENDING_PARAMS: "PARAMS are open",
    SENDING_STDIN: "STDIN is open",
    SENT_STDIN: "STDIN has ended",
    FILTER_PARAMS: "PARAMS are open",
    FILTER_STDIN: "STDIN is open and DATA follows",
    FILTER_DATA: "DATA is open",
    ABORTED: "the request was aborted",
    ANSWERING: "the answer is open",
    STDOUT_ENDED: "STDOUT has ended",
    STDERR_ENDED: "STDERR has ended",
    BOTH_ENDED: "STDOUT and STDERR have ended",
}

# Sections 5.2 to 5.4, 6.2 and 6.4: PARAMS, then STDIN, then a filter's DATA, each to its end. An authorizer gets no
# STDIN (6.3), yet web servers send its empty record, and that is no harm.
REQUEST: Final = {
    (SENDING_PARAMS, PARAMS): SENDING_PARAMS,
    (SENDING_PARAMS, END | PARAMS): SENDING_STDIN,
    (SENDING_PARAMS, ABORT_REQUEST): ABORTED,
    (SENDING_STDIN, STDIN): SENDING_STDIN,
    (SENDING_STDIN, END | STDIN): SENT_STDIN,
    (SENDING_STDIN, ABORT_REQUEST): ABORTED,
    (SENT_STDIN, ABORT_REQUEST): ABORTED,
    (FILTER_PARAMS, PARAMS): FILTER_PARAMS,
    (FILTER_PARAMS, END | PARAMS): FILTER_STDIN,
    (FILTER_PARAMS, ABORT_REQUEST): ABORTED,
    (FILTER_STDIN, STDIN): FILTER_STDIN,
    (FILTER_STDIN, END | STDIN): FILTER_DATA,
    (FILTER_STDIN, ABORT_REQUEST): ABORTED,
    (FILTER_DATA, DATA): FILTER_DATA,
    (FILTER_DATA, END | DATA): SENT_STDIN,
    (FILTER_DATA, ABORT_REQUEST): ABORTED,
}

# Sections 5.3 and 5.5: nothing behind a stream's end but that end once more. END_REQUEST may come in each
# of these states (php-fpm never ends STDOUT), so it is no key here.
ANSWER: Final = {
    (ANSWERING, STDOUT): ANSWERING,
    (ANSWERING, STDERR): ANSWERING,
    (ANSWERING, END | STDOUT): STDOUT_ENDED,
    (ANSWERING, END | STDERR): STDERR_ENDED,
    (STDOUT_ENDED, END | STDOUT): STDOUT_ENDED,
    (STDOUT_ENDED, STDERR): STDOUT_ENDED,
    (STDOUT_ENDED, END | STDERR): BOTH_ENDED,
    (STDERR_ENDED, STDOUT): STDERR_ENDED,
    (STDERR_ENDED, END | STDOUT): BOTH_ENDED,
    (STDERR_ENDED, END | STDERR): STDERR_ENDED,
    (BOTH_ENDED, END | STDOUT): BOTH_ENDED,
    (BOTH_ENDED, END | STDERR): BOTH_ENDED,
}


def begin_state(role: int) -> int:
    """The state behind BEGIN_REQUEST."""
    return FILTER_PARAMS if role == FILTER else SENDING_PARAMS
