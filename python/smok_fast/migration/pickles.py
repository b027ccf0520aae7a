"""The reference's pickles, read as data. They name its classes, and those of users: reading them
with :mod:`pickle` would run whatever they say.

Invariants:

- Nothing that a pickle names is imported, called or made. An object is only what the pickle says
  about it. The few names that are known here are turned into values by functions of this module,
  and every other object is a :class:`Foreign`.
- Time and memory are bounded, whatever the bytes are. The operations are counted as they are read.
  What they build shares its parts, and might be exponentially large when it is walked, compared or
  hashed: it is first expanded into a tree, whose size and depth are limited.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import pickletools
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.macro import Macro
from smok_fast.predicate import Color, DisabledTime, Event, Time
from smok_fast.sensor import SensorWriteEvent

__all__ = ["MOST_BYTES", "Bag", "Foreign", "UnreadablePickle", "is_number", "is_pickle", "loads"]

#: How long a file may be.
MOST_BYTES = 64 << 20

#: How many operations a pickle may consist of. An event has about 40, a sample 8.
MOST_OPERATIONS = 2_000_000

#: How large the tree may be: the length of its texts, and so much for each of its values.
MOST_EXPANDED = 64 << 20
VALUE_SIZE = 32

#: How deeply values may be nested.
MOST_NESTED = 100

#: How many keys, and members of sets, may be something else than text: whoever chooses numbers with
#: equal hashes makes each one cost as much as all before it.
MOST_HASHED = 10_000


class UnreadablePickle(ValueError):
    """A file is no pickle of the reference's; the message says why."""


class Foreign:
    """Stands for an object of a class that is not known here.

    :param name: the class, with its module
    """

    def __init__(self, name: str) -> None:
        self.name = name


class Bag(list[Any]):
    """A set of objects: nobody has looked yet whether they can be hashed."""


def is_pickle(beginning: bytes) -> bool:
    """Whether a file begins like a pickle of the protocols that the reference may have used."""
    return beginning[:1] == b"\x80" and beginning[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def loads(data: bytes) -> Any:
    """What a pickle holds: plain values, objects of this package in the place of the reference's,
    and :class:`Foreign` objects. No two parts of it are one and the same.

    :raises UnreadablePickle: the bytes are torn, are no pickle, or are one that the reference does
        not write
    """
    if not is_pickle(data):
        raise UnreadablePickle("it is no pickle")
    if len(data) > MOST_BYTES:
        raise UnreadablePickle(f"it is longer than {MOST_BYTES >> 20} MiB")
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MOST_OPERATIONS:
                raise UnreadablePickle(f"it has more than {MOST_OPERATIONS:,} operations")
            machine.do(operation.name, argument)
    except UnreadablePickle:
        raise
    except ValueError as error:  # of genops
        raise UnreadablePickle(f"it is torn or damaged: {error}") from error
    except (IndexError, KeyError) as error:
        raise UnreadablePickle("it is damaged: a value is missing") from error
    return _Expander().expand_root(machine.result())


def _refuse(what: str) -> NoReturn:
    raise UnreadablePickle(what)


# --- What the operations build --------------------------------------------------------------------


class _Name:
    """A class or function that a pickle names."""

    __slots__ = ("name",)

    def __init__(self, module: object, name: object) -> None:
        self.name = f"{module}.{name}"


class _Dict:
    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []


class _Set:
    __slots__ = ("is_frozen", "items")

    def __init__(self, items: list[Any], is_frozen: bool) -> None:
        self.items = items
        self.is_frozen = is_frozen


class _Object:
    """An object: what was called with which arguments, and what was then done to the result."""

    __slots__ = ("arguments", "items", "name", "pairs", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None
        self.items: list[Any] = []
        self.pairs: list[tuple[Any, Any]] = []


class _Machine:
    """Does what the operations say, as ``pickletools`` documents them, but for calling anything."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def do(self, operation: str, argument: Any) -> None:
        """Do an operation.

        :raises UnreadablePickle: it makes no sense
        :raises IndexError: there are too few values
        :raises KeyError: there is no such value in the memo
        """
        if operation in _ARGUMENTS:
            self._stack.append(argument)
            return
        method = _METHODS.get(operation)
        if method is None:
            _refuse(f"{operation} is no operation that the reference's files have")
        method(self, argument)

    def result(self) -> Any:
        """What is left at the end."""
        if len(self._stack) != 1 or self._marks:
            _refuse("it is damaged: it holds more than one value")
        return self._stack[0]

    def _ignore(self, _: Any) -> None:
        pass

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _none(self, _: Any) -> None:
        self._stack.append(None)

    def _true(self, _: Any) -> None:
        self._stack.append(True)

    def _false(self, _: Any) -> None:
        self._stack.append(False)

    def _empty_tuple(self, _: Any) -> None:
        self._stack.append(())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple_1(self, _: Any) -> None:
        self._short_tuple(1)

    def _tuple_2(self, _: Any) -> None:
        self._short_tuple(2)

    def _tuple_3(self, _: Any) -> None:
        self._short_tuple(3)

    def _short_tuple(self, count: int) -> None:
        values = [self._stack.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def _empty_list(self, _: Any) -> None:
        self._stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self._stack.append(_Dict())

    def _empty_set(self, _: Any) -> None:
        self._stack.append(_Set([], is_frozen=False))

    def _frozenset(self, _: Any) -> None:
        self._stack.append(_Set(self._since_mark(), is_frozen=True))

    def _append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, _Object):
            target.items += values
        elif isinstance(target, list):
            target += values
        else:
            _refuse("it is damaged: it appends to what is no list")

    def _set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _set_items(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, _Dict | _Object) or len(values) % 2:
            _refuse("it is damaged: it sets items of what is no dictionary")
        target.pairs += zip(values[::2], values[1::2], strict=True)

    def _add_items(self, _: Any) -> None:
        values, target = self._since_mark(), self._stack[-1]
        if not isinstance(target, _Set) or target.is_frozen:
            _refuse("it is damaged: it adds to what is no set")
        target.items += values

    def _global(self, names: str) -> None:
        self._stack.append(_Name(*names.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            _refuse("it is damaged: a name is no text")
        self._stack.append(_Name(module, name))

    def _call(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            _refuse("it is damaged: it calls what has no name")
        self._stack.append(_Object(function.name, arguments))

    def _call_with_keywords(self, _: Any) -> None:
        self._stack.pop()  # classes that need keywords to be made are none that are known here
        self._call(None)

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, _Object):
            _refuse("it is damaged: it sets the state of what is no object")
        target.state = state


#: Operations that push their argument.
_ARGUMENTS = frozenset(
    """
    BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8
    SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905 - a list of one word a line is no list to read
)

_METHODS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._ignore,
    "FRAME": _Machine._ignore,
    "STOP": _Machine._ignore,
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "MEMOIZE": _Machine._memoize,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "NONE": _Machine._none,
    "NEWTRUE": _Machine._true,
    "NEWFALSE": _Machine._false,
    "EMPTY_TUPLE": _Machine._empty_tuple,
    "TUPLE": _Machine._tuple,
    "TUPLE1": _Machine._tuple_1,
    "TUPLE2": _Machine._tuple_2,
    "TUPLE3": _Machine._tuple_3,
    "EMPTY_LIST": _Machine._empty_list,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "EMPTY_DICT": _Machine._empty_dict,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "EMPTY_SET": _Machine._empty_set,
    "ADDITEMS": _Machine._add_items,
    "FROZENSET": _Machine._frozenset,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._call,
    "NEWOBJ_EX": _Machine._call_with_keywords,
    "BUILD": _Machine._build,
}


# --- What it means --------------------------------------------------------------------------------


class _Expander:
    """Makes values of what the operations have built."""

    def __init__(self) -> None:
        self._left = MOST_EXPANDED
        self._may_be_hashed = MOST_HASHED

    def expand_root(self, node: Any) -> Any:
        """The value of a pickle."""
        if isinstance(node, _Set):
            return Bag(self._expand(item, 1) for item in node.items)
        return self._expand(node, 0)

    def _expand(self, node: Any, depth: int) -> Any:
        self._left -= VALUE_SIZE
        if depth > MOST_NESTED:
            _refuse("it is nested too deeply")
        if isinstance(node, str | bytes | bytearray):
            self._left -= len(node)
            self._check_size()
            return _text(node) if isinstance(node, str) else bytes(node)
        self._check_size()
        if node is None or isinstance(node, int | float):
            return node
        if isinstance(node, tuple):
            return tuple(self._expand(item, depth + 1) for item in node)
        if isinstance(node, list):
            return [self._expand(item, depth + 1) for item in node]
        if isinstance(node, _Dict):
            return self._dict(node.pairs, depth)
        if isinstance(node, _Set):
            items = [self._hashable(item, depth) for item in node.items]
            return frozenset(items) if node.is_frozen else set(items)
        if isinstance(node, _Object):
            return self._object(node, depth)
        return Foreign(node.name)

    def _check_size(self) -> None:
        if self._left < 0:
            _refuse(f"it grows to more than {MOST_EXPANDED >> 20} MiB")

    def _dict(self, pairs: list[tuple[Any, Any]], depth: int) -> dict[Any, Any]:
        return {self._hashable(key, depth): self._expand(value, depth + 1) for key, value in pairs}

    def _hashable(self, node: Any, depth: int) -> Any:
        value = self._expand(node, depth + 1)
        if not isinstance(value, str):
            self._may_be_hashed -= 1
            if self._may_be_hashed < 0:
                _refuse(f"more than {MOST_HASHED:,} keys are no text")
        try:
            hash(value)
        except TypeError as error:
            raise UnreadablePickle("it is damaged: a key cannot be one") from error
        return value

    def _object(self, node: _Object, depth: int) -> Any:
        make = _KNOWN.get(node.name)
        if make is None:
            return Foreign(node.name)
        arguments = self._expand(node.arguments, depth)
        items = self._expand(node.items, depth) or self._dict(node.pairs, depth)
        state = self._expand(node.state, depth)
        try:
            if isinstance(state, tuple):  # attributes, and those in slots
                attributes, slots = state
                state = {**(attributes or {}), **(slots or {})}
            return make(*arguments, items=items, state=state or {})
        except Exception as error:  # whatever foreign arguments make of it
            raise UnreadablePickle(f"a {node.name} makes no sense: {error!r:.200}") from error


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnreadablePickle("a text is none: it has half a character") from error
    return text


def _event(*, items: Any, state: dict[str, Any]) -> Event:
    event = Event(
        _of(state, "uuid", str | None) or None,
        _seconds(state["started_on"]),
        None if state["ended_on"] is None else _seconds(state["ended_on"]),
        Color(state["color"]),
        bool(_of(state, "is_point", bool | int)),
        # A statistic of which the name is not known opens events without a token
        _of(state, "token", str | None) or "",
        _of(state, "group", str),
        _of(state, "message", str),
        _of(state, "handled_by", str | None),
        _of(state, "metadata", dict | None),
    )
    event.provisional_uuid = _of(state, "provisional_uuid", str | None)
    if not event.uuid and not event.provisional_uuid:
        raise ValueError("it has no UUID")
    return event


def _macro(*, items: Any, state: dict[str, Any]) -> Macro:
    commands = _of(state, "commands", dict)
    for name, value in commands.items():
        if not isinstance(name, str) or not isinstance(value, int | float | str):
            raise TypeError("a command is none")
    occurrences = _of(state, "occurrences_not_done", list)
    if not all(map(is_number, occurrences)):
        raise TypeError("an occurrence is none")
    return Macro(_of(state, "macro_id", str), commands, occurrences)


def _write(*, items: Any, state: dict[str, Any]) -> SensorWriteEvent:
    if not is_number(state["timestamp"]):
        raise TypeError("its timestamp is no number")
    scalar = str | int | float | None
    return SensorWriteEvent(
        state["timestamp"],
        *(
            _of(state, name, scalar)
            for name in ("who", "hr_sensor", "hr_value", "fqts", "value", "reason")
        ),
    )


def _failure(*arguments: Any, items: Any, state: dict[str, Any]) -> OperationFailedError:
    if not is_number(state["timestamp"]):
        raise TypeError("its timestamp is no number")
    return OperationFailedError(OperationFailedReason(state["reason"]), state["timestamp"])


def _disabled_time(*, items: Any, state: dict[str, Any]) -> DisabledTime:
    return DisabledTime(_of(state, "start", Time), _of(state, "stop", Time))


def _uuid(*, items: Any, state: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(int=state["int"])


def _deque(*arguments: Any, items: Any, state: dict[str, Any]) -> collections.deque[Any]:
    deque: collections.deque[Any] = collections.deque(*arguments)
    deque.extend(items)
    return deque


def _mapping(cls: type[dict[Any, Any]]) -> Callable[..., Any]:
    def make(*arguments: Any, items: Any, state: dict[str, Any]) -> dict[Any, Any]:
        mapping = cls(*arguments)
        mapping.update(items)
        return mapping

    return make


def _plain(function: Callable[..., object]) -> Callable[..., object]:
    """For what a call alone makes."""

    def make(*arguments: Any, items: Any, state: dict[str, Any]) -> object:
        return function(*arguments)

    return make


#: What makes the objects that are known, of what the pickle says.
_KNOWN: dict[str, Callable[..., object]] = {
    "smok.exceptions.OperationFailedError": _failure,
    "smok.exceptions.OperationFailedReason": _plain(OperationFailedReason),
    "smok.macro.macro.Macro": _macro,
    "smok.predicate.base.DisabledTime": _disabled_time,
    "smok.predicate.base.Time": lambda items, state: Time(**state),
    "smok.predicate.event.Color": _plain(Color),
    "smok.predicate.event.Event": _event,
    "smok.sensor.write_logs.SensorWriteEvent": _write,
    "builtins.complex": _plain(complex),
    "collections.Counter": _mapping(collections.Counter),
    "collections.OrderedDict": _mapping(collections.OrderedDict),
    "collections.deque": _deque,
    "datetime.date": _plain(datetime.date),
    "datetime.datetime": _plain(datetime.datetime),
    "datetime.time": _plain(datetime.time),
    "datetime.timedelta": _plain(datetime.timedelta),
    "datetime.timezone": _plain(datetime.timezone),
    "decimal.Decimal": _plain(decimal.Decimal),
    "uuid.UUID": _uuid,
}


def is_number(value: object) -> bool:
    """Whether it is a finite number, and one that 64 bits can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def _seconds(value: object) -> int:
    if not is_number(value):
        raise TypeError("a time is none")
    return int(value)  # type: ignore[call-overload,no-any-return]


def _of(state: dict[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(state[name], kind):
        found = state[name].name if isinstance(state[name], Foreign) else type(state[name]).__name__
        raise TypeError(f"its {name} is a {found}")
    return state[name]
