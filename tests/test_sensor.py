"""Sensors, their types, and the series that they are made from."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.client import SMOKDevice
from smok_fast.exceptions import NotReadedError, OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import AdviseLevel, Pathpoint, ReadOrder, WriteOrder
from smok_fast.pathpoint.series import merge_series
from smok_fast.sensor import Sensor, SensorWriteEvent, fqtsify
from smok_fast.sensor.types import NumericType, UnicodeType, get_type


def a_sensor(device: SMOKDevice, path: str = "W1", type_name: str = "std.Number10") -> Sensor:
    for name in path.split("~"):
        Pathpoint(device, name)
    return Sensor.from_json(device, {"fqts": "temp boiler", "path": path, "type": type_name})


def reads_and_writes(section: object) -> list[tuple[object, ...]]:
    orders = section.orders
    return [
        (order.pathpoint, order.value, order.advise)
        if isinstance(order, WriteOrder)
        else (order.pathpoint, order.advise)
        for order in orders
        if isinstance(order, (ReadOrder, WriteOrder))
    ]


@pytest.mark.parametrize("tag", ["b a  c", {"c", "a", "b"}, ["b", "c", "a"], " a b c "])
def test_words_of_a_tag_name_come_in_any_order(tag: str | set[str] | list[str]) -> None:
    assert fqtsify(tag) == "a b c"


def test_naming_a_sensor_leaves_the_callers_list_alone() -> None:
    words = ["b", "a"]
    fqtsify(words)
    assert words == ["b", "a"]


@pytest.mark.parametrize(
    ("type_name", "raw", "shown"),
    [
        ("std.Number10", 217, 21.7),
        ("std.Number100", 1234, 12.34),
        ("frisko.DayOfWeek", 3, 2),
        ("std.Unicode", 5, "5"),
        ("anything.else", 7, 7),
        ("x.Y()", 7, 7),
        ("x.Y(precision=1, multiplier=0.25, offset=-3)", 13, 0.2),
        ("x.Y( multiplier = 1e-1 ,precision=0,)", 217, 22.0),
        ("x.Y(offset=+.5, unit='°C', ok=True, other=None, s=\"a,b)\")", 1, 1.5),
    ],
)
def test_a_type_says_how_a_raw_value_is_shown(type_name: str, raw: int, shown: float | str) -> None:
    assert get_type(type_name).pathpoint_to_sensor(raw) == shown


@pytest.mark.parametrize(
    "arguments",
    [
        "multiplier=__import__('os').getpid()",
        "multiplier=2**1000",
        "multiplier=1/10",
        "multiplier=[1]",
        "multiplier='2'",
        "multiplier=0",
        "multiplier=0.0",
        "multiplier=1e999",
        "multiplier=nan",
        "multiplier=None",
        "multiplier=1_0",
        "precision=1.5",
        "precision=" + "9" * 5000,
        "0.1",
        "**{}",
        "multiplier=1; import os",
        "multiplier=1 offset=2",
        "=1",
        "x='\\'",
    ],
)
def test_arguments_that_are_no_sensible_literals_are_refused(arguments: str) -> None:
    with pytest.raises(ValueError, match="malformed sensor type"):
        get_type(f"x.Y({arguments})")


@pytest.mark.parametrize("type_name", ["x.Y(", "x.Y(offset=1", "x.Y(offset=1) ", "(" * 2000])
def test_an_unfinished_type_name_is_refused(type_name: str) -> None:
    with pytest.raises(ValueError, match="malformed sensor type"):
        get_type(type_name)


@given(
    st.one_of(st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False)),
    st.integers(-5, 10),
)
def test_numbers_are_what_python_reads_in_them(offset: float, precision: int) -> None:
    kind = get_type(f"x.Y(offset={offset!r},precision={precision!r})")
    assert isinstance(kind, NumericType)
    assert kind.offset == ast.literal_eval(repr(offset))
    assert kind.precision == precision


@given(st.text(max_size=60))
def test_a_type_name_gives_a_type_or_a_value_error(name: str) -> None:
    for type_name in (name, f"x({name})"):
        try:
            assert isinstance(get_type(type_name), (NumericType, UnicodeType))
        except ValueError as error:
            assert "malformed sensor type" in str(error)


@given(st.integers(0, 65535), st.sampled_from([1, 0.1, 0.01, 0.001]), st.integers(-1000, 1000))
def test_writing_back_what_was_shown_writes_the_same_register(
    raw: int, multiplier: float, offset: int
) -> None:
    kind = NumericType(precision=3, multiplier=multiplier, offset=offset)
    shown = kind.pathpoint_to_sensor(raw)
    assert kind.sensor_to_pathpoint(shown, "W1") == (raw,)


def test_a_written_number_gets_the_pathpoints_type() -> None:
    tenths = NumericType(multiplier=0.1)
    assert tenths.sensor_to_pathpoint(21.7, "W1") == (217,)
    assert tenths.sensor_to_pathpoint(-1, "W1") == (0,)
    assert tenths.sensor_to_pathpoint(-1, "w1") == (-10,)
    assert tenths.sensor_to_pathpoint(21.7, "f1") == pytest.approx((217.0,))
    assert NumericType().sensor_to_pathpoint(2, "B1") == (True,)
    assert UnicodeType().sensor_to_pathpoint(5, "u1") == ("5",)
    for wrong in ("21.7", None, float("nan"), [1]):
        with pytest.raises(TypeError):
            tenths.sensor_to_pathpoint(wrong, "W1")


def test_a_sensor_shows_the_last_values_of_its_pathpoints(device: SMOKDevice) -> None:
    sensor = a_sensor(device, "W1~W2")
    with pytest.raises(NotReadedError):
        sensor.get()
    device.get_pathpoint("W1").set_new_value(1000, 217)
    device.get_pathpoint("W2").set_new_value(2000, 1)
    assert sensor.get() == (2000, 21.7)
    assert sensor.fqts == "boiler temp"
    assert sensor == Sensor(device, "boiler temp", "W9", "x")
    assert (
        len({sensor, Sensor(device, "boiler temp", "W9", "x"), Sensor(device, "b", "W1", "x")}) == 2
    )
    device.get_pathpoint("W2").set_new_value(OperationFailedError(timestamp=3000))
    with pytest.raises(OperationFailedError):
        sensor.get()


def test_a_value_of_the_wrong_type_is_a_failure_and_no_value(device: SMOKDevice) -> None:
    sensor = a_sensor(device, "u1", "std.Number10")
    device.get_pathpoint("u1").set_new_value(1000, "hot")
    with pytest.raises(OperationFailedError) as caught:
        sensor.get()
    assert (caught.value.reason, caught.value.timestamp) == (OperationFailedReason.TYPE, 1000)


def test_a_sensor_may_be_known_before_its_pathpoints_are(device: SMOKDevice) -> None:
    sensor = Sensor(device, "a", "W7", "x")
    with pytest.raises(KeyError):
        sensor.read()
    Pathpoint(device, "W7")
    assert reads_and_writes(sensor.read()) == [("W7", AdviseLevel.ADVISE)]


def test_reading_and_writing_concern_all_pathpoints(device: SMOKDevice) -> None:
    sensor = a_sensor(device, "W1~W2")
    assert reads_and_writes(sensor.read(AdviseLevel.FORCE)) == [
        ("W1", AdviseLevel.FORCE),
        ("W2", AdviseLevel.FORCE),
    ]
    assert reads_and_writes(sensor.write(21.7, AdviseLevel.FORCE)) == [
        ("W1", 217, AdviseLevel.FORCE)
    ]
    with pytest.raises(TypeError):
        sensor.write("hot")


def test_an_archive_is_that_of_the_pathpoints_with_failures_in_their_place(
    device: SMOKDevice,
) -> None:
    sensor = a_sensor(device, "W1~W2")
    failure = OperationFailedError(OperationFailedReason.TIMEOUT, 40)
    for timestamp, value in [(10, 100), (30, 110), (50, 120)]:
        device.get_pathpoint("W1").set_new_value(timestamp, value)
    device.get_pathpoint("W2").set_new_value(20, 1)
    device.get_pathpoint("W2").set_new_value(failure)
    archive = list(sensor.get_archive(0))
    assert [(timestamp, value) for timestamp, value in archive[:2]] == [(20, 10.0), (30, 11.0)]
    assert [timestamp for timestamp, _ in archive[2:]] == [40, 50]
    for _, value in archive[2:]:
        assert isinstance(value, OperationFailedError)
        assert value.reason is OperationFailedReason.TIMEOUT


def test_a_write_is_logged_with_what_was_left_out_filled_in(device: SMOKDevice) -> None:
    sensor = a_sensor(device)
    sensor.log_write("anna", "it is cold", 21.7)
    sensor.log_write("bob", "r", "1", hr_value="on", hr_sensor="Pump", timestamp=5)
    first, second = device.sensor_write_database.get_sw_sync().events
    assert first.timestamp > 1_600_000_000_000
    assert first.to_json() == {
        "timestamp": first.timestamp,
        "who": "anna",
        "hr_sensor": "boiler temp",
        "hr_value": "21.7",
        "fqts": "boiler temp",
        "value": "21.7",
        "reason": "it is cold",
    }
    assert second == SensorWriteEvent(5, "bob", "Pump", "on", "boiler temp", "1", "r")


samples = st.lists(
    st.tuples(st.integers(0, 20), st.integers()), max_size=8, unique_by=lambda s: s[0]
)


@given(st.lists(samples.map(sorted), min_size=1, max_size=4))
def test_merged_series_hold_each_ones_last_value(series: list[list[tuple[int, int]]]) -> None:
    expected = []
    for now in sorted({timestamp for one in series for timestamp, _ in one}):
        until_now = [[value for timestamp, value in one if timestamp <= now] for one in series]
        if all(until_now):
            expected.append((now, [values[-1] for values in until_now]))
    assert list(merge_series(*series)) == expected


def test_series_are_merged_without_reading_ahead() -> None:
    taken: list[int] = []

    def endless() -> Callable[[], object]:
        def generate():
            for timestamp in range(10**9):
                taken.append(timestamp)
                yield timestamp, timestamp

        return generate

    merged = merge_series(endless()(), [(3, "a")])
    assert next(merged) == (3, [3, "a"])
    assert len(taken) < 10
