"""One request to a FastCGI backend, from the pool's lease to END_REQUEST, for greenlets.

Contract: `Exchange.start` leases, connects, sends, and returns when the head of the answer is complete; iterating gives
the body as it comes. STDIN goes out while STDOUT comes in. A request goes to another proc only while no backend can
have seen it, or when seeing it twice does no harm. `close` gives the lease back, whatever happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import monotonic

import gevent

from gfastcgi.backend.backend import Proc
from gfastcgi.backend.pool import Lease, Pool
from gfastcgi.cgi.response import Head, parse_head
from gfastcgi.client.connection import Connection, RequestBody, RequestKey
from gfastcgi.client.feeding import feed
from gfastcgi.client.leasing import obtain
from gfastcgi.config import HostConfig
from gfastcgi.errors import (
    AnswerStalled,
    BackendClosed,
    BackendError,
    BackendTimeout,
    BadCGIResponse,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    GfastcgiError,
    NoBackendAvailable,
    Overloaded,
    StrayRecord,
    StreamClosed,
    StreamError,
    StreamTimeout,
    UnexpectedStatus,
    UnknownRole,
)
from gfastcgi.fcgi import constants
from gfastcgi.fcgi.connection import EndRequest, Stderr, Stdout
from gfastcgi.fcgi.records import ends_request
from gfastcgi.net.connecting import connect
from gfastcgi.net.streams import Stream

__all__ = ["Exchange"]

log = logging.getLogger("gfastcgi")

_MOST_CONNECTS = 5
_STDERR_LOGGED = 65536
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# An answer in several records is given a moment (seconds) to be written; what has come then leaves together.
_FIRST_MOMENT = 0.02
_MOMENT = 0.001
_LARGEST_GATHERING = 65536


class Exchange:
    """One request and its answer. `params` makes the encoded FCGI_PARAMS for the host that was chosen, `data` is
    a filter's FCGI_DATA. `time_limit` is seconds from the first lease to the end of the answer, 0: none.
    """

    __slots__ = (
        "_body", "_connection", "_data", "_end", "_feeder", "_has_answered", "_has_begun", "_has_head",
        "_is_repeatable", "_is_retry", "_lease", "_log_stderr", "_on_interim", "_params", "_pieces", "_pool",
        "_request", "_role", "_stderr_left", "_time_limit", "_was_seen", "app_status", "host", "is_complete",
    )  # fmt: skip

    def __init__(
        self,
        pool: Pool,
        request: RequestKey,
        params: Callable[[HostConfig], bytes],
        body: RequestBody,
        *,
        role: int = constants.RESPONDER,
        data: RequestBody | None = None,
        log_stderr: Callable[[bytes], None] | None = None,
        on_interim: Callable[[Head], None] | None = None,
        time_limit: float = 0,
    ) -> None:
        self._pool = pool
        self._request = request
        self._params = params
        self._body = body
        self._role = role
        self._data = data
        self._log_stderr = log_stderr
        self._on_interim = on_interim
        self._time_limit = time_limit
        self._end = 0.0
        self._stderr_left = _STDERR_LOGGED
        self._lease: Lease | None = None
        self._connection: Connection | None = None
        self._feeder: gevent.Greenlet[..., Exception | None] | None = None
        self._pieces: list[bytes] = []
        self._was_seen = False
        self._has_begun = self._has_answered = False
        # RFC 9110 section 9.2.1: safe methods, and no body that is gone once sent.
        self._is_repeatable = body.length == 0 and data is None and request.method in _SAFE
        self._is_retry = False
        self._has_head = False
        self.host: HostConfig | None = None
        """The host that answers."""
        self.is_complete = False
        """True once END_REQUEST has come and said that all is well."""
        self.app_status = 0

    def __repr__(self) -> str:
        return f"<Exchange with {self._lease!r}{' complete' if self.is_complete else ''}>"

    # From the lease to the head

    def start(self) -> Head:
        """The head of the answer. Raises `BackendError`, `BadRecord`, `BadCGIResponse`; nothing is held after that."""
        tried: list[Proc] = []
        failure: Exception | None = None
        try:
            while True:
                try:
                    lease = self._lease = obtain(self._pool, self._request, tried)
                except NoBackendAvailable:
                    if failure is None:
                        raise
                    # What went wrong at the last one that was there says more than that no other is left.
                    raise failure from None
                try:
                    return self._ask(lease)
                except (BackendError, StreamError) as error:
                    is_stale = self._connection is not None and self._connection.is_reused and not self._was_seen
                    self._is_retry = True
                    before, failure = failure, self._name(error)
                    self._report(lease, failure)
                    self._give_back()
                    if not self._may_retry(failure, tried, is_stale=is_stale, is_first=before is None):
                        raise failure from (None if failure is error else error)
                    if not isinstance(failure, BackendClosed):
                        tried.append(lease.proc)
        except BaseException:
            self.close()
            raise

    def _ask(self, lease: Lease) -> Head:
        """Sends the request over a kept connection, or a new one, and reads the head of the answer."""
        host, proc, body = lease.host.config, lease.proc, self._body
        self.host = host
        if self._time_limit and not self._end:
            self._end = monotonic() + self._time_limit
        connection: Connection | None = lease.connection
        self._was_seen = False
        # A kept connection that one may not send to twice is looked at before it is used; a retry takes a new one.
        if connection is None or self._is_retry or (not self._is_repeatable and connection.stream.is_readable()):
            connection = self._connect(lease)
        else:
            connection.is_reused = True
            self._connection = connection
        stdin: bytes | None = b"" if body.length == 0 else getattr(body, "data", None) or None
        data = connection.core.begin_request(
            connection.next_id(),
            self._role,
            self._params(host),
            # A connection is kept only where the number of connections at once is known.
            keep_conn=proc.capacity is not None and proc.keep_alive,
            stdin=stdin,
        )
        stream = connection.stream
        # A kept connection may have been made for another entry that names the address.
        stream.read_timeout, stream.write_timeout = host.read_timeout, host.write_timeout
        if self._is_repeatable:
            stream.post(data, is_request=True)
            sent = len(data)
        else:
            sent = stream.send(data)
        self._was_seen = sent > 0
        if sent < len(data) or stdin is None or self._data is not None:
            self._feed(connection, memoryview(data)[sent:], has_body=stdin is None)
        if self._end:
            self._hurry(stream)
        # The answer cannot be there yet: asking the kernel before waiting would be in vain.
        stream.wait_readable()
        return self._read_head()

    def _feed(self, connection: Connection, rest: memoryview, *, has_body: bool) -> None:
        core = connection.core
        bodies = [(self._body, core.send_stdin)] if has_body else []
        if self._data is not None:
            bodies.append((self._data, core.send_data))
        self._feeder = gevent.spawn(feed, connection, rest, bodies, self._see, self._where())

    def _see(self) -> None:
        self._was_seen = True

    @property
    def _feed_error(self) -> Exception | None:
        return self._feeder.value if self._feeder is not None else None

    def _connect(self, lease: Lease) -> Connection:
        if lease.connection is not None:
            lease.connection.close()
        host = lease.host.config
        timeout = host.connect_timeout
        if self._end:
            timeout = min(timeout or self._time_limit, self._left())
        stream = connect(lease.proc.address, timeout)
        self._pool.connected(lease)
        self._connection = Connection(stream)
        return self._connection

    def _read_head(self) -> Head:
        buffer = b""
        while True:
            self._receive()
            if self._pieces:
                buffer = b"".join((buffer, *self._pieces)) if buffer or len(self._pieces) > 1 else self._pieces[0]
                self._pieces.clear()
                while (head := parse_head(buffer)) is not None:
                    buffer = buffer[head.body_start :]
                    if head.status >= 200:
                        self._has_head = True
                        if buffer:
                            self._pieces.append(buffer)
                        lease = self._lease
                        if lease is not None:
                            lease.proc.has_served = True
                            if lease.since:
                                self._pool.answered(lease)
                        return head
                    self._relay(head)
            if self.is_complete:
                raise BadCGIResponse(
                    "the answer ended inside its head" if buffer else "the answer is empty", cause="eof_before_headers"
                )

    def _relay(self, head: Head) -> None:
        """A 1xx head goes to the client (RFC 3875 section 6.2 knows none; RFC 9110 section 15.2)."""
        if head.status in (100, 101):
            raise BadCGIResponse(f"{self._where()} answered {head.status}, which nobody asked for")
        if self._on_interim is None:
            raise BadCGIResponse(f"{self._where()} answered {head.status} where one answer decides")
        self._on_interim(head)

    # The body

    def __iter__(self) -> Iterator[bytes]:
        """The pieces of the body; b"" once before the first wait, so that the head can leave.

        Raises `BackendError`, `BadRecord` when the answer breaks off.
        """
        if not self._pieces and not self.is_complete:
            yield b""
        try:
            while True:
                if self._pieces:
                    data = b"".join(self._pieces)
                    self._pieces.clear()
                    yield data
                if self.is_complete:
                    return
                self._receive()
                self.gather(_MOMENT)
        finally:
            self.close()

    def gather(self, seconds: float) -> None:
        """Takes what follows within `seconds`: a page that a backend writes in many records leaves in few pieces, and
        costs few turns of the hub. Raises `BackendError`, `BadRecord`.
        """
        connection = self._connection
        if self.is_complete or connection is None:
            return
        size = sum(map(len, self._pieces))
        end = monotonic() + seconds

        def is_enough(piece: bytes) -> bool:
            nonlocal size
            size += len(piece)
            return size >= _LARGEST_GATHERING or ends_request(piece)

        while not self.is_complete and size < _LARGEST_GATHERING and (left := end - monotonic()) > 0:
            if not connection.stream.collect(left, is_enough):
                return
            self._receive()

    def take_whole(self) -> list[bytes] | None:
        """The body when all of it is there within a moment, else None; the lease is given back with it.

        Raises `BackendError`, `BadRecord`.
        """
        if not self.is_complete:
            self.gather(_FIRST_MOMENT)
            if not self.is_complete:
                return None
        pieces, self._pieces = self._pieces, []
        self._give_back()
        if self._body.length != 0:
            self._body.close()
        return pieces

    def _receive(self) -> None:
        """Takes what the backend sends next. Raises `BackendError`, `BadRecord`."""
        connection = self._connection
        assert connection is not None
        data = self._recv(connection)
        self._was_seen = True
        whole = connection.core.receive_whole(connection.request_id, data)
        if whole is not None:
            self._has_answered = self._has_begun = self.is_complete = True
            self._pieces.append(whole)
            return
        try:
            events = connection.core.receive_data(data)
        except StrayRecord as error:
            raise self._stray(connection, error) from error
        self._has_begun = True
        for event in events:
            if isinstance(event, Stdout):
                if event.data:
                    self._has_answered = True
                    self._pieces.append(event.data)
            elif isinstance(event, EndRequest):
                if event.protocol_status != constants.REQUEST_COMPLETE:
                    raise self._refusal(event.protocol_status)
                self.app_status = event.app_status
                self.is_complete = True
            elif isinstance(event, Stderr):
                self._take_stderr(event.data)

    def _recv(self, connection: Connection) -> bytes:
        stream = connection.stream
        if self._end:
            self._hurry(stream)
        try:
            # By way of the hub: others get their turn, however fast this backend writes.
            stream.wait_readable()
            data = stream.recv()
        except ClientClosed:
            raise
        except StreamError as error:
            raise self._name(error) from error
        if not data:
            connection.core.receive_eof()
            raise self._feed_error or self._end_of(stream)
        return data

    def _refusal(self, protocol_status: int) -> GfastcgiError:
        """What END_REQUEST says unless all is well (section 5.5)."""
        if protocol_status == constants.OVERLOADED:
            return Overloaded(f"{self._where()} is overloaded")
        if protocol_status == constants.CANT_MPX_CONN:
            return Overloaded(f"{self._where()} takes one request at a time", cause="cant_multiplex")
        if protocol_status == constants.UNKNOWN_ROLE:
            return UnknownRole(f"{self._where()} does not play role {self._role}: it is configured for a wrong mode")
        return UnexpectedStatus(f"{self._where()} ended with the unknown protocol status {protocol_status}")

    def _stray(self, connection: Connection, error: StrayRecord) -> GfastcgiError:
        """What came behind an earlier answer was not for us: who sends such things is asked over new connections only.

        What harms nobody is asked again.
        """
        lease = self._lease
        if not connection.is_reused or lease is None:
            return error
        if lease.proc.keep_alive:
            log.warning("%s: %s: its connections are not kept any more", self._where(), error)
        for idle in self._pool.distrusted(lease.proc):
            idle.close()
        if self._has_begun or not self._is_repeatable:
            return error
        return BackendClosed(f"{self._where()}: {error}", cause=error.cause)

    def _take_stderr(self, data: bytes) -> None:
        if self._log_stderr is not None and data and self._stderr_left > 0:
            self._log_stderr(data[: self._stderr_left])
            self._stderr_left -= len(data)

    # Failing and ending

    def _left(self) -> float:
        """Seconds of the time limit that are left. Raises `BackendTimeout` when none are."""
        left = self._end - monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _hurry(self, stream: Stream) -> None:
        """Lets the next wait end with the time limit, if that comes first."""
        assert self.host is not None
        stream.read_timeout = min(self.host.read_timeout or self._time_limit, self._left())

    def _late(self) -> BackendTimeout:
        is_over = self._end and monotonic() >= self._end
        told = f"took more than {self._time_limit:g} s" if is_over else "stayed silent past its read-timeout"
        return (AnswerStalled if self._has_begun else BackendTimeout)(f"{self._where()} {told}")

    def _where(self) -> str:
        return str(self._lease.proc.address) if self._lease is not None else "the backend"

    def _end_of(self, stream: Stream) -> BackendError:
        if stream.has_stalled:
            return BackendTimeout(f"{self._where()} takes nothing of the request", cause="write_timeout")
        return BackendClosed(
            f"{self._where()} closed the connection before its answer was complete", cause=self._eof_cause()
        )

    def _eof_cause(self) -> str:
        return "eof_in_body" if self._has_head else "eof_before_headers"

    def _name(self, error: GfastcgiError) -> Exception:
        """A stream's failure under the backend's name; an error of the client's own body goes first."""
        if self._feed_error is not None or isinstance(error, ClientClosed):
            return self._feed_error or error
        if isinstance(error, StreamTimeout):
            return self._late()
        if isinstance(error, StreamClosed):
            return BackendClosed(f"{self._where()}: {error}", cause=self._eof_cause())
        return error

    def _report(self, lease: Lease, failure: Exception) -> None:
        """Tells the pool what became of the proc; a kept connection found closed says nothing of it."""
        if isinstance(failure, (ConnectError, ConnectTimeout)):
            closed = self._pool.failed(lease, failure.cause)
        elif isinstance(failure, Overloaded):
            closed = self._pool.overloaded(lease)
        else:
            return
        for connection in closed:
            connection.close()

    def _may_retry(self, failure: Exception, tried: list[Proc], *, is_stale: bool, is_first: bool) -> bool:
        """Elsewhere after a refusal; once more, anywhere, when the backend hung up before it said a word.

        A kept connection that took nothing any more counts as nothing. One that took the request may have died of it,
        and with it its process: no third one is risked.
        """
        if isinstance(failure, ConnectTimeout):
            return not tried
        if isinstance(failure, ConnectError):
            return len(tried) < _MOST_CONNECTS
        if isinstance(failure, Overloaded):
            return not tried and not self._has_answered and self._rewind_body()
        if isinstance(failure, BackendClosed):
            return (is_stale or is_first) and not self._has_answered and (self._is_repeatable or not self._was_seen)
        return False

    def _rewind_body(self) -> bool:
        """Makes the bodies ready to be sent again; False when that cannot be."""
        bodies = [body for body in (self._body, self._data) if body is not None and body.length != 0]
        rewinds = [getattr(body, "rewind", None) for body in bodies]
        for rewind in rewinds:
            if rewind is not None:
                rewind()
        return None not in rewinds

    def _give_back(self) -> None:
        """The connection to the pool when it can be used again, else closed; the lease in any case."""
        connection, self._connection = self._connection, None
        lease, self._lease = self._lease, None
        feeder, self._feeder = self._feeder, None
        # Bytes that were encoded but never left would be taken for the start of the next request.
        keep = connection if self.is_complete and (feeder is None or feeder.ready()) else None
        try:
            if feeder is not None:
                feeder.kill()
        finally:  # the client may leave just now, and we be killed
            if connection is not None:
                stream = connection.stream
                if keep is None or not connection.core.is_idle or not stream.is_settled or stream.has_come:
                    keep = None
                    self._abort(connection)
                else:
                    stream.rest()
            if lease is not None:
                for closed in self._pool.release(lease, keep=keep):
                    closed.close()

    def _abort(self, connection: Connection) -> None:
        """ABORT_REQUEST (section 5.4) where the request still runs, then the end."""
        try:
            if not self.is_complete and not connection.stream.is_closed:
                connection.stream.send(connection.core.abort_request(connection.request_id))
        except GfastcgiError:
            pass
        connection.close()

    def close(self) -> None:
        """Gives everything back; again: nothing happens."""
        try:
            if self._lease is not None or self._connection is not None:
                self._give_back()
        finally:
            self._body.close()
            if self._data is not None:
                self._data.close()
