"""The archive schedule and ArchivingAndMacroThread: what is read by itself, and when."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pathpoint_support import (
    SOON,
    TIMEOUT,
    Maker,
    Scripted,
    ended,
    execute,
    read,
    scripted,
    values,
)
from smok_fast._core import ArchiveSchedule
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.pathpoint import AdviseLevel, Pathpoint, ReadGroup, Section
from smok_fast.testing import wait_until


class Counting:
    """A reading that counts, and tells when it has been asked often enough."""

    def __init__(self, enough: int, result: Any = None) -> None:
        self.count = 0
        self.enough = enough
        self.reached = threading.Event()
        self.result = result

    def __call__(self) -> Any:
        self.count += 1
        if self.count >= self.enough:
            self.reached.set()
        return self.count if self.result is None else self.result


def take_polls(device: SMOKDevice) -> list[list[str]]:
    """What the schedule has asked for; the device's executor must not run."""
    polls = device._order_queue.take(SOON)
    return [[order.pathpoint for order in poll.orders] for poll in polls]


@pytest.fixture
def idle(make_offline_device: Maker) -> SMOKDevice:
    """A device of which nothing but the archiving thread runs."""
    device = make_offline_device(delayed_boot=True)
    assert device.arch_and_macros is not None
    device.arch_and_macros.start()
    return device


def test_pathpoints_are_archived_every_ten_milliseconds(offline_device: SMOKDevice) -> None:
    reading = Counting(20)
    pathpoint = scripted(offline_device, "W1", reading)
    offline_device.set_archives({0.01: ["W1"]})
    assert reading.reached.wait(SOON)
    timestamps = [timestamp for timestamp, _ in pathpoint.get_archive(None)]
    assert timestamps == sorted(set(timestamps))


def test_a_new_list_takes_effect_at_once(offline_device: SMOKDevice) -> None:
    first, second = Counting(1), Counting(1)
    scripted(offline_device, "W1", first)
    scripted(offline_device, "W2", second)
    offline_device.set_archives({3600.0: ["W1"]})
    assert first.reached.wait(SOON)
    offline_device.set_archives({3600.0: ["W1", "W2"]})
    assert second.reached.wait(SOON)
    assert first.count == 1


def test_a_device_that_starts_without_a_link_archives_what_the_last_run_was_told(
    make_offline_device: Maker, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with make_offline_device(evt_database=state, delayed_boot=True) as device:
        device.arch_database.on_archiving_data_sync({0.01: ["W1"], 3600: ["W2"]})
    device = make_offline_device(evt_database=state, delayed_boot=True)
    often, once = Counting(5), Counting(1)
    scripted(device, "W1", often)
    scripted(device, "W2", once)
    device.continue_boot()
    assert often.reached.wait(SOON)
    assert once.reached.wait(SOON)
    assert once.count == 1


def test_what_was_removed_is_not_read_any_more(offline_device: SMOKDevice) -> None:
    removed, stays = Counting(3), Counting(3)
    scripted(offline_device, "W1", removed)
    scripted(offline_device, "W2", stays)
    offline_device.set_archives({0.01: ["W1"], 0.02: ["W2"]})
    assert removed.reached.wait(SOON)
    assert stays.reached.wait(SOON)
    offline_device.set_archives({0.02: ["W2"]})
    execute(offline_device)  # a poll that was under way has been executed
    execute(offline_device)
    stays.enough = stays.count + 1
    stays.reached.clear()
    assert stays.reached.wait(SOON)
    count, stays.enough = removed.count, stays.count + 5
    stays.reached.clear()
    assert stays.reached.wait(SOON)
    assert removed.count == count


def test_an_empty_list_ends_archiving(idle: SMOKDevice) -> None:
    scripted(idle, "W1")
    idle.set_archives({3600.0: ["W1"]})
    assert take_polls(idle) == [["W1"]]
    idle.set_archives({})
    assert len(idle.arch_and_macros._schedule) == 0


def test_pathpoints_that_are_due_together_are_one_poll(idle: SMOKDevice) -> None:
    for name in ("W1", "W2", "W3"):
        scripted(idle, name)
    idle.set_archives({3600.0: ["W1", "W2"], 7200.0: ["W3"]})
    (poll,) = take_polls(idle)
    assert sorted(poll) == ["W1", "W2", "W3"]


def test_a_group_is_read_in_one_call_each_round(offline_device: SMOKDevice) -> None:
    calls: list[list[str]] = []
    enough = threading.Event()

    class Group(ReadGroup):
        def on_read_group(self, pathpoints: Sequence[Pathpoint], advise: AdviseLevel) -> list[int]:
            calls.append(sorted(pathpoint.name for pathpoint in pathpoints))
            if calls.count(names) == 5:
                enough.set()
            return [1] * len(pathpoints)

    group = Group()
    names = [f"W{number}" for number in range(10)]
    for name in names:
        scripted(offline_device, name, read_group=group)
    offline_device.set_archives({0.05: names})
    assert enough.wait(SOON)


def test_of_several_intervals_the_shortest_counts(offline_device: SMOKDevice) -> None:
    reading = Counting(5)
    scripted(offline_device, "W1", reading)
    offline_device.set_archives({3600.0: ["W1"], 0.01: ["W1", "W1"], 7200.0: ["W1"]})
    assert reading.reached.wait(SOON)


def test_unknown_names_are_logged_and_skipped(
    make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    class Device(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            if name == "W2":
                raise OSError("no bus")
            if name == "W3":
                made = Scripted(name, storage_level)
                made.reading = reading
                return made
            raise KeyError(name)

    reading = Counting(1)
    device = make_offline_device(Device)
    device.set_archives({3600.0: ["W1", "W2", "no type", "W3"]})
    assert reading.reached.wait(SOON)
    assert device.pathpoints["W3"].storage_level is StorageLevel.PERMANENT
    assert [record.getMessage() for record in caplog.records] == [
        "unknown pathpoint W1 is to be archived, skipped",
        "no pathpoint W2: provide_unknown_pathpoint failed",
        "unknown pathpoint no type is to be archived, skipped",
    ]


def test_a_text_in_place_of_names_is_refused_and_changes_nothing(
    idle: SMOKDevice, make_offline_device: Maker
) -> None:
    scripted(idle, "W1")
    idle.set_archives({3600.0: ["W1"]})
    without_archives = make_offline_device(dont_do_archives=True, delayed_boot=True)
    for device in (idle, without_archives):
        with pytest.raises(TypeError, match=r"interval 0\.5: \['W1'\] is a sequence of names"):
            device.set_archives({60.0: ["W1"], 0.5: "W1"})
    assert take_polls(idle) == [["W1"]]
    assert idle.arch_and_macros._instructions == {3600.0: ["W1"]}


@pytest.mark.parametrize(
    ("interval", "error"), [(0, ValueError), (-5.0, ValueError), ("5", TypeError)]
)
def test_an_interval_that_is_none_is_refused_and_changes_nothing(
    interval: Any, error: type[Exception], idle: SMOKDevice
) -> None:
    scripted(idle, "W1")
    idle.set_archives({3600.0: ["W1"]})
    with pytest.raises(error, match=f"interval {interval!r}"):
        idle.set_archives({60.0: ["W1"], interval: ["W1"]})
    assert take_polls(idle) == [["W1"]]
    assert idle.arch_and_macros is not None
    assert idle.arch_and_macros._instructions == {3600.0: ["W1"]}


def test_a_pathpoint_that_was_unknown_is_archived_once_it_is_known_and_the_list_comes_again(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    known, late = Counting(1), Counting(1)
    scripted(offline_device, "W1", known)
    archives = {3600.0: ["W1", "W2"]}
    for _ in range(3):
        offline_device.set_archives(archives)
    assert known.reached.wait(SOON)
    assert caplog.messages == ["unknown pathpoint W2 is to be archived, skipped"]
    scripted(offline_device, "W2", late)
    offline_device.set_archives(archives)
    assert late.reached.wait(SOON)
    assert known.count == 1, "the others keep their rhythm"


def test_a_provider_may_set_the_archives_itself(make_offline_device: Maker) -> None:
    class Device(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            made = Scripted(self, name)
            self.set_archives({3600.0: [name]})
            return made

    device = make_offline_device(Device)
    thread = threading.Thread(target=device.set_archives, args=({60.0: ["W1"]},), daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()


def test_a_dead_pathpoint_is_not_polled_again_and_holds_up_nobody(
    offline_device: SMOKDevice,
) -> None:
    future: Future[int] = Future()
    dead, alive = Counting(1, future), Counting(10)
    pathpoint = scripted(offline_device, "W1", dead)
    scripted(offline_device, "W2", alive)
    offline_device.set_archives({0.01: ["W1", "W2"]})
    assert alive.reached.wait(SOON)
    assert dead.count == 1
    assert offline_device.arch_and_macros.overruns > 0
    again = pathpoint.reading = Counting(1)
    future.set_result(7)
    assert again.reached.wait(SOON)
    assert values(pathpoint)[0] == 7


@pytest.mark.parametrize(
    "result",
    [TIMEOUT, ValueError("broken"), lambda: ended(TIMEOUT), lambda: ended(None)],
    ids=["failed", "raised", "failing future", "future of none"],
)
def test_a_read_that_gives_no_value_is_polled_again(
    offline_device: SMOKDevice, result: Any
) -> None:
    asked = Counting(3)

    def reading() -> Any:
        asked()
        return result() if callable(result) else result

    scripted(offline_device, "W1", reading)
    offline_device.set_archives({0.01: ["W1"]})
    assert asked.reached.wait(SOON)


def test_a_pathpoint_that_cannot_be_read_now_is_polled_again(offline_device: SMOKDevice) -> None:
    asked = Counting(3)

    class Never(Scripted):
        def can_read(self) -> bool:
            asked()
            return False

    Never(offline_device, "W1")
    offline_device.set_archives({0.01: ["W1"]})
    assert asked.reached.wait(SOON)


def test_a_poll_waits_for_orders_that_came_later(make_offline_device: Maker) -> None:
    device = make_offline_device(delayed_boot=True)
    log: list[Any] = []
    scripted(device, "W1", log=log)
    scripted(device, "W2", log=log)
    device.set_archives({3600.0: ["W1"]})
    device.arch_and_macros.start()
    wait_until(lambda: device.queue_length == 1, SOON)
    section = device.execute(Section(read("W2")))
    device.executor.start()
    assert section is not None
    section.result(SOON)
    wait_until(lambda: len(log) == 2, SOON)
    assert log == [("read", "W2"), ("read", "W1")]


def test_a_poll_that_is_cancelled_by_the_close_ends_its_reads(idle: SMOKDevice) -> None:
    scripted(idle, "W1")
    idle.set_archives({3600.0: ["W1"]})
    wait_until(lambda: idle.queue_length == 1, SOON)
    idle.close()
    assert idle.queue_length == 0
    assert not idle.arch_and_macros.is_alive()


def test_a_read_from_elsewhere_puts_the_next_poll_off(offline_device: SMOKDevice) -> None:
    pathpoint = scripted(offline_device, "W1")
    schedule = ArchiveSchedule()
    schedule.replace([(pathpoint, 3600.0)])
    pathpoint.set_new_value(1, 1)
    assert schedule.due() == []


def test_the_schedule_wants_pathpoints_of_a_device() -> None:
    with pytest.raises(Exception, match="attach this pathpoint"):
        ArchiveSchedule().replace([(Pathpoint("W1"), 1.0)])
