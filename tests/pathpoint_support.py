"""Pathpoints for tests of the execution layer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import (
    AdviseLevel,
    Pathpoint,
    PathpointValueType,
    ReadOrder,
    Section,
    SysctlOrder,
    WriteOrder,
)
from smok_fast.pathpoint.orders import Disposition, Order
from smok_fast.threads.executor import OrderExecutorThread, Poll

#: Seconds to wait for what has to come; never reached by a test that passes.
SOON = 30.0

TIMEOUT = OperationFailedError(OperationFailedReason.TIMEOUT)


class Scripted(Pathpoint):
    """Gives what it is told to, and notes what it is asked.

    ``reading`` and ``writing`` are values, exceptions to raise, Futures, or functions that give one
    of these.
    """

    def __init__(self, *args: Any, log: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reading: Any = 1
        self.writing: Any = None
        self.log: list[Any] = [] if log is None else log

    def on_read(self, advise: AdviseLevel) -> Any:
        self.log.append(("read", self.name))
        return play(self.reading)

    def on_write(self, value: PathpointValueType, advise: AdviseLevel) -> Any:
        self.log.append(("write", self.name, value))
        return play(self.writing)


def play(script: Any) -> Any:
    result = script() if callable(script) and not isinstance(script, type) else script
    if isinstance(result, BaseException):
        raise result
    return result


def ended(result: Any) -> Future[Any]:
    """A Future that has this result, or raises it."""
    future: Future[Any] = Future()
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def read(*names: str, advise: AdviseLevel = AdviseLevel.ADVISE) -> list[Order]:
    return [ReadOrder(name, advise) for name in names]


def write(name: str, value: Any = 1, advise: AdviseLevel = AdviseLevel.ADVISE) -> WriteOrder:
    return WriteOrder(name, value, advise)


def alone(orders: list[Order]) -> Section:
    return Section(orders, Disposition.CANNOT_JOIN)


def execute(device: SMOKDevice, *orders: Order) -> None:
    """Execute orders, and wait for their end."""
    section = device.execute(Section(orders))
    assert section is not None
    section.result(SOON)


def read_times(device: SMOKDevice, name: str, times: int) -> None:
    """Read a pathpoint several times, in sections that are not joined, and wait for the end."""
    sections = [alone(read(name)) for _ in range(times)]
    device.execute(*sections)
    for section in sections:
        section.result(SOON)


def values(pathpoint: Pathpoint) -> list[Any]:
    """Everything that was recorded; a failure as its reason."""
    return [
        value.reason if isinstance(value, OperationFailedError) else value
        for _, value in pathpoint.get_archive(None)
    ]


def scripted(device: SMOKDevice, name: str, reading: Any = 1, **kwargs: Any) -> Scripted:
    pathpoint = Scripted(device, name, **kwargs)
    pathpoint.reading = reading
    return pathpoint


Maker = Callable[..., SMOKDevice]


class Bench:
    """A device whose executor runs by a clock that the test sets."""

    def __init__(self, make: Maker, clock: ManualClock, cls: type[SMOKDevice] = SMOKDevice) -> None:
        self.clock = clock
        self.device = make(cls, delayed_boot=True)
        self.device.executor = OrderExecutorThread(self.device, clock)
        self.device.continue_boot()

    def advance(self, seconds: float) -> None:
        """Let time pass, and let the executor do what is due then."""
        self.clock.advance(seconds)
        # What is due is done after what was taken: after the second section it is done for sure.
        for _ in range(2):
            execute(self.device, SysctlOrder("nothing", ""))

    def look(self) -> None:
        """Have the executor do what is due, although a barrier may hold orders up."""
        for _ in range(4):  # polls go on then, and one is taken after what was due before it
            poll = Poll()
            self.device._order_queue.put(poll, joinable=True, poll=True)
            poll.result(SOON)
