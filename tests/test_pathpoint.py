"""Pathpoints: what they hold, what they refuse, and whom they tell."""

from __future__ import annotations

import enum
import gc
import math
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pathpoint_support import (
    SOON,
    TIMEOUT,
    Maker,
    Scripted,
    ended,
    execute,
    read,
    read_times,
    scripted,
    values,
)
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import (
    InstanceNotReady,
    NotReadedError,
    OperationFailedError,
    OperationFailedReason,
)
from smok_fast.extras import (
    BaseDataToSynchronize,
    BasePathpointDatabase,
    InMemoryPathpointDatabase,
)
from smok_fast.pathpoint import Pathpoint

TYPE = OperationFailedReason.TYPE


class Switch(enum.IntEnum):
    ON = 1


class Index:
    """As numpy's integers: no int, but with both conversions."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number

    def __float__(self) -> float:
        return float(self.number)


class Floating:
    def __float__(self) -> float:
        return 2.5


class Store(BasePathpointDatabase):
    """A database of the user's."""

    def __init__(self, known: dict[str, Any] | None = None) -> None:
        self.known = known or {}
        self.samples: list[tuple[str, float, Any]] = []
        self.raising: Exception | None = None

    def on_new_data(self, pathpoint: str, timestamp: float, value_or_exception: Any) -> None:
        if self.raising is not None:
            raise self.raising
        self.samples.append((pathpoint, timestamp, value_or_exception))

    def get_current_value(self, pathpoint: str) -> tuple[float, Any]:
        known = self.known.get(pathpoint, NotReadedError())
        if isinstance(known, Exception):
            raise known
        return known

    def get_archive_data(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> Iterator[tuple[float, Any]]:
        return iter([(1, "asked the store")])

    def get_data_to_sync(self) -> BaseDataToSynchronize | None:
        return None


# Values


def test_a_pathpoint_that_was_not_read_has_no_value(offline_device: SMOKDevice) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    assert (pathpoint.current_value, pathpoint.current_timestamp) == (None, None)
    assert pathpoint.last_read == 0
    with pytest.raises(NotReadedError):
        pathpoint.get()


def test_a_new_value_is_the_current_one(offline_device: SMOKDevice) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    pathpoint.set_new_value(1000, 5)
    assert pathpoint.get() == (1000, 5)
    assert (pathpoint.current_value, pathpoint.current_timestamp) == (5, 1000)


@pytest.mark.parametrize("form", ["alone", "with a timestamp"])
def test_a_failure_is_raised_by_get(offline_device: SMOKDevice, form: str) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    failure = OperationFailedError(OperationFailedReason.INVALID, 1000)
    if form == "alone":
        pathpoint.set_new_value(failure)
    else:
        pathpoint.set_new_value(1000, failure)
    with pytest.raises(OperationFailedError) as raised:
        pathpoint.get()
    assert (raised.value.reason, raised.value.timestamp) == (OperationFailedReason.INVALID, 1000)
    assert isinstance(pathpoint.current_value, OperationFailedError)


@pytest.mark.parametrize("arguments", [(), (5,), (1, 2, 3)])
def test_set_new_value_refuses_other_arguments(
    offline_device: SMOKDevice, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(TypeError, match="timestamp, value"):
        Pathpoint(offline_device, "W1").set_new_value(*arguments)


@pytest.mark.parametrize("timestamp", [math.nan, math.inf, 1e300])
def test_what_is_no_time_is_refused(offline_device: SMOKDevice, timestamp: float) -> None:
    with pytest.raises(ValueError, match="no time"):
        Pathpoint(offline_device, "W1").set_new_value(timestamp, 1)


@pytest.mark.parametrize("timestamp", [1000, 999])
def test_a_value_that_is_not_newer_is_ignored_with_a_warning(
    offline_device: SMOKDevice, timestamp: int
) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    pathpoint.set_new_value(1000, 5)
    with pytest.warns(UserWarning, match=f"timestamp {timestamp} is not above"):
        pathpoint.set_new_value(timestamp, 6)
    assert pathpoint.get() == (1000, 5)
    assert values(pathpoint) == [5]


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("W1", True, 1),
        ("W1", Switch.ON, 1),
        ("W1", Index(7), 7),
        ("d1", Floating(), 2.5),
        ("W1", 21.5, 21.5),
        ("W1", 2**63 - 1, 2**63 - 1),
        ("W1", -(2**63), -(2**63)),
        ("u1", "zażółć", "zażółć"),
    ],
)
def test_what_a_pathpoint_can_hold_is_kept_as_it_is(
    offline_device: SMOKDevice, name: str, given: Any, held: Any
) -> None:
    pathpoint = Pathpoint(offline_device, name)
    pathpoint.set_new_value(1, given)
    assert pathpoint.get() == (1, held)
    assert type(pathpoint.get()[1]) is type(held)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("W1", "5"),
        ("u1", 5),
        ("u1", 2.5),
        ("u1", "\ud800"),
        ("d1", math.nan),
        ("d1", math.inf),
        ("W1", 2**63),
        ("d1", -(2**63) - 1),
        ("d1", Index(2**63)),
        ("W1", object()),
        ("W1", b"1"),
        ("W1", [1]),
        ("W1", None),
        ("W1", NotReadedError()),
        ("W1", OperationFailedError("timeout")),  # type: ignore[arg-type] # the user's mistake
    ],
    ids=repr,
)
def test_what_a_pathpoint_cannot_hold_is_a_type_failure_and_logged(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture, name: str, given: Any
) -> None:
    pathpoint = Pathpoint(offline_device, name)
    pathpoint.set_new_value(1, given)
    assert values(pathpoint) == [TYPE]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{name} cannot hold ")
    assert type(given).__name__ in record.getMessage()


def test_a_read_of_the_wrong_type_is_a_type_failure(
    offline_device: SMOKDevice,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smok_fast.threads.execution.FIRST_PAUSE", 0.0)
    pathpoint = scripted(offline_device, "W1", "five")
    execute(offline_device, *read("W1"))
    assert values(pathpoint)[0] is TYPE
    assert [record.getMessage() for record in caplog.records] == [
        "W1 cannot hold 'five', a str: taken as a failure of reason TYPE",
        "giving up on ReadOrder('W1', AdviseLevel.ADVISE)",
    ]


def test_a_failure_without_a_proper_reason_does_not_end_the_section(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(offline_device, "W1", OperationFailedError("timeout"))  # type: ignore[arg-type] # wrong
    after = scripted(offline_device, "W2")
    execute(offline_device, *read("W1", "W2"))
    assert values(after) == [1]
    assert "reading W1 raised OperationFailedError" in caplog.text


def test_reads_in_one_millisecond_get_rising_timestamps(offline_device: SMOKDevice) -> None:
    pathpoint = scripted(offline_device, "W1")
    read_times(offline_device, "W1", 500)
    timestamps = [timestamp for timestamp, _ in pathpoint.get_archive(None)]
    assert len(timestamps) == 500
    assert timestamps == sorted(set(timestamps))


def test_last_read_is_on_the_clock_of_time_monotonic(offline_device: SMOKDevice) -> None:
    pathpoint = scripted(offline_device, "W1")
    before = time.monotonic()
    execute(offline_device, *read("W1"))
    assert before - 0.5 <= pathpoint.last_read <= time.monotonic() + 0.5


def test_reads_without_a_link_keep_the_buffer_within_its_cap(make_offline_device: Maker) -> None:
    database = InMemoryPathpointDatabase(capacity=100)
    device = make_offline_device(pp_database=database)
    scripted(device, "W1")
    read_times(device, "W1", 1000)
    figures = database.buffer.statistics()
    assert figures["recorded"] == 1000
    assert figures["kept"] <= 100
    assert figures["kept"] + figures["dropped"] == 1000


# callable_on_change


def test_callable_on_change_is_called_after_each_value(offline_device: SMOKDevice) -> None:
    seen: list[Any] = []
    pathpoint = Scripted(
        offline_device, "W1", callable_on_change=lambda pp: seen.append((pp, pp.current_value))
    )
    pathpoint.set_new_value(1, 5)
    pathpoint.set_new_value(2, 5)
    execute(offline_device, *read("W1"))
    assert seen == [(pathpoint, 5), (pathpoint, 5), (pathpoint, 1)]


def test_callable_on_change_may_read_and_set_pathpoints(offline_device: SMOKDevice) -> None:
    copy = Pathpoint(offline_device, "W2")
    original = Pathpoint(
        offline_device, "W1", callable_on_change=lambda pp: copy.set_new_value(*pp.get())
    )
    original.set_new_value(1, 5)
    assert copy.get() == (1, 5)


def test_an_exception_of_callable_on_change_is_logged_once_and_harmless(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(pathpoint: Pathpoint) -> None:
        raise ValueError("no change, please")

    pathpoint = Pathpoint(offline_device, "W1", callable_on_change=fail)
    pathpoint.set_new_value(1, 5)
    pathpoint.set_new_value(2, 6)
    assert values(pathpoint) == [5, 6]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.getMessage() == (
        "callable_on_change of W1 raised ValueError('no change, please')"
    )


def test_what_cannot_be_called_is_no_callable_on_change(offline_device: SMOKDevice) -> None:
    with pytest.raises(TypeError, match="callable"):
        Pathpoint(offline_device, "W1", callable_on_change=5)  # type: ignore[arg-type] # refused


# What a subclass overrides


def test_a_pathpoint_is_not_read_more_often_than_it_allows(offline_device: SMOKDevice) -> None:
    pathpoint = scripted(offline_device, "W1", read_no_often_than=3600)
    assert pathpoint.read_no_often_than == 3600
    assert pathpoint.can_read()
    execute(offline_device, *read("W1", "W1"))
    execute(offline_device, *read("W1"))
    assert pathpoint.log == [("read", "W1")]
    assert not pathpoint.can_read()
    pathpoint.read_no_often_than = None
    execute(offline_device, *read("W1"))
    assert len(pathpoint.log) == 2


def test_an_overridden_can_read_decides(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    class Choosy(Scripted):
        may: Any = False

        def can_read(self) -> bool:
            if self.may is None:
                raise ValueError("cannot say")
            return bool(self.may)

    pathpoint = Choosy(offline_device, "W1")
    execute(offline_device, *read("W1"))
    assert pathpoint.log == []
    pathpoint.may = None
    execute(offline_device, *read("W1"))
    assert pathpoint.log == []
    assert "reading W1 raised ValueError('cannot say')" in caplog.text
    pathpoint.may = True
    execute(offline_device, *read("W1"))
    assert pathpoint.log == [("read", "W1")]


class Filtering(Scripted):
    """Halves what comes."""

    def set_new_value(self, *args: Any) -> None:
        timestamp, value = args
        super().set_new_value(timestamp, value / 2)


@pytest.mark.parametrize("reading", [10, lambda: ended(10)], ids=["value", "future"])
def test_reads_go_through_an_overridden_set_new_value(
    offline_device: SMOKDevice, reading: Any
) -> None:
    pathpoint = Filtering(offline_device, "d1")
    pathpoint.reading = reading
    read_times(offline_device, "d1", 100)
    assert values(pathpoint) == [5.0] * 100


def test_an_overridden_set_new_value_that_raises_is_logged_and_harmless(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    Filtering(offline_device, "u1").reading = "no number"
    after = scripted(offline_device, "W2")
    execute(offline_device, *read("u1", "W2"))
    assert values(after) == [1]
    (record,) = caplog.records
    assert record.getMessage().startswith("set_new_value of u1 raised TypeError")
    assert record.exc_info is not None


def test_forgetting_the_constructor_is_a_clear_error(offline_device: SMOKDevice) -> None:
    class Forgetful(Pathpoint):
        def __init__(self) -> None:
            self.mine = 1

    with pytest.raises(RuntimeError, match=r"call super\(\).__init__"):
        offline_device.register_pathpoint(Forgetful())


# Devices


def test_an_unattached_pathpoint_says_so() -> None:
    pathpoint = Pathpoint("W1", StorageLevel.TREND)
    assert pathpoint.device is None
    for call in (
        pathpoint.get,
        lambda: pathpoint.set_new_value(1, 1),
        lambda: pathpoint.get_archive(None),
    ):
        with pytest.raises(InstanceNotReady):
            call()
    assert pathpoint.current_value is None


def test_both_forms_of_the_constructor_mean_the_same(offline_device: SMOKDevice) -> None:
    def on_change(pathpoint: Pathpoint) -> None: ...

    first = Pathpoint(offline_device, "W1", StorageLevel.PERMANENT, on_change, 2.5)
    second = Pathpoint(
        "W2", StorageLevel.PERMANENT, callable_on_change=on_change, read_no_often_than=2.5
    )
    offline_device.register_pathpoint(second)
    for pathpoint in (first, second):
        assert pathpoint.device is offline_device
        assert offline_device.get_pathpoint(pathpoint.name) is pathpoint
        assert pathpoint.storage_level is StorageLevel.PERMANENT
        assert pathpoint.callable_on_change is on_change
        assert pathpoint.read_no_often_than == 2.5
    assert Pathpoint("W3").storage_level is StorageLevel.TREND
    assert Pathpoint(None, "W3").device is None


def test_arguments_that_would_be_lost_without_a_device_are_refused() -> None:
    with pytest.raises(TypeError, match="by name"):
        Pathpoint("W1", StorageLevel.TREND, print)  # type: ignore[arg-type] # refused
    with pytest.raises(TypeError, match="is a storage level, not 'W2'"):
        Pathpoint("W1", "W2")
    with pytest.raises(TypeError, match="needs a name"):
        Pathpoint(None)


@pytest.mark.parametrize("level", [5, -1, 2])
def test_a_storage_level_that_there_is_not_is_refused(
    offline_device: SMOKDevice, level: Any
) -> None:
    for make in (
        lambda: Pathpoint(offline_device, "W1", level),
        lambda: Pathpoint(None, "W1", level),
        lambda: Pathpoint("W1", level),
        lambda: Pathpoint("W1", storage_level=level),
    ):
        with pytest.raises(ValueError, match=f"{level} is not a valid StorageLevel"):
            make()
    assert offline_device.pathpoints == {}
    for made in (Pathpoint("W1", 0), Pathpoint("W1", storage_level=0)):  # type: ignore[arg-type]
        assert made.storage_level is StorageLevel.PERMANENT


@pytest.mark.parametrize("name", ["", "x1", "r", "rx{W1}"])
def test_a_name_that_declares_no_type_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="declares no type"):
        Pathpoint(None, name)


def test_a_pathpoint_belongs_to_one_device(make_offline_device: Maker) -> None:
    pathpoint = Pathpoint(make_offline_device(), "W1")
    with pytest.raises(RuntimeError, match="attached"):
        make_offline_device().register_pathpoint(pathpoint)


def test_registering_again_does_nothing(offline_device: SMOKDevice) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    offline_device.register_pathpoint(pathpoint)
    assert offline_device.pathpoints == {"W1": pathpoint}


def test_two_devices_keep_their_values_apart(make_offline_device: Maker) -> None:
    first, second = (Pathpoint(make_offline_device(), "W1") for _ in range(2))
    first.set_new_value(1, 5)
    assert first.get() == (1, 5)
    with pytest.raises(NotReadedError):
        second.get()


def test_pathpoints_are_equal_by_name() -> None:
    first, same, other = Pathpoint("W1"), Pathpoint("W1"), Pathpoint("W2")
    assert first == same
    assert first != other
    assert first != "W1"
    assert len({first, same, other}) == 2


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (None, None, [10, 20, 30]),
        (20, None, [20, 30]),
        (None, 20, [10, 20]),
        (20, 20, [20]),
        (11, 19, []),
        (31, None, []),
    ],
)
def test_the_archive_has_inclusive_bounds(
    offline_device: SMOKDevice, start: int | None, stop: int | None, found: list[int]
) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    for timestamp in (10, 20, 30):
        pathpoint.set_new_value(timestamp, timestamp + 1)
    assert list(pathpoint.get_archive(start, stop)) == [(ms, ms + 1) for ms in found]


# A database of the user's


def test_a_database_of_the_users_gets_every_sample(make_offline_device: Maker) -> None:
    store = Store()
    device = make_offline_device(pp_database=store)
    pathpoint = scripted(device, "W1")
    pathpoint.set_new_value(1000, 5)
    execute(device, *read("W1"))
    pathpoint.reading = lambda: ended(2)
    execute(device, *read("W1"))
    pathpoint.set_new_value(2**42, TIMEOUT)
    names, timestamps, given = zip(*store.samples, strict=True)
    assert set(names) == {"W1"}
    assert timestamps[0] == 1000
    assert list(timestamps) == sorted(set(timestamps))
    assert given[:3] == (5, 1, 2)
    assert given[3].reason is OperationFailedReason.TIMEOUT
    assert list(pathpoint.get_archive(None)) == [(1, "asked the store")]


def test_a_database_of_the_users_remembers_values_from_before(make_offline_device: Maker) -> None:
    failure = OperationFailedError(OperationFailedReason.INVALID, 2000)
    store = Store({"W1": (1000, 5), "W2": failure})
    device = make_offline_device(pp_database=store)
    first, second = Pathpoint(device, "W1"), Pathpoint(device, "W2")
    assert first.get() == (1000, 5)
    with pytest.raises(OperationFailedError) as raised:
        second.get()
    assert (raised.value.reason, raised.value.timestamp) == (OperationFailedReason.INVALID, 2000)
    with pytest.raises(NotReadedError):
        Pathpoint(device, "W3").get()
    assert store.samples == []


def test_what_a_database_remembers_replaces_nothing_newer(make_offline_device: Maker) -> None:
    device = make_offline_device(pp_database=Store({"W1": (1000, 5)}))
    first = Pathpoint(device, "W1")
    first.set_new_value(2000, 6)
    second = Pathpoint(device, "W1")
    assert first.get() == second.get() == (2000, 6)


@pytest.mark.parametrize("known", [KeyError("disk full"), None], ids=repr)
def test_a_database_that_cannot_tell_a_value_does_not_keep_a_pathpoint_from_being_registered(
    make_offline_device: Maker, caplog: pytest.LogCaptureFixture, known: Any
) -> None:
    device = make_offline_device(pp_database=Store({"W1": known}))
    pathpoint = scripted(device, "W1")
    assert "cannot tell the value of W1" in caplog.text
    execute(device, *read("W1"))
    assert pathpoint.get()[1] == 1


def test_a_database_that_raises_is_logged_and_not_fatal(
    make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    store.raising = OSError("disk full")
    device = make_offline_device(pp_database=store)
    pathpoint = scripted(device, "W1")
    execute(device, *read("W1", "W1"))
    assert pathpoint.get()[1] == 1
    (record,) = caplog.records
    assert "failed to store a sample of W1: OSError('disk full')" in record.getMessage()
    assert record.exc_info is not None


def test_a_database_without_samples_of_its_own_still_ends_the_buffers_wait(
    make_offline_device: Maker,
) -> None:
    device = make_offline_device(pp_database=Store())
    buffer = device._buffer
    assert buffer.wait(0) is False
    Pathpoint(device, "W1").set_new_value(1, 1)
    assert buffer.wait(SOON) is True


# Memory


def test_a_closed_device_and_its_pathpoints_can_be_collected(
    device_certificate: Callable[..., Any],
) -> None:
    def build() -> list[weakref.ref[Any]]:
        files = device_certificate()
        device = SMOKDevice(
            str(files.cert),
            str(files.key),
            str(files.cert.with_name("state")),
            pp_database=Store(),
            allow_sync=False,
        )
        pathpoint = scripted(device, "W1")
        pathpoint.callable_on_change = lambda _: pathpoint.log.append(device)
        execute(device, *read("W1"))
        device.set_archives({3600.0: ["W1"]})
        device.close()
        return [weakref.ref(device), weakref.ref(pathpoint)]

    references = build()
    gc.collect()
    assert [reference() for reference in references] == [None, None]
