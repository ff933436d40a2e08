"""Load from many clients at once, with what became of every request."""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from typing import TYPE_CHECKING

from peers.http import BadAnswerError, Connection, encode_request
from peers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.gateway import Gateway
    from peers.http import Answer

REQUESTS = 200
CLIENTS = 8


def outcome(answer: Answer | None) -> str:
    """`200`; `503 no_backend` with the cause that Proxy-Status tells; `cut`; `closed` for no answer at all."""
    if answer is None:
        return "closed"
    if not answer.whole:
        return "cut"
    told = re.search(r'details="(\w+)"', answer.get("Proxy-Status") or "")
    return f"{answer.status} {told[1]}" if told else str(answer.status)


class Load:
    """`requests` requests of `clients` clients, each on a connection of its own that it keeps as long as it may.

    `target(number)` is what request `number` asks for. Started at once; `outcomes` counts, and is whole after `join`.
    A kept connection that the gateway closed before a word of an answer is replaced once (RFC 9112 section 9.3.1), and
    counted in `reconnects`.
    """

    def __init__(
        self,
        site: Gateway,
        target: Callable[[int], str] = lambda number: "/",
        *,
        method: str = "GET",
        body: bytes | None = None,
        requests: int = REQUESTS,
        clients: int = CLIENTS,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.by_number: dict[int, str] = {}
        self.reconnects = 0
        self._numbers = itertools.count()
        self._requests = requests
        self._arguments = (site, target, method, body)
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        """How many requests have come to their end."""
        return len(self.by_number)

    def wait_for(self, done: int) -> None:
        wait_until(lambda: self.done >= done or self._errors, f"{done} requests to be done", 20)

    def join(self) -> Counter[str]:
        """Waits for all of them."""
        for thread in self._threads:
            thread.join()
        assert not self._errors, self._errors
        assert sum(self.outcomes.values()) == self._requests
        return self.outcomes

    def _run(self) -> None:
        try:
            self._ask_all()
        except BaseException as error:
            self._errors.append(error)

    def _ask_all(self) -> None:
        site, target, method, body = self._arguments
        connection: Connection | None = None
        for number in self._numbers:
            if number >= self._requests:
                break
            is_kept = connection is not None
            connection = connection or site.connect()
            answer = _ask(connection, method, target(number), body)
            if answer is None and is_kept:
                self.reconnects += 1
                connection.sock.close()
                connection = site.connect()
                answer = _ask(connection, method, target(number), body)
            told = self.by_number[number] = outcome(answer)
            self.outcomes[told] += 1
            if answer is None or not answer.whole or answer.get("Connection") == "close":
                connection.sock.close()
                connection = None
        if connection is not None:
            connection.sock.close()


def _ask(connection: Connection, method: str, target: str, body: bytes | None) -> Answer | None:
    try:
        connection.send(encode_request(method, target, body))
        return connection.try_answer(method)
    except (BrokenPipeError, ConnectionResetError, BadAnswerError):
        return None


def counters(site: Gateway, path: str = "/statistics") -> dict[str, int]:
    """What `status.statistics-url` tells."""
    lines = site.get(path).body.decode().splitlines()
    return {name: int(value) for name, value in (line.rsplit(": ", 1) for line in lines)}


def failures(site: Gateway) -> dict[str, int]:
    """The causes that were counted, how often each."""
    prefix = "gw.failed."
    found = {name.removeprefix(prefix): value for name, value in counters(site).items() if name.startswith(prefix)}
    return {cause: value for cause, value in found.items() if value}


def at_rest(site: Gateway) -> int:
    """The descriptors of a gateway that has nothing to do, without its kept connections."""
    kept = sum(value for name, value in counters(site).items() if name.startswith("gw.") and name.endswith(".idle"))
    return site.fds() - kept


def assert_at_rest(site: Gateway, fds: int) -> None:
    """Nothing of a load is left: no request, no waiter, no descriptor more than the `fds` of before."""

    def is_at_rest() -> bool:
        now = counters(site)
        loads = [value for name, value in now.items() if name.endswith((".load", "-requests")) and value]
        kept = sum(value for name, value in now.items() if name.startswith("gw.") and name.endswith(".idle"))
        return not loads and site.fds() <= fds + kept

    wait_until(is_at_rest, f"all loads to be 0 and {fds} descriptors: {site.fds()}, {counters(site)}", 5)
