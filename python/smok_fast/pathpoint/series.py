"""Several time series as one."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["merge_series"]


def merge_series(*series: Iterable[tuple[float, Any]]) -> Iterator[tuple[float, list[Any]]]:
    """Merge series by holding each one's last value until its next.

    Starts once every series has a value. Lazy: takes one sample of each series at a time.

    :param series: (timestamp, value), each series in the order of time
    :returns: each timestamp at which some series has a sample, and the values of all at that time
    """
    merged = heapq.merge(
        *(zip(itertools.repeat(index), samples) for index, samples in enumerate(series)),
        key=_timestamp,
    )
    latest: dict[int, Any] = {}
    for timestamp, samples in itertools.groupby(merged, key=_timestamp):
        latest.update((index, value) for index, (_, value) in samples)
        if len(latest) == len(series):
            yield timestamp, [latest[index] for index in range(len(series))]


def _timestamp(indexed: tuple[int, tuple[float, Any]]) -> float:
    return indexed[1][0]
