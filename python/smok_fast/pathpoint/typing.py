"""The types of pathpoints and of their values."""

from __future__ import annotations

import enum
from typing import TypeAlias

from smok_fast.exceptions import OperationFailedError

__all__ = ["PathpointType", "PathpointValueType", "ValueOrExcept", "to_type"]

#: What a pathpoint can hold.
PathpointValueType: TypeAlias = int | float | str

#: What a read can give: a value, or why there is none.
ValueOrExcept: TypeAlias = PathpointValueType | OperationFailedError


class PathpointType(enum.Enum):
    """The type of a pathpoint's values, by the letter that declares it."""

    B = "B"  #: binary, 0 or 1
    W = "W"  #: unsigned 16-bit
    w = "w"  #: signed 16-bit
    f = "f"  #: IEEE 754 single
    d = "d"  #: IEEE 754 double
    u = "u"  #: Unicode text

    @staticmethod
    def get_type(path: str) -> PathpointType:
        """The type that a pathpoint's name declares by its first letter, or second after ``r``.

        :param path: the name
        :raises ValueError: it declares none
        """
        letter = path[1:2] if path.startswith("r") else path[:1]
        try:
            return PathpointType(letter)
        except ValueError:
            raise ValueError(f"{path!r} is no pathpoint: its name declares no type") from None


def to_type(value: PathpointValueType, type_: PathpointType) -> PathpointValueType:
    """Coerce a value to a pathpoint's type.

    Numbers become integers as Python's ``int`` does it, towards zero, and are then clipped to the
    type's range.

    :param value: a number or a text
    :param type_: the type to coerce to
    :raises ValueError: this value cannot become that, such as a text that is no number, or NaN
        and the infinities that are to become integers
    """
    try:
        match type_:
            case PathpointType.B:
                return bool(int(value))
            case PathpointType.W:
                return min(max(int(value), 0), 65535)
            case PathpointType.w:
                return min(max(int(value), -32768), 32767)
            case PathpointType.f | PathpointType.d:
                return float(value)
            case PathpointType.u:
                return str(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{value!r:.100} cannot become {type_.value}: {error}") from error
    raise ValueError(f"{type_!r} is no PathpointType")
