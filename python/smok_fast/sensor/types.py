"""How values of pathpoints become values of a sensor, and back.

A type's name comes from the server. The numbers in ``name(precision=1, multiplier=0.1)`` are read
by a parser that knows literals only; nothing is ever evaluated.
"""

from __future__ import annotations

import abc
import functools
import math
import re
from typing import Any

from smok_fast.exceptions import OperationFailedError
from smok_fast.pathpoint import PathpointType, PathpointValueType, to_type

__all__ = [
    "BasicType",
    "NumericType",
    "OperationFailedError",
    "PathpointType",
    "SVTOrExcept",
    "SensorValueType",
    "UnicodeType",
    "get_type",
    "to_type",
]

SensorValueType = str | int | float | list[Any] | dict[str, Any]
SVTOrExcept = SensorValueType | OperationFailedError


class BasicType(abc.ABC):
    """Base class of sensor types. Called by whoever reads or writes the sensor."""

    __slots__ = ()

    @abc.abstractmethod
    def pathpoint_to_sensor(self, *values: PathpointValueType) -> SensorValueType:
        """The sensor's value.

        :param values: values of its pathpoints, in the order of its path
        :raises TypeError: a value is not what this type is made from
        """

    @abc.abstractmethod
    def sensor_to_pathpoint(
        self, value: SensorValueType, *pathpoint_names: str
    ) -> tuple[PathpointValueType, ...]:
        """The values to write, one for each pathpoint.

        :param value: the sensor's value
        :param pathpoint_names: names of its pathpoints, in the order of its path
        :raises TypeError: the value is not of this type
        """


class NumericType(BasicType):
    """A number: round(value * multiplier + offset, precision).

    :param precision: number of decimal places
    :param multiplier: what the pathpoint's value is multiplied by
    :param offset: what is added then
    :param kwargs: ignored
    :raises ValueError: the multiplier is zero, so the type could not be written
    """

    __slots__ = ("multiplier", "offset", "precision")

    def __init__(
        self,
        precision: int = 2,
        multiplier: float = 1,
        offset: float = 0,
        **kwargs: Any,
    ) -> None:
        if multiplier == 0:
            raise ValueError("multiplier of a sensor type must not be zero")
        self.precision = precision
        self.multiplier = multiplier
        self.offset = offset

    def pathpoint_to_sensor(self, *values: PathpointValueType) -> float:
        """The number that the first value stands for.

        :raises TypeError: the value is no number
        """
        return round(_number(values[0]) * self.multiplier + self.offset, self.precision)

    def sensor_to_pathpoint(
        self, value: SensorValueType, *pathpoint_names: str
    ) -> tuple[PathpointValueType, ...]:
        """The value for the first pathpoint, of that pathpoint's type.

        :raises TypeError: the value is no number
        """
        raw = (_number(value) - self.offset) / self.multiplier
        kind = PathpointType.get_type(pathpoint_names[0])
        if kind in {PathpointType.B, PathpointType.W, PathpointType.w}:
            # 21.7 / 0.1 is 216.99999999999997, and an integer type would cut off the fraction
            raw = round(raw, 9)
        return (to_type(raw, kind),)


class UnicodeType(BasicType):
    """A text."""

    __slots__ = ()

    def pathpoint_to_sensor(self, *values: PathpointValueType) -> str:
        """The first value, as text."""
        return str(values[0])

    def sensor_to_pathpoint(
        self, value: SensorValueType, *pathpoint_names: str
    ) -> tuple[PathpointValueType, ...]:
        """The value, as text, for the first pathpoint."""
        return (str(value),)


_WELL_KNOWN: dict[str, BasicType] = {
    "std.Number10": NumericType(multiplier=0.1),
    "std.Number100": NumericType(multiplier=0.01),
    "frisko.DayOfWeek": NumericType(offset=-1),
    "std.Unicode": UnicodeType(),
}

_PLAIN = NumericType()

#: Longest name of a type that is looked into.
_MAX_NAME = 1000

# One `key=literal` and the comma after it. Longer integers would be no scale of anything
_ARGUMENT = re.compile(
    r"""\s* (?P<key>[A-Za-z_]\w*) \s* = \s*
    (?: (?P<integer> [+-]?\d{1,18} )
      | (?P<float> [+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)? )
      | '[^'\\]*' | "[^"\\]*" | True | False | None
    ) \s* (?:,|\Z)""",
    re.VERBOSE | re.ASCII,
)


@functools.lru_cache(maxsize=1024)
def get_type(type_name: str) -> BasicType:
    """The type of this name; plain numeric if the name says nothing special.

    :param type_name: name, as the server gives it
    :raises ValueError: the name has arguments, and they are not literals that make sense
    """
    if type_name in _WELL_KNOWN:
        return _WELL_KNOWN[type_name]
    _, bracket, rest = type_name.partition("(")
    if not bracket:
        return _PLAIN
    if len(type_name) > _MAX_NAME or not rest.endswith(")"):
        raise ValueError(f"malformed sensor type {type_name[:_MAX_NAME]!r}")
    try:
        return NumericType(**_numbers(rest[:-1]))
    except ValueError as error:
        raise ValueError(f"malformed sensor type {type_name!r}: {error}") from error


def _numbers(source: str) -> dict[str, Any]:
    """Arguments of :class:`NumericType`; others are checked to be literals and left out."""
    arguments: dict[str, Any] = {}
    position = 0
    while source[position:].strip():
        match = _ARGUMENT.match(source, position)
        if match is None:
            raise ValueError(f"name=literal was expected at {source[position:]!r}")
        position = match.end()
        if match["key"] in {"precision", "multiplier", "offset"}:
            arguments[match["key"]] = _parse_number(match)
    return arguments


def _parse_number(match: re.Match[str]) -> int | float:
    if match["integer"] is not None:
        return int(match["integer"])
    number = float(match["float"] or "nan")
    if match["key"] == "precision" or not math.isfinite(number):
        raise ValueError(f"{match['key']} must not be {match[0].strip()!r}")
    return number


def _number(value: object) -> int | float:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return value
    raise TypeError(f"a finite number was expected, got {value!r}")
