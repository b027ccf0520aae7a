"""Values of Python as bytes, and back again without running what the bytes say.

What JSON gives back exactly is kept as JSON. The rest is pickled, and read back by an unpickler
that is no interpreter any more:

- Of pickle's operations only those that build values and call a function are known: none sets an
  attribute, none makes an object by itself, none consults ``copyreg``.
- A name stands for a function of a table here, or for an enumeration that the program has loaded.
  Nothing is imported, and no class is handed out that the bytes could change: they get a function
  that calls it.
- An object of a class that the caller allows is a call, too, of a function that makes one and sets
  its attributes as that class says. That class's code runs then, and no other's.
- What was written is read back at once: what could not be read later is refused now.
"""

from __future__ import annotations

import collections
import contextlib
import copyreg
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
    classes = tuple(classes)
    data = _dump(value, classes)
    # What it is read back as must be a value, too: a class, say, would come back as a function
    _dump(loads(data, classes), classes)
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
    try:
        _check(data)
        return _Unpickler(io.BytesIO(data), allowed, known_event).load()
    except ValueError:
        raise
    except Exception as error:  # foreign data raises whatever it likes
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


def _dump(value: object, classes: tuple[type, ...]) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, classes).dump(value)
    except ValueError:
        raise
    except Exception as error:  # so do users' objects
        raise ValueError(f"it cannot be pickled: {error!r}") from error
    return buffer.getvalue()


def _check(data: bytes) -> None:
    """Look whether a pickle consists of known operations only.

    :raises ValueError: it does not
    """
    for operation, argument, _ in pickletools.genops(data):
        if operation.name not in _OPERATIONS:
            raise ValueError(f"{operation.name} is no operation that plain data needs")
        if operation.name == "LONG_BINPUT" and not 0 <= (argument or 0) <= len(data):
            raise ValueError("a place in the memo is out of proportion")


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


def _parts(value: Any) -> tuple[Any, ...]:
    """What :func:`_object` needs to make an object again, after its class.

    :raises ValueError: the class has its objects made in some way of its own
    """
    function, arguments, *rest = value.__reduce_ex__(_PROTOCOL)
    if function is not copyreg.__newobj__:  # type: ignore[attr-defined]
        raise ValueError(f"the __reduce__ of {type(value).__qualname__} is of an unknown kind")
    state, items, pairs = (*rest, None, None, None)[:3]
    return arguments[1:], state, list(items or ()), list(pairs or ())


def _object(
    cls: type,
    arguments: tuple[Any, ...],
    state: Any,
    items: list[Any],
    pairs: list[tuple[Any, Any]],
) -> object:
    """An object of an allowed class, as ``object.__reduce_ex__`` documents it."""
    value: Any = cls.__new__(cls, *arguments)
    for item in items:
        value.append(item)
    for key, item in pairs:
        value[key] = item
    if hasattr(value, "__setstate__"):
        value.__setstate__(state)
    elif state is not None:
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        for name, content in {**(attributes or {}), **(slots or {})}.items():
            object.__setattr__(value, name, content)
    return value


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
        _object,
    )
}


class _Pickler(pickle.Pickler):
    """Takes apart by calls of their constructors what pickle would take apart otherwise, and
    refuses what it does not know.
    """

    def __init__(self, file: io.BytesIO, classes: tuple[type, ...]) -> None:
        super().__init__(file, _PROTOCOL)
        self._classes = classes
        self._taken_apart: set[int] = set()

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
        if kind in self._classes:
            if id(value) in self._taken_apart:  # else pickle would know it from its memo
                raise ValueError(f"an object of {kind.__qualname__} holds itself")
            self._taken_apart.add(id(value))
            return _object, (kind.__module__, kind.__qualname__, *_parts(value))
        if kind in _NAMES.values() or callable(value):
            return NotImplemented  # of what is called the unpickler knows the names
        raise ValueError(f"an object of {kind.__module__}.{kind.__qualname__} is no plain data")


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
        function = _NAMES.get((module, name)) or _enumeration(module, name)
        if function is None:
            raise ValueError(f"{module}.{name} is no plain data")

        def call(*args: Any) -> object:
            if function is _object:
                return self._object(*args)
            value = function(*args)
            if isinstance(value, Event) and self._known_event is not None:
                return self._known_event(value)
            return value

        return call  # and not the function, which may be a class that all others share

    def _object(self, module: str, name: str, *parts: Any) -> object:
        cls = self._allowed.get((module, name))
        if cls is None:
            raise ValueError(f"{module}.{name} is not allowed")
        return _object(cls, *parts)


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
