"""Sensors from the local server."""

from __future__ import annotations

import pytest

from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.sync.sensors import SensorsTask
from smok_fast.testing import Admin

TEMPERATURE = {"fqts": "temperature boiler", "path": "W1", "type": "std.Number10"}
PUMP = {"fqts": "pump", "path": "B2", "type": "x"}


def names(device: SMOKDevice) -> list[str]:
    return [sensor.fqts for sensor in device.sensor_database.get_all_sensors()]


def test_sensors_are_those_that_the_server_has(device: SMOKDevice, admin: Admin) -> None:
    admin.set_sensors("1", [TEMPERATURE, PUMP])
    task = SensorsTask(device)
    task.run()
    assert names(device) == ["boiler temperature", "pump"]
    Pathpoint(device, "W1").set_new_value(1000, 217)
    assert device.sensor_database.get_sensor("boiler temperature").get() == (1000, 21.7)
    admin.set_sensors("1", [PUMP])
    task.run()
    assert names(device) == ["pump"]
    with pytest.raises(KeyError):
        device.sensor_database.get_sensor("boiler temperature")


def test_malformed_sensors_are_left_out_and_the_rest_is_there(
    device: SMOKDevice, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.fault(
        "/v1/device/sensors",
        body='[5, {}, {"fqts": 1, "path": "W1", "type": "x"},'
        '{"fqts": "a", "path": "W1", "type": "x(multiplier=open(1))"},'
        '{"fqts": "pump", "path": "B2", "type": "x"}]',
    )
    SensorsTask(device).run()
    assert names(device) == ["pump"]
    assert len(caplog.records) == 4


@pytest.mark.parametrize("answer", ["{}", "null", "", "5", '"x"'])
def test_an_answer_that_is_no_list_changes_nothing(
    device: SMOKDevice, admin: Admin, answer: str
) -> None:
    admin.set_sensors("1", [PUMP])
    task = SensorsTask(device)
    task.run()
    admin.fault("/v1/device/sensors", body=answer)
    assert task.run() is False
    assert names(device) == ["pump"]


def test_sensors_stay_while_the_server_is_away(
    device: SMOKDevice, admin: Admin, smok_server: LocalServer
) -> None:
    admin.set_sensors("1", [PUMP])
    task = SensorsTask(device)
    task.run()
    smok_server.stop()
    with pytest.raises(ResponseError):
        task.run()
    assert names(device) == ["pump"]
    smok_server.start()
    admin.set_sensors("1", [TEMPERATURE])
    task.run()
    assert names(device) == ["boiler temperature"]
