"""OrderExecutorThread: what is executed when, and what user code cannot break."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from conftest import DEVICE_ID, ManualClock
from pathpoint_support import (
    SOON,
    TIMEOUT,
    Bench,
    Maker,
    Scripted,
    alone,
    ended,
    execute,
    play,
    read,
    scripted,
    values,
    write,
)
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import (
    NotReadedError,
    OperationFailedError,
    OperationFailedReason,
    UnavailableError,
)
from smok_fast.extras import InMemorySensorDatabase
from smok_fast.pathpoint import (
    AdviseLevel,
    MessageOrder,
    Pathpoint,
    ReadGroup,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)
from smok_fast.pathpoint.orders import sections_from_list
from smok_fast.testing import Admin, wait_until
from smok_fast.threads.executor import Poll

FORCE = AdviseLevel.FORCE


@pytest.fixture
def bench(make_offline_device: Maker, clock: ManualClock) -> Bench:
    return Bench(make_offline_device, clock)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smok_fast.threads.execution.FIRST_PAUSE", 0.0)


class Group(ReadGroup):
    """A read group that gives what it is told to, and notes what it is asked."""

    def __init__(self, result: Any, log: list[Any] | None = None) -> None:
        self.result = result
        self.log: list[Any] = [] if log is None else log

    def on_read_group(self, pathpoints: Sequence[Pathpoint], advise: AdviseLevel) -> Any:
        self.log.append(("group", [pathpoint.name for pathpoint in pathpoints], advise))
        return play(self.result)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# Order of execution


def test_orders_of_a_section_are_executed_one_after_the_other(offline_device: SMOKDevice) -> None:
    log: list[Any] = []
    for name in ("W1", "W2"):
        scripted(offline_device, name, log=log)
    execute(offline_device, *read("W1"), write("W2", 5), *read("W2"), write("W1", 6))
    assert log == [("read", "W1"), ("write", "W2", 5), ("read", "W2"), ("write", "W1", 6)]


def test_sections_are_executed_in_the_order_of_their_coming(offline_device: SMOKDevice) -> None:
    log: list[Any] = []
    scripted(offline_device, "W1", log=log)
    sections = [Section([write("W1", number)]) for number in range(200)]
    last = offline_device.execute(*sections)
    assert last is sections[-1]
    for section in sections:
        section.result(SOON)
    assert [value for *_, value in log] == list(range(200))


def test_orders_that_are_added_while_others_are_executed_are_executed(
    offline_device: SMOKDevice,
) -> None:
    (section,) = sections_from_list([{"orders": [{"type": "read", "path": "W1"}]}])
    log: list[Any] = []

    def add() -> int:
        if len(section.orders) == 1:
            section.orders.append(write("W2", 7))
        return 1

    scripted(offline_device, "W1", add, log=log)
    scripted(offline_device, "W2", log=log)
    offline_device.execute(section)
    section.result(SOON)
    assert log == [("read", "W1"), ("write", "W2", 7)]


def test_executing_nothing_is_no_error(offline_device: SMOKDevice) -> None:
    assert offline_device.execute() is None
    execute(offline_device)


def test_a_future_does_not_hold_up_the_orders_after_it(offline_device: SMOKDevice) -> None:
    future: Future[int] = Future()
    slow, fast = scripted(offline_device, "W1", future), scripted(offline_device, "W2")
    done = threading.Event()
    fast.callable_on_change = lambda _: done.set()
    section = offline_device.execute(Section(read("W1", "W2")))
    assert done.wait(SOON)
    assert not section.done()
    future.set_result(7)
    section.result(SOON)
    assert (slow.get()[1], fast.get()[1]) == (7, 1)


def test_a_hung_future_does_not_hold_up_other_joinable_sections(
    offline_device: SMOKDevice,
) -> None:
    scripted(offline_device, "W1", Future())
    scripted(offline_device, "W2").writing = Future()
    scripted(offline_device, "W3")
    hung = [offline_device.execute(Section(orders)) for orders in (read("W1"), [write("W2")])]
    for _ in range(3):
        execute(offline_device, *read("W3"))
    assert not any(section.done() for section in hung)


def test_a_section_that_cannot_be_joined_waits_for_everything_before_it(
    offline_device: SMOKDevice,
) -> None:
    future: Future[int] = Future()
    begun = threading.Event()
    scripted(offline_device, "W1", lambda: (begun.set(), future)[1])
    barrier_pathpoint = scripted(offline_device, "W2")
    before = offline_device.execute(Section(read("W1")))
    barrier = offline_device.execute(alone(read("W2")))
    barrier_pathpoint.reading = lambda: int(before.done())
    assert begun.wait(SOON)
    assert not barrier.running()
    future.set_result(1)
    barrier.result(SOON)
    assert barrier_pathpoint.get()[1] == 1


def test_everything_after_a_section_that_cannot_be_joined_waits_for_it(
    offline_device: SMOKDevice,
) -> None:
    future: Future[int] = Future()
    begun = threading.Event()
    scripted(offline_device, "W1", lambda: (begun.set(), future)[1])
    after_pathpoint = scripted(offline_device, "W2")
    barrier = offline_device.execute(alone(read("W1")))
    after_pathpoint.reading = lambda: int(barrier.done())
    after = offline_device.execute(Section(read("W2")))
    assert begun.wait(SOON)
    future.set_result(1)
    after.result(SOON)
    assert after_pathpoint.get()[1] == 1


def test_a_barrier_ends_although_its_futures_end_before_it_looks(
    offline_device: SMOKDevice,
) -> None:
    scripted(offline_device, "W1", lambda: ended(1))
    for _ in range(100):
        offline_device.execute(alone(read("W1"))).result(SOON)


# Waits


def test_a_wait_is_counted_from_the_sections_start(bench: Bench) -> None:
    pathpoint = scripted(bench.device, "W1")
    pathpoint.reading = lambda: (bench.clock.advance(6), 1)[1]
    section = bench.device.execute(Section([WaitOrder(4), *read("W1"), WaitOrder(10)]))
    bench.advance(0)
    assert pathpoint.get()[1] == 1
    assert not section.done()
    bench.advance(3.9)
    assert not section.done()
    bench.advance(0.2)
    section.result(SOON)


def test_a_wait_does_not_hold_up_other_joinable_sections(bench: Bench) -> None:
    pathpoint = scripted(bench.device, "W1")
    waiting = bench.device.execute(Section([WaitOrder(100)]))
    execute(bench.device, *read("W1"))
    assert values(pathpoint) == [1]
    assert not waiting.done()


def test_a_wait_in_a_section_that_cannot_be_joined_holds_up_the_rest(bench: Bench) -> None:
    begun = threading.Event()
    scripted(bench.device, "W1", lambda: (begun.set(), 1)[1])
    barrier = bench.device.execute(alone([*read("W1"), WaitOrder(100)]))
    after = bench.device.execute(Section(read("W1")))
    assert begun.wait(SOON)
    assert not barrier.done()
    bench.clock.advance(100)
    bench.device.executor.wake()
    after.result(SOON)
    assert barrier.done()


# Cancelling


@pytest.mark.parametrize("make", [Section, alone])
def test_a_cancelled_section_is_never_executed(
    offline_device: SMOKDevice, make: Callable[..., Section]
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    scripted(offline_device, "W1", lambda: (entered.set(), go_on.wait(SOON), 1)[2])
    victim = scripted(offline_device, "W2")
    offline_device.execute(Section(read("W1")))
    assert entered.wait(SOON)
    section = offline_device.execute(make(read("W2")))
    after = offline_device.execute(make(read("W1")))
    assert section.cancel() is True
    go_on.set()
    after.result(SOON)
    assert victim.log == []
    assert after.cancel() is False


# Retries


def test_a_forced_write_is_tried_ten_times_with_growing_pauses(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    pathpoint = scripted(bench.device, "W1")
    pathpoint.writing = TIMEOUT
    section = bench.device.execute(Section([write("W1", 5, FORCE)]))
    bench.advance(0)
    for tries, pause in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30, 30], start=1):
        assert len(pathpoint.log) == tries
        bench.advance(pause - 0.01)
        assert len(pathpoint.log) == tries
        assert not section.done()
        bench.advance(0.02)
    section.result(SOON)
    assert pathpoint.log == [("write", "W1", 5)] * 10
    assert [text for text in messages(caplog) if "giving up" in text] == [
        "giving up on WriteOrder('W1', 5, AdviseLevel.FORCE, None): timeout"
    ]


def test_a_write_that_succeeds_is_not_tried_again(
    offline_device: SMOKDevice, no_pauses: None
) -> None:
    pathpoint = scripted(offline_device, "W1")
    outcomes = iter([TIMEOUT, ended(TIMEOUT), ended(None)])
    pathpoint.writing = lambda: next(outcomes)
    execute(offline_device, write("W1", 5, FORCE))
    assert len(pathpoint.log) == 3


@pytest.mark.parametrize("failing", [TIMEOUT, lambda: ended(TIMEOUT)], ids=["raised", "future"])
@pytest.mark.parametrize(
    ("kind", "advise", "tries"),
    [
        ("write", AdviseLevel.ADVISE, 1),
        ("write", FORCE, 10),
        ("read", AdviseLevel.ADVISE, 3),
        ("read", FORCE, 20),
    ],
)
def test_how_often_an_order_is_tried(
    offline_device: SMOKDevice, no_pauses: None, failing: Any, kind: str, advise: Any, tries: int
) -> None:
    pathpoint = scripted(offline_device, "W1", failing)
    pathpoint.writing = failing
    orders = read("W1", advise=advise) if kind == "read" else [write("W1", 1, advise)]
    execute(offline_device, *orders)
    assert len(pathpoint.log) == tries
    if kind == "read":
        assert values(pathpoint) == [OperationFailedReason.TIMEOUT] * tries


def test_a_poll_is_not_retried(offline_device: SMOKDevice, no_pauses: None) -> None:
    pathpoint = scripted(offline_device, "W1", TIMEOUT)
    offline_device.execute(Poll(read("W1"))).result(SOON)
    assert len(pathpoint.log) == 1


def test_a_stale_write_is_dropped_and_logged(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    pathpoint = scripted(offline_device, "W1")
    execute(
        offline_device,
        WriteOrder("W1", 1, FORCE, time.time() - 1),
        WriteOrder("W1", 2, FORCE, time.time() + 3600),
    )
    assert pathpoint.log == [("write", "W1", 2)]
    assert len(messages(caplog)) == 1
    assert "is stale, dropped" in messages(caplog)[0]


def test_a_write_that_gets_stale_is_not_retried(
    offline_device: SMOKDevice, no_pauses: None
) -> None:
    class Late(Scripted):
        def on_write(self, value: Any, advise: AdviseLevel) -> None:
            super().on_write(value, advise)
            while order.is_valid():  # at most the 0.05 s below
                pass
            raise TIMEOUT

    pathpoint = Late(offline_device, "W1")
    order = WriteOrder("W1", 1, FORCE, time.time() + 0.05)
    execute(offline_device, order)
    assert len(pathpoint.log) <= 1


# Pathpoints that the device does not know


def provider(provide: Callable[[SMOKDevice, str], Any]) -> type[SMOKDevice]:
    class Providing(SMOKDevice):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            return provide(self, name)  # type: ignore[no-any-return] # which the test wants

    return Providing


def test_an_order_for_an_unknown_pathpoint_is_skipped_and_the_rest_goes_on(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    known = scripted(offline_device, "W1")
    execute(offline_device, *read("W404"), write("W404"), *read("W1"))
    assert values(known) == [1]
    assert messages(caplog) == ["order for unknown pathpoint W404 skipped"] * 2


@pytest.mark.parametrize(
    ("provide", "logged"),
    [
        (lambda _, name: play(KeyError(name)), "unknown pathpoint W9"),
        (lambda _, __: play(OSError("no bus")), "OSError: no bus"),
        (lambda _, __: play(SystemExit(1)), "SystemExit: 1"),
        (lambda _, __: None, "TypeError: asked for pathpoint W9, got None"),
        (lambda _, __: Pathpoint("W8"), "unknown pathpoint W9"),
    ],
    ids=["KeyError", "OSError", "SystemExit", "None", "another"],
)
def test_a_provider_that_goes_wrong_is_logged_and_the_rest_goes_on(
    make_offline_device: Maker, caplog: pytest.LogCaptureFixture, provide: Any, logged: str
) -> None:
    device = make_offline_device(provider(provide))
    known = scripted(device, "W1")
    execute(device, *read("W9", "W1"))
    assert values(known) == [1]
    assert logged in caplog.text
    assert "W9" not in device.pathpoints


@pytest.mark.parametrize(
    "provide",
    [Scripted, lambda _, name: Scripted(name)],
    ids=["registered", "not registered"],
)
def test_a_provided_pathpoint_is_registered_once(make_offline_device: Maker, provide: Any) -> None:
    device = make_offline_device(provider(provide))
    execute(device, *read("W9"), write("W9"), *read("W9"))
    pathpoint = device.pathpoints["W9"]
    assert values(pathpoint) == [1, 1]
    assert device.get_pathpoint("W9") is pathpoint


# Exceptions in user code


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("form", ["raised", "future"])
def test_an_exception_is_logged_with_its_traceback_and_the_rest_goes_on(
    offline_device: SMOKDevice,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    error: BaseException,
    form: str,
) -> None:
    script = error if form == "raised" else lambda: ended(error)
    broken, fine = scripted(offline_device, "W1", script), scripted(offline_device, "W2")
    broken.writing = script
    orders = read("W1") if kind == "read" else [write("W1", 1, FORCE)]
    execute(offline_device, *orders, *read("W2"))
    assert len(broken.log) == 1
    assert values(fine) == [1]
    with pytest.raises(NotReadedError):
        broken.get()
    (record,) = caplog.records
    assert f"W1 raised {error!r}" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("kind", ["read", "write"])
def test_the_traceback_of_an_exception_leads_to_the_line_that_raised_it(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def culprit() -> None:
        raise ValueError("broken")

    broken = scripted(offline_device, "W1", culprit)
    broken.writing = culprit
    execute(offline_device, *(read("W1") if kind == "read" else [write("W1", 1)]))
    (record,) = caplog.records
    assert record.exc_info is not None
    error = record.exc_info[1]
    assert error is not None
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1] == "culprit"


@pytest.mark.parametrize("form", ["raised", "future"])
def test_giving_up_on_a_write_tells_why(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    failure = OperationFailedError(OperationFailedReason.TYPE)
    failure.__cause__ = ValueError("'x' is no number")
    scripted(offline_device, "W1").writing = failure if form == "raised" else lambda: ended(failure)
    execute(offline_device, write("W1", "x"))
    assert messages(caplog) == [
        "giving up on WriteOrder('W1', 'x', AdviseLevel.ADVISE, None): type ('x' is no number)"
    ]


def test_the_same_exception_is_logged_once_an_hour(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    def fail() -> None:
        raise ValueError("broken")

    scripted(offline_device, "W1", fail)
    for _ in range(2):
        execute(offline_device, *read("W1"))
    clock.advance(3599)
    execute(offline_device, *read("W1"))
    assert len(caplog.records) == 1
    clock.advance(2)
    for _ in range(2):
        execute(offline_device, *read("W1"))
    assert len(caplog.records) == 2
    assert messages(caplog)[1].endswith("(2 more of these in the last hour)")


def test_another_pathpoint_is_another_problem(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("broken")
    for name in ("W1", "W2"):
        scripted(offline_device, name, error)
    execute(offline_device, *read("W1", "W2", "W1", "W2"))
    assert [text.split()[1] for text in messages(caplog)] == ["W1", "W2"]


def test_a_cancelled_future_is_a_read_that_gave_nothing(
    offline_device: SMOKDevice, caplog: pytest.LogCaptureFixture
) -> None:
    future: Future[int] = Future()
    future.cancel()
    pathpoint = scripted(offline_device, "W1", future)
    execute(offline_device, *read("W1"))
    assert values(pathpoint) == []
    assert "CancelledError" in caplog.text


# Read groups


@pytest.mark.parametrize("form", [list, tuple, ended], ids=str)
def test_a_group_is_asked_once_for_all_its_pathpoints(
    offline_device: SMOKDevice, no_pauses: None, form: Callable[..., Any]
) -> None:
    group = Group(lambda: form([5, None, 7]))
    pathpoints = [scripted(offline_device, f"W{n}", read_group=group) for n in (1, 2, 3)]
    execute(offline_device, *read("W1"), *read("W2", advise=FORCE), *read("W3"))
    assert group.log == [("group", ["W1", "W2", "W3"], FORCE)]
    assert [values(pathpoint) for pathpoint in pathpoints] == [[5], [], [7]]
    assert all(pathpoint.log == [] for pathpoint in pathpoints)


def test_those_of_a_group_that_failed_are_read_again(
    offline_device: SMOKDevice, no_pauses: None
) -> None:
    results = iter([[5, TIMEOUT, 7], [6]])
    group = Group(lambda: next(results))
    pathpoints = [scripted(offline_device, f"W{n}", read_group=group) for n in (1, 2, 3)]
    execute(offline_device, *read("W1", "W2", "W3"))
    assert [names for _, names, _ in group.log] == [["W1", "W2", "W3"], ["W2"]]
    failed = OperationFailedReason.TIMEOUT
    assert [values(pathpoint) for pathpoint in pathpoints] == [[5], [failed, 6], [7]]


@pytest.mark.parametrize("result", [TIMEOUT, lambda: ended(TIMEOUT)], ids=["raised", "future"])
def test_a_group_that_fails_fails_for_each_pathpoint(
    offline_device: SMOKDevice, result: Any
) -> None:
    group = Group(result)
    pathpoints = [scripted(offline_device, f"W{n}", read_group=group) for n in (1, 2)]
    offline_device.execute(Poll(read("W1", "W2"))).result(SOON)
    for pathpoint in pathpoints:
        assert values(pathpoint) == [OperationFailedReason.TIMEOUT]


@pytest.mark.parametrize("form", ["returned", "future"])
@pytest.mark.parametrize(
    ("result", "logged"),
    [
        (ValueError("broken"), "ValueError('broken')"),
        (SystemExit(3), "SystemExit(3)"),
        ([1], "2 pathpoints, but the results are [1]"),
        ([1, 2, 3], "2 pathpoints, but the results are [1, 2, 3]"),
        (None, "2 pathpoints, but the results are None"),
        (5, "2 pathpoints, but the results are 5"),
    ],
    ids=repr,
)
def test_a_group_that_goes_wrong_is_logged_and_the_rest_goes_on(
    offline_device: SMOKDevice,
    caplog: pytest.LogCaptureFixture,
    form: str,
    result: Any,
    logged: str,
) -> None:
    group = Group(result if form == "returned" else lambda: ended(result))
    pathpoints = [scripted(offline_device, f"W{n}", read_group=group) for n in (1, 2)]
    after = scripted(offline_device, "W3")
    execute(offline_device, *read("W1", "W2"), write("W3", 1))
    assert [values(pathpoint) for pathpoint in pathpoints] == [[], []]
    assert after.log == [("write", "W3", 1)]
    assert len(caplog.records) == 1
    assert logged in caplog.text


def test_a_group_is_read_before_the_write_that_follows_it(offline_device: SMOKDevice) -> None:
    log: list[Any] = []
    group = Group([1], log)
    scripted(offline_device, "W1", read_group=group, log=log)
    execute(offline_device, *read("W1"), write("W1", 5), *read("W1"))
    assert [entry[0] for entry in log] == ["group", "write", "group"]


# Sysctl and message orders


def test_sysctl_orders_are_executed_and_cannot_break_a_section(
    make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = []

    class Device(SMOKDevice):
        def execute_sysctl(self, op_type: str, op_args: str) -> bool:
            calls.append((op_type, op_args, threading.current_thread().name))
            if op_type == "raise":
                raise ValueError("no such switch")
            if op_type == "exit":
                sys.exit()
            return op_type == "known"

    device = make_offline_device(Device)
    pathpoint = scripted(device, "W1")
    types = ("known", "unknown", "raise", "exit")
    execute(device, *(SysctlOrder(name, "args") for name in types), *read("W1"))
    assert calls == [(name, "args", "OrderExecutorThread") for name in types]
    assert values(pathpoint) == [1]
    assert messages(caplog) == [
        "SysctlOrder('unknown', 'args') was not recognised",
        "execute_sysctl raised on SysctlOrder('raise', 'args')",
        "execute_sysctl raised on SysctlOrder('exit', 'args')",
    ]


def test_a_message_order_ends_when_the_server_has_confirmed_it(
    make_offline_device: Maker, smok_server: Any, admin: Admin
) -> None:
    message = {"type": "message", "uuid": "a message"}
    admin.queue_orders(DEVICE_ID, [{"orders": [message], "disposition": 0}])
    device = make_offline_device(url=smok_server.url, allow_sync=True)
    execute(device, MessageOrder("a message"))
    assert admin.messages(DEVICE_ID)["a message"] is not None


def test_a_message_order_that_the_server_does_not_take_holds_up_nothing_but_its_section(
    make_offline_device: Maker, smok_server: Any, admin: Admin
) -> None:
    device = make_offline_device(url=smok_server.url, allow_sync=True)
    fault = admin.fault("/v1/device/orders/message", status=500)
    order = MessageOrder("a message")
    pathpoint = scripted(device, "W1")
    section = device.execute(Section([order, *read("W1")]))
    wait_until(lambda: admin.fault_hits(fault) == 1, SOON)
    assert values(pathpoint) == [1]
    device.close()
    with pytest.raises((UnavailableError, CancelledError)):
        section.result(SOON)


# Execution loops of the user's


def test_an_execution_loop_of_the_users_gets_what_was_not_cancelled(
    make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = []
    entered, go_on = threading.Event(), threading.Event()

    class Device(SMOKDevice):
        def execute_section(self, section: Section) -> None:
            calls.append(("section", section, threading.current_thread().name))
            assert not section.done()
            if len(calls) == 1:
                entered.set()
                assert go_on.wait(SOON)
            if section.orders and isinstance(section.orders[0], WaitOrder):
                sys.exit("broken loop")

        def sync_sections(self, termination_checker: Callable[[], bool]) -> None:
            assert termination_checker() is False
            calls.append(("sync", None, threading.current_thread().name))
            raise ValueError("broken sync")

    device = make_offline_device(Device)
    pathpoint = scripted(device, "W1")
    sections = [Section(read("W1")), Section(), Section([WaitOrder(1000)]), alone(read("W1"))]
    first, cancelled, broken, last = sections
    device.execute(*sections[:1])
    assert entered.wait(SOON)
    device.execute(*sections[1:])
    assert cancelled.cancel()
    go_on.set()
    for section in (first, broken, last):
        assert section.result(SOON) is None
    execute(device)
    assert {thread for *_, thread in calls} == {"OrderExecutorThread"}
    expected = [first, broken, None, last, None]
    assert [section for _, section, _ in calls][:5] == expected
    assert pathpoint.log == []
    assert "execute_section raised" in caplog.text
    assert "broken loop" in caplog.text
    assert "sync_sections raised" in caplog.text


# Closing


def test_executing_after_the_close_is_an_error(offline_device: SMOKDevice) -> None:
    offline_device.close()
    with pytest.raises(RuntimeError, match="closed"):
        offline_device.execute(Section())


def test_close_tells_everyone_who_waits_within_ten_seconds_although_on_read_hangs(
    offline_device: SMOKDevice,
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    scripted(offline_device, "W1", lambda: (entered.set(), go_on.wait(SOON), 1)[2])
    scripted(offline_device, "W2", Future())
    hung_future = Section(read("W2"))
    hung_read = Section(read("W1"))
    # These two are taken from the queue together with the one that hangs.
    taken, taken_as_well = Section(read("W2")), Section(read("W2"))
    offline_device.execute(hung_future, hung_read, taken, taken_as_well)
    assert entered.wait(SOON)
    queued = offline_device.execute(alone(read("W2")))
    started = time.monotonic()
    offline_device.close()
    assert time.monotonic() - started < 10
    for section in (hung_future, hung_read):
        with pytest.raises(UnavailableError):
            section.result(0)
    for section in (taken, taken_as_well, queued):
        with pytest.raises((UnavailableError, CancelledError)):
            section.result(0)
    go_on.set()
    offline_device.executor.join(SOON)
    assert not offline_device.executor.is_alive()


def test_a_section_that_the_close_has_cut_short_is_not_done(offline_device: SMOKDevice) -> None:
    closing = threading.Event()
    after = scripted(offline_device, "W2")

    class Closing(Scripted):
        def on_read(self, advise: AdviseLevel) -> int:
            closing.set()
            while not offline_device.executor.terminating:
                pass
            return 1

    Closing(offline_device, "W1")
    section = offline_device.execute(Section(read("W1", "W2")))
    assert closing.wait(SOON)
    offline_device.close()
    with pytest.raises(UnavailableError):
        section.result(SOON)
    assert after.log == []


def test_a_retry_that_the_close_has_cut_off_leaves_its_section_undone(
    offline_device: SMOKDevice,
) -> None:
    pathpoint = scripted(offline_device, "W1", TIMEOUT)
    section = offline_device.execute(Section(read("W1", advise=FORCE)))
    wait_until(lambda: pathpoint.log, SOON)
    offline_device.close()
    with pytest.raises(UnavailableError):
        section.result(SOON)


def test_close_tells_who_waits_for_a_device_that_was_never_booted(
    make_offline_device: Maker,
) -> None:
    device = make_offline_device(delayed_boot=True)
    section = device.execute(Section())
    device.close()
    with pytest.raises(CancelledError):
        section.result(SOON)


def test_a_device_without_an_executor_says_so(make_offline_device: Maker) -> None:
    device = make_offline_device(
        dont_obtain_orders=True,
        dont_do_predicates=True,
        dont_do_macros=True,
        dont_do_archives=True,
        dont_do_pathpoints=True,
        dont_sync_sensor_writes=True,
        sensor_database=InMemorySensorDatabase(),
    )
    assert device.executor is None
    with pytest.raises(UnavailableError):
        device.execute(Section())
    assert device.queue_length == 0


def test_user_code_is_called_by_the_order_executor_thread(offline_device: SMOKDevice) -> None:
    names: list[str] = []

    def note(*_: Any) -> int:
        names.append(threading.current_thread().name)
        return 1

    pathpoint = scripted(offline_device, "W1", note, callable_on_change=note)
    pathpoint.writing = lambda: note() and None
    execute(offline_device, *read("W1"), write("W1"))
    assert names == ["OrderExecutorThread"] * 3
