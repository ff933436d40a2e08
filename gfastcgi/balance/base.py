"""What a balance is: one method that picks one of several candidates for a request.

Contract: the candidates are available ones, in the order of the configuration, and never none; a policy keeps what
state it likes, but does no I/O and reads no clock. Chance comes from the `random.Random` that it is made with: a
balance is a callable that takes one and gives a policy, as a class does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

__all__ = ["C", "Candidate", "Factory", "Policy", "RequestKey", "wants_latency"]


class Candidate(Protocol):
    """What a policy sees of a host."""

    @property
    def name(self) -> str:
        """Unique among the candidates, and the same in every process and on every gateway."""

    @property
    def load(self) -> int:
        """Requests that the host works on now."""

    @property
    def weight(self) -> int:
        """Its share relative to the others' (`"weight"`), at least 1; it does not change."""

    @property
    def latency(self) -> float:
        """Seconds that it takes to answer, as `backend.latency` measures; 0.0 while unknown, or if nobody wants it."""


class RequestKey(Protocol):
    """What a policy sees of a request."""

    @property
    def authority(self) -> str:
        """`host[:port]` in lower case, "" if the request named none."""

    @property
    def path(self) -> str:
        """The normalised path."""

    @property
    def remote_addr(self) -> str:
        """The client's address."""

    @property
    def balance(self) -> str:
        """What `fastcgi.balance` is for this request: a conditional may change it."""


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    """A balance, as `fastcgi.balance` names it. With an attribute `wants_latency = True` latencies are measured."""

    def select(self, candidates: Sequence[C], request: RequestKey) -> C:
        """One of `candidates` (at least one), for `request`. A tuple that comes again has the same members."""


Factory = Callable[[random.Random], Policy]
"""What makes a policy, for one list of hosts."""


def wants_latency(factory: Factory) -> bool:
    """Whether the policies of `factory` read `Candidate.latency`."""
    return bool(getattr(factory, "wants_latency", False))
