"""Events, windows of silence, statistics and their registration."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.client import SMOKDevice
from smok_fast.extras import NullEventDatabase
from smok_fast.predicate import BaseStatistic, Color, DisabledTime, Event, Time
from smok_fast.predicate.registration import CollectionOfStatistics, StatisticRegistration
from smok_fast.predicate.undefined import UndefinedStatistic
from smok_fast.server import LocalServer
from smok_fast.testing import Admin

WARSAW = ZoneInfo("Europe/Warsaw")

minutes_of_week = st.integers(0, 7 * 24 * 60 - 1)


def a_time(minute_of_week: int) -> Time:
    day, rest = divmod(minute_of_week, 24 * 60)
    return Time(day + 1, *divmod(rest, 60))


class Watching(BaseStatistic):
    """Counts its ticks in its state."""

    def on_tick(self) -> None:
        self.state = (self.state or 0) + 1


def a_statistic(device: SMOKDevice, **changes: Any) -> Watching:
    arguments: dict[str, Any] = {
        "predicate_id": "p1",
        "verbose_name": "Boiler",
        "silencing": [],
        "configuration": {"limit": 5},
        "statistic": "too-hot",
        "group": "A",
    }
    return Watching(device, **{**arguments, **changes})


def in_the_middle_of(now: datetime.datetime) -> list[DisabledTime]:
    """A window of an hour on both sides of a time."""
    start, stop = now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=1)
    return [
        DisabledTime(
            Time(start.isoweekday(), start.hour, start.minute),
            Time(stop.isoweekday(), stop.hour, stop.minute),
        )
    ]


@given(minutes_of_week, minutes_of_week, minutes_of_week)
def test_a_window_holds_the_minutes_from_its_start_to_its_stop_even_over_the_weeks_end(
    start: int, stop: int, now: int
) -> None:
    # 2024-01-01 was a Monday
    moment = datetime.datetime(2024, 1, 1, tzinfo=WARSAW) + datetime.timedelta(
        minutes=now, seconds=59
    )
    length = (stop - start) % (7 * 24 * 60)
    expected = (now - start) % (7 * 24 * 60) <= length
    assert DisabledTime(a_time(start), a_time(stop)).is_in_time(moment) is expected


def test_a_window_from_friday_evening_to_monday_morning_is_the_weekend() -> None:
    weekend = DisabledTime.from_json(
        {
            "start": {"day": 5, "hour": 18, "minute": 0},
            "stop": {"day": 1, "hour": 6, "minute": 30},
        }
    )
    assert weekend == DisabledTime(Time(5, 18, 0), Time(1, 6, 30))
    at = {
        (day, hour, minute): weekend.is_in_time(
            datetime.datetime(2024, 1, day, hour, minute, tzinfo=WARSAW)
        )
        for day, hour, minute in [(5, 17, 59), (5, 18, 0), (7, 12, 0), (8, 6, 30), (8, 6, 31)]
    }
    assert list(at.values()) == [False, True, True, True, False]


@pytest.mark.parametrize("fields", [(0, 0, 0), (8, 0, 0), (1, 24, 0), (1, 0, 60), (1, -1, 0)])
def test_there_is_no_time_outside_a_week(fields: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such minute"):
        Time(*fields)


def test_an_event_survives_its_json_and_its_bytes() -> None:
    event = Event("u-1", 10, 20, Color.YELLOW, False, "t", "B", "msg", "anna", {"a": "ż"})
    assert event.to_json() == {
        "uuid": "u-1",
        "started_on": 10,
        "ended_on": 20,
        "color": 1,
        "alarm_type": 0,
        "token": "t",
        "group": "B",
        "message": "msg",
        "handled_by": "anna",
        "metadata": {"a": "ż"},
    }
    assert Event.from_json(event.to_json()).to_json() == event.to_json()
    assert Event.from_pickle(event.to_pickle()) == event
    assert Event.from_pickle(event.to_pickle()).to_json() == event.to_json()


@pytest.mark.parametrize("color", ["red", 7, None])
def test_an_event_of_no_colour_is_refused(device: SMOKDevice, color: Any) -> None:
    with pytest.raises(ValueError, match="Color"):
        device.open_event(1, None, color, False, "token", "A", "message")
    with pytest.raises(ValueError, match="Color"):
        a_statistic(device).open_event("92 °C", color)
    assert list(device.get_all_events()) == []


def test_an_event_that_the_server_does_not_know_has_a_uuid_of_its_own() -> None:
    event = Event(None, None, None, Color.RED, True, "t", "B", "msg", None, None)
    assert event.is_closed()
    assert event.to_json()["alarm_type"] == 1
    assert event.to_json().keys().isdisjoint({"uuid", "ended_on", "handled_by"})
    provisional = event.get_uuid()
    restored = Event.from_pickle(event.to_pickle())
    assert restored == event and restored.uuid_matches(provisional)

    known = {event: "kept"}
    event.uuid = "u-1"
    assert known[event] == "kept", "a hash must not change when the server answers"
    assert event.get_uuid() == "u-1"
    assert event.uuid_matches("u-1") and event.uuid_matches(provisional)
    assert not event.uuid_matches("u-2")
    assert event == restored
    assert event != Event("u-2", None, None, Color.RED, True, "t", "B", "msg", None, None)


@pytest.mark.parametrize("data", [b"", b"[]", b"5", b"{}", b'{"color": 9}', b"\x80\x04K\x01."])
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Event.from_pickle(data)


def test_an_opened_event_carries_the_predicate_and_a_closed_one_its_end(
    device: SMOKDevice,
) -> None:
    statistic = a_statistic(device)
    event = statistic.open_event("92 °C", Color.RED)
    assert event is not None
    assert list(device.evt_database.get_open_events()) == [event]
    sent = event.to_json()
    assert (sent["message"], sent["token"], sent["group"]) == ("Boiler: 92 °C", "too-hot", "A")
    assert sent["metadata"] == {"predicate_id": "p1"}
    statistic.close_event(event)
    assert event.ended_on is not None and event.ended_on >= event.started_on
    assert list(device.evt_database.get_open_events()) == []
    unnamed = statistic.open_event("", Color.WHITE)
    assert unnamed is not None and unnamed.message == "Boiler"


def test_what_a_statistic_opens_or_closes_does_not_wait_for_the_next_cycle(
    device: SMOKDevice,
) -> None:
    upload = device._events
    upload.run()
    assert upload.delay(time.monotonic()) == math.inf
    event = a_statistic(device).open_event("92 °C", Color.RED)
    assert event is not None
    assert upload.delay(time.monotonic()) == 0
    upload.run()
    assert upload.delay(time.monotonic()) == math.inf
    a_statistic(device).close_event(event)
    assert upload.delay(time.monotonic()) == 0


def test_no_event_is_opened_in_a_window_of_silence_in_the_devices_time_zone(
    device: SMOKDevice, admin: Admin
) -> None:
    admin.set_device("1", timezone="Pacific/Kiritimati")  # UTC+14
    there = datetime.datetime.now(ZoneInfo("Pacific/Kiritimati"))
    silenced = a_statistic(device, silencing=in_the_middle_of(there))
    elsewhere = in_the_middle_of(datetime.datetime.now(ZoneInfo("Pacific/Pago_Pago")))  # UTC-11
    assert silenced.open_event("x", Color.RED) is None
    assert list(device.evt_database.get_all_events()) == []
    assert a_statistic(device, silencing=elsewhere).open_event("x", Color.RED) is not None


def test_an_alarm_is_not_silenced_if_nobody_knows_what_time_it_is(
    device: SMOKDevice, smok_server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    smok_server.stop()
    always = [DisabledTime(Time(1, 0, 0), Time(7, 23, 59))]
    assert a_statistic(device, silencing=always).open_event("x", Color.RED) is not None
    assert "not silenced" in caplog.text


def test_state_is_loaded_before_a_call_and_saved_after_it_even_if_it_raises(
    device: SMOKDevice,
) -> None:
    class Failing(Watching):
        def on_tick(self) -> None:
            super().on_tick()
            raise ZeroDivisionError

    device.evt_database.set_cache("p1", 41)
    statistic = Failing(device, "p1", "Boiler", [], None)
    with pytest.raises(ZeroDivisionError):
        statistic._call_method("on_tick")
    assert device.evt_database.get_cache("p1") == 42


def test_state_lives_on_in_the_instance_if_the_database_keeps_none(
    make_device: Callable[..., SMOKDevice],
) -> None:
    statistic = a_statistic(make_device(evt_database=NullEventDatabase()))
    statistic._call_method("on_tick")
    statistic._call_method("on_tick")
    assert statistic.state == 2


def test_a_predicate_can_be_made_again_from_its_kwargs(device: SMOKDevice) -> None:
    silencing = [DisabledTime(Time(1, 0, 0), Time(2, 0, 0))]
    first = a_statistic(device, silencing=silencing, state=[1], extra="kept")
    again = UndefinedStatistic(device=device, **first.to_kwargs())
    again.on_tick()
    assert again.to_kwargs() == first.to_kwargs()
    assert first.to_kwargs() == {
        "predicate_id": "p1",
        "verbose_name": "Boiler",
        "silencing": silencing,
        "configuration": {"limit": 5},
        "statistic": "too-hot",
        "group": "A",
        "state": [1],
        "extra": "kept",
    }


def test_changes_are_taken_over(device: SMOKDevice) -> None:
    statistic = a_statistic(device)
    statistic.on_group_changed("C")
    statistic.on_verbose_name_changed("Stove")
    statistic.on_configuration_changed({"limit": 6})
    statistic.on_silencing_changed([DisabledTime(Time(1, 0, 0), Time(1, 0, 0))])
    statistic.on_offline()
    kwargs = statistic.to_kwargs()
    assert (kwargs["group"], kwargs["verbose_name"]) == ("C", "Stove")
    assert (kwargs["configuration"], len(kwargs["silencing"])) == ({"limit": 6}, 1)


def test_the_first_registration_that_matches_and_is_not_cancelled_counts(
    device: SMOKDevice,
) -> None:
    class Other(Watching):
        pass

    collection = CollectionOfStatistics()
    first = StatisticRegistration(lambda name, _: name == "too-hot", Watching)
    collection.add(first)
    collection.add(StatisticRegistration(lambda _, config: config == {"limit": 5}, Other))
    assert collection.try_match("too-hot", {"limit": 5}) is Watching
    assert collection.try_match("too-cold", {"limit": 5}) is Other
    assert collection.try_match("too-cold", {}) is None
    assert collection.try_match(a_statistic(device)) is Watching
    first.cancel()
    assert not first.matches("too-hot", {})
    assert collection.try_match("too-hot", {"limit": 5}) is Other
    assert len(collection.registrations) == 1
    collection.clear()
    assert collection.try_match("too-hot", {"limit": 5}) is None


def test_a_matcher_that_raises_is_logged_and_the_next_one_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collection = CollectionOfStatistics()
    collection.add(StatisticRegistration(lambda _, config: config["missing"] == 1, Watching))
    collection.add(StatisticRegistration(lambda _, __: True, Watching))
    assert collection.try_match("any", {}) is Watching
    assert "KeyError: 'missing'" in caplog.text
