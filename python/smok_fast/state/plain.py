"""Values of Python as bytes, and back again without running what the bytes say.

What JSON gives back exactly is kept as JSON. The rest is pickled, and read back by an unpickler
that is no interpreter any more:

- Of pickle's operations only those that build values are known; none sets an attribute, none makes
  an object without calling its constructor, none consults ``copyreg``.
- A name stands for a function of a table here, for an enumeration that the program has loaded, or
  for a class that the caller allows. Nothing is imported, and no class is handed out that the bytes
  could change: they get a function that calls it.
- What was written is read back at once: what could not be read later is refused now.

A class that the caller allows is unpickled as that class says, attributes and all.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import enum
import io
import json
import logging
import math
import pickle
import pickletools
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from smok_fast.exceptions import OperationFailedError
from smok_fast.predicate.base import DisabledTime, Time
from smok_fast.predicate.event import Event

__all__ = ["Encoder", "decode", "dumps", "encode", "loads"]

logger = logging.getLogger(__name__)

_PROTOCOL = 5

#: The operations that make plain values; see the documentation of ``pickletools``.
_OPERATIONS = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK
    MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS
    EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET
    STACK_GLOBAL REDUCE
    """.split()  # noqa: SIM905 - a list of one word a line is no list to read
)

#: What instances of an allowed class take besides.
_OPERATIONS_ON_OBJECTS = frozenset(("NEWOBJ", "NEWOBJ_EX", "BUILD"))


def encode(value: object, classes: Iterable[type] = ()) -> str | bytes:
    """A value as JSON if JSON gives it back exactly, else pickled.

    May run code of the classes that the value is made of.

    :param value: the value
    :param classes: classes that may be in it besides plain data
    :raises ValueError: it cannot be kept; the message says why
    """
    # What JSON finds nested too deeply, or an integer with too many digits, pickle may take.
    with contextlib.suppress(ValueError, RecursionError):
        if _is_json(value):
            return json.dumps(value, separators=(",", ":"))
    return dumps(value, classes)


def decode(
    data: str | bytes,
    classes: Iterable[type] = (),
    known_event: Callable[[Event], Event] | None = None,
) -> Any:
    """The value that :func:`encode` was given; for the parameters see :func:`loads`.

    :raises ValueError: the data is not the work of :func:`encode`, or the value is not plain
    """
    if isinstance(data, bytes):
        return loads(data, classes, known_event)
    try:
        return json.loads(data)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error


def dumps(value: object, classes: Iterable[type] = ()) -> bytes:
    """A value, pickled.

    May run code of the classes that the value is made of.

    :param value: the value
    :param classes: classes that may be in it besides plain data
    :raises ValueError: it cannot be kept; the message says why
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, _PROTOCOL).dump(value)
    except Exception as error:
        raise ValueError(f"it cannot be pickled: {error!r}") from error
    data = buffer.getvalue()
    loads(data, classes)
    return data


def loads(
    data: bytes,
    classes: Iterable[type] = (),
    known_event: Callable[[Event], Event] | None = None,
) -> Any:
    """The value that :func:`dumps` was given.

    :param data: any bytes
    :param classes: classes that may be in it besides plain data
    :param known_event: called with each event in it; gives the one to take in its place
    :raises ValueError: the bytes are no pickle, or one of something else than plain data
    """
    allowed = {(cls.__module__, cls.__qualname__): cls for cls in classes}
    operations = _OPERATIONS | _OPERATIONS_ON_OBJECTS if allowed else _OPERATIONS
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name not in operations:
                raise ValueError(f"{operation.name} is no operation that plain data needs")
            if operation.name == "LONG_BINPUT" and not 0 <= (argument or 0) <= len(data):
                raise ValueError("a place in the memo is out of proportion")
        return _Unpickler(io.BytesIO(data), allowed, known_event).load()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"this cannot be unpickled: {error!r}") from error


class Encoder:
    """Encodes values that users' code made. One that cannot be kept is logged, once for each name
    until it can.

    Every method may be called by any thread.

    :param what: what the values are, for the log
    :param classes: classes that may be in them besides plain data
    """

    def __init__(self, what: str, classes: Iterable[type] = ()) -> None:
        self.classes = tuple(classes)
        self._what = what
        self._refused: set[str] = set()

    def encode(self, name: str, value: object) -> str | bytes | None:
        """See :func:`encode`.

        :param name: what the value is known by
        :param value: the value
        :return: None if it cannot be kept
        """
        try:
            data = encode(value, self.classes)
        except ValueError as error:
            if name not in self._refused:
                self._refused.add(name)
                logger.error(
                    "%s %s stays in memory, and is forgotten when the program ends: %s",
                    self._what,
                    name,
                    error,
                )
            return None
        self._refused.discard(name)
        return data


def _is_json(value: object) -> bool:
    """Whether JSON gives a value back exactly."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in (str, int, bool, type(None))


def _event(data: bytes) -> Event:
    return Event.from_pickle(data)


#: What a pickle may name, and the functions that it gets for it.
_NAMES: dict[tuple[str, str], Callable[..., object]] = {
    (function.__module__, function.__qualname__): function
    for function in (
        complex,
        collections.Counter,
        collections.OrderedDict,
        collections.deque,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        datetime.timezone,
        decimal.Decimal,
        uuid.UUID,
        zoneinfo.ZoneInfo,
        DisabledTime,
        OperationFailedError,
        Time,
        _event,
    )
}


class _Pickler(pickle.Pickler):
    """Takes apart by calls of their constructors what pickle would take apart otherwise."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return kind, (value.value,)
        if kind is Event:
            return _event, (value.to_pickle(),)
        if kind is DisabledTime:
            return kind, (value.start, value.stop)
        if kind is Time:
            return kind, value.to_tuple()
        if kind is OperationFailedError:
            return kind, (value.reason, value.timestamp)
        if kind is uuid.UUID:
            return kind, (value.hex,)
        if kind is zoneinfo.ZoneInfo and value.key is not None:
            return kind, (value.key,)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """For bytes that have only known operations."""

    def __init__(
        self,
        file: io.BytesIO,
        allowed: dict[tuple[str, str], type],
        known_event: Callable[[Event], Event] | None,
    ) -> None:
        super().__init__(file)
        self._allowed = allowed
        self._known_event = known_event

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._allowed:
            return self._allowed[module, name]
        function = _NAMES.get((module, name)) or _enumeration(module, name)
        if function is None:
            raise ValueError(f"{module}.{name} is no plain data")
        known_event = self._known_event

        def call(*args: object) -> object:
            value = function(*args)
            if isinstance(value, Event) and known_event is not None:
                return known_event(value)
            return value

        return call  # and not the function, which may be a class that all others share


def _enumeration(module: str, name: str) -> Callable[[object], object] | None:
    """What gives an enumeration's members by their values, if the program has loaded it."""
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
    if not isinstance(found, enum.EnumMeta):
        return None
    enumeration = found

    def member(value: object) -> object:
        return enumeration(value)

    return member
