"""The native queue, schedule and buffer, as several Python threads use them at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from pathpoint_support import SOON
from smok_fast import minijson
from smok_fast._core import ArchiveSchedule, Buffer, OrderQueue
from smok_fast.client import SMOKDevice
from smok_fast.pathpoint import Pathpoint, Section
from smok_fast.testing import wait_until

FOR_EVER = 3600.0


def in_threads(*targets: Callable[[], Any]) -> None:
    """Run all of them at once, and raise what one of them raises."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(targets))

    def run(target: Callable[[], Any]) -> None:
        start.wait(SOON)
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def queue_wait() -> tuple[Callable[[], Any], Callable[[], Any]]:
    queue = OrderQueue()
    return lambda: queue.take(FOR_EVER), queue.interrupt


def queue_wait_until_closed() -> tuple[Callable[[], Any], Callable[[], Any]]:
    queue = OrderQueue()
    return queue.take, queue.close


def schedule_wait() -> tuple[Callable[[], Any], Callable[[], Any]]:
    schedule = ArchiveSchedule()
    return lambda: schedule.wait(FOR_EVER), schedule.close


def buffer_wait() -> tuple[Callable[[], Any], Callable[[], Any]]:
    buffer = Buffer()
    return lambda: buffer.wait(FOR_EVER), buffer.wake


def buffer_wait_for_data() -> tuple[Callable[[], Any], Callable[[], Any]]:
    buffer = Buffer()
    return lambda: buffer.wait(FOR_EVER), lambda: buffer.record("W1", 1, 1)


@pytest.mark.parametrize(
    "make",
    [queue_wait, queue_wait_until_closed, schedule_wait, buffer_wait, buffer_wait_for_data],
)
def test_a_wait_lets_other_threads_run_and_ends_when_it_is_told_to(
    make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]],
) -> None:
    wait, end = make()
    # If the wait kept the GIL, this would never get as far as to end it.
    in_threads(wait, lambda: [end(), end()])


def test_an_interrupt_that_comes_first_ends_the_next_wait() -> None:
    queue = OrderQueue()
    queue.interrupt()
    assert queue.take(FOR_EVER) == []
    buffer = Buffer()
    buffer.wake()
    assert buffer.wait(FOR_EVER) is False


def test_a_closed_queue_refuses_items_and_gives_out_what_it_has() -> None:
    queue, section = OrderQueue(), Section()
    queue.put(section, True)
    queue.close()
    with pytest.raises(RuntimeError, match="closed"):
        queue.put(Section(), True)
    assert queue.take(FOR_EVER) == [section]
    assert queue.take(FOR_EVER) == []
    assert len(queue) == 0


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("-inf")])
def test_a_wait_of_no_time_returns_at_once(timeout: float) -> None:
    assert OrderQueue().take(timeout) == []
    assert Buffer().wait(timeout) is False
    ArchiveSchedule().wait(timeout)


def test_ten_threads_lose_no_section_and_take_none_twice() -> None:
    queue = OrderQueue()
    each, putters = 500, 5
    sections = [[Section() for _ in range(each)] for _ in range(putters)]
    taken: list[list[Section]] = [[] for _ in range(4)]
    cancelled: list[Section] = []

    def put(own: list[Section]) -> None:
        for number, section in enumerate(own):
            queue.put(section, number % 7 != 0, number % 3 == 0)

    def take(own: list[Section]) -> None:
        while items := queue.take(0.2) or queue.take(SOON if expected() else 0):
            own.extend(section for section in items if section.mark_as_being_executed())

    def expected() -> bool:
        return sum(map(len, taken)) + len(cancelled) < each * putters

    def cancel() -> None:
        cancelled.extend(section for own in sections for section in own[::5] if section.cancel())
        queue.interrupt()

    def end() -> None:
        wait_until(lambda: not expected(), SOON)
        queue.close()

    in_threads(
        *[lambda own=own: put(own) for own in sections],
        *[lambda own=own: take(own) for own in taken[:3]],
        cancel,
        end,
    )
    executed = [section for own in taken for section in own]
    everything = [section for own in sections for section in own]
    assert len(executed) == len(set(executed))
    assert not set(executed) & set(cancelled)
    assert set(executed) | set(cancelled) == set(everything)


def test_one_takers_sections_of_one_putter_come_in_their_order() -> None:
    queue = OrderQueue()
    sections = [[Section() for _ in range(300)] for _ in range(9)]
    taken: list[Section] = []

    def take() -> None:
        while len(taken) < 9 * 300:
            items = queue.take(SOON)
            assert items
            taken.extend(items)

    in_threads(
        take, *[lambda own=own: [queue.put(section, True) for section in own] for own in sections]
    )
    position = {section: number for number, section in enumerate(taken)}
    for own in sections:
        numbers = [position[section] for section in own]
        assert numbers == sorted(numbers)


def test_ten_threads_record_while_another_uploads_and_nothing_is_lost(
    offline_device: SMOKDevice,
) -> None:
    pathpoint = Pathpoint(offline_device, "W1")
    buffer = offline_device._buffer
    each = 300
    recorded: list[tuple[int, int]] = []
    lock = threading.Lock()
    numbers = iter(range(1, 10 * each + 1))
    uploaded: list[list[int]] = []
    finished = threading.Event()

    def record() -> None:
        for _ in range(each):
            with lock:  # so that each sample is newer than the one before
                number = next(numbers)
                pathpoint.set_new_value(number, number % 65536)
                recorded.append((number, number % 65536))
            pathpoint.get()
        if len(recorded) == 10 * each:
            finished.set()

    def upload() -> None:
        attempts = 0
        while not (finished.is_set() and buffer.next_upload(1000) is None):
            buffer.wait(0.01)
            found = buffer.next_upload(1000)
            if found is None:
                continue
            body, token, samples, _ = found
            attempts += 1
            if attempts % 3 == 0:
                assert buffer.refuse(token)
                assert buffer.next_upload(1000) == found
            elif attempts % 10 == 1:
                assert buffer.refuse(token, rejected=True)
                continue
            ((entry),) = minijson.loads(body)
            assert len(entry["values"]) == samples
            uploaded.extend(entry["values"])
            assert buffer.acknowledge(token)
            assert not buffer.acknowledge(token)

    in_threads(upload, *[record] * 10)
    assert [tuple(sample) for sample in uploaded] == recorded
    figures = buffer.statistics()
    assert figures["acknowledged"] == figures["recorded"] == 10 * each
    assert figures["pending"] == figures["dropped"] == 0


def test_threads_that_set_one_pathpoint_without_coordination_keep_its_order(
    offline_device: SMOKDevice,
) -> None:
    pathpoint = Pathpoint(offline_device, "W1")

    def set_some(number: int) -> None:
        for timestamp in range(number, 1000, 10):
            pathpoint.set_new_value(timestamp, number)

    with warnings.catch_warnings(record=True) as refused:
        warnings.simplefilter("always")
        in_threads(*[lambda number=number: set_some(number) for number in range(10)])
    timestamps = [timestamp for timestamp, _ in pathpoint.get_archive(None)]
    assert timestamps == sorted(set(timestamps))
    assert timestamps[-1] == 999
    assert len(timestamps) + len(refused) == 1000
