"""The log of sensor writes on its way to the local server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice, databases
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemorySensorDatabase, InMemorySensorWriteDatabase
from smok_fast.sensor import SensorWriteEvent
from smok_fast.server import LocalServer
from smok_fast.sync.base import REJECTED_FOR
from smok_fast.sync.sensor_writes import BATCH, SensorWritesTask
from smok_fast.testing import Admin

PATH = "/v1/device/sensor/write_log"


@pytest.fixture
def task(device: SMOKDevice, clock: ManualClock) -> SensorWritesTask:
    return SensorWritesTask(device, clock=clock)


def a_write(value: object) -> SensorWriteEvent:
    return SensorWriteEvent(5, "anna", "Pump", "on", "pump", value, "cold")


def values(admin: Admin) -> list[object]:
    return [write["value"] for write in admin.sensor_writes("1")]


def test_writes_are_sent_once_in_order_and_in_parts(
    device: SMOKDevice, task: SensorWritesTask, admin: Admin
) -> None:
    task.run()
    assert not task.answered
    calls = admin.fault(PATH, delay=0.001, times=None)
    for number in range(BATCH + 1):
        device.log_sensor_write(a_write(str(number)))
    assert task.run() is False
    assert task.answered
    assert values(admin) == [str(number) for number in range(BATCH + 1)]
    assert admin.sensor_writes("1")[0] == a_write("0").to_json()
    task.run()
    assert admin.fault_hits(calls) == 2


def test_writes_wait_for_the_server(
    device: SMOKDevice, task: SensorWritesTask, admin: Admin, smok_server: LocalServer
) -> None:
    device.log_sensor_write(a_write("1"))
    smok_server.stop()
    with pytest.raises(ResponseError):
        task.run()
    device.log_sensor_write(a_write("2"))
    smok_server.start()
    task.run()
    assert values(admin) == ["1", "2"]


@pytest.mark.parametrize("with_state_file", [True, False])
def test_of_what_waits_for_the_server_the_newest_is_kept(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    smok_server: LocalServer,
    tmp_path: Path,
    with_state_file: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(databases, "MOST_UNSENT", 3)
    options: dict[str, Any] = {"evt_database": tmp_path / "state"}
    if not with_state_file:
        options["sensor_write_database"] = InMemorySensorWriteDatabase(most_unsent=3)
    device = make_device(**options)
    smok_server.stop()
    for value in ("1", "1", "2", "3", "4"):
        device.log_sensor_write(a_write(value))
    assert device.sensor_write_database.dropped == 2
    assert len(caplog.records) == 1
    if with_state_file:
        device.close()
        device = make_device(**options)
    smok_server.start()
    SensorWritesTask(device).run()
    assert values(admin) == ["2", "3", "4"]
    if not with_state_file:
        assert "2 sensor writes were dropped" in caplog.text


@pytest.mark.parametrize("switch", ["dont_sync_sensor_writes", "dont_do_pathpoints"])
def test_what_is_never_sent_is_not_kept_but_in_a_database_of_yours(
    make_device: Callable[..., SMOKDevice],
    tmp_path: Path,
    switch: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "smok_fast")
    options: dict[str, Any] = {switch: True, "sensor_database": InMemorySensorDatabase()}
    device = make_device(evt_database=tmp_path / "state", **options)
    device.log_sensor_write(a_write("1"))
    assert not device.sensor_write_database.get_sw_sync()
    assert "sensor writes are switched off" in caplog.text
    mine = InMemorySensorWriteDatabase()
    device = make_device(sensor_write_database=mine, **options)
    device.log_sensor_write(a_write("1"))
    assert mine.get_sw_sync().events == [a_write("1")]


def test_a_write_that_the_server_rejects_is_kept_and_does_not_hold_up_the_others(
    device: SMOKDevice,
    task: SensorWritesTask,
    admin: Admin,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for value in ("1", None, "3"):
        device.log_sensor_write(a_write(value))
    task.run()
    device.log_sensor_write(a_write("4"))
    task.run()
    assert values(admin) == ["1", "3", "4"]
    assert len(caplog.records) == 1
    assert device.sensor_write_database.get_sw_sync().events == [a_write(None)]
    calls = admin.fault(PATH, delay=0.001, times=None)
    task.run()
    assert admin.fault_hits(calls) == 0
    clock.advance(REJECTED_FOR)
    task.run()
    assert admin.fault_hits(calls) == 1
    assert len(caplog.records) == 1


def test_what_was_sent_before_the_server_refused_is_not_sent_again(
    device: SMOKDevice, task: SensorWritesTask, admin: Admin
) -> None:
    for number in range(2 * BATCH):
        device.log_sensor_write(a_write(str(number)))
    put = device.api.put
    answers = [None, ResponseError(401, "who?")]

    def refuse_the_second(path: str, **options: object) -> object:
        error = answers.pop(0) if answers else None
        if error is not None:
            raise error
        return put(path, **options)

    device.api.put = refuse_the_second
    with pytest.raises(ResponseError):
        task.run()
    assert len(device.sensor_write_database.get_sw_sync().events) == BATCH
    task.run()
    assert len(values(admin)) == 2 * BATCH
