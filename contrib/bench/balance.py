"""What a choice costs: microseconds of CPU for every balance, by itself and through a pool.

    python contrib/bench/balance.py [BALANCE ...] [-n HOSTS ...]

same      the same candidates again, of some load       weights   the same, with weights from 1 to 10
idle      the same, all idle: they tie                  change    a host is away, each time another one
pool      a pool's acquire and release                  full      the same where every host takes one connection, and
                                                                  half of them are taken: they come and go
The least of some repetitions, by `time.process_time`, so that what else the machine does hardly counts.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from itertools import cycle

from gfastcgi.backend.backend import make_hosts
from gfastcgi.backend.pool import Pool
from gfastcgi.balance import POLICIES, Factory, wants_latency
from gfastcgi.balance.conformance import Host, Request
from gfastcgi.config import HostConfig
from gfastcgi.plugins import find_balance

COLUMNS = ("same", "idle", "weights", "change", "pool", "full")
REPEATS, CALLS = 15, 100
REQUESTS = cycle([Request(path=f"/page/{number}", remote_addr=f"192.0.2.{number}") for number in range(256)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(POLICIES), metavar="BALANCE", help="default: ours")
    parser.add_argument("-n", type=int, nargs="+", default=[3, 10, 1000], metavar="HOSTS", dest="counts")
    options = parser.parse_args()
    for count in options.counts:
        print(f"\n{count:,} hosts, us{'':11}" + "".join(f"{column:>9}" for column in COLUMNS))
        for name in options.names:
            factory = find_balance(name) or parser.error(f"there is no balance named {name}")
            print(f"{name:24}" + "".join(f"{cost:9.1f}" for cost in costs(factory, count)))


def costs(factory: Factory, count: int) -> list[float]:
    """One figure a column."""
    loads = random.Random(1)

    def hosts(*, is_idle: bool = False, heaviest: int = 1) -> tuple[Host, ...]:
        return tuple(
            Host(
                f"10.0.{number // 256}.{number % 256}:9000",
                1 + number % heaviest,
                0 if is_idle else loads.randrange(50),
            )
            for number in range(count)
        )

    changing = cycle([some[:number] + some[number + 1 :] or some for some in [hosts()] for number in range(count)])
    return [
        measure(choice(factory, cycle([hosts()]))),
        measure(choice(factory, cycle([hosts(is_idle=True)]))),
        measure(choice(factory, cycle([hosts(heaviest=10)]))),
        measure(choice(factory, changing)),
        measure(turn(factory, count, None)),
        measure(turn(factory, count, 1)),
    ]


def choice(factory: Factory, candidates: cycle[tuple[Host, ...]]) -> Callable[[], object]:
    policy = factory(random.Random(1))
    return lambda: policy.select(next(candidates), next(REQUESTS))


def turn(factory: Factory, count: int, capacity: int | None) -> Callable[[], object]:
    """Acquires a lease and releases the oldest, with as many open as half the hosts."""
    configs = [HostConfig(host=f"10.0.{n // 256}.{n % 256}", port=9000, max_connections=capacity) for n in range(count)]
    pool = Pool(make_hosts(configs), factory(random.Random(1)), clock=time.monotonic, measures=wants_latency(factory))
    leases = [pool.acquire(next(REQUESTS)) for _ in range(count // 2)]

    def turn() -> Sequence[object]:
        lease = pool.acquire(next(REQUESTS))
        assert lease is not None
        leases.append(lease)
        oldest = leases.pop(0)
        assert oldest is not None
        pool.answered(oldest)
        return pool.release(oldest)

    return turn


def measure(call: Callable[[], object]) -> float:
    """Microseconds of CPU that a call costs, at best."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, (time.process_time() - start) / CALLS)
    return best * 1e6


if __name__ == "__main__":
    main()
