"""The rules by which orders are executed, as tables: one row for each rule, on a clock that stands
still until a row lets time pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pytest

from conftest import ManualClock
from pathpoint_support import SOON, TIMEOUT, Bench, Maker, Scripted, alone, execute, read, write
from smok_fast._core import encode_section
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.pathpoint import (
    AdviseLevel,
    Pathpoint,
    ReadGroup,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)
from smok_fast.pathpoint.orders import Disposition, Order, sections_from_body

ADVISE, FORCE = AdviseLevel.ADVISE, AdviseLevel.FORCE


class Device(SMOKDevice):
    """Has every pathpoint but W404, and notes what is done to them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.log: list[Any] = []
        super().__init__(*args, **options)

    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        if name == "W404":
            raise KeyError(name)
        return Scripted(self, name, log=self.log)


class World:
    """A device on a clock of the test's, and the sections that were given to it."""

    def __init__(self, make: Maker, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
        self.bench = Bench(make, clock, Device)
        self.device = self.bench.device
        self.sections: dict[str, Section] = {}
        self.futures: dict[str, Future[Any]] = {}
        self.caplog = caplog
        #: Whether sections are such as come from the server.
        self.is_remote = False

    def pathpoint(self, name: str) -> Any:
        return self.device.get_pathpoint(name)

    def look(self) -> None:
        self.bench.look()

    def section(self, orders: Sequence[Order], disposition: Disposition) -> Section:
        section = Section(orders, disposition)
        if not self.is_remote:
            return section
        body = encode_section(section.orders, section.is_joinable())
        return sections_from_body(body, "application/minijson")[0]


@pytest.fixture
def world(
    make_offline_device: Maker, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> World:
    return World(make_offline_device, clock, caplog)


Step = Callable[[World], None]


# The steps that rules are made of


def given(name: str, *orders: Order | Sequence[Order], barrier: bool = False) -> Step:
    """A section is given to the device."""
    flat = [order for item in orders for order in ([item] if isinstance(item, Order) else item)]

    def step(world: World) -> None:
        disposition = Disposition.CANNOT_JOIN if barrier else Disposition.JOINABLE
        section = world.section(flat, disposition)
        world.sections[name] = section
        world.device.execute(section)
        world.look()

    return step


def together(**sections: Sequence[Order]) -> Step:
    """Sections are given to the device while it is busy, so that it joins them."""

    def step(world: World) -> None:
        entered, go_on = threading.Event(), threading.Event()
        busy = world.pathpoint("W999")
        busy.reading = lambda: (entered.set(), go_on.wait(SOON), 1)[2]
        world.device.execute(Section(read("W999")))
        assert entered.wait(SOON)
        busy.log.remove(("read", "W999"))
        for name, orders in sections.items():
            world.sections[name] = world.section(orders, Disposition.JOINABLE)
            world.device.execute(world.sections[name])
        go_on.set()
        world.look()

    return step


def fails(name: str) -> Step:
    """Whatever is done to a pathpoint fails from now on."""

    def step(world: World) -> None:
        world.pathpoint(name).reading = world.pathpoint(name).writing = TIMEOUT

    return step


def works(name: str) -> Step:
    """Whatever is done to a pathpoint succeeds from now on."""

    def step(world: World) -> None:
        world.pathpoint(name).reading, world.pathpoint(name).writing = 1, None

    return step


def hangs(name: str) -> Step:
    """Whatever is done to a pathpoint gives a Future from now on."""

    def step(world: World) -> None:
        world.futures[name] = Future()
        pathpoint = world.pathpoint(name)
        pathpoint.reading = pathpoint.writing = lambda: world.futures[name]

    return step


def ends(name: str, result: Any = None) -> Step:
    """The Future of a pathpoint ends."""

    def step(world: World) -> None:
        if isinstance(result, BaseException):
            world.futures[name].set_exception(result)
        else:
            world.futures[name].set_result(result)
        world.look()

    return step


def passes(seconds: float) -> Step:
    """Time passes."""

    def step(world: World) -> None:
        world.bench.clock.advance(seconds)
        world.device.executor.wake()
        world.look()

    return step


def was_done(*log: str) -> Step:
    """This and nothing else was done to pathpoints since the last look: ``r W1``, ``w W1=5``."""

    def step(world: World) -> None:
        seen = [
            f"r {name}" if kind == "read" else f"w {name}={value[0]}"
            for kind, name, *value in world.device.log
        ]
        assert seen == [*log]
        world.device.log.clear()

    return step


def done(*names: str) -> Step:
    """These sections are done."""

    def step(world: World) -> None:
        for name in names:
            assert world.sections[name].result(SOON) is None

    return step


def not_done(*names: str) -> Step:
    """These sections are not done."""

    def step(world: World) -> None:
        for name in names:
            assert not world.sections[name].done(), name
            with pytest.raises(FutureTimeoutError):
                world.sections[name].result(0)

    return step


def cancel(name: str, succeeds: bool) -> Step:
    """Somebody cancels a section."""

    def step(world: World) -> None:
        assert world.sections[name].cancel() is succeeds
        assert world.sections[name].cancelled() is succeeds

    return step


def logged(*parts: str) -> Step:
    """The log has a line about each of these, and no others."""

    def step(world: World) -> None:
        assert len(world.caplog.messages) == len(parts), world.caplog.messages
        for message, part in zip(world.caplog.messages, parts, strict=True):
            assert part in message

    return step


LONG_AGO, LATER = 1.0, time.time() + 86400

# fmt: off
RULES: dict[str, list[Step]] = {
    # Sections are Futures
    "a section is done when its orders are": [
        hangs("W1"), given("a", read("W1")), not_done("a"), ends("W1", 7), done("a"),
    ],
    "a section is done however its orders went": [
        fails("W1"), given("a", write("W1")), done("a"), logged("giving up on WriteOrder('W1'"),
    ],
    "a section that has begun cannot be cancelled": [
        hangs("W1"), given("a", read("W1")), cancel("a", False), ends("W1", 7), done("a"),
    ],
    "a section that is done cannot be cancelled": [given("a", read("W1")), cancel("a", False)],
    "a section that was cancelled never runs": [
        hangs("W1"), given("hung", read("W1")), given("barrier", read("W2"), barrier=True),
        given("a", read("W3")), cancel("a", True), cancel("barrier", True), ends("W1", 7),
        was_done("r W1"), done("hung"),
    ],

    # Barriers
    "joinable sections overlap": [
        hangs("W1"), given("a", read("W1")), given("b", read("W2")), done("b"), not_done("a"),
    ],
    "a barrier waits for what is before it": [
        hangs("W1"), given("a", read("W1")), given("barrier", read("W2"), barrier=True),
        was_done("r W1"), not_done("barrier"), ends("W1", 7), was_done("r W2"), done("barrier"),
    ],
    "what is after a barrier waits for it": [
        hangs("W1"), given("barrier", read("W1"), barrier=True), given("b", read("W2")),
        was_done("r W1"), not_done("b"), ends("W1", 7), was_done("r W2"), done("b"),
    ],
    "a barrier waits for retries": [
        fails("W1"), given("a", write("W1", 1, FORCE)), given("b", read("W2"), barrier=True),
        was_done("w W1=1"), works("W1"), passes(0.5), was_done("w W1=1", "r W2"), done("a", "b"),
    ],
    "a barrier waits for waits": [
        given("a", WaitOrder(1000)), given("b", read("W2"), barrier=True), passes(999),
        was_done(), passes(1), was_done("r W2"),
    ],
    "a barrier does not wait for ever for a Future": [
        hangs("W1"), given("a", read("W1")), given("b", read("W2"), barrier=True), passes(59),
        was_done("r W1"), passes(1), was_done("r W2"), done("b"), not_done("a"),
        logged("hangs, and is not waited for any longer"), ends("W1", 7), done("a"),
    ],
    "nor does what is after a barrier wait for ever for a Future of it": [
        hangs("W1"), given("a", read("W1"), barrier=True), given("b", read("W2")), passes(60),
        was_done("r W1", "r W2"), done("b"), not_done("a"), logged("hangs"),
    ],
    "a section that hangs is reported once": [
        hangs("W1"), given("a", read("W1")), given("b", read("W2"), barrier=True), passes(60),
        given("c", read("W2"), barrier=True), done("b", "c"), logged("hangs"),
    ],
    "a section is not hung as long as it has something else to do": [
        hangs("W1"), given("a", WaitOrder(100), read("W1")),
        given("b", read("W2"), barrier=True), passes(99), was_done("r W1"), passes(1),
        was_done("r W2"), logged("hangs"),
    ],

    # Waits
    "the longest wait of a section counts": [
        given("a", WaitOrder(10), WaitOrder(4)), passes(9), not_done("a"), passes(1), done("a"),
    ],
    "the time that a section takes for other orders counts towards its wait": [
        hangs("W1"), given("a", read("W1"), WaitOrder(10)), passes(10), not_done("a"),
        ends("W1", 7), done("a"),
    ],

    # Writes
    "a stale write is dropped and logged": [
        given("a", WriteOrder("W1", 1, FORCE, LONG_AGO), WriteOrder("W1", 2, FORCE, LATER)),
        was_done("w W1=2"), done("a"), logged("is stale, dropped"),
    ],
    "a FORCE write is tried again after pauses that grow": [
        fails("W1"), given("a", write("W1", 1, FORCE)), was_done("w W1=1"), passes(0.4),
        was_done(), passes(0.1), was_done("w W1=1"), passes(0.9), was_done(), works("W1"),
        passes(0.1), was_done("w W1=1"), done("a"),
    ],
    "an ADVISE write is tried once": [
        fails("W1"), given("a", write("W1")), passes(60), was_done("w W1=1"), done("a"),
    ],
    "a retry does not overwrite a newer value": [
        fails("W1"), given("a", write("W1", 1, FORCE)), given("b", write("W1", 2)),
        given("c", write("W1", 3, FORCE)), was_done("w W1=1"), not_done("a", "b", "c"),
        works("W1"), passes(0.5), was_done("w W1=1", "w W1=2", "w W1=3"), done("a", "b", "c"),
    ],
    "a write behind a FORCE write goes on when that is given up": [
        fails("W1"), given("a", write("W1", 1, FORCE)), given("b", write("W1", 2)),
        *[passes(30) for _ in range(9)], done("a", "b"),
        was_done(*["w W1=1"] * 10, "w W1=2"), logged("W1', 1, AdviseLevel.F", "W1', 2"),
    ],
    "a write waits for the Future of a FORCE write": [
        hangs("W1"), given("a", write("W1", 1, FORCE)), given("b", write("W1", 2)),
        was_done("w W1=1"), works("W1"), ends("W1"), was_done("w W1=2"), done("a", "b"),
    ],
    "a FORCE write whose Future fails is tried again before what waits for it": [
        hangs("W1"), given("a", write("W1", 1, FORCE)), given("b", write("W1", 2)), works("W1"),
        ends("W1", TIMEOUT), was_done("w W1=1"), passes(0.5), was_done("w W1=1", "w W1=2"),
    ],
    "a FORCE write whose Future raises something else is not tried again": [
        hangs("W1"), given("a", write("W1", 1, FORCE)), given("b", write("W1", 2)), works("W1"),
        ends("W1", ValueError()), was_done("w W1=1", "w W1=2"), done("a", "b"), logged("ValueErr"),
    ],
    "a write that waited until it was stale is dropped": [
        hangs("W1"), given("a", write("W1", 1, FORCE)),
        given("b", WriteOrder("W1", 2, ADVISE, LONG_AGO)), works("W1"), ends("W1"),
        was_done("w W1=1"), done("b"), logged("is stale"),
    ],
    "nothing waits for the Future of an ADVISE write": [
        hangs("W1"), given("a", write("W1", 1)), given("b", write("W1", 2)),
        was_done("w W1=1", "w W1=2"),
    ],
    "a FORCE write holds up neither reads nor other pathpoints": [
        fails("W1"), given("a", write("W1", 1, FORCE)), works("W1"),
        given("b", read("W1"), write("W2", 2)), was_done("w W1=1", "r W1", "w W2=2"), done("b"),
    ],

    # Reads
    "what is read twice in a section is read once": [
        given("a", read("W1", "W2", "W1")), was_done("r W1", "r W2"), done("a"),
    ],
    "what is read in several sections that are joined is read once": [
        together(a=read("W1"), b=read("W1", "W2"), c=read("W2")),
        was_done("r W1", "r W2"), done("a", "b", "c"),
    ],
    "each of the sections is done when that read is": [
        hangs("W1"), together(a=read("W1"), b=read("W1")), was_done("r W1"), not_done("a", "b"),
        ends("W1", 7), done("a", "b"),
    ],
    "each of the sections waits for the retries of that read": [
        fails("W1"), together(a=read("W1"), b=read("W1")), was_done("r W1"), not_done("a", "b"),
        works("W1"), passes(0.5), was_done("r W1"), done("a", "b"),
    ],
    "what is read after a write is read again": [
        given("a", read("W1"), write("W1", 2), read("W1")), was_done("r W1", "w W1=2", "r W1"),
    ],
    "what is read after a sysctl is read again": [
        given("a", read("W1"), SysctlOrder("baob-created", ""), read("W1")),
        was_done("r W1", "r W1"),
    ],
    "what is read harder is read again": [
        given("a", read("W1"), read("W1", advise=FORCE), read("W1")), was_done("r W1", "r W1"),
    ],
    "what is read later is read again": [
        given("a", read("W1")), given("b", read("W1")), was_done("r W1", "r W1"),
    ],
    "a pathpoint that is computed reads what was not read yet": [
        given("a", read("W1", "rW{W1}+{W2}")), was_done("r W1", "r W2"), done("a"),
    ],
    "an ADVISE read is tried three times, and reported then": [
        fails("W1"), given("a", read("W1")), *[passes(30)] * 5, was_done(*["r W1"] * 3),
        done("a"), logged("giving up on ReadOrder('W1'"),
    ],
    "a FORCE read is tried twenty times": [
        fails("W1"), given("a", read("W1", advise=FORCE)), *[passes(30)] * 25,
        was_done(*["r W1"] * 20), done("a"),
    ],

    # Others
    "an order for an unknown pathpoint is skipped": [
        given("a", read("W404"), write("W404"), read("W1")), was_done("r W1"), done("a"),
        logged("unknown pathpoint W404", "unknown pathpoint W404"),
    ],
    "a sysctl that nobody knows is reported": [
        given("a", SysctlOrder("nonsense", "")), done("a"), logged("was not recognised"),
    ],
}
# fmt: on


@pytest.mark.parametrize("is_remote", [False, True], ids=["given", "from_the_server"])
@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, is_remote: bool, world: World) -> None:
    world.is_remote = is_remote
    for step in RULES[rule]:
        step(world)


# What needs more than a row


def test_done_callbacks_are_called_with_the_section(offline_device: SMOKDevice) -> None:
    called: list[Any] = []
    sections = [Section(), alone([])]
    for section in sections:
        section.add_done_callback(called.append)
    offline_device.execute(*sections)
    sections[-1].result(SOON)
    sections[-1].add_done_callback(called.append)
    assert called == [*sections, sections[-1]]


def test_sections_that_were_added_to_another_one_are_done_with_it(
    offline_device: SMOKDevice,
) -> None:
    first, second, third = Section(read("W404")), Section(), Section()
    first += second
    first += third
    assert not second.cancel()
    offline_device.execute(first)
    for section in (first, second, third):
        assert section.result(SOON) is None


def test_a_barrier_calls_sync_sections_before_and_after_itself(make_offline_device: Maker) -> None:
    calls: list[Any] = []

    class Looping(SMOKDevice):
        def execute_section(self, section: Section) -> None:
            calls.append(section)

        def sync_sections(self, termination_checker: Callable[[], bool]) -> None:
            calls.append(termination_checker())

    device = make_offline_device(Looping)
    sections = [Section(), alone([]), Section()]
    device.execute(*sections)
    sections[-1].result(SOON)
    assert calls == [sections[0], False, sections[1], False, sections[2]]


def test_polls_go_on_while_a_barrier_waits(world: World) -> None:
    for step in (hangs("W1"), given("a", read("W1")), given("b", read("W2"), barrier=True)):
        step(world)
    assert world.device.queue_length == 0
    world.device.set_archives({0.01: ["W3"]})
    deadline = time.monotonic() + SOON
    while world.device.log.count(("read", "W3")) < 3 and time.monotonic() < deadline:
        world.device.executor.wake()
    assert world.device.log.count(("read", "W3")) >= 3
    not_done("a", "b")(world)


def test_a_hung_future_on_one_bus_changes_nothing_for_another(
    make_offline_device: Maker,
) -> None:
    """One bus hangs in a read and in writes; the other one's orders are done all the same."""
    device = make_offline_device(Device)
    completed: list[str] = []
    hung: Any = device.get_pathpoint("W1")
    hung.reading = hung.writing = Future()
    for orders in (read("W1"), [write("W1", 1, FORCE)], [write("W1", 2, FORCE)]):
        section = Section(orders)
        section.add_done_callback(lambda _: completed.append("hung"))
        device.execute(section)
    for number in range(200):
        section = Section([*read("W2"), write("W3", number, FORCE)])
        section.add_done_callback(lambda _, number=number: completed.append(str(number)))
        device.execute(section)
        section.result(SOON)
    assert completed == [str(number) for number in range(200)]


def test_ten_threads_that_execute_cancel_and_close(make_offline_device: Maker) -> None:
    device = make_offline_device(Device)
    for name in ("W1", "W2"):
        device.get_pathpoint(name)
    barrier = threading.Barrier(10)
    outcomes: list[tuple[Section, bool]] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        barrier.wait(SOON)
        try:
            for turn in range(200):
                make = alone if (turn + number) % 7 == 0 else Section
                section = make([*read("W1"), write("W2", number * 1000 + turn, FORCE)])
                device.execute(section)
                outcomes.append((section, turn % 3 == 0 and section.cancel()))
            if number == 9:
                device.close()
        except RuntimeError as error:  # it was closed meanwhile
            if "closed" not in str(error):
                failures.append(error)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert failures == []
    assert not device.executor.is_alive()
    written = [value[0] for kind, _, *value in device.log if kind == "write"]
    assert len(written) == len(set(written))
    for section, was_cancelled in outcomes:
        assert section.done()
        value = section.orders[1].value  # type: ignore[attr-defined]
        if was_cancelled:
            assert value not in written
        elif not section.cancelled() and section.exception(0) is None:
            assert value in written


def test_statistics_count_what_happens(world: World) -> None:
    steps: list[Step] = [
        fails("W1"),
        hangs("W2"),
        given("a", read("W1")),
        given("b", read("W2")),
        given("c", read("W3")),
        *[passes(3)] * 3,
        given("barrier", read("W3"), barrier=True),
        given("behind", read("W3")),
    ]
    for step in steps:
        step(world)
    figures = world.device.statistics()
    assert (figures.queue_length, figures.executing) == (1, 1)
    assert (figures.retried, figures.failed) == (2, 1)
    assert "W2" not in figures.latencies
    assert (figures.link_is_up, figures.last_http_contact) == (None, None)
    assert (figures.ngtt_is_up, figures.last_ngtt_contact) == (None, None)
    assert (figures.journalled_orders, figures.state_file_fails) == (0, False)
    assert figures.dropped_log_records == 0
    assert figures.buffer is not None
    assert figures.buffer.recorded == 4
    ends("W2", 5)(world)
    latency = world.device.statistics().latencies["W2"]
    assert (latency.count, latency.seconds) == (1, 9.0)
    assert latency.quantile(0.5) == pytest.approx(13.1072)


def test_reads_and_writes_that_block_count_as_answers_of_their_bus(
    make_offline_device: Maker,
) -> None:
    device = make_offline_device(Device)
    bus = Bus()
    for name in ("W1", "W2", "W3"):
        pathpoint: Any = device.get_pathpoint(name)
        pathpoint.reading = pathpoint.writing = take_a_millisecond
        pathpoint.read_group = bus if name == "W3" else None
    execute(device, *read("W1"), write("W1"), write("W2"), write("W3"), write("W3", 2))
    latencies = device.statistics().latencies
    assert {name: latencies[name].count for name in ("W1", "W2", "bus")} == {
        "W1": 2, "W2": 1, "bus": 2,
    }  # fmt: skip
    assert latencies["W1"].seconds >= 0.002


def test_what_other_code_of_the_user_takes_is_nobodys_latency(make_offline_device: Maker) -> None:
    class Slow(Scripted):
        def can_read(self) -> bool:
            take_a_millisecond()
            return self.name != "W2"

    class SlowDevice(Device):
        def provide_unknown_pathpoint(
            self, name: str, storage_level: StorageLevel = StorageLevel.TREND
        ) -> Pathpoint:
            take_a_millisecond()
            return Slow(self, name, log=self.log)

    device = make_offline_device(SlowDevice)
    changes = device.get_pathpoint("W1")
    changes.callable_on_change = lambda _: take_a_millisecond()
    device.get_pathpoint("W4").read_group = SlowBus()
    execute(device, *read("W4", "W1", "W2", "W3"), write("W5"), write("W1"))
    slow = {n for n, latency in device.statistics().latencies.items() if latency.seconds >= 0.001}
    assert slow == {"slow bus"}


class Bus(ReadGroup):
    name = "bus"

    def on_read_group(self, pathpoints: Sequence[Pathpoint], advise: AdviseLevel) -> list[int]:
        return [1] * len(pathpoints)


class SlowBus(Bus):
    name = "slow bus"

    def on_read_group(self, pathpoints: Sequence[Pathpoint], advise: AdviseLevel) -> list[int]:
        take_a_millisecond()
        return super().on_read_group(pathpoints, advise)


def take_a_millisecond() -> int:
    end = time.monotonic() + 0.001
    while time.monotonic() < end:
        pass
    return 1


def test_buses_beyond_the_first_ones_share_a_histogram(
    make_offline_device: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smok_fast.threads.counters.MOST_BUSES", 2)
    device = make_offline_device(Device)
    for name in ("W1", "W2", "W3", "W4"):
        future: Future[int] = Future()
        future.set_result(1)
        device.get_pathpoint(name).reading = future  # type: ignore[attr-defined]
    execute(device, *read("W1", "W2", "W3", "W4"))
    latencies = device.statistics().latencies
    assert {name: latency.count for name, latency in latencies.items()} == {
        "W1": 1, "W2": 1, "others": 2,
    }  # fmt: skip
