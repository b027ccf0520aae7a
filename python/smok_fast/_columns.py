"""Time series as columns of numbers, which NumPy takes without copying them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["columns_of", "numbers", "samples_of"]


def columns_of(samples: Iterable[tuple[float, Any]]) -> tuple[memoryview[int], memoryview[Any]]:
    """A series as two columns.

    :param samples: (timestamp in milliseconds, value or exception)
    :returns: timestamps of format ``q``, and values as :func:`numbers` has them
    :raises TypeError: a value is a text
    """
    timestamps, values = samples_of(samples)
    return timestamps, numbers(values)


def samples_of(samples: Iterable[tuple[float, T]]) -> tuple[memoryview[int], list[T]]:
    """A series as timestamps and what there was at these.

    :param samples: (timestamp in milliseconds, anything)
    """
    timestamps = array("q")
    values = []
    for timestamp, value in samples:
        timestamps.append(int(timestamp))
        values.append(value)
    return memoryview(timestamps), values


def numbers(values: Sequence[Any]) -> memoryview[Any]:
    """Values as a column of format ``q`` if all are integers, else ``d``, where exceptions are NaN.

    :raises TypeError: a value is a text
    """
    if all(isinstance(value, int) for value in values):
        return memoryview(array("q", values))
    return memoryview(
        array("d", (math.nan if isinstance(value, Exception) else value for value in values))
    )
