"""The device's time zone, as the local server has it."""

from __future__ import annotations

import datetime
import json
from zoneinfo import ZoneInfo

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.server import LocalServer
from smok_fast.sync.time_zone import TimeZoneTask
from smok_fast.testing import Admin


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
