"""Native threads for a WSGI application that blocks: it waits there, and the hub goes on.

Contract: a request's greenlet does for its thread whatever may wait on the hub: reading content, sending pieces and
error text. When the request ends before its thread (an abort), the thread's next such call raises `StreamClosed`.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gevent import get_hub, monkey
from gevent.event import Event
from gevent.threadpool import ThreadPool

from gfastcgi.errors import StreamClosed
from gfastcgi.http.response import close_body
from gfastcgi.server.wsgi import ErrorStream, WSGIApp

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Threaded"]

_native_lock = monkey.get_original("_thread", "allocate_lock")


class Threaded:
    """`app`, called in at most `threads` native threads; requests beyond that wait for one."""

    def __init__(self, app: WSGIApp, threads: int) -> None:
        self._app = app
        self._is_many = threads > 1
        self._pool = ThreadPool(threads)

    def __repr__(self) -> str:
        return f"<Threaded {self._app!r}>"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """PEP 3333's."""
        environ["wsgi.multithread"] = self._is_many
        talk = _Talk()
        work = _Work(self._app, environ, start_response, talk)
        self._pool.spawn(work.run)
        talk.serve()
        if work.error is not None:
            raise work.error
        return work.whole


class _Call:
    """Something that a thread asks of its request's greenlet."""

    __slots__ = ("error", "function", "lock", "value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.value: Any = None
        self.error: BaseException | None = None
        self.lock = _native_lock()
        self.lock.acquire()


class _Talk:
    """Between a thread and the greenlet of its request."""

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._calls: deque[_Call | None] = deque()
        self._posted = Event()
        self._is_over = False

    def ask(self, function: Callable[[], Any]) -> Any:
        """Calls `function` in the greenlet, from the thread. Raises what it raises, or `StreamClosed`."""
        call = _Call(function)
        self._loop.run_callback_threadsafe(self._post, call)
        call.lock.acquire()
        if call.error is not None:
            raise call.error
        return call.value

    def done(self) -> None:
        """The thread has ended its work."""
        self._loop.run_callback_threadsafe(self._post, None)

    def _post(self, call: _Call | None) -> None:
        if self._is_over and call is not None:
            _refuse(call)
            return
        self._calls.append(call)
        self._posted.set()

    def serve(self) -> None:
        """Does what the thread asks, until it is done."""
        call: _Call | None = None
        try:
            while True:
                self._posted.wait()
                while self._calls:
                    call = self._calls.popleft()
                    if call is None:
                        return
                    try:
                        call.value = call.function()
                    except Exception as error:
                        call.error = error
                    call.lock.release()
                    call = None
                self._posted.clear()
        finally:
            self._is_over = True
            for left in (call, *self._calls):
                if left is not None:
                    _refuse(left)


def _refuse(call: _Call) -> None:
    call.error = StreamClosed("the request has ended")
    call.lock.release()


class _Work:
    """One call of the application, in a thread."""

    def __init__(self, app: WSGIApp, environ: dict[str, Any], start_response: Callable[..., Any], talk: _Talk) -> None:
        self._app = app
        self._environ = environ
        self._start_response = start_response
        self._talk = talk
        self._write: Callable[[bytes], None] | None = None
        self.whole: list[bytes] = []
        self.error: Exception | None = None
        source, errors = environ["wsgi.input"], environ["wsgi.errors"]
        if isinstance(source, io.BufferedReader):
            environ["wsgi.input"] = io.BufferedReader(_Raw(talk, source))
        environ["wsgi.errors"] = ErrorStream(lambda data: talk.ask(lambda: errors.write(data.decode())))

    def run(self) -> None:
        try:
            self._call()
            self._environ["wsgi.errors"].flush()
        except Exception as error:
            self.error = error
        finally:
            self._talk.done()

    def _start(self, status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        write = self._start_response(status, fields, exc_info)
        self._write = lambda data: self._talk.ask(lambda: write(data))
        return self._write

    def _call(self) -> None:
        result = self._app(self._environ, self._start)
        try:
            if type(result) in (list, tuple):
                self.whole = list(result)
                return
            for data in result:
                if self._write is None:
                    raise AssertionError("the application has not called start_response")
                if data:
                    self._write(data)
        finally:
            close_body(result)


class _Raw(io.RawIOBase):
    """The content, read by the greenlet."""

    def __init__(self, talk: _Talk, source: io.BufferedReader) -> None:
        super().__init__()
        self._talk = talk
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer, /) -> int:
        """Waits for at least one byte; 0 at the end."""
        view = memoryview(target).cast("B")
        data = self._talk.ask(lambda: self._source.read1(len(view)))
        view[: len(data)] = data
        return len(data)
