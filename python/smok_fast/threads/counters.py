"""What the order executor counts."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
from bisect import bisect_left
from typing import Final

from smok_fast.pathpoint.pathpoint import Pathpoint, ReadGroup

__all__ = ["LATENCY_BOUNDS", "Counters", "LatencyHistogram"]

#: How many buses have a histogram of their own.
MOST_BUSES = 256

#: What all further ones have theirs under.
OTHERS = "others"


#: Upper bounds of the buckets of a latency histogram in seconds: 0.1 ms, and doubled up to 105 s.
LATENCY_BOUNDS: Final = tuple(0.0001 * 2**exponent for exponent in range(21))


@dataclasses.dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """How long a bus took to answer.

    :ivar counts: how many answers fell in each bucket: those up to the first of
        :data:`LATENCY_BOUNDS`, those up to the second, and so on; the last ones took longer
    :ivar seconds: how long all answers took together
    """

    counts: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """How many answers there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """What a share of the answers did not take longer than: the upper bound of their bucket.

        :param share: 0 to 1; 0.5 for the median
        :return: seconds, infinity for the last bucket; None if there were no answers
        """
        wanted = max(share * self.count, 1)
        totals = itertools.accumulate(self.counts)
        bounds = zip((*LATENCY_BOUNDS, math.inf), totals, strict=True)
        return next((bound for bound, total in bounds if total >= wanted), None)


class Counters:
    """Figures about orders. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retried = 0
        self._failed = 0
        self._latencies: dict[str, _Latency] = {}

    def retried(self) -> None:
        """An order is to be tried again."""
        with self._lock:
            self._retried += 1

    def failed(self, count: int = 1) -> None:
        """Orders failed for good."""
        with self._lock:
            self._failed += count

    def took(self, bus: Pathpoint | ReadGroup, seconds: float) -> None:
        """A bus has answered.

        :param bus: a read group, or a pathpoint without one
        :param seconds: how long it took
        """
        name = bus.name if isinstance(bus, Pathpoint) else _name_of(bus)
        with self._lock:
            if name not in self._latencies and len(self._latencies) >= MOST_BUSES:
                name = OTHERS
            self._latencies.setdefault(name, _Latency()).add(max(seconds, 0.0))

    def snapshot(self) -> tuple[int, int, dict[str, LatencyHistogram]]:
        """How many tries were repeated, how many orders failed for good, and how long each bus
        takes.
        """
        with self._lock:
            latencies = {name: each.snapshot() for name, each in self._latencies.items()}
            return self._retried, self._failed, latencies


class _Latency:
    """A histogram that grows."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def snapshot(self) -> LatencyHistogram:
        return LatencyHistogram(tuple(self._counts), self._seconds)


def _name_of(group: ReadGroup) -> str:
    """What to call a read group: its ``name``, if it is a text, else its class and identity."""
    name = None
    with contextlib.suppress(Exception):  # it is the user's
        name = getattr(group, "name", None)
    return name if isinstance(name, str) else f"{type(group).__name__} {id(group):#x}"
