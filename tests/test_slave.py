"""Slave devices against the local server."""

from __future__ import annotations

import pytest

from smok_fast.client import SlaveDevice, SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.testing import Admin


@pytest.fixture
def slave(device: SMOKDevice, admin: Admin) -> SlaveDevice:
    admin.set_device("1", slaves=[{"device_id": "a/b ż", "configuration": "modbus"}])
    (slave,) = device.get_slaves()
    return slave


def test_a_slave_knows_what_the_server_knows_about_it(slave: SlaveDevice) -> None:
    assert (slave.device_id, slave.configuration) == ("a/b ż", "modbus")
    assert (slave.responsible_service, slave.master_controller) == ("rapid", "1")
    assert slave.linkstate == {}
    assert slave.instrumentation == ""


def test_what_is_set_is_on_the_server_and_is_not_asked_for_again(
    slave: SlaveDevice, device: SMOKDevice, admin: Admin
) -> None:
    slave.linkstate = {"status": False, "failed_devices": [3]}
    slave.instrumentation = "warm"
    (known,) = admin.slaves("1")
    assert known["linkstate"] == '{"status": false, "failed_devices": [3]}'
    assert known["instrumentation"] == "warm"
    (fresh,) = device.get_slaves()
    assert fresh.linkstate == {"status": False, "failed_devices": [3]}
    asked = admin.fault("/v1/device/instrumentation", status=500, times=None)
    assert (fresh.instrumentation, slave.linkstate["status"]) == ("warm", False)
    assert admin.fault_hits(asked) == 0


def test_a_linkstate_needs_a_status(slave: SlaveDevice) -> None:
    with pytest.raises(ValueError, match="status"):
        slave.linkstate = {"failed_devices": []}


def test_setting_is_tried_three_times_while_the_server_does_not_answer(
    slave: SlaveDevice, admin: Admin
) -> None:
    admin.fault("/v1/device/instrumentation", drop=True, times=2)
    slave.instrumentation = "third time"
    assert admin.slaves("1")[0]["instrumentation"] == "third time"
    admin.fault("/v1/device/instrumentation", status=500, times=3)
    with pytest.raises(ResponseError):
        slave.instrumentation = "never"
    assert slave.instrumentation == "third time"


def test_setting_is_not_tried_again_when_the_server_refuses(
    slave: SlaveDevice, admin: Admin
) -> None:
    refused = admin.fault("/v1/device/instrumentation", status=403, times=None)
    with pytest.raises(ResponseError):
        slave.instrumentation = "never"
    assert admin.fault_hits(refused) == 1


@pytest.mark.parametrize(
    "answer",
    ["[]", "{}", '{"linkstate": "no JSON", "instrumentation": 5}', '{"linkstate": "[1]"}', "no"],
)
def test_an_answer_that_makes_no_sense_is_an_empty_state(
    slave: SlaveDevice, admin: Admin, answer: str
) -> None:
    admin.fault("/v1/device/instrumentation", body=answer)
    assert (slave.linkstate, slave.instrumentation) == ({}, "")
