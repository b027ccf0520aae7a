"""Macros from the local server: fetched, executed at their time, and reported."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemoryMacroDatabase
from smok_fast.pathpoint import (
    AdviseLevel,
    Pathpoint,
    PathpointValueType,
    Section,
    WriteOrder,
)
from smok_fast.server import LocalServer
from smok_fast.sync.macros import (
    ASK_AGAIN,
    REPORTS_AT_ONCE,
    SHORT_WINDOW_AFTER,
    WINDOW_AFTER,
    WINDOW_BEFORE,
    MacroExecutionTask,
    MacroReportsTask,
    MacrosTask,
)
from smok_fast.testing import Admin, wait_until

NOON = 1_700_000_000
HOUR = 3600
DAY = 24 * HOUR

WINDOWS = "/v1/device/macro/occurrences/"
#: The beginning of the path that asks for a week at noon.
WEEK = f"{WINDOWS}{NOON - WINDOW_BEFORE}-{NOON + WINDOW_AFTER}"


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
def fetch(device: SMOKDevice, clock: ManualClock, wall: ManualClock) -> MacrosTask:
    return MacrosTask(device, clock=clock, wall_clock=wall)


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


def test_macros_are_fetched_from_an_hour_ago_to_a_week_ahead(
    device: Executing, fetch: MacrosTask, execute: MacroExecutionTask, admin: Admin
) -> None:
    times = [NOON - HOUR - 1, NOON - HOUR, NOON, NOON + 7 * DAY, NOON + 7 * DAY + 1]
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


# --- The end of a program in the middle -----------------------------------------------------------


class Journal(InMemoryMacroDatabase):
    """A database that is told what begins, and outlives its program."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, float]] = []

    def notify_macro_started(self, macro_id: str, timestamp: float) -> None:
        self.told.append(("started", macro_id, timestamp))

    def notify_macro_executed(self, macro_id: str, timestamp: float) -> None:
        self.told.append(("executed", macro_id, timestamp))
        super().notify_macro_executed(macro_id, timestamp)

    def get_started_macros(self) -> list[tuple[str, float]]:
        executed = {tuple(key) for what, *key in self.told if what == "executed"}
        return [
            (macro_id, timestamp)
            for what, macro_id, timestamp in self.told
            if what == "started" and (macro_id, timestamp) not in executed
        ]


class Written(Pathpoint):
    """Tells when it is written."""

    def __init__(self, device: SMOKDevice, name: str, on_write: Callable[[], object]) -> None:
        self.act = on_write
        super().__init__(device, name)

    def on_write(self, value: PathpointValueType, advise: AdviseLevel) -> None:
        self.act()


def test_the_database_is_told_before_the_first_write_and_after_the_last(
    make_device: Callable[..., SMOKDevice], admin: Admin, wall: ManualClock
) -> None:
    journal = Journal()
    device = make_device(macro_database=journal)
    Written(device, "W1", lambda: journal.told.append(("written", "W1", NOON)))
    admin.set_macros("1", [a_macro(NOON)])
    MacrosTask(device, wall_clock=wall).run()
    MacroExecutionTask(device, wall_clock=wall).run()
    assert journal.told == []
    device.executor.start()
    wait_until(lambda: len(journal.told) == 3)
    assert journal.told == [
        ("started", "m", NOON),
        ("written", "W1", NOON),
        ("executed", "m", NOON),
    ]


def test_what_had_begun_when_the_program_ended_is_uncertain_and_not_executed_again(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    wall: ManualClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smok_fast.client.device.STOP_WITHIN", 0.1)
    journal, writing, go_on = Journal(), threading.Event(), threading.Event()
    first = make_device(macro_database=journal)

    def write() -> None:
        writing.set()
        go_on.wait()

    Written(first, "W1", write)
    admin.set_macros("1", [a_macro(NOON - 2), a_macro(NOON - 1, macro_id="waits", value=6)])
    MacrosTask(first, wall_clock=wall).run()
    MacroExecutionTask(first, wall_clock=wall).run()
    first.executor.start()
    assert writing.wait(30)
    first.close()
    go_on.set()
    first.executor.join(30)
    assert journal.told == [("started", "m", NOON - 2)]

    caplog.clear()
    second = make_device(Executing, macro_database=journal)
    assert isinstance(second, Executing)
    execution = MacroExecutionTask(second, wall_clock=wall)
    execution.run()
    (told,) = caplog.messages
    assert told.startswith(f"Macro m of {NOON - 2} had begun when the program ended")
    MacrosTask(second, wall_clock=wall).run()  # the server still has both as not completed
    execution.run()
    assert second.finish() == [6], "what had not begun is executed"
    MacroReportsTask(second).run()
    assert sorted(admin.done_macros("1")) == [("m", NOON - 2), ("waits", NOON - 1)]
    assert len(caplog.messages) == 1


def test_a_database_that_cannot_note_the_beginning_stops_no_macro(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    wall: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(InMemoryMacroDatabase):
        def notify_macro_started(self, macro_id: str, timestamp: float) -> None:
            raise OSError("no space left")

    device = make_device(macro_database=Full())
    Written(device, "W1", lambda: None)
    admin.set_macros("1", [a_macro(NOON)])
    MacrosTask(device, wall_clock=wall).run()
    MacroExecutionTask(device, wall_clock=wall).run()
    device.executor.start()
    wait_until(lambda: list(device.macros_database.get_done_macros()))
    assert f"cannot note that m of {NOON} begins" in caplog.text


# --- Days without a link --------------------------------------------------------------------------


def known(device: SMOKDevice) -> dict[str, list[float]]:
    """The occurrences that the device would execute without a link."""
    return {
        macro.macro_id: list(macro.occurrences_not_done)
        for macro in device.macros_database.get_macros()
    }


def test_days_without_a_link_and_a_restart_miss_no_macro(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    smok_server: LocalServer,
    clock: ManualClock,
    wall: ManualClock,
    tmp_path: Path,
) -> None:
    def run() -> tuple[Executing, MacroExecutionTask]:
        device = make_device(Executing, evt_database=tmp_path / "state")
        assert isinstance(device, Executing)
        return device, MacroExecutionTask(device, clock=clock, wall_clock=wall)

    times = [NOON + number * 10 * HOUR for number in range(1, 16)]
    admin.set_macros("1", [a_macro(when, macro_id=str(when), value=when) for when in times])
    device, execute = run()
    MacrosTask(device, clock=clock, wall_clock=wall).run()
    smok_server.stop()

    written: list[tuple[float, object]] = []
    for hour in range(1, 152):
        wall.advance(HOUR)
        if hour == 61:  # it restarts within the hour
            device.close()
            device, execute = run()
        if hour in (100, 101):  # is not powered
            continue
        execute.run()
        if device.sections:
            begun = [section.mark_as_being_executed() for section in device.sections]
            assert all(begun)
        written += [(wall.now, value) for value in device.finish()]
    late = NOON + 100 * HOUR
    assert written == [(when + 2 * HOUR if when == late else when, when) for when in times]

    smok_server.start()
    MacrosTask(device, clock=clock, wall_clock=wall).run()
    execute.run()
    assert device.sections == (), "what is not reported yet is not repeated"
    MacroReportsTask(device).run()
    assert sorted(admin.done_macros("1")) == [(str(when), when) for when in times]
    assert {macro["occurrences"][0]["reports"] for macro in admin.macros("1")} == {1}


def test_a_device_that_restarts_without_a_link_executes_what_it_fetched_before(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    smok_server: LocalServer,
    tmp_path: Path,
) -> None:
    when = int(time.time()) + 2
    admin.set_macros("1", [a_macro(when), a_macro(when + 2 * DAY, macro_id="later")])
    first = make_device(evt_database=tmp_path / "state")
    MacrosTask(first).run()
    first.close()
    smok_server.stop()

    written = threading.Event()
    second = make_device(evt_database=tmp_path / "state")
    Written(second, "W1", written.set)
    second.continue_boot()
    assert written.wait(30)
    wait_until(lambda: list(second.macros_database.get_done_macros()) == [("m", when)])
    assert time.time() >= when
    second.close()

    smok_server.start()
    third = make_device(evt_database=tmp_path / "state")
    third.continue_boot()
    wait_until(lambda: admin.done_macros("1") == [("m", when)])
    wait_until(lambda: known(third) == {"later": [when + 2 * DAY]})


def test_what_was_missed_for_more_than_a_day_is_told_and_not_executed(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    wall: ManualClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = [NOON + hour * HOUR for hour in range(100)]
    admin.set_macros("1", [a_macro(*times)])
    device = make_device(evt_database=tmp_path / "state")
    MacrosTask(device, wall_clock=wall).run()
    device.close()

    wall.advance(50 * HOUR)
    device = make_device(Executing, evt_database=tmp_path / "state")
    assert isinstance(device, Executing)
    MacroExecutionTask(device, wall_clock=wall).run()
    assert len(device.sections) == 25, "those of the 26th hour to the 50th"
    assert device.finish() == [5] * 25
    assert [when for _, when in device.macros_database.get_done_macros()] == times[26:51]
    (told,) = caplog.messages
    assert told.startswith("Macro m is 26 times more than 24 hours late")
    assert known(device) == {"m": times[51:]}


def test_an_occurrence_that_the_server_takes_back_is_not_executed(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    admin: Admin,
    wall: ManualClock,
) -> None:
    admin.set_macros("1", [a_macro(NOON + DAY, NOON + 2 * DAY), a_macro(NOON + DAY, macro_id="n")])
    fetch.run()
    admin.set_macros("1", [a_macro(NOON + 2 * DAY, value=6)])
    fetch.run()
    assert known(device) == {"m": [NOON + 2 * DAY]}
    wall.advance(2 * DAY)
    execute.run()
    assert device.finish() == [6]


@pytest.mark.parametrize(
    "fault",
    [
        *({"status": status} for status in (400, 404, 413, 414, 500, 503)),
        {"drop": True},
        {"body": "{}"},
    ],
    ids=str,
)
def test_a_server_that_does_not_answer_for_a_week_is_asked_for_less(
    device: Executing,
    fetch: MacrosTask,
    admin: Admin,
    clock: ManualClock,
    fault: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    inside, outside = NOON + SHORT_WINDOW_AFTER, NOON + SHORT_WINDOW_AFTER + 1
    admin.set_macros("1", [a_macro(NOON - WINDOW_BEFORE, inside, outside)])
    refused = admin.fault(WEEK, times=None, **fault)
    asked = 0
    for _ in range(4 * 48):  # four days
        fetch.run()
        assert known(device) == {"m": [NOON - WINDOW_BEFORE, inside]}
        asked = admin.fault_hits(refused)
        clock.advance(fetch.interval)
    (told,) = caplog.messages
    assert told.startswith("The server does not tell the macros of 7 days (")
    assert 8 <= asked <= 14, "for a week it is asked again after pauses that grow to a day"
    admin.remove_faults()
    clock.advance(ASK_AGAIN)
    fetch.run()
    assert known(device) == {"m": [NOON - WINDOW_BEFORE, inside, outside]}
    assert len(caplog.messages) == 1


def test_an_answer_for_a_week_that_takes_too_long_is_not_waited_for(
    device: Executing, fetch: MacrosTask, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smok_fast.sync.macros.ANSWER_WITHIN", 0.1)
    admin.set_macros("1", [a_macro(NOON, NOON + DAY)])
    admin.fault(WEEK, delay=3)
    fetch.run()
    assert known(device) == {"m": [NOON]}


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_that_has_nothing_to_do_with_the_week_is_one(
    device: Executing,
    fetch: MacrosTask,
    admin: Admin,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = admin.fault(WINDOWS, status=status, times=None)
    with pytest.raises(ResponseError):
        fetch.run()
    assert admin.fault_hits(refused) == 1
    assert [text for text in caplog.messages if "7 days" in text] == []


def test_without_a_link_the_week_is_not_to_blame(
    device: Executing,
    fetch: MacrosTask,
    admin: Admin,
    smok_server: LocalServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin.set_macros("1", [a_macro(NOON + DAY)])
    smok_server.stop()
    with pytest.raises(ResponseError):
        fetch.run()
    smok_server.start()
    fetch.run()
    assert known(device) == {"m": [NOON + DAY]}
    assert caplog.messages == []


def test_less_than_a_week_says_nothing_about_what_comes_after_it(
    device: Executing, fetch: MacrosTask, admin: Admin, clock: ManualClock
) -> None:
    soon, later = NOON + HOUR, NOON + DAY
    admin.set_macros(
        "1",
        [a_macro(soon, later), a_macro(soon, later, macro_id="n"), a_macro(later, macro_id="o")],
    )
    fetch.run()
    admin.set_macros("1", [a_macro(soon + 1, value=6), a_macro(later, macro_id="n", value=7)])
    admin.fault(WEEK, status=500)
    clock.advance(fetch.interval)
    fetch.run()
    assert known(device) == {"m": [soon + 1, later], "n": [later], "o": [later]}
    commands = {macro.macro_id: macro.commands for macro in device.macros_database.get_macros()}
    assert commands == {"m": {"W1": 6}, "n": {"W1": 5}, "o": {"W1": 5}}
    clock.advance(fetch.interval)
    fetch.run()
    assert known(device) == {"m": [soon + 1], "n": [later]}


def test_of_too_many_occurrences_the_nearest_ones_are_kept(
    device: Executing,
    fetch: MacrosTask,
    execute: MacroExecutionTask,
    admin: Admin,
    wall: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("smok_fast.sync.macros.MOST_OCCURRENCES", 5)
    times = [NOON + hour * HOUR for hour in range(4)]
    admin.set_macros(
        "1", [a_macro(*times), a_macro(*times, macro_id="n"), a_macro(times[3], macro_id="o")]
    )
    for _ in range(2):
        fetch.run()
        assert known(device) == {"m": times[:3], "n": times[:2]}
    (told,) = caplog.messages
    assert told.startswith("There are 9 occurrences of macros to come: the next 5 are kept")
    wall.advance(HOUR)
    execute.run()
    assert len(device.finish()) == 4
    fetch.run()
    assert known(device) == {"m": times[2:], "n": times[2:], "o": times[3:]}


def test_many_reports_give_other_tasks_their_turn(
    device: Executing, report: MacroReportsTask, admin: Admin
) -> None:
    times = [float(NOON + number) for number in range(2 * REPORTS_AT_ONCE + 1)]
    admin.set_macros("1", [a_macro(*times)])
    for when in times:
        device.macros_database.notify_macro_executed("m", when)
    assert report.run()
    assert admin.done_macros("1") == [("m", when) for when in times[:REPORTS_AT_ONCE]]
    assert report.run()
    assert not report.run()
    assert admin.done_macros("1") == [("m", when) for when in times]
