"""What is left of a request, sent while its answer is read: who only wrote first, and then read, might wait for ever.

Contract: `feed` runs in a greenlet of its own, and returns what went wrong with the bodies or the backend's patience;
before that it hangs up, so that whoever reads the answer wakes. A backend may answer without having read all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gevent

from gfastcgi.client.connection import Connection, RequestBody
from gfastcgi.errors import BackendTimeout, StreamClosed, StreamTimeout

__all__ = ["feed"]

# Others get their turn after so many bytes.
_AT_ONCE = 1 << 20

Encode = Callable[[int, bytes], bytes]


def feed(
    connection: Connection,
    rest: memoryview,
    bodies: Sequence[tuple[RequestBody, Encode]],
    on_begin: Callable[[], None],
    where: str,
) -> Exception | None:
    """Sends `rest`, which the kernel did not take at once, then `bodies`, each with its end.

    `on_begin` is called when `rest` has left. `where` names the backend.
    """
    try:
        if rest:
            connection.stream.wait_writable()
            connection.stream.send_all(rest)
            on_begin()
        for body, encode in bodies:
            failure = _pour(connection, body, encode)
            if failure is not None:
                connection.stream.hang_up()
                return failure
    except StreamTimeout:
        connection.stream.hang_up()
        return BackendTimeout(f"{where} takes no more of the body", cause="write_timeout")
    except StreamClosed:
        # What it says is read by the other side.
        pass
    except Exception as error:
        connection.stream.hang_up()
        return error
    return None


def _pour(connection: Connection, body: RequestBody, encode: Encode) -> Exception | None:
    """Sends all of `body`, and its end; returns what reading it raised."""
    piece, sent = b"-", 0
    while piece:
        try:
            piece = body.read()
        except Exception as error:
            return error
        connection.stream.send_all(encode(connection.request_id, piece))
        sent += len(piece)
        if sent >= _AT_ONCE:
            sent = 0
            gevent.sleep(0)
    return None
