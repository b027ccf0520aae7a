"""Pathpoints and their storage levels, between the device and the local server."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from conftest import DEVICE_ID, ManualClock
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.sync.pathpoints import PathpointsTask
from smok_fast.testing import Admin

TREND, PERMANENT = StorageLevel.TREND, StorageLevel.PERMANENT


class Level(Pathpoint):
    """Notes the levels that it is given."""

    def __init__(self, *args: Any) -> None:
        self.levels: list[StorageLevel] = []
        super().__init__(*args)

    def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
        super().on_new_storage_level(new_storage_level)
        self.levels.append(new_storage_level)


@pytest.fixture
def task(device: SMOKDevice, clock: ManualClock) -> PathpointsTask:
    task = PathpointsTask(device, clock=clock)
    device._pathpoints = task
    return task


def run_if_due(task: PathpointsTask, clock: ManualClock) -> bool:
    """What CommunicatorThread does in a cycle; whether there was something to do."""
    due = task.is_due(clock())
    assert due == (task.delay(clock()) == 0)
    if due:
        task.run()
    return due


def test_a_level_changed_on_the_server_arrives_without_a_registration(
    device: SMOKDevice, admin: Admin, task: PathpointsTask, clock: ManualClock
) -> None:
    pathpoint, other = Level(device, "W1"), Level(device, "W2", PERMANENT)
    assert run_if_due(task, clock)
    admin.set_pathpoints(DEVICE_ID, {"W1": PERMANENT})
    clock.advance(599)
    assert not run_if_due(task, clock)
    assert task.delay(clock()) == 1
    assert pathpoint.storage_level is TREND
    clock.advance(1)
    assert run_if_due(task, clock)
    assert (pathpoint.levels, pathpoint.storage_level) == ([PERMANENT], PERMANENT)
    assert other.levels == []
    admin.set_pathpoints(DEVICE_ID, {"W2": TREND})
    clock.advance(600)
    assert run_if_due(task, clock)
    assert (pathpoint.levels, other.levels) == ([PERMANENT], [TREND])


def test_to_ask_changes_nothing_on_the_server(
    device: SMOKDevice, admin: Admin, task: PathpointsTask, clock: ManualClock
) -> None:
    for number in range(20):
        Level(device, f"W{number}", PERMANENT if number % 2 else TREND)
    assert run_if_due(task, clock)
    known = admin.pathpoints(DEVICE_ID)
    calls = admin.fault("/v1/device/pathpoints", method="PUT", delay=0.001, times=None)
    for _ in range(3):
        clock.advance(600)
        assert run_if_due(task, clock)
        assert not run_if_due(task, clock)
    assert admin.fault_hits(calls) == 3
    assert admin.pathpoints(DEVICE_ID) == known


def test_a_registration_is_told_at_once_and_asks_as_well(
    device: SMOKDevice, admin: Admin, task: PathpointsTask, clock: ManualClock
) -> None:
    pathpoint = Level(device, "W1")
    assert run_if_due(task, clock)
    admin.set_pathpoints(DEVICE_ID, {"W1": PERMANENT})
    Level(device, "W2")
    assert run_if_due(task, clock)
    assert pathpoint.levels == [PERMANENT]
    assert task.delay(clock()) == 600


def test_a_device_that_has_told_nothing_does_not_ask(
    task: PathpointsTask, clock: ManualClock
) -> None:
    clock.advance(10_000)
    assert not task.is_due(clock())
    assert task.delay(clock()) == math.inf


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_server_that_refuses_is_not_asked_all_the_time(
    status: int, device: SMOKDevice, admin: Admin, task: PathpointsTask, clock: ManualClock
) -> None:
    pathpoint = Level(device, "W1")
    assert run_if_due(task, clock)
    refused = admin.fault("/v1/device/pathpoints", method="PUT", status=status, times=None)
    clock.advance(600)
    with pytest.raises(ResponseError):
        task.run()
    for _ in range(599):
        clock.advance(1)
        assert not run_if_due(task, clock)
    assert admin.fault_hits(refused) == 1
    admin.remove_faults(refused)
    admin.set_pathpoints(DEVICE_ID, {"W1": PERMANENT})
    clock.advance(1)
    assert run_if_due(task, clock)
    assert pathpoint.levels == [PERMANENT]


def test_a_level_changed_while_the_link_is_down_arrives_when_it_is_back(
    device: SMOKDevice,
    admin: Admin,
    task: PathpointsTask,
    clock: ManualClock,
    smok_server: LocalServer,
) -> None:
    pathpoint = Level(device, "W1")
    assert run_if_due(task, clock)
    admin.set_pathpoints(DEVICE_ID, {"W1": PERMANENT})
    smok_server.stop()
    clock.advance(600)
    with pytest.raises(ResponseError):
        task.run()
    assert pathpoint.levels == []
    smok_server.start()
    assert run_if_due(task, clock), "it stays due: CommunicatorThread makes the pauses"
    assert pathpoint.levels == [PERMANENT]


@pytest.mark.parametrize("answer", ["{}", "null", "5", '[{"path": 7}, {"path": "W1", "x": 1}]'])
def test_an_answer_that_makes_no_sense_changes_nothing(
    answer: str, device: SMOKDevice, admin: Admin, task: PathpointsTask, clock: ManualClock
) -> None:
    pathpoint = Level(device, "W1")
    assert run_if_due(task, clock)
    admin.fault("/v1/device/pathpoints", method="PUT", body=answer)
    clock.advance(600)
    assert run_if_due(task, clock)
    assert not run_if_due(task, clock)
    assert pathpoint.levels == []


def test_a_pathpoint_that_fails_to_take_over_its_level_keeps_none_from_it(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Level):
        def on_new_storage_level(self, new_storage_level: StorageLevel) -> None:
            raise ValueError("of the user's")

    device = make_device()
    task = device._pathpoints = PathpointsTask(device, interval=5, clock=clock)
    Failing(device, "W1")
    pathpoint = Level(device, "W2")
    assert run_if_due(task, clock)
    admin.set_pathpoints(DEVICE_ID, {"W1": PERMANENT, "W2": PERMANENT})
    clock.advance(5)
    assert run_if_due(task, clock)
    assert pathpoint.levels == [PERMANENT]
    clock.advance(5)
    assert run_if_due(task, clock)
    said = """pathpoint W1 did not take over its storage level: ValueError("of the user's")"""
    assert caplog.messages.count(said) == 1, "it is logged once an hour"
