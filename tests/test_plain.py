"""Values as bytes and back: exactly, and without running what the bytes say."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import pickle
import pickletools
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.predicate import Color, DisabledTime, Event, Time
from smok_fast.state.plain import decode, dumps, encode, loads

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from(Color),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.binary())
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_comes_back_exactly(value: Any) -> None:
    back = decode(encode(value))
    assert back == value
    assert _types(back) == _types(value)


def _types(value: Any) -> Any:
    """The types of a value and of what is in it."""
    if isinstance(value, list | tuple):
        return type(value), [_types(item) for item in value]
    if isinstance(value, dict):
        return dict, [(_types(key), _types(item)) for key, item in value.items()]
    return type(value)


@pytest.mark.parametrize(
    ("value", "is_json"),
    [
        ({"a": [1, 1.5, None, True, "ż\udc80"]}, True),
        ({1: 2}, False),
        ((1,), False),
        ([float("nan")], False),
        ({"a": Color.RED}, False),
        (collections.OrderedDict(a=1), False),
        (10**5000, False),
    ],
    ids=["json", "key", "tuple", "nan", "enumeration", "dictionary", "digits"],
)
def test_json_is_used_where_it_gives_the_value_back(value: object, is_json: bool) -> None:
    assert isinstance(encode(value), str) == is_json


class Money:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.amount == other.amount

    __hash__ = None  # type: ignore[assignment]


class Named(str):
    __slots__ = ("note",)


class Table(dict[str, int]):
    pass


class Log(list[int]):
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: Point | None = None


class Counted:
    """Keeps its state in its own way."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getstate__(self) -> int:
        return self.count

    def __setstate__(self, state: int) -> None:
        self.count = state


def test_objects_of_allowed_classes_come_back_and_others_are_refused() -> None:
    value = {"m": [Money(5), (Money(6), datetime.date(2026, 1, 2))], "n": Named("x")}
    with pytest.raises(ValueError, match="Money is no plain data"):
        encode(value)
    with pytest.raises(ValueError, match="Named is no plain data"):
        encode(value, [Money])
    data = encode(value, [Money, Named])
    back = decode(data, [Money, Named])
    assert back == value
    assert type(back["n"]) is Named
    with pytest.raises(ValueError, match="not allowed"):
        decode(data)
    with pytest.raises(ValueError, match="Money is not allowed"):
        decode(data, [Named])


class Raising:
    def __reduce__(self) -> Any:
        raise KeyError("a user's error")


class Cyclic:
    def __init__(self) -> None:
        self.me = [self]


def test_objects_come_back_as_their_classes_say() -> None:
    named = Named("x")
    named.note = {1}  # type: ignore[attr-defined]
    table, log = Table(a=1), Log([1, 2])
    table.note = log  # type: ignore[attr-defined]
    classes = [Named, Table, Log, Point, Counted]
    back = decode(encode([named, table, Point(1, Point(2)), Counted(0)], classes), classes)
    assert back[:3] == [named, table, Point(1, Point(2))]
    assert back[0].note == {1}
    assert (type(back[1].note), back[1].note) == (Log, [1, 2])
    assert back[3].count == 0
    twice = decode(encode([log, log, (log,)], classes), classes)
    assert twice[0] is twice[1] is twice[2][0]
    with pytest.raises(ValueError, match="holds itself"):
        encode(Cyclic(), [Cyclic])
    with pytest.raises(ValueError, match="__reduce__ of Call"):
        encode(Call(print, 1), [Call])


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        open,
        datetime.datetime,
        [Color],
        {"f": lambda: 5},
        object(),
        range(5),
        collections.defaultdict(list),
        sys,
        Path("/"),
        Event(None, 1, None, Color.RED, False, "", "", "", None, {"x": object()}),  # type: ignore[dict-item]
        (i for i in ()),
        _nested(100_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_data_is_refused_when_it_is_written(value: object) -> None:
    with pytest.raises(ValueError):
        encode(value)


def test_what_a_users_class_raises_is_a_refusal() -> None:
    with pytest.raises(ValueError, match="a user's error"):
        encode(Raising(), [Raising])


def test_events_can_be_taken_from_elsewhere() -> None:
    event = Event(None, 1, None, Color.RED, False, "t", "g", "m", None, {"k": "v"})
    data = encode([event, (event,)])
    back = decode(data)
    assert back[0].to_pickle() == event.to_pickle()
    assert decode(data, known_event=lambda kept: event if kept == event else kept)[0] is event


# --- Hostile bytes ------------------------------------------------------------------------------


class Call:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def stack_global(module: str, name: str) -> bytes:
    return (
        b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)) + b"\x93"
    )


def reduce(module: str, name: str, *arguments: object) -> bytes:
    """A pickle that calls something."""
    packed = pickle.dumps(arguments, 4)[2:-1]
    if packed.startswith(b"\x95"):
        packed = packed[9:]
    return b"\x80\x04" + stack_global(module, name) + packed + b"R."


HOSTILE = {
    "system": pickle.dumps(Call(__import__("os").system, "touch hit")),
    "system in protocol 0": b"cposix\nsystem\n(S'touch hit'\ntR.",
    "system by two texts": reduce("os", "system", "touch hit"),
    "system by a module that has it": reduce("smok_fast.state.file", "os.system", "touch hit"),
    "system in an argument": pickle.dumps(
        Call(datetime.date, Call(__import__("os").system, "touch hit"), 1, 1)
    ),
    "system in a key": pickle.dumps({1: [({2: Call(__import__("os").system, "touch hit")},)]}),
    "eval": pickle.dumps(Call(eval, "open('hit', 'w')")),
    "exec": pickle.dumps(Call(exec, "open('hit', 'w')")),
    "open": reduce("builtins", "open", "hit", "w"),
    "open by io": reduce("io", "open", "hit", "w"),
    "subprocess": pickle.dumps(Call(subprocess.Popen, ["touch", "hit"])),
    "getattr": reduce("builtins", "getattr", "x", "join"),
    "import": reduce("builtins", "__import__", "os"),
    "a module that runs something": reduce("this", "s"),
    "an unpickler": reduce("pickle", "loads", b"cposix\nsystem\n(S'touch hit'\ntR."),
    "our own unpickler": reduce("smok_fast.state.plain", "pickle.loads", b"N."),
    "a class method": reduce("smok_fast.predicate.event", "Event.from_pickle", b"{}"),
    "copyreg": reduce("copyreg", "_reconstructor", int, object, None),
    "copyreg's constructor": reduce("copyreg", "__newobj__", int),
    "copyreg's registry": b"\x80\x04\x82\x01.",
    "an instance": b"(S'touch hit'\niposix\nsystem\n.",
    "an object": b"\x80\x02(cposix\nsystem\nS'touch hit'\no.",
    "a persistent id": b"Psomething\n.",
    "a class by NEWOBJ": b"\x80\x04" + stack_global("datetime", "datetime") + b")\x81.",
    "attributes of a class": b"\x80\x04"
    + stack_global("smok_fast.predicate.event", "Color")
    + pickle.dumps({"RED": 0}, 4)[2:-1]
    + b"b.",
    "attributes of a member": reduce("smok_fast.predicate.event", "Color", 2)[:-1] + b"}b.",
    "attributes of the type": b"\x80\x04"
    + stack_global("smok_fast.predicate.base", "Time")
    + b"}b.",
    "a new enumeration": reduce("enum", "IntEnum", "Hit", "A B"),
    "a place in the memo": b"\x80\x04Nr\xff\xff\xff\x7f.",
    "a large text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a large array": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x00\x00abc.",
    "a large number of bytes": reduce("builtins", "bytearray", 1 << 40),
    "no end": b"\x80\x04N",
    "an empty stack": b"\x80\x04.",
    "protocol 99": b"\x80\x63N.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_run_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {member: vars(member).copy() for member in Color}
    loaded = set(sys.modules)
    with pytest.raises(ValueError):
        loads(HOSTILE[name])
    with pytest.raises(ValueError):
        decode(HOSTILE[name], [])
    assert list(tmp_path.iterdir()) == []
    assert {member: vars(member) for member in Color} == before
    assert set(sys.modules) == loaded


def test_the_memo_is_not_let_grow() -> None:
    with pytest.raises(ValueError, match="out of proportion"):
        loads(HOSTILE["a place in the memo"])


@pytest.mark.parametrize("name", HOSTILE)
def test_they_are_refused_where_a_class_is_allowed_as_well(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        loads(HOSTILE[name], [Money])
    assert list(tmp_path.iterdir()) == []
    assert [member.value for member in Color] == [0, 1, 2]


class Unloaded(enum.Enum):
    ONE = 1


def test_an_enumeration_counts_only_while_the_program_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode(Unloaded.ONE)
    assert decode(data) is Unloaded.ONE
    monkeypatch.delitem(sys.modules, __name__)
    with pytest.raises(ValueError, match="Unloaded is no plain data"):
        decode(data)


SOUND = dumps(
    [
        {"a": 1.5, "b": (None, b"1" * 300, {2}), 3: "x" * 300},
        datetime.datetime(2026, 1, 2),
        decimal.Decimal("1.5"),
        uuid.UUID(int=1),
        DisabledTime(Time(1, 2, 3), Time(2, 3, 4)),
        Event(None, 1, None, Color.RED, False, "t", "g", "m", None, None),
    ]
)


@given(st.binary(), st.booleans())
def test_any_bytes_are_a_value_or_a_refusal(data: bytes, allow: bool) -> None:
    with contextlib.suppress(ValueError):
        loads(b"\x80\x05" + data, [Money] if allow else [])


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255), st.integers(0, len(SOUND)))
def test_a_damaged_pickle_is_a_value_or_a_refusal(offset: int, change: int, cut: int) -> None:
    damaged = bytearray(SOUND)
    damaged[offset] ^= change
    for data in (bytes(damaged), SOUND[:cut], bytes(damaged[:cut])):
        with contextlib.suppress(ValueError):
            loads(data)


def test_what_we_write_has_known_operations_only() -> None:
    names = {operation.name for operation, _, _ in pickletools.genops(SOUND)}
    assert {"REDUCE", "STACK_GLOBAL"} <= names
    assert names.isdisjoint({"BUILD", "NEWOBJ", "GLOBAL", "INST", "OBJ", "EXT1", "PERSID"})
