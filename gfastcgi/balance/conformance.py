"""What holds for every balance, as a check that an author of a plugin runs in a test: `check(MyPolicy)`.

Contract: `check` returns when the policy keeps its contract (`base`) and raises `AssertionError` that says what it
broke. How requests are shared is not looked at: a policy that sends all of them to the first host conforms.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gfastcgi.balance.base import Factory, Policy

__all__ = ["Host", "Request", "check"]


@dataclass(eq=False)
class Host:
    """A candidate."""

    name: str
    weight: int = 1
    load: int = 0
    latency: float = 0.0


@dataclass(frozen=True)
class Request:
    """A request."""

    authority: str = "example.org"
    path: str = "/index.php"
    remote_addr: str = "192.0.2.1"
    balance: str = field(default="", compare=False)


_ODD_REQUESTS = (
    Request("", "", ""),
    Request("\udcff", "/\udc80", "\udc80"),
    Request("x" * 10_000, "/" * 100_000, "2001:db8::1%eth0"),
    Request("bücher.example", "/\0/\U0001f600", "unix:/run/x.sock"),
)


def check(factory: Factory, *, seed: int = 0) -> None:
    """Raises `AssertionError` unless the policies of `factory` keep the contract. `seed` varies what they are asked."""
    for test in (_check_choice, _check_odd_requests, _check_hands_off, _check_chance, _check_independence):
        test(factory, random.Random(seed))


def _check_choice(factory: Factory, rng: random.Random) -> None:
    """One of the candidates, from 1 to 1,000 of them, in a list as in a tuple, whoever comes and goes."""
    for count in (1, 2, 3, 7, 1000):
        policy, hosts = factory(random.Random(1)), _hosts(count, rng)
        for request, up in _traffic(hosts, rng, rounds=20):
            _select(policy, up, request)
        for request, up in _traffic(hosts, rng, rounds=20):
            _select(policy, list(up), request)
        members = list(hosts)
        while len(members) > 1:
            # The same list, shorter: a policy must not take it for what it was.
            members.remove(_select(policy, members, Request()))
            del members[len(members) // 2 + 1 :]


def _check_odd_requests(factory: Factory, rng: random.Random) -> None:
    """Bytes that are no UTF-8, nothing at all, and long ones."""
    policy, hosts = factory(random.Random(1)), _hosts(3, rng)
    for request in _ODD_REQUESTS:
        _select(policy, tuple(hosts), request)


def _check_hands_off(factory: Factory, rng: random.Random) -> None:
    """The candidates, and the sequence that holds them, stay as they are."""
    policy, hosts = factory(random.Random(1)), _hosts(5, rng)
    for request, up in _traffic(hosts, rng, rounds=50):
        given = list(up)
        before = [(host, vars(host).copy()) for host in given]
        policy.select(given, request)
        after = [(host, vars(host).copy()) for host in given]
        _require(before == after, "it changed the candidates, which are not its own")


def _check_chance(factory: Factory, rng: random.Random) -> None:
    """Chance comes from the generator that it is made with: alike seeds, alike choices."""
    seed = rng.random()
    runs = []
    for _ in range(2):
        again = random.Random(seed)
        policy, hosts = factory(random.Random(seed)), _hosts(6, again)
        runs.append([_select(policy, up, request).name for request, up in _traffic(hosts, again, rounds=200)])
    _require(runs[0] == runs[1], "it chose otherwise with the same seed: chance is the generator's that it was given")


def _check_independence(factory: Factory, rng: random.Random) -> None:
    """Two policies, as two lists of hosts have them, know nothing of each other."""
    seed = rng.random()

    def choices(*, beside: bool) -> list[str]:
        again = random.Random(seed)
        policy, other = factory(random.Random(seed)), factory(random.Random(seed))
        hosts, found = _hosts(4, again), []
        for request, up in _traffic(hosts, again, rounds=100):
            if beside:
                _select(other, up[:1], request)
            found.append(_select(policy, up, request).name)
        return found

    _require(choices(beside=False) == choices(beside=True), "what one policy is asked changes what another one chooses")


def _hosts(count: int, rng: random.Random) -> list[Host]:
    return [Host(f"10.0.{number // 256}.{number % 256}:9000", rng.choice((1, 1, 2, 5))) for number in range(count)]


def _traffic(hosts: Sequence[Host], rng: random.Random, *, rounds: int) -> Iterator[tuple[Request, tuple[Host, ...]]]:
    """Requests, each with the candidates that are up then, in their order; loads and latencies change on the way."""
    up = tuple(hosts)
    for number in range(rounds):
        for host in rng.sample(hosts, min(3, len(hosts))):
            host.load = rng.choice((0, 0, 1, 3, 200))
            host.latency = rng.choice((0.0, 0.001, 0.02, 30.0))
        if rng.random() < 0.5:
            up = tuple(host for host in hosts if rng.random() < 0.7) or tuple(hosts)
        yield Request(path=f"/{number}", remote_addr=f"192.0.2.{rng.randrange(256)}"), up


def _select(policy: Policy, candidates: Sequence[Host], request: Request) -> Host:
    chosen = policy.select(candidates, request)
    is_one = any(chosen is candidate for candidate in candidates)
    _require(is_one, lambda: f"it chose {chosen!r:.200}, which is none of its {len(candidates)} candidates")
    return chosen


def _require(holds: bool, message: str | Callable[[], str]) -> None:
    if not holds:
        raise AssertionError(message if isinstance(message, str) else message())
