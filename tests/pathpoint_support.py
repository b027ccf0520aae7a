"""Pathpoints for tests of the execution layer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.pathpoint import (
    AdviseLevel,
    Pathpoint,
    PathpointValueType,
    ReadOrder,
    Section,
    WriteOrder,
)
from smok_fast.pathpoint.orders import Disposition, Order

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
