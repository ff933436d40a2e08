"""FastCGI programs for tests, on threads of the test's own process: a responder, and an authorizer of any kind.

Contract: they have their few lines of codec by hand (`gfastcgi.conformance.wire`), so that gfastcgi is never its own
judge; nothing is monkey-patched, no gevent is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gfastcgi.conformance.peer import Peer, Script
from gfastcgi.conformance.rows import ROWS, Reply, Row, Step
from gfastcgi.testing.scripts import echo
from gfastcgi.testing.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from gfastcgi.conformance.conversation import Asked

__all__ = ["FakeAuthorizer", "FakeFPM"]


class FakeFPM(Peer):
    """A FastCGI program in the place of php-fpm: `script(asked)` gives each answer, by default an echo of the request.

    `address` is the path of a unix socket, or a host and port (0: a free one). What was asked is in `requests`.
    The script may be exchanged at any time; `talk` and the other options are those of `Peer`. Also a context manager.
    """

    def __init__(self, address: str | tuple[str, int], script: Script | None = None, **options: Any) -> None:
        super().__init__(script or echo, **options)
        self.listen(address)
        self.address: str | tuple[str, int] = self.addresses[0]
        """Where it listens."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def option(self) -> str:
        """How a host entry of `fastcgi.server` names it."""
        if isinstance(self.address, str):
            return f'"socket" => "{self.address}"'
        return f'"host" => "{self.address[0]}", "port" => {self.address[1]}'

    @property
    def url(self) -> str:
        """How `gfastcgi.Client` and `gfastcgi.Pool` name it: "unix:/path" or "tcp://host:port"."""
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        return f"tcp://{self.address[0]}:{self.address[1]}"

    @property
    def last(self) -> Asked:
        """The last request."""
        return self.requests[-1]

    def wait_for(self, condition: Callable[[Self], object], what: str, timeout: float = 10.0) -> None:
        """Waits until `condition(self)` is true; AssertionError naming `what` after `timeout` seconds."""
        wait_until(lambda: condition(self), what, timeout)

    def go_down(self) -> None:
        """From now on who connects is refused; what it is answering goes on."""
        self.deafen()

    def come_up(self) -> None:
        """Listens again, at the same address."""
        if isinstance(self.address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)
        self.listen(self.address)


class FakeAuthorizer(Peer):
    """An authorizer that answers by a script, or as a row of `ROWS` says, which has an entry for each of its processes.

    `rule` is the script, the row, or the name of the row ("az-403"); sockets are made in `folder`. Raises KeyError
    for a name that no row has. Also a context manager.
    """

    def __init__(self, rule: str | Row | Script, folder: str | os.PathLike[str]) -> None:
        row = _ROWS[rule] if isinstance(rule, str) else rule
        self.row: Row | None = row if isinstance(row, Row) else None
        self.step = 0
        """Which of the row's steps is answered, for those that take several requests."""
        super().__init__(self._answer if isinstance(row, Row) else row, answers_at="params")
        count = self.row.procs if self.row else 1
        self._paths = [os.path.join(folder, f"authorizer-{os.urandom(3).hex()}.sock") for _ in range(count)]
        if self.row is None or not self.row.is_down:
            self.listen(*self._paths)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def hosts(self, options: str = "") -> str:
        """Its host entries in a `fastcgi.server`, each with `options`: `( "mode" => "authorizer", ... ), ...`."""
        more = f", {options}" if options else ""
        entry = '( "mode" => "authorizer", "socket" => "{}", "check-local" => "disable"{} )'
        return ", ".join(entry.format(path, more) for path in self._paths)

    @property
    def expected(self) -> Step:
        """What has to come of the present step of its row: `expected.status` 200 lets through, all else is a no."""
        if self.row is None:
            raise AttributeError("a script says nothing of what has to come of it")
        return self.row.steps[self.step]

    def _answer(self, asked: Asked) -> Reply:
        return self.expected.replies[self._paths.index(str(asked.address))]


_ROWS = {row.name: row for row in ROWS}
