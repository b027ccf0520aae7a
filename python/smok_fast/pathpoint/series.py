"""Time series: several as one, and as columns of numbers."""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = ["columns_of", "merge_series", "numbers"]


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


def columns_of(samples: Iterable[tuple[float, Any]]) -> tuple[memoryview[int], memoryview[Any]]:
    """A series as two columns.

    :param samples: (timestamp in milliseconds, value or exception)
    :returns: timestamps of format ``q``, and values as :func:`numbers` has them
    :raises TypeError: a value is a text
    """
    timestamps = array("q")
    values = []
    for timestamp, value in samples:
        timestamps.append(int(timestamp))
        values.append(value)
    return memoryview(timestamps), numbers(values)


def numbers(values: Sequence[Any]) -> memoryview[Any]:
    """Values as a column of format ``q`` if all are integers, else ``d``, where exceptions are NaN.

    :raises TypeError: a value is a text
    """
    if all(isinstance(value, int) for value in values):
        return memoryview(array("q", values))
    return memoryview(
        array("d", (math.nan if isinstance(value, Exception) else value for value in values))
    )


def _timestamp(indexed: tuple[int, tuple[float, Any]]) -> float:
    return indexed[1][0]
