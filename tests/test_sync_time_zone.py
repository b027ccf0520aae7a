"""The device's time zone, as the local server has it."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conftest import DEVICE_ID, ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemorySensorDatabase
from smok_fast.predicate import BaseStatistic, Color
from smok_fast.server import LocalServer
from smok_fast.sync.predicates import PredicatesTask, TicksTask
from smok_fast.sync.time_zone import TimeZoneTask
from smok_fast.testing import Admin, wait_until


@pytest.fixture
def sync(device: SMOKDevice, clock: ManualClock) -> TimeZoneTask:
    return TimeZoneTask(device, clock=clock)


def test_a_change_is_taken_over_within_an_hour(
    device: SMOKDevice, sync: TimeZoneTask, admin: Admin, clock: ManualClock
) -> None:
    admin.set_device("1", timezone="Asia/Tokyo")
    sync.run()
    assert device.get_local_time().utcoffset() == datetime.timedelta(hours=9)
    admin.set_device("1", timezone="Asia/Kathmandu")
    assert sync.delay(clock()) == 3600
    assert device.timezone == ZoneInfo("Asia/Tokyo")
    clock.advance(3600)
    assert sync.is_due(clock())
    sync.run()
    assert device.get_local_time().utcoffset() == datetime.timedelta(hours=5, minutes=45)


def test_it_is_kept_while_the_server_is_away(
    device: SMOKDevice, sync: TimeZoneTask, admin: Admin, smok_server: LocalServer
) -> None:
    admin.set_device("1", timezone="Asia/Tokyo")
    sync.run()
    smok_server.stop()
    with pytest.raises(ResponseError):
        sync.run()
    assert device.timezone == ZoneInfo("Asia/Tokyo")
    smok_server.start()
    admin.set_device("1", timezone="Europe/Warsaw")
    sync.run()
    assert device.timezone == ZoneInfo("Europe/Warsaw")


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../Warsaw", "Europe", "tzdata.zi", 5])
def test_a_time_zone_that_does_not_exist_changes_nothing(
    name: object,
    device: SMOKDevice,
    sync: TimeZoneTask,
    admin: Admin,
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin.set_device("1", timezone="Asia/Tokyo")
    sync.run()
    answer = {
        "device_id": "1",
        "verbose_name": "x",
        "facets": [],
        "slave_devices": [],
        "culture_context": {"timezone": name, "units": "metric", "language": "pl"},
    }
    admin.fault("/v1/device", method="GET", body=json.dumps(answer), times=2)
    sync.run()
    assert "makes no sense: time zone" in caplog.text
    assert device.timezone == ZoneInfo("Asia/Tokyo")
    with pytest.raises(ResponseError):
        device.get_device_info()
    assert device.timezone == ZoneInfo("Asia/Tokyo")


# --- The next run of the program ------------------------------------------------------------------


class Alarm(BaseStatistic):
    """Opens an event at each tick, unless it is silenced."""

    statistic_name = "alarm"

    def on_tick(self) -> None:
        self.open_event("fire", Color.RED)


def silenced_at(now: datetime.datetime) -> dict[str, Any]:
    """A predicate that is silent for an hour on both sides of a time."""
    start, stop = now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=1)
    window = {
        name: {"day": end.isoweekday(), "hour": end.hour, "minute": end.minute}
        for name, end in (("start", start), ("stop", stop))
    }
    return {
        "predicate_id": f"at {now.tzinfo}",
        "online": True,
        "statistic": "alarm",
        "configuration": {},
        "verbose_name": str(now.tzinfo),
        "group": "A",
        "silencing": [window],
    }


def test_a_device_that_starts_without_a_link_is_silent_at_its_local_time(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    smok_server: LocalServer,
    tmp_path: Path,
) -> None:
    tokyo, elsewhere = ZoneInfo("Asia/Tokyo"), ZoneInfo("Pacific/Pago_Pago")
    admin.set_device(DEVICE_ID, timezone=tokyo.key)
    predicates = [silenced_at(datetime.datetime.now(zone)) for zone in (tokyo, elsewhere)]
    admin.set_predicates(DEVICE_ID, predicates)
    device = make_device(evt_database=tmp_path / "state")
    TimeZoneTask(device).run()
    PredicatesTask(device).run()
    device.close()
    smok_server.stop()

    device = make_device(evt_database=tmp_path / "state")
    assert device.timezone == tokyo
    assert device.get_local_time().utcoffset() == datetime.timedelta(hours=9)
    device.register_statistic(Alarm, lambda name, _: name == "alarm")
    TicksTask(device).run()
    assert [event.message for event in device.get_all_events()] == [f"{elsewhere}: fire"]
    device.close()

    smok_server.start()
    admin.set_device(DEVICE_ID, timezone="Europe/Warsaw")
    device = make_device(evt_database=tmp_path / "state")
    TimeZoneTask(device).run()
    assert device.timezone == ZoneInfo("Europe/Warsaw"), "what the server says now counts"


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../Warsaw", "Europe", "tzdata.zi", 5, b"x"])
def test_a_name_in_the_state_file_that_is_no_time_zone_is_told_and_ignored(
    name: object,
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = make_device(evt_database=tmp_path / "state")
    TimeZoneTask(device).run()
    device.close()
    with closing(sqlite3.connect(tmp_path / "state", isolation_level=None)) as connection:
        connection.execute("UPDATE device SET value = ?", (name,))
    device = make_device(evt_database=tmp_path / "state")
    (told,) = caplog.messages
    assert "A row of device in the state file makes no sense" in told
    admin.set_device(DEVICE_ID, timezone="Asia/Tokyo")
    assert device.timezone == ZoneInfo("Asia/Tokyo"), "the server is asked, as it always was"
    device.close()
    assert make_device(evt_database=tmp_path / "state", allow_sync=False).timezone == ZoneInfo(
        "Asia/Tokyo"
    )
    assert len(caplog.messages) == 1


def test_a_device_without_predicates_learns_of_a_change_too(
    make_device: Callable[..., SMOKDevice], admin: Admin, tmp_path: Path
) -> None:
    options = {"evt_database": tmp_path / "state", "dont_do_predicates": True}
    for zone in ("Asia/Tokyo", "Europe/Warsaw"):
        admin.set_device(DEVICE_ID, timezone=zone)
        device = make_device(**options)
        device.continue_boot()
        wait_until(lambda: device._timezone == ZoneInfo(zone))  # noqa: B023 - called at once
        device.close()


def test_a_device_without_communicator_thread_asks_at_each_start(
    make_device: Callable[..., SMOKDevice], admin: Admin, tmp_path: Path
) -> None:
    idle = dict.fromkeys(
        ("dont_obtain_orders", "dont_do_macros", "dont_do_predicates", "dont_do_archives"), True
    )
    for zone in ("Asia/Tokyo", "Europe/Warsaw"):
        admin.set_device(DEVICE_ID, timezone=zone)
        device = make_device(
            evt_database=tmp_path / "state",
            dont_do_pathpoints=True,
            sensor_database=InMemorySensorDatabase(),
            **idle,
        )
        assert device.getter is None
        assert device.timezone == ZoneInfo(zone)
        device.close()
