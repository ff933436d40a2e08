"""The answer of a FastCGI program as a `webob.Response`, with what FastCGI says beside it.

Contract: the body is read from the program as it is asked for. Until it ended, or was closed, the answer holds its
connection; one that breaks off raises, and never looks whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType

import gevent
import webob

from gfastcgi.cgi.response import Head
from gfastcgi.client import Exchange
from gfastcgi.errors import BackendClosed, GfastcgiError
from gfastcgi.library.bodies import raise_own

__all__ = ["Response"]


class Response(webob.Response):
    """An answer. `body`, `text` and `json` read it whole, `app_iter` gives it in pieces; either may raise
    `BackendError` and `BadRecord`. Used as a context manager it is closed at the end.
    """

    def __init__(
        self, head: Head, exchange: Exchange, sent: Sequence[object], stderr: list[bytes], *, has_body: bool
    ) -> None:
        """`sent` are the bodies that are being sent; `has_body` False: the Content-Length is that of another answer."""
        self._exchange = exchange
        self._stderr = stderr
        length = head.content_length if has_body else None
        status = f"{head.status} {head.reason}"
        self._pieces = _Pieces(exchange, sent, length)
        super().__init__(status=status, headerlist=[*head.fields], app_iter=self._pieces)

    def __repr__(self) -> str:
        return f"<Response {self.status} of {self._exchange!r}>"

    @property
    def stderr(self) -> bytes:
        """What the program wrote to STDERR so far, the first 64 KiB of it."""
        return b"".join(self._stderr)

    @property
    def app_status(self) -> int | None:
        """The program's exit status (FastCGI 1.0 section 5.5); None: the answer has not ended."""
        return self._exchange.app_status if self._exchange.is_complete else None

    @property
    def is_complete(self) -> bool:
        """True once all of the answer has come."""
        return self._exchange.is_complete

    def close(self) -> None:
        """Gives the connection back; an answer that is not complete is aborted (ABORT_REQUEST)."""
        self._pieces.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Pieces:
    """The body, once."""

    def __init__(self, exchange: Exchange, sent: Sequence[object], length: int | None) -> None:
        self._exchange = exchange
        self._sent = sent
        self._left = length
        # An answer that has come with its head needs its connection no more.
        self._pieces = iter(exchange.take_whole() or ()) if exchange.is_complete else None
        self._is_open = not exchange.is_complete

    def __iter__(self) -> Iterator[bytes]:
        return self._read()

    def _read(self) -> Iterator[bytes]:
        pieces = self._pieces if self._pieces is not None else iter(self._exchange)
        try:
            for piece in pieces:
                piece = self._within_length(piece)
                if piece:
                    yield piece
        except GfastcgiError:
            raise_own(self._sent)
            raise
        finally:
            self.close()
        if self._left:
            raise BackendClosed(f"the answer is {self._left} bytes short of its Content-Length", cause="eof_in_body")

    def _within_length(self, piece: bytes) -> bytes:
        """`piece`, or what of it belongs to the answer: Content-Length is where that ends."""
        if self._left is None:
            return piece
        piece = piece[: self._left]
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Gives the connection back."""
        self._is_open = False
        self._exchange.close()

    def __del__(self) -> None:
        if self._is_open:
            # In a greenlet of its own: this may run anywhere, and closing may wait.
            gevent.spawn(self._exchange.close)
            warnings.warn(f"an answer was neither read nor closed: {self._exchange!r}", ResourceWarning, stacklevel=2)
