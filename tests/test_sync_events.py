"""Events on their way to the local server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice, databases
from smok_fast.exceptions import ResponseError
from smok_fast.extras import InMemoryEventDatabase
from smok_fast.predicate import Color, Event
from smok_fast.server import LocalServer
from smok_fast.sync.base import MAX_REJECTED, REJECTED_FOR
from smok_fast.sync.events import BATCH, EventsTask
from smok_fast.testing import Admin

PATH = "/v1/device/alarms"


@pytest.fixture
def task(device: SMOKDevice, clock: ManualClock) -> EventsTask:
    return EventsTask(device, clock=clock)


def open_event(device: SMOKDevice, message: str = "fire", metadata: object = None) -> Event:
    return device.open_event(100, None, Color.RED, False, "token", "B", message, metadata=metadata)


def on_server(admin: Admin) -> list[tuple[str, object]]:
    return [(event["message"], event.get("ended_on")) for event in admin.events("1")]


def test_an_event_is_sent_when_it_is_opened_and_when_it_is_closed_and_is_one_on_the_server(
    device: SMOKDevice, task: EventsTask, admin: Admin
) -> None:
    event = open_event(device)
    assert task.run() is False
    assert task.answered
    assert on_server(admin) == [("fire", None)]
    assert event.uuid == admin.events("1")[0]["uuid"]
    device.close_event(event, 200)
    task.run()
    assert on_server(admin) == [("fire", 200)]
    task.run()
    assert not task.answered, "nothing is left to be sent"


@pytest.mark.parametrize("with_state_file", [True, False])
def test_of_what_waits_for_the_server_the_newest_and_the_open_is_kept(
    make_device: Callable[..., SMOKDevice],
    admin: Admin,
    smok_server: LocalServer,
    tmp_path: Path,
    with_state_file: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(databases, "MOST_UNSENT", 5)
    database = tmp_path / "state" if with_state_file else InMemoryEventDatabase(most_unsent=5)
    device = make_device(evt_database=database)
    task = EventsTask(device)
    known = open_event(device, "known")
    task.run()
    smok_server.stop()
    device.close_event(known, 200)
    still_open = open_event(device, "open")
    for number in range(5):
        device.close_event(open_event(device, str(number)), number)
    assert device.evt_database.dropped == 2
    assert len([record for record in caplog.records if "dropped" in record.getMessage()]) == 1
    if with_state_file:
        device.close()
        device = make_device(evt_database=database)
        task = EventsTask(device)
    assert len(list(device.get_all_events())) == 5
    smok_server.start()
    task.run()
    assert on_server(admin) == [("known", 200), ("open", None), ("2", 2), ("3", 3), ("4", 4)]
    if not with_state_file:
        assert "2 events were dropped" in caplog.text
    (kept,) = device.get_all_open_events()
    assert kept == still_open
    device.close_event(kept, 300)
    for number in range(5):
        open_event(device, str(number))
    task.run()
    assert on_server(admin)[1] == ("open", 300)


def test_where_all_that_waits_is_open_the_oldest_goes_and_is_sent_when_it_is_closed(
    make_device: Callable[..., SMOKDevice], admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    device = make_device(evt_database=InMemoryEventDatabase(most_unsent=2))
    task = EventsTask(device)
    first, second, third = (open_event(device, message) for message in ("1", "2", "3"))
    device.open_event(100, None, Color.WHITE, True, "t", "B", "bell")
    assert [event.message for event in device.get_all_events()] == ["3", "bell"]
    task.run()
    device.close_event(first, 200)
    task.run()
    assert on_server(admin) == [("3", None), ("bell", None), ("1", 200)]
    assert (second.uuid, third.uuid is None) == (None, False)
    for number in range(3):
        open_event(device, str(number))
    assert device.evt_database.dropped == 3
    assert len([record for record in caplog.records if "from now on" in record.getMessage()]) == 2


def test_a_point_event_is_sent_closed(device: SMOKDevice, task: EventsTask, admin: Admin) -> None:
    device.open_event(100, None, Color.WHITE, True, "t", "B", "bell")
    task.run()
    assert admin.events("1")[0]["alarm_type"] == 1


def test_many_events_go_in_parts(device: SMOKDevice, task: EventsTask, admin: Admin) -> None:
    calls = admin.fault(PATH, delay=0.001, times=None)
    events = [open_event(device, str(number)) for number in range(2 * BATCH + 1)]
    task.run()
    assert admin.fault_hits(calls) == 3
    assert [message for message, _ in on_server(admin)] == [event.message for event in events]


def test_events_wait_for_the_server_and_arrive_as_they_are_then(
    device: SMOKDevice, task: EventsTask, admin: Admin, smok_server: LocalServer, clock: ManualClock
) -> None:
    event = open_event(device, "first")
    smok_server.stop()
    with pytest.raises(ResponseError):
        task.run()
    assert task.is_due(clock())
    device.close_event(event, 300)
    open_event(device, "second")
    smok_server.start()
    task.run()
    assert on_server(admin) == [("first", 300), ("second", None)]


def lose_the_answer(task: EventsTask, admin: Admin) -> None:
    """Have the server take events and the link break before it has answered."""
    admin.fault(PATH, drop=True, handled=True)
    with pytest.raises(ResponseError):
        task.run()


def test_an_event_whose_answer_was_lost_is_one_on_the_server(
    device: SMOKDevice, task: EventsTask, admin: Admin
) -> None:
    events = [open_event(device, str(number)) for number in range(BATCH)]
    lose_the_answer(task, admin)
    assert len(admin.events("1")) == BATCH
    assert events[0].uuid is None
    device.close_event(events[0], 200)
    late = open_event(device, "late")
    lose_the_answer(task, admin)
    task.run()
    events.append(late)
    assert [event["uuid"] for event in admin.events("1")] == [event.uuid for event in events]
    assert on_server(admin) == [(event.message, event.ended_on) for event in events]
    device.close_event(events[1], 300)
    lose_the_answer(task, admin)
    task.run()
    assert on_server(admin) == [(event.message, event.ended_on) for event in events]
    assert device.evt_database.get_events_to_sync() is None


@pytest.mark.parametrize("end", ["close", "kill"])
def test_an_event_whose_answer_was_lost_is_one_after_a_restart(
    make_device: Callable[..., SMOKDevice], admin: Admin, tmp_path: Path, end: str
) -> None:
    device = make_device(evt_database=tmp_path / "state")
    event = open_event(device)
    lose_the_answer(EventsTask(device), admin)
    device.close_event(event, 200)
    state = tmp_path / "state"
    if end == "close":
        device.close()
    else:  # what is on the disk is what a killed process leaves
        state = tmp_path / "left"
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"state{suffix}", f"{state}{suffix}")
    device = make_device(evt_database=state)
    task = EventsTask(device)
    lose_the_answer(task, admin)
    task.run()
    assert on_server(admin) == [("fire", 200)]
    (known,) = device.get_all_events()
    assert known.uuid == admin.events("1")[0]["uuid"]
    assert known.provisional_uuid == event.provisional_uuid


def test_what_is_no_uuid_is_not_put_into_a_header(
    device: SMOKDevice, task: EventsTask, admin: Admin
) -> None:
    event = Event(None, 1, 2, Color.RED, False, "token", "B", "fire", None, None)
    event.provisional_uuid = "x\r\nX-SSL-Client-Certificate: y"
    device.evt_database.add_event(event)
    good = open_event(device, "good")
    lose_the_answer(task, admin)
    task.run()
    assert [message for message, _ in on_server(admin)] == ["fire", "good", "fire"]
    assert admin.events("1")[1]["uuid"] == good.uuid


def test_what_was_sent_before_the_link_broke_is_not_sent_again(
    device: SMOKDevice, task: EventsTask, admin: Admin
) -> None:
    events = [open_event(device, str(number)) for number in range(BATCH + 1)]
    post = device.api.post
    calls = 0

    def break_after_the_first(path: str, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ResponseError(599, "cut")
        return post(path, **options)

    device.api.post = break_after_the_first
    with pytest.raises(ResponseError):
        task.run()
    task.run()
    assert len(admin.events("1")) == len(events)
    assert calls == 3


def test_an_event_that_the_server_rejects_is_kept_and_does_not_hold_up_the_others(
    device: SMOKDevice,
    task: EventsTask,
    admin: Admin,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = open_event(device, "bad", {"depth": object()})
    bad_too = open_event(device, "bad too")
    bad_too.token = 5
    worse = open_event(device, "worse")
    worse.color = "red"  # which has no number
    good = [open_event(device, str(number)) for number in range(5)]
    task.run()
    assert [message for message, _ in on_server(admin)] == [event.message for event in good]
    assert len(caplog.records) == 3
    calls = admin.fault(PATH, delay=0.001, times=None)
    task.run()
    assert admin.fault_hits(calls) == 0
    bad.metadata = {}
    bad_too.token = "5"
    worse.color = Color.RED
    clock.advance(REJECTED_FOR)
    task.run()
    assert [message for message, _ in on_server(admin)][5:] == ["bad", "bad too", "worse"]
    task.run()
    assert admin.fault_hits(calls) == 1


def test_a_server_that_rejects_everything_is_not_asked_about_each_event(
    device: SMOKDevice, task: EventsTask, admin: Admin, clock: ManualClock
) -> None:
    for number in range(BATCH):
        open_event(device, str(number))
    rejecting = admin.fault(PATH, status=400, times=None)
    with pytest.raises(ResponseError):
        task.run()
    assert admin.fault_hits(rejecting) < 4 * MAX_REJECTED
    assert not task.is_due(clock())
    admin.remove_faults()
    clock.advance(REJECTED_FOR)
    task.run()
    assert len(admin.events("1")) == BATCH


def test_an_event_without_a_uuid_in_the_answer_is_not_sent_over_and_over(
    device: SMOKDevice, task: EventsTask, admin: Admin, clock: ManualClock
) -> None:
    for message in ("a", "b", "c"):
        open_event(device, message)
    short = admin.fault(PATH, body='[{"uuid": "u-1"}, {"uuid": 5}]', times=None)
    task.run()
    task.run()
    assert admin.fault_hits(short) == 1
    admin.remove_faults()
    clock.advance(REJECTED_FOR)
    task.run()
    assert [message for message, _ in on_server(admin)] == ["b", "c"]


def test_an_event_that_the_server_knows_needs_no_uuid_in_the_answer(
    device: SMOKDevice, task: EventsTask, admin: Admin
) -> None:
    event = open_event(device)
    task.run()
    device.close_event(event, 200)
    admin.fault(PATH, body="[{}]")
    task.run()
    assert device.evt_database.get_events_to_sync() is None


def test_an_event_that_is_rejected_again_after_it_was_taken_is_told_again(
    device: SMOKDevice,
    task: EventsTask,
    admin: Admin,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    event = open_event(device)
    admin.fault(PATH, status=400)
    task.run()
    clock.advance(REJECTED_FOR)
    task.run()
    device.close_event(event, 200)
    admin.fault(PATH, status=400)
    task.run()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("answer", ["{}", "null", "5"])
def test_an_answer_that_is_no_list_acknowledges_nothing(
    device: SMOKDevice, task: EventsTask, admin: Admin, answer: str, clock: ManualClock
) -> None:
    open_event(device)
    admin.fault(PATH, body=answer)
    task.run()
    assert not task.is_due(clock())
    clock.advance(60)
    task.run()
    assert on_server(admin) == [("fire", None)]
