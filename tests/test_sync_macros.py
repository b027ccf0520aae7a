"""Macros from the local server: fetched, executed at their time, and reported."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemoryMacroDatabase
from smok_fast.pathpoint import Section, WriteOrder
from smok_fast.server import LocalServer
from smok_fast.sync.macros import MacroExecutionTask, MacroReportsTask, MacrosTask
from smok_fast.testing import Admin

NOON = 1_700_000_000


class Executing(SMOKDevice):
    """Executes sections when the test says so."""

    sections: tuple[Section, ...] = ()
    refused: str | None = None

    def execute(self, *secs: Section) -> Section | None:
        for section in secs:
            if self.refused in [order.pathpoint for order in section.orders]:
                raise RuntimeError("refused")
        self.sections += secs
        return secs[-1]

    def finish(self) -> list[object]:
        """Finish what was started; gives the values that were written."""
        written = []
        for section in self.sections:
            written += [order.value for order in section.orders if isinstance(order, WriteOrder)]
            section.mark_as_done()
        self.sections = ()
        return written


class Checkpointed(InMemoryMacroDatabase):
    checkpoints = 0

    def checkpoint(self) -> None:
        self.checkpoints += 1


@pytest.fixture
def wall() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def device(make_device: Callable[..., SMOKDevice]) -> Executing:
    device = make_device(Executing, macro_database=Checkpointed())
    assert isinstance(device, Executing)
    return device


@pytest.fixture
def fetch(device: SMOKDevice, wall: ManualClock) -> MacrosTask:
    return MacrosTask(device, wall_clock=wall)


@pytest.fixture
def execute(device: SMOKDevice, clock: ManualClock, wall: ManualClock) -> MacroExecutionTask:
    return MacroExecutionTask(device, clock=clock, wall_clock=wall)


@pytest.fixture
def report(device: SMOKDevice) -> MacroReportsTask:
    return MacroReportsTask(device)


def a_macro(*occurrences: float, macro_id: str = "m", value: object = 5) -> dict[str, object]:
    return {
        "macro_id": macro_id,
        "commands": [{"path": "W1", "value": value}],
        "occurrences": list(occurrences),
    }


def test_a_macro_is_executed_at_its_time_and_reported(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    report: MacroReportsTask,
    admin: Admin,
    wall: ManualClock,
) -> None:
    admin.set_macros("1", [a_macro(NOON + 10, NOON + 100)])
    fetch.run()
    execute.run()
    assert device.sections == ()
    wall.advance(10)
    execute.run()
    report.run()
    assert admin.done_macros("1") == [], "what is not done yet is not reported"
    assert device.finish() == [5]
    report.run()
    assert admin.done_macros("1") == [("m", NOON + 10)]
    execute.run()
    report.run()
    assert device.sections == () and not report.answered
    assert admin.macros("1")[0]["occurrences"][0]["reports"] == 1


def test_macros_are_fetched_from_an_hour_ago_to_an_hour_and_a_half_ahead(
    device: Executing, fetch: MacrosTask, execute: MacroExecutionTask, admin: Admin
) -> None:
    times = [NOON - 3601, NOON - 3600, NOON, NOON + 5400, NOON + 5401]
    admin.set_macros("1", [a_macro(*times)])
    fetch.run()
    (macro,) = device.macros_database.get_macros()
    assert list(macro.occurrences_not_done) == times[1:4]
    execute.run()
    assert len(device.sections) == 2, "late ones are executed late"
    assert fetch.interval == 1800


def test_macros_are_executed_without_a_link(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    report: MacroReportsTask,
    admin: Admin,
    smok_server: LocalServer,
    wall: ManualClock,
) -> None:
    assert not execute.needs_link
    admin.set_macros("1", [a_macro(NOON + 10)])
    fetch.run()
    smok_server.stop()
    wall.advance(10)
    with pytest.raises(ResponseError):
        fetch.run()
    execute.run()
    assert device.finish() == [5]
    with pytest.raises(ResponseError):
        report.run()
    smok_server.start()
    report.run()
    assert admin.done_macros("1") == [("m", NOON + 10)]


def test_an_occurrence_is_executed_once_however_often_it_is_fetched(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    report: MacroReportsTask,
    admin: Admin,
) -> None:
    admin.set_macros("1", [a_macro(NOON - 10, NOON - 5)])
    fetch.run()
    execute.run()
    fetch.run()  # while it is under way
    execute.run()
    assert len(device.finish()) == 2
    fetch.run()  # while it is done and not reported
    execute.run()
    assert device.sections == ()
    admin.fault("/v1/device/macros/", drop=True, handled=True)
    with pytest.raises(ResponseError):
        report.run()
    report.run()
    fetch.run()  # when the server knows
    execute.run()
    assert device.sections == ()
    reports = [occurrence["reports"] for occurrence in admin.macros("1")[0]["occurrences"]]
    assert reports == [2, 1], "the one whose answer was lost was reported again"


def test_a_restarted_program_does_not_execute_what_its_database_has_as_done(
    make_device: Callable[..., SMOKDevice], admin: Admin, wall: ManualClock
) -> None:
    database = InMemoryMacroDatabase()
    admin.set_macros("1", [a_macro(NOON - 10)])
    for expected in ([5], []):
        device = make_device(Executing, macro_database=database)
        assert isinstance(device, Executing)
        MacrosTask(device, wall_clock=wall).run()
        MacroExecutionTask(device, wall_clock=wall).run()
        assert device.finish() == expected


def test_a_clock_that_is_set_back_repeats_nothing(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    admin: Admin,
    wall: ManualClock,
) -> None:
    admin.set_macros("1", [a_macro(NOON - 10)])
    fetch.run()
    execute.run()
    assert device.finish() == [5]
    device.macros_database.notify_macro_synced("m", NOON - 10)  # told, but the server forgot
    for back in (60, 3000, -3000):
        wall.now = NOON - back
        fetch.run()
        execute.run()
    assert device.sections == ()


def test_a_macro_that_cannot_be_executed_does_not_stop_the_others_and_is_tried_again(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    admin: Admin,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = {**a_macro(NOON, macro_id="bad"), "commands": [{"path": "W9", "value": 1}]}
    admin.set_macros("1", [bad, a_macro(NOON)])
    fetch.run()
    device.refused = "W9"
    execute.run()
    assert device.finish() == [5]
    assert "Macro bad could not be executed" in caplog.text
    device.refused = None
    execute.run()
    assert device.finish() == [1]


def test_malformed_macros_are_left_out(
    device: Executing, fetch: MacrosTask, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.fault(
        "/v1/device/macro/",
        body='[5, {"macro_id": "..", "commands": [], "occurrences": []},'
        '{"macro_id": "a", "commands": [{"path": "W1"}], "occurrences": []},'
        '{"macro_id": "m", "commands": [], "occurrences": [{"timestamp": 5, "completed": false}]},'
        '{"macro_id": "n", "commands": [], "occurrences": [{"timestamp": 5, "completed": true}]}]',
    )
    fetch.run()
    assert [macro.macro_id for macro in device.macros_database.get_macros()] == ["m"]
    assert len(caplog.records) == 3


def test_an_answer_that_is_no_list_changes_nothing(
    device: Executing, fetch: MacrosTask, admin: Admin
) -> None:
    admin.set_macros("1", [a_macro(NOON + 10)])
    fetch.run()
    admin.fault("/v1/device/macro/", body="{}")
    fetch.run()
    assert len(device.macros_database.get_macros()) == 1


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_occurrence_that_the_server_does_not_know_is_reported_once(
    device: Executing, report: MacroReportsTask, admin: Admin, status: int
) -> None:
    device.macros_database.notify_macro_executed("a/b", NOON)
    refused = admin.fault("/v1/device/macros/a%2Fb", status=status, times=None)
    other = admin.fault("/v1/device/macros/a/b", status=status, times=None)
    report.run()
    report.run()
    assert admin.fault_hits(refused) + admin.fault_hits(other) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_report_waits_if_the_server_has_other_reasons(
    device: Executing, report: MacroReportsTask, admin: Admin, status: int
) -> None:
    admin.set_macros("1", [a_macro(NOON)])
    device.macros_database.notify_macro_executed("m", NOON)
    admin.fault("/v1/device/macros/", status=status)
    with pytest.raises(ResponseError):
        report.run()
    report.run()
    assert admin.done_macros("1") == [("m", NOON)]


def test_the_database_may_tidy_up_once_a_minute(
    device: Executing, execute: MacroExecutionTask, clock: ManualClock
) -> None:
    database = device.macros_database
    assert isinstance(database, Checkpointed)
    for _ in range(3):
        execute.run()
    assert database.checkpoints == 1
    clock.advance(60)
    execute.run()
    assert database.checkpoints == 2
