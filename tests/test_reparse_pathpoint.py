"""Pathpoints that are computed from others: their values, their archives, and how they are read."""

from __future__ import annotations

import gc
import itertools
import math
import re
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_support import DEVICE_ID, PATIENCE, Recorder
from pathpoint_support import SOON, Maker, Scripted, execute, read, scripted, write
from smok_fast._core import Computation, Expression
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import (
    NotReadedError,
    OperationFailedError,
    OperationFailedReason,
    ReparseError,
)
from smok_fast.extras import BasePathpointDatabase, InMemoryEventDatabase
from smok_fast.macro import Macro
from smok_fast.pathpoint import (
    AdviseLevel,
    Pathpoint,
    PathpointType,
    PathpointValueType,
    ReparsePathpoint,
    to_type,
)
from smok_fast.sensor import Sensor
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

INVALID = OperationFailedReason.INVALID
TIMEOUT = OperationFailedReason.TIMEOUT
TYPE = OperationFailedReason.TYPE


class Fixed(Pathpoint):
    """Has one value, and a way of its own to give it."""

    def __init__(self, value: PathpointValueType) -> None:
        super().__init__("d1")
        self.value = value

    def get(self) -> tuple[int, PathpointValueType]:
        return 5000, self.value


def record(device: SMOKDevice, name: str, *samples: tuple[int, Any]) -> Pathpoint:
    """Record samples of a pathpoint; a reason stands for a failed read."""
    pathpoint = device.pathpoints.get(name) or Pathpoint(device, name)
    for timestamp, value in samples:
        if isinstance(value, OperationFailedReason):
            pathpoint.set_new_value(OperationFailedError(value, timestamp))
        else:
            pathpoint.set_new_value(timestamp, value)
    return pathpoint


def derived(device: SMOKDevice, name: str, **options: Any) -> ReparsePathpoint:
    pathpoint = device.get_pathpoint(name, **options)
    assert isinstance(pathpoint, ReparsePathpoint)
    return pathpoint


def archive(pathpoint: Pathpoint | Sensor, start: Any = None, stop: Any = None) -> list[Any]:
    """What an archive holds; of a failure its reason and its time."""
    return [
        (timestamp, (value.reason, value.timestamp))
        if isinstance(value, OperationFailedError)
        else (timestamp, value)
        for timestamp, value in pathpoint.get_archive(start, stop)
    ]


# --- The present value


def test_a_value_is_computed_from_the_latest_ones_and_has_the_newest_timestamp(
    device: SMOKDevice,
) -> None:
    record(device, "W1", (1000, 7), (3000, 8))
    record(device, "W2", (2000, 100))
    pathpoint = derived(device, "rW{W1}+{W2}")
    assert pathpoint.get() == (3000, 108)
    assert (pathpoint.current_timestamp, pathpoint.current_value) == (3000, 108)
    record(device, "W2", (4000, 200))
    assert pathpoint.get() == (4000, 208)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rB{d1}>3", True),
        ("rB{d1}-{d1}", False),
        ("rB{d1}/10", False),
        ("rB{d1}*1e300", True),
        ("rW{d1}", 4),
        ("rW{d1}*-1", 0),
        ("rW{d1}*100000", 65535),
        ("rW{d1}*1e300", 65535),
        ("rW{d1}>0", 1),
        ("rWstr(int({d1}))+'2'", 42),
        ("rw{d1}*-1", -4),
        ("rw{d1}*-100000", -32768),
        ("rw{d1}*1e300", 32767),
        ("rf{d1}", 4.9),
        ("rf1+1", 2.0),
        ("rd{d1}>0", 1.0),
        ("rd'1e3'", 1000.0),
        ("ru{d1}", "4.9"),
        ("ru{d1}>0", "True"),
        ("ru'a'*3", "aaa"),
    ],
)
def test_a_value_gets_the_type_that_the_name_declares(
    device: SMOKDevice, name: str, value: PathpointValueType
) -> None:
    record(device, "d1", (1000, 4.9))
    found = derived(device, name).get()[1]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "message", "reason"),
    [
        ("rW1//({W1}-7)", "integer division or modulo by zero", INVALID),
        ("rf{W1}/0", "division by zero", INVALID),
        ("rW{W1}+'1'", "unsupported operand type(s) for +: 'int' and 'str'", TYPE),
        ("rW'seven'", "invalid literal for int() with base 10: 'seven'", None),
        ("rW1e308*10", "cannot convert float infinity to integer", None),
        ("rwfloat('nan')", "cannot convert float NaN to integer", None),
        ("rB-1e308*10", "cannot convert float infinity to integer", None),
    ],
)
def test_what_has_no_value_fails_in_the_same_way_now_and_in_the_archive(
    device: SMOKDevice, name: str, message: str, reason: OperationFailedReason | None
) -> None:
    record(device, "W1", (1000, 7))
    pathpoint = derived(device, f"{name[:2]}({name[2:]})if {{W1}} else 0")
    with pytest.raises(ReparseError) as caught:
        pathpoint.get()
    (found,) = [value for _, value in pathpoint.get_archive(None)]
    assert isinstance(found, ReparseError)
    assert isinstance(pathpoint.current_value, ReparseError)
    assert pathpoint.current_timestamp == 1000
    for error in (caught.value, found, pathpoint.current_value):
        assert (str(error), error.timestamp) == (message, 1000)
        assert error.reason is (reason or caught.value.reason)


def test_a_pathpoint_that_was_not_read_yet_has_no_value_and_neither_has_what_needs_it(
    device: SMOKDevice,
) -> None:
    record(device, "W1", (1000, 7))
    record(device, "W2")
    pathpoint = derived(device, "rW{W1} if {W1} else {W2}")
    with pytest.raises(NotReadedError):
        pathpoint.get()
    assert pathpoint.current_timestamp is None
    assert pathpoint.current_value is None


def test_a_failed_read_is_passed_on_with_its_reason_and_time(device: SMOKDevice) -> None:
    record(device, "W1", (3000, 7))
    record(device, "W2", (1000, 1), (2000, TIMEOUT))
    pathpoint = derived(device, "rW{W1}+{W2}")
    with pytest.raises(OperationFailedError) as caught:
        pathpoint.get()
    assert (caught.value.reason, caught.value.timestamp) == (TIMEOUT, 2000)
    assert pathpoint.current_timestamp == 2000
    assert isinstance(pathpoint.current_value, OperationFailedError)
    record(device, "W2", (4000, 2))
    assert pathpoint.get() == (4000, 9)


def test_constituents_may_be_computed_themselves(device: SMOKDevice) -> None:
    record(device, "W1", (1000, 70000))
    record(device, "f2", (2000, 0.5))
    pathpoint = derived(device, "rf{rW{W1}+1}*{rf{f2}*{f2}}")
    assert pathpoint.get() == (2000, 65535 * 0.25), "W1 and rW are clipped on the way"
    assert [slave.name for slave in pathpoint.slave_pathpoints] == ["rW{W1}+1", "rf{f2}*{f2}"]
    record(device, "W1", (3000, TIMEOUT))
    with pytest.raises(OperationFailedError, match="timeout"):
        pathpoint.get()


def test_a_failure_deep_inside_is_the_failure_of_the_whole(device: SMOKDevice) -> None:
    record(device, "W1", (1000, 0))
    record(device, "W2", (5000, 1))
    with pytest.raises(ReparseError, match="division by zero") as caught:
        derived(device, "rf{rf1/{W1}}+{W2}").get()
    assert caught.value.timestamp == 1000


def test_a_pathpoint_class_with_a_get_of_its_own_is_asked(device: SMOKDevice) -> None:
    record(device, "W2", (1000, 1))
    device.register_pathpoint(Fixed(41))
    assert derived(device, "rW{d1}+{W2}").get() == (5000, 42)


class Odd(Pathpoint):
    """Gives as its latest value what no pathpoint has."""

    latest: Any = None

    def get(self) -> Any:
        return self.latest


def test_what_a_class_gives_is_checked(device: SMOKDevice) -> None:
    odd = Odd(device, "d1")
    pathpoint = derived(device, "rW{d1}+{rW1}")
    odd.latest = (5000.75, 4)
    assert derived(device, "rW{d1}").get() == (5000, 4)
    failure = OperationFailedError(TIMEOUT, 7)
    odd.latest = (5000, failure)
    with pytest.raises(OperationFailedError) as caught:
        pathpoint.get()
    assert caught.value is failure
    for latest, message in [
        (None, "None"),
        ((5000, None), "NoneType"),
        ((5000, 2**70), "an int beyond 64 bits"),
        ((None, 5), "real number"),
    ]:
        odd.latest = latest
        with pytest.raises(TypeError, match=message):
            pathpoint.get()


def test_all_expressions_of_a_pathpoint_together_handle_no_more_text_than_one_may(
    device: SMOKDevice,
) -> None:
    record(device, "W1", (1000, 30_000))
    parts = ["{ru'a'*{W1}}", "{ru{ru'a'*{W1}}[1:]}"]
    assert derived(device, f"rB{parts[0]}==''").get() == (1000, False)
    for name in (f"rB{parts[0]}=={parts[1]}", f"rWfloat({parts[1]}+{parts[0]}+'x')"):
        with pytest.raises(ReparseError, match="65536 bytes of text"):
            derived(device, name).get()
    assert derived(device, f"rB{parts[0]}==''").get() == (1000, False), "and again"
    pathpoint = derived(device, f"rB{parts[0]}=={parts[1]}")
    assert both_archives(pathpoint) == ([(1000, False)],) * 2, "of a row each is by itself"


def test_an_expression_without_pathpoints_has_its_value_now(device: SMOKDevice) -> None:
    pathpoint = derived(device, "rW6*7")
    first, second = pathpoint.get(), pathpoint.get()
    assert first[1] == 42
    assert 1_600_000_000_000 < first[0] <= second[0]
    assert archive(pathpoint) == []


numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats())

EXPRESSIONS = [
    "{a}+{b}",
    "{a}-{b}*2",
    "{a}*{b}",
    "{a}/{b}",
    "{a}//{b}",
    "{a}%{b}",
    "max({a},{b})",
    "{a} if {a}<{b} else {b}",
    "str({a})",
    "{a}<{b}",
]


def outcome(compute: Callable[[], Any]) -> Any:
    """A result with its type, or nothing for a failure; NaN as its text."""
    try:
        result = compute()
    except (ReparseError, ValueError, OverflowError):
        return None
    return repr(result), type(result)


@given(st.sampled_from(EXPRESSIONS), st.sampled_from("BWwfdu"), numbers, numbers)
def test_a_computation_is_its_expression_and_then_the_type(
    text: str, letter: str, first: float, second: float
) -> None:
    expression = Expression(text)
    values = [first, second][: len(expression.variables)]
    constituents = [Fixed(value) for value in values]
    computation = Computation(expression, f"r{letter}", constituents)
    expected = outcome(lambda: to_type(expression.evaluate(values), PathpointType(letter)))
    assert outcome(lambda: computation.compute()[1]) == expected
    assert outcome(lambda: expression.evaluate_as(f"r{letter}", values)) == expected


def test_a_type_and_a_pathpoint_for_each_variable_are_needed() -> None:
    expression = Expression("{a}")
    with pytest.raises(ValueError, match="declares no type"):
        expression.evaluate_as("rx", [1])
    with pytest.raises(ValueError, match="declares no type"):
        Computation(expression, "rx", [Fixed(1)])
    with pytest.raises(ValueError, match="one pathpoint for each variable"):
        Computation(expression, "rW", [])
    with pytest.raises(TypeError, match="1 variables, 2 values"):
        expression.evaluate_as("rW", [1, 2])


# --- Names


def test_equal_names_give_the_equal_object(device: SMOKDevice) -> None:
    record(device, "W1")
    pathpoint = device.get_pathpoint("rW{W1}+1")
    assert device.get_pathpoint("rW{W1}+1") is pathpoint
    assert device.get_pathpoint("rW{W1}+ 1") is not pathpoint
    assert device.get_pathpoint("rf{rW{W1}+1}/2").slave_pathpoints == [pathpoint]
    assert pathpoint == ReparsePathpoint(device, "rW{W1}+1")


def test_threads_that_ask_for_one_name_at_once_get_one_object(device: SMOKDevice) -> None:
    record(device, "W1")
    barrier = threading.Barrier(4)
    found: list[Pathpoint] = []

    def ask() -> None:
        for number in range(100):
            barrier.wait(SOON)
            found.append(device.get_pathpoint(f"rW{{W1}}+{number}"))

    in_threads([ask] * 4)
    assert len(found) == 400
    assert len({id(pathpoint) for pathpoint in found}) == 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rW{W1}+", "column 8 of rW{W1}+"),
        ("rW{W1", "column 3 of rW{W1"),
        ("rW{W1}+open('x')", "column 8 of rW"),
        ("rf{rW{W1}+}/2", "column 8 of rW{W1}+)"),
        ("rW", "column 3 of rW"),
        ("rx{W1}", "declares no type"),
        ("r", "declares no type"),
        ("rW{W404}+{W1}", "W404"),
        ("rW{rW{W404}}", "W404"),
    ],
)
def test_a_name_that_makes_no_sense_is_a_key_error_that_says_where(
    device: SMOKDevice, name: str, message: str
) -> None:
    record(device, "W1")
    with pytest.raises(KeyError) as caught:
        device.get_pathpoint(name)
    assert message in caught.value.args[0]
    assert name not in device.pathpoints


def test_constituents_are_provided_when_they_are_needed(make_device: Maker) -> None:
    class Device(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            if name == "W13":
                raise ValueError("broken")
            return Pathpoint(self, name, storage_level)

    device = make_device(Device)
    derived(device, "rW{W1}+{rW{W2}}", storage_level=StorageLevel.PERMANENT)
    assert device.pathpoints["W2"].storage_level is StorageLevel.PERMANENT
    with pytest.raises(ValueError, match="broken"):
        device.get_pathpoint("rW{W13}")


# --- Storage levels


def test_a_storage_level_is_passed_on_and_lowers_nothing(device: SMOKDevice) -> None:
    kept, other = Pathpoint(device, "W1", StorageLevel.PERMANENT), Pathpoint(device, "W2")
    inner = derived(device, "rW{W2}")
    pathpoint = derived(device, "rW{W1}+{rW{W2}}")
    pathpoint.on_new_storage_level(StorageLevel.TREND)
    assert (kept.storage_level, other.storage_level) == (
        StorageLevel.PERMANENT,
        StorageLevel.TREND,
    )
    pathpoint.on_new_storage_level(StorageLevel.PERMANENT)
    for changed in (pathpoint, kept, inner, other):
        assert changed.storage_level is StorageLevel.PERMANENT
    pathpoint.on_new_storage_level(StorageLevel.TREND)
    assert pathpoint.storage_level is StorageLevel.TREND
    assert other.storage_level is StorageLevel.PERMANENT


def test_a_storage_level_is_for_constituents_that_are_made_now(make_device: Maker) -> None:
    class Providing(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            return Pathpoint(self, name, storage_level)

    device = make_device(Providing)
    known = Pathpoint(device, "W1")
    derived(device, "rW{W1}+{rW{W2}}", storage_level=StorageLevel.PERMANENT)
    assert known.storage_level is StorageLevel.TREND
    for name in ("W2", "rW{W2}"):
        assert device.pathpoints[name].storage_level is StorageLevel.PERMANENT


def test_a_storage_level_reaches_what_is_below_a_pathpoint_that_has_it_already(
    device: SMOKDevice,
) -> None:
    native = Pathpoint(device, "W1")
    outer = derived(device, "rW{rW{W1}}+1", storage_level=StorageLevel.PERMANENT)
    native.on_new_storage_level(StorageLevel.TREND)
    outer.on_new_storage_level(StorageLevel.PERMANENT)
    assert native.storage_level is StorageLevel.PERMANENT


# --- Reading and writing


def test_reading_reads_each_native_pathpoint_once(offline_device: SMOKDevice) -> None:
    log: list[Any] = []
    for number in (1, 2, 3):
        scripted(offline_device, f"W{number}", 10 * number, log=log)
    pathpoint = derived(offline_device, "rW{W2}+{rf{W1}+{W2}}*{W3}")
    section = pathpoint.read(AdviseLevel.FORCE)
    assert {order.advise for order in section.orders} == {AdviseLevel.FORCE}
    done = offline_device.execute(section)
    assert done is not None
    done.result(SOON)
    assert sorted(log) == [("read", "W1"), ("read", "W2"), ("read", "W3")]
    assert pathpoint.get()[1] == 20 + 30 * 30
    assert pathpoint.get()[0] == max(
        offline_device.pathpoints[f"W{number}"].get()[0] for number in (1, 2, 3)
    )


def test_an_order_to_read_a_computed_pathpoint_reads_its_natives(
    offline_device: SMOKDevice,
) -> None:
    scripted(offline_device, "W1", 41)
    execute(offline_device, *read("rW{W1}+1"))
    assert offline_device.get_pathpoint("rW{W1}+1").get()[1] == 42


def test_an_order_to_write_a_computed_pathpoint_does_nothing(offline_device: SMOKDevice) -> None:
    pathpoint = scripted(offline_device, "W1")
    execute(offline_device, write("rW{W1}+1", 5), *read("W1"))
    assert pathpoint.log == [("read", "W1")]
    computed = derived(offline_device, "rW{W1}+1")
    assert not computed.write(5, AdviseLevel.FORCE)
    computed.set_new_value(1, 99)
    assert computed.get()[1] == 2


def test_a_computed_pathpoint_is_never_read_or_written_itself(device: SMOKDevice) -> None:
    record(device, "W1")
    pathpoint = derived(device, "rW{W1}")
    assert pathpoint.can_read()
    with pytest.raises(RuntimeError, match="constituents"):
        pathpoint.on_read(AdviseLevel.ADVISE)
    with pytest.raises(RuntimeError, match="cannot be written"):
        pathpoint.on_write(1, AdviseLevel.ADVISE)


def test_an_order_with_a_wrong_expression_is_skipped_with_the_reason_and_the_rest_is_executed(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    pathpoint = scripted(offline_device, "W1", 5)
    execute(offline_device, *read("rW{W1}+", "rW{W404}"), write("rW{", 1), *read("W1"))
    assert pathpoint.get()[1] == 5
    first, second, third = [message.getMessage() for message in caplog.records]
    assert first.startswith("order for unknown pathpoint rW{W1}+ skipped: ")
    assert "(column 8 of rW{W1}+)" in first
    assert second == "order for unknown pathpoint rW{W404} skipped: W404"
    assert "(column 3 of rW{)" in third


def test_orders_of_the_server_may_name_computed_pathpoints(
    smok_server: LocalServer, device_certificate: Callable[..., Any]
) -> None:
    class Gateway(Recorder):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            made = Scripted(self, name, storage_level, self.note)
            made.reading = int(name[1:])
            return made

    orders = [
        {"type": "read", "path": "rW{W1}+"},
        {"type": "write", "path": "rW{W4}", "value": 1},
        {"type": "read", "path": "rW{W2}*{rW{W3}}"},
    ]
    smok_server.admin.queue_orders(DEVICE_ID, [{"orders": orders, "disposition": 0}])
    database = InMemoryEventDatabase()
    certificate = device_certificate(DEVICE_ID)
    with Gateway(certificate, smok_server.url, evt_database=database) as device:
        wait_until(lambda: {"W2", "W3"} <= device.readings.keys(), PATIENCE)
        assert device.get_pathpoint("rW{W2}*{rW{W3}}").get()[1] == 6
        assert set(device.readings) == {"W2", "W3"}


def test_a_macro_that_writes_a_computed_pathpoint_is_done_without_writing(
    offline_device: SMOKDevice,
) -> None:
    pathpoint = scripted(offline_device, "W1")
    macro = Macro("m", {"rW{W1}": 5, "W1": 7}, [100.0])
    macro.execute(offline_device, 101.0)
    wait_until(lambda: bool(list(offline_device.macros_database.get_done_macros())), SOON)
    assert pathpoint.log == [("write", "W1", 7)]
    assert not macro


# --- Archives and sensors


def test_an_archive_list_with_a_computed_pathpoint_polls_its_natives(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    polled = {name: threading.Event() for name in ("W1", "W2")}
    for name, event in polled.items():
        scripted(offline_device, name, lambda event=event: (event.set(), 4)[1])
    offline_device.set_archives({0.01: ["rW{W1}*{rW{W2}}", "rW{W1}+"]})
    for event in polled.values():
        assert event.wait(SOON)
    pathpoint = derived(offline_device, "rW{W1}*{rW{W2}}")
    wait_until(lambda: len(archive(pathpoint)) > 3, SOON)
    assert {value for _, value in archive(pathpoint)} == {16}
    (line,) = [message.getMessage() for message in caplog.records]
    assert line.startswith("unknown pathpoint rW{W1}+ is to be archived, skipped: ")
    assert "(column 8 of rW{W1}+)" in line


def test_a_sensor_may_be_made_from_a_computed_pathpoint(offline_device: SMOKDevice) -> None:
    for number in (1, 2):
        scripted(offline_device, f"W{number}", 100 + number)
    sensor = Sensor(offline_device, "temp", "rW{W1}+{W2}", "std.Number10")
    done = offline_device.execute(sensor.read())
    assert done is not None
    done.result(SOON)
    assert sensor.get()[1] == 20.3
    assert archive(sensor)[-1][1] == 20.3
    assert not sensor.write(5.0)


def test_an_archive_has_a_value_at_each_timestamp_with_the_latest_of_the_others(
    device: SMOKDevice,
) -> None:
    record(device, "W1", (10, 1), (20, 2), (40, 3), (60, 4))
    record(device, "W2", (15, 100), (20, 200), (50, 300))
    pathpoint = derived(device, "rW{W1}+{W2}")
    whole = [(15, 101), (20, 202), (40, 203), (50, 303), (60, 304)]
    assert archive(pathpoint) == whole
    assert archive(pathpoint, 0, 1000) == whole
    assert archive(pathpoint, 20, 50) == whole[1:4], "bounds are inclusive"
    assert archive(pathpoint, 30) == [(50, 303), (60, 304)], "what came before is not known"
    assert archive(pathpoint, 61) == []
    assert all(type(value) is int for _, value in pathpoint.get_archive(None))


def test_a_failure_in_an_archive_lasts_until_the_next_value(device: SMOKDevice) -> None:
    record(device, "W1", (10, 5), (20, TIMEOUT), (40, 6))
    record(device, "W2", (10, 1), (30, 0), (50, 2))
    assert archive(derived(device, "rf{W1}/{W2}")) == [
        (10, 5.0),
        (20, (TIMEOUT, 20)),
        (30, (TIMEOUT, 20)),
        (40, (INVALID, 40)),
        (50, 3.0),
    ]


def test_an_archive_of_computed_pathpoints_is_computed_from_theirs(device: SMOKDevice) -> None:
    record(device, "W1", (10, 1), (30, 3))
    record(device, "W2", (20, 2))
    assert archive(derived(device, "rf{rW{W1}*10}+{rf{W2}/4}")) == [(20, 10.5), (30, 30.5)]


def test_an_archive_is_computed_while_it_is_iterated(device: SMOKDevice) -> None:
    class Endless(Pathpoint):
        taken = 0

        def get_archive(self, starting_at: int | None, stopping_at: int | None = None) -> Any:
            for number in itertools.count():
                self.taken += 1
                yield number, number

    endless = Endless(device, "W1")
    samples = derived(device, "rW{W1}*2").get_archive(None)
    assert endless.taken == 0
    assert list(itertools.islice(samples, 3)) == [(0, 0), (1, 2), (2, 4)]
    assert endless.taken < 10


def both_archives(pathpoint: ReparsePathpoint) -> tuple[list[Any], list[Any]]:
    """An archive by rows and by columns, where what has no value is 'none'."""
    rows = [
        (timestamp, "none" if isinstance(value, OperationFailedError) else value)
        for timestamp, value in pathpoint.get_archive(None)
    ]
    timestamps, values = pathpoint.get_archive_arrays()
    columns = [
        (timestamp, "none" if math.isnan(value) else value)
        for timestamp, value in zip(timestamps, values, strict=True)
    ]
    return rows, columns


EXACT = [
    "rd{d1}%10",
    "rdstr({d1})=='3'",
    "rd{d1}>>1",
    "rdmkint32({d1},0)",
    "rf{rd{d1}}+{W1}",
    "rwint('abcd'[{W1}%4],16)+{d1}",
    "rd7/{rd{d1}-3}",
    "rdfloat({u1})+{d1}",
    "rdfloat({ru{u1}+'0'})",
    "rdstr({rB{W1}})=='True'",
    "rWint(str({rB{W1}})[0]=='T')+{W1}",
    "rd{rB{rB{W1}}>0}+{rf{W1}}/{rW{d1}}",
]


@pytest.mark.parametrize("name", EXACT)
def test_columns_have_the_values_of_the_rows(device: SMOKDevice, name: str) -> None:
    record(device, "d1", (1, 3), (2, 2.5), (3, 2**53 + 1), (4, TIMEOUT), (5, 3.0), (9, 8))
    record(device, "W1", (1, 1), (3, 2), (6, 3), (7, TIMEOUT), (8, 4))
    record(device, "u1", (1, "1.5"), (4, "x"), (5, "2"))
    rows, columns = both_archives(derived(device, name))
    assert rows == columns
    assert any(value != "none" for _, value in rows)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.one_of(
            st.integers(-5, 5),
            st.integers(2**53, 2**53 + 4),
            st.sampled_from([0.5, 2.0, 1e18, TIMEOUT]),
        ),
        max_size=12,
    ),
    name=st.sampled_from(
        ["rd{d1}%10", "rd{d1}//3", "rw{d1}|1", "rdstr({d1})==str({W1})", "rf{rd{d1}}/{W1}"]
    ),
)
def test_columns_have_the_values_of_the_rows_whatever_these_are(
    make_device: Maker, values: list[Any], name: str
) -> None:
    device = make_device()
    record(device, "d1", *enumerate(values))
    record(device, "W1", (0, 2), (3, 0), (4, TIMEOUT), (5, 7))
    rows, columns = both_archives(derived(device, name))
    assert rows == columns
    kept = [
        (timestamp, repr(value)) for timestamp, value in device.pathpoints["d1"].get_archive(None)
    ]
    for database in (type(device.pp_database), BasePathpointDatabase):
        timestamps, samples = database.get_archive_samples(device.pp_database, "d1", None, None)
        assert list(zip(timestamps, map(repr, samples), strict=True)) == kept
    device.close()


def test_a_class_with_an_archive_of_its_own_is_asked_for_columns_too(device: SMOKDevice) -> None:
    class Elsewhere(Pathpoint):
        def get_archive(self, starting_at: int | None, stopping_at: int | None = None) -> Any:
            return iter([(1, 5), (2, 6.5)])

    class Computed(ReparsePathpoint):
        def get_archive(self, starting_at: int | None, stopping_at: int | None = None) -> Any:
            return iter([(1, 7), (3, True)])

    Elsewhere(device, "d1")
    record(device, "d1", (10, 0))
    assert both_archives(derived(device, "rd{d1}")) == ([(1, 5.0), (2, 6.5)],) * 2
    device.pathpoints["rW{d1}"] = Computed(device, "rW{d1}")
    rows, columns = both_archives(derived(device, "rd{rW{d1}}"))
    assert rows == columns == [(1, 7.0), (3, 1.0)]


def test_texts_are_refused_before_anything_is_computed(device: SMOKDevice) -> None:
    class Unread(Pathpoint):
        def get_archive(self, starting_at: int | None, stopping_at: int | None = None) -> Any:
            raise AssertionError

    Unread(device, "W1")
    with pytest.raises(TypeError, match=re.escape("ru'a'*{W1} holds texts")):
        derived(device, "ru'a'*{W1}").get_archive_arrays()


def test_columns_over_texts_need_room_for_one_text_at_a_time(device: SMOKDevice) -> None:
    record(device, "W1", *((number, number % 10) for number in range(1, 3001)))
    pathpoint = derived(device, "rWint({ru'7'*(30000+{W1})}[-1:])+{W1}")
    tracemalloc.start()
    try:
        timestamps, values = pathpoint.get_archive_arrays()
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert list(timestamps) == list(range(1, 3001))
    assert list(values) == [7 + number % 10 for number in range(1, 3001)]


# --- Life


def test_a_closed_device_with_computed_pathpoints_is_collected(make_device: Maker) -> None:
    device = make_device()
    record(device, "W1", (1, 1))
    reference = weakref.ref(derived(device, "rW{W1}+{rW{W1}}"))
    device.close()
    device.pathpoints["W1"].callable_on_change = None
    pathpoints, device.pathpoints = device.pathpoints, {}
    pathpoints.clear()
    del device, pathpoints
    gc.collect()
    assert reference() is None


def in_threads(functions: list[Callable[[], None]]) -> None:
    """Run functions at once, and raise what one of them has raised."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_threads_compute_while_others_record(device: SMOKDevice) -> None:
    first, second = record(device, "W1", (1, 1)), record(device, "u1", (1, "1"))
    pathpoint = derived(device, "ru{u1} + str({rW{W1} % 1000}) * 2")
    last = 3000
    recorded = threading.Event()

    def compute() -> None:
        before = 0
        while not recorded.is_set():
            timestamp, text = pathpoint.get()
            assert before <= timestamp <= last
            assert isinstance(text, str)
            before = timestamp

    def note() -> None:
        try:
            for number in range(2, last + 1):
                first.set_new_value(number, number)
                second.set_new_value(number, str(number))
        finally:
            recorded.set()

    in_threads([compute, compute, compute, note])
    assert pathpoint.get() == (last, "300000")
