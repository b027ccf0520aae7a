"""The orders of one section under way: what the native loop and Futures tell about them, when they
are tried again, and when the section is done.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from smok_fast._core import record_result, record_results
from smok_fast.exceptions import OperationFailedError
from smok_fast.pathpoint import reports
from smok_fast.pathpoint.orders import AdviseLevel, Order, ReadOrder, Section, WriteOrder
from smok_fast.pathpoint.pathpoint import Pathpoint, ReadGroup, ReadResult

if TYPE_CHECKING:
    from smok_fast.threads.executor import OrderExecutorThread

__all__ = ["Execution", "Reads", "Timetable"]

logger = logging.getLogger(__name__)

#: Seconds before the first retry of an order; each further one waits twice as long.
FIRST_PAUSE = 0.5

#: The longest pause between two tries, in seconds.
LONGEST_PAUSE = 30.0

#: How long the queue is waited for at most when nothing else is due, in seconds.
IDLE = 60.0


class Timetable:
    """Things to do at a later time on the monotonic clock. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Have an action done at a moment."""
        with self._lock:
            heapq.heappush(self._heap, (moment, next(self._numbers), action))

    def pop_due(self, now: float) -> list[Callable[[], None]]:
        """Take out what is due."""
        due = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap)[2])
        return due

    def seconds_left(self, now: float) -> float:
        """Seconds until the next one is due, :data:`IDLE` at most."""
        with self._lock:
            return min(max(self._heap[0][0] - now, 0.0), IDLE) if self._heap else IDLE


class Reads:
    """Reads under way, and who waits for them without having begun them. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[int, list[Execution]]] = {}  # by name

    def begin(self, pathpoint: Pathpoint) -> None:
        """A read begins, or is to be tried again."""
        with self._lock:
            count, waiting = self._waiting.get(pathpoint.name, (0, []))
            self._waiting[pathpoint.name] = count + 1, waiting

    def end(self, pathpoint: Pathpoint) -> None:
        """What began has ended. With the last of it ends the wait of everyone who waits."""
        with self._lock:
            count, waiting = self._waiting.pop(pathpoint.name)
            if count > 1:
                self._waiting[pathpoint.name] = count - 1, waiting
                return
        for execution in waiting:
            execution.end_outside()

    def join(self, pathpoint: Pathpoint, execution: Execution) -> None:
        """Have an execution wait for a read, if it is under way."""
        with self._lock:
            if pathpoint.name in self._waiting:
                execution.begin_outside()
                self._waiting[pathpoint.name][1].append(execution)


class Execution:
    """One section under way. The native runner and the callbacks of Futures tell it what happened.

    :param thread: the executor
    :param section: what is executed
    :param retries: whether orders that fail are tried again
    """

    def __init__(self, thread: OrderExecutorThread, section: Section, retries: bool) -> None:
        self._thread = thread
        self._section = section
        self._retries = retries
        self._lock = threading.Lock()
        self._failures: dict[Order, int] = {}
        # One for the run itself, so that a Future that ends early cannot end the section.
        self._unfinished = 1
        self._outside = 0
        self._outside_since = 0.0
        self.is_given_up = False  # by barriers; for the executor thread

    def begin(self) -> None:
        """Count one more thing that has to end before the section is done."""
        with self._lock:
            self._unfinished += 1

    def end(self) -> None:
        """Count one of them as ended; the last one completes the section."""
        with self._lock:
            self._unfinished -= 1
            done = self._unfinished == 0
        if done:
            self._thread.finished(self._section)

    def begin_outside(self) -> None:
        """The same as :meth:`begin` for what depends on others: Futures, and who waits for them."""
        with self._lock:
            self._unfinished += 1
            self._outside += 1
            self._outside_since = self._thread.now()

    def end_outside(self) -> None:
        """The same as :meth:`end` for one of these."""
        with self._lock:
            self._outside -= 1
        self.end()

    def give_up(self) -> None:
        """Have barriers wait for it no longer. Called by the executor thread."""
        self.is_given_up = True
        logger.error("%r hangs, and is not waited for any longer", self._section)

    @property
    def hangs_since(self) -> float | None:
        """Since when there is nothing left but what depends on others, by the thread's clock; None
        if there is.
        """
        with self._lock:
            return self._outside_since if self._outside == self._unfinished else None

    # What the native runner tells; called by OrderExecutorThread.

    def find(self, order: ReadOrder | WriteOrder) -> Pathpoint | None:
        """The pathpoint of an order that the device does not know yet; None to skip the order."""
        return self._thread.find(order.pathpoint)

    def stale(self, order: WriteOrder) -> None:
        """A write came too late."""
        logger.warning("%r is stale, dropped", order)

    def read_failed(self, order: ReadOrder, pathpoint: Pathpoint) -> None:
        """A read failed, which the pathpoint knows already."""
        if self._may_try_again(order):
            self._thread.reads.begin(pathpoint)
            self._try_later(order, lambda: self._read_later(order, pathpoint))
        else:
            self._thread.counters.failed()
            if self._retries:
                logger.warning("giving up on %r", order)  # its pathpoint tells the rest

    def took(self, bus: Pathpoint | ReadGroup, seconds: float) -> None:
        """A read or a write of a pathpoint, or a read of a group, has taken this long."""
        if isinstance(bus, Pathpoint):
            bus = bus.read_group or bus
        self._thread.counters.took(bus, seconds)

    def read_again(self, pathpoint: Pathpoint) -> None:
        """A pathpoint is to be read that was read already in the same batch."""
        self._thread.reads.join(pathpoint, self)

    def write_failed(
        self, order: WriteOrder, pathpoint: Pathpoint, failure: OperationFailedError
    ) -> bool:
        """A write failed.

        :return: whether it is tried again
        """
        if self._may_try_again(order):
            self._thread.hold(order)
            self._try_later(order, lambda: self._write_later(order))
            return True
        cause = f" ({failure.__cause__})" if failure.__cause__ else ""
        logger.error("giving up on %r: %s%s", order, failure, cause)
        self._thread.counters.failed()
        return False

    def write_held(self, order: WriteOrder) -> None:
        """A write has to wait for another one of the same pathpoint."""
        self.begin_outside()
        self._thread.hold(order, self)

    def raised(
        self, order: ReadOrder | WriteOrder, pathpoint: Pathpoint, error: BaseException
    ) -> None:
        """User code raised something else than OperationFailedError."""
        self._thread.counters.failed()
        if isinstance(order, ReadOrder):
            reports.read_raised(pathpoint, error)
        else:
            reports.write_raised(pathpoint, error)

    def read_reparse(self, order: ReadOrder, pathpoint: Pathpoint) -> None:
        """A pathpoint that is computed from others is read by reading them."""
        self._thread.execute_orders(self, pathpoint.read(order.advise).orders)

    def read_future(self, order: ReadOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        """``on_read`` returned a Future."""
        self._begin_reads([pathpoint])
        future.add_done_callback(self._stopwatch(pathpoint))
        future.add_done_callback(lambda future: self._read_ended(order, pathpoint, future))

    def write_future(self, order: WriteOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        """``on_write`` returned a Future."""
        self.begin_outside()
        if order.advise == AdviseLevel.FORCE:
            self._thread.hold(order)
        future.add_done_callback(self._stopwatch(pathpoint))
        future.add_done_callback(lambda future: self._write_ended(order, pathpoint, future))

    def read_group(
        self, group: ReadGroup, orders: list[ReadOrder], pathpoints: list[Pathpoint]
    ) -> None:
        """Reads that belong to one group."""
        advise = max(order.advise for order in orders)
        stopwatch = self._stopwatch(group)
        try:
            results = group.on_read_group(pathpoints, advise)
        except BaseException as error:
            stopwatch(None)
            self._group_raised(orders, pathpoints, error)
            return
        if not isinstance(results, Future):
            stopwatch(None)
            self._group_read(orders, pathpoints, results)
            return
        self._begin_reads(pathpoints)
        results.add_done_callback(stopwatch)
        results.add_done_callback(lambda future: self._group_ended(orders, pathpoints, future))

    # What Futures tell; called by whichever thread completes them.

    def _read_ended(self, order: ReadOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        try:
            error = _exception_of(future)
            failure = _failure(error)
            if error is not None and failure is None:
                pathpoint._end_poll()
                self._thread.counters.failed()
                reports.read_raised(pathpoint, error)
            elif record_result(pathpoint, failure or future.result()):
                self.read_failed(order, pathpoint)
        finally:
            self._end_reads([pathpoint])

    def _write_ended(self, order: WriteOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        try:
            error = _exception_of(future)
            failure = _failure(error)
            if failure is not None and self.write_failed(order, pathpoint, failure):
                return
            if failure is None and error is not None:
                self._thread.counters.failed()
                reports.write_raised(pathpoint, error)
            if order.advise == AdviseLevel.FORCE:
                self._thread.later(0.0, lambda: self._thread.let_go(order.pathpoint))
        finally:
            self.end_outside()

    def _group_ended(
        self, orders: list[ReadOrder], pathpoints: list[Pathpoint], future: Future[Any]
    ) -> None:
        try:
            error = _exception_of(future)
            if error is None:
                self._group_read(orders, pathpoints, future.result())
            else:
                self._group_raised(orders, pathpoints, error)
        finally:
            self._end_reads(pathpoints)

    def _group_read(
        self, orders: list[ReadOrder], pathpoints: list[Pathpoint], results: Sequence[ReadResult]
    ) -> None:
        if not isinstance(results, Sequence) or len(results) != len(pathpoints):
            wrong = ValueError(
                f"{len(pathpoints)} pathpoints, but the results are {results!r:.200}"
            )
            self._group_raised(orders, pathpoints, wrong)
            return
        for index in record_results(pathpoints, results):
            self.read_failed(orders[index], pathpoints[index])

    def _group_raised(
        self, orders: list[ReadOrder], pathpoints: list[Pathpoint], error: BaseException
    ) -> None:
        failure = _failure(error)
        if failure is not None:
            self._group_read(orders, pathpoints, [failure] * len(pathpoints))
            return
        for pathpoint in pathpoints:
            pathpoint._end_poll()
        self._thread.counters.failed(len(pathpoints))
        reports.read_raised(pathpoints[0], error)

    def _stopwatch(self, bus: Pathpoint | ReadGroup) -> Callable[[object], None]:
        """Begin to measure how long a bus takes; the result is called when it has ended."""
        started = self._thread.now()
        return lambda _: self.took(bus, self._thread.now() - started)

    def _begin_reads(self, pathpoints: Sequence[Pathpoint]) -> None:
        self.begin_outside()
        for pathpoint in pathpoints:
            self._thread.reads.begin(pathpoint)

    def _end_reads(self, pathpoints: Sequence[Pathpoint]) -> None:
        for pathpoint in pathpoints:
            self._thread.reads.end(pathpoint)
        self.end_outside()

    def _may_try_again(self, order: ReadOrder | WriteOrder) -> bool:
        return self._retries and order.fail()

    def _try_later(self, order: ReadOrder | WriteOrder, retry: Callable[[], None]) -> None:
        """Have another try made after a while."""
        self._thread.counters.retried()
        self.begin()
        self._thread.later(self._pause(order), retry)

    def _read_later(self, order: ReadOrder, pathpoint: Pathpoint) -> None:
        if self._thread.execute_orders(self, [order]):
            self._thread.reads.end(pathpoint)
            self.end()

    def _write_later(self, order: WriteOrder) -> None:
        with self._thread.lifted(order.pathpoint):
            if self._thread.execute_orders(self, [order]):
                self.end()

    def _pause(self, order: ReadOrder | WriteOrder) -> float:
        with self._lock:
            failures = self._failures[order] = self._failures.get(order, 0) + 1
        return min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE)


def _exception_of(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _failure(error: BaseException | None) -> OperationFailedError | None:
    """The error if user code may raise it, which NotReadedError, without a reason, is not for."""
    if isinstance(error, OperationFailedError) and error.reason is not None:
        return error
    return None
