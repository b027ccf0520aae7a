"""OrderExecutorThread: runs what stands in the order queue.

Invariants:

- Joinable sections overlap: the thread starts one after the other and does not wait for their
  Futures. A CANNOT_JOIN section is a barrier both ways: it starts when everything before it has
  finished, and everything after it starts when it has.
- A section is done when its orders are: values and failures recorded, Futures ended, retries used
  up, messages posted, and its longest wait over, counted from its start.
- The plain reads and writes run in the native :class:`smok_fast._core.OrderRunner`, which tells an
  :class:`Execution` about everything else.
- Nothing that user code raises ends the thread or a section, SystemExit included.
- A section whose orders were cut short by the end of the thread is never completed as if they had
  been executed: it stays under way, and whoever waits for it is told when it is abandoned.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from smok_fast._core import OrderRunner, record_result, record_results
from smok_fast.exceptions import OperationFailedError, UnavailableError
from smok_fast.pathpoint import reports
from smok_fast.pathpoint.orders import (
    Disposition,
    MessageOrder,
    Order,
    ReadOrder,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)
from smok_fast.pathpoint.pathpoint import Pathpoint, ReadGroup, ReadResult
from smok_fast.threads.base import TerminableThread

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["OrderExecutorThread"]

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

    # What the native runner tells; called by OrderExecutorThread.

    def find(self, order: ReadOrder | WriteOrder) -> Pathpoint | None:
        """The pathpoint of an order that the device does not know yet; None to skip the order."""
        return self._thread.find(order.pathpoint)

    def stale(self, order: WriteOrder) -> None:
        """A write came too late."""
        logger.warning("%r is stale, dropped", order)

    def read_failed(self, order: ReadOrder, pathpoint: Pathpoint) -> None:
        """A read failed, which the pathpoint knows already."""
        self._try_later(order)

    def write_failed(
        self, order: WriteOrder, pathpoint: Pathpoint, failure: OperationFailedError
    ) -> None:
        """A write failed."""
        if not self._try_later(order):
            cause = f" ({failure.__cause__})" if failure.__cause__ else ""
            logger.error("giving up on %r: %s%s", order, failure, cause)

    def raised(
        self, order: ReadOrder | WriteOrder, pathpoint: Pathpoint, error: BaseException
    ) -> None:
        """User code raised something else than OperationFailedError."""
        if isinstance(order, ReadOrder):
            reports.read_raised(pathpoint, error)
        else:
            reports.write_raised(pathpoint, error)

    def read_reparse(self, order: ReadOrder, pathpoint: Pathpoint) -> None:
        """A pathpoint that is computed from others is read by reading them."""
        self._thread.execute_orders(self, pathpoint.read(order.advise).orders)

    def read_future(self, order: ReadOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        """``on_read`` returned a Future."""
        self.begin()
        future.add_done_callback(lambda future: self._read_ended(order, pathpoint, future))

    def write_future(self, order: WriteOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        """``on_write`` returned a Future."""
        self.begin()
        future.add_done_callback(lambda future: self._write_ended(order, pathpoint, future))

    def read_group(
        self, group: ReadGroup, orders: list[ReadOrder], pathpoints: list[Pathpoint]
    ) -> None:
        """Reads that belong to one group."""
        advise = max(order.advise for order in orders)
        try:
            results = group.on_read_group(pathpoints, advise)
        except BaseException as error:
            self._group_raised(orders, pathpoints, error)
            return
        if not isinstance(results, Future):
            self._group_read(orders, pathpoints, results)
            return
        self.begin()
        results.add_done_callback(lambda future: self._group_ended(orders, pathpoints, future))

    # What Futures tell; called by whichever thread completes them.

    def _read_ended(self, order: ReadOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        try:
            error = _exception_of(future)
            failure = _failure(error)
            if error is not None and failure is None:
                pathpoint._end_poll()
                reports.read_raised(pathpoint, error)
            elif record_result(pathpoint, failure or future.result()):
                self.read_failed(order, pathpoint)
        finally:
            self.end()

    def _write_ended(self, order: WriteOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        try:
            error = _exception_of(future)
            failure = _failure(error)
            if failure is not None:
                self.write_failed(order, pathpoint, failure)
            elif error is not None:
                reports.write_raised(pathpoint, error)
        finally:
            self.end()

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
            self.end()

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
        reports.read_raised(pathpoints[0], error)

    def _try_later(self, order: ReadOrder | WriteOrder) -> bool:
        """Have another try made after a while; False if the order is not worth it."""
        if not self._retries or not order.fail():
            return False
        self.begin()
        self._thread.later(self._pause(order), lambda: self._retry(order))
        return True

    def _retry(self, order: ReadOrder | WriteOrder) -> None:
        if self._thread.execute_orders(self, [order]):
            self.end()

    def _pause(self, order: ReadOrder | WriteOrder) -> float:
        with self._lock:
            failures = self._failures[order] = self._failures.get(order, 0) + 1
        return min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE)


class OrderExecutorThread(TerminableThread):
    """Takes sections from the order queue and executes them.

    :param device: the device
    :param clock: monotonic seconds, by which retries and waits are timed
    """

    def __init__(self, device: SMOKDevice, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name="OrderExecutorThread")
        self._device = device
        self._clock = clock
        self._queue = device._order_queue
        self._runner = OrderRunner()
        self._timetable = Timetable()
        self._changed = threading.Condition()
        self._taken: Sequence[Section] = ()
        self._under_way: set[Section] = set()

    def run(self) -> None:
        """The thread's loop."""
        while not self.terminating:
            self._taken = self._queue.take(self._timetable.seconds_left(self._clock()))
            for section in self._taken:
                self._execute(section)
            self._taken = ()  # so that nothing is kept alive while the queue is empty
            self._do_due()

    def terminate(self) -> None:
        """Have the thread end after the order that it is at. May be called by any thread."""
        super().terminate()
        self._runner.stop()
        self.wake()

    def wake(self) -> None:
        """Have the thread look at the clock and at what is under way. May be called by any
        thread.
        """
        self._queue.interrupt()
        with self._changed:
            self._changed.notify_all()

    def abandon(self) -> None:
        """Tell everyone who waits for a section that was taken from the queue that it will not be
        completed. Called by the closing thread.
        """
        for section in self._taken:
            section.cancel()
        with self._changed:
            abandoned = list(self._under_way)
            self._under_way.clear()
        error = UnavailableError("the device was closed before the section was finished")
        for section in abandoned:
            with contextlib.suppress(InvalidStateError):
                section.set_exception(error)

    # For Executions; finished and later may be called by any thread.

    def find(self, name: str) -> Pathpoint | None:
        """The pathpoint with this name; None, and a line in the log, if there is none."""
        try:
            return self._device.get_pathpoint(name)
        except KeyError as error:
            detail = reports.detail_of_unknown(name, error)
            logger.error("order for unknown pathpoint %s skipped%s", name, detail)
        except BaseException as error:
            reports.provider_raised(name, error)
        return None

    def execute_orders(self, execution: Execution, orders: list[Order]) -> bool:
        """Run orders up to their end, or up to their Futures.

        :return: False if the end of the thread has cut them short
        """
        index = 0
        while index < len(orders) and not self.terminating:
            index = self._runner.run(orders, index, self._device.pathpoints, execution)
            if index < len(orders) and not self.terminating:
                self._execute_other(execution, orders[index])
                index += 1
        return index >= len(orders)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have an action done by the executor thread after a while."""
        self._timetable.at(self._clock() + seconds, action)
        self.wake()

    def finished(self, section: Section) -> None:
        """A section has nothing left to do."""
        with self._changed:
            self._under_way.discard(section)
            self._changed.notify_all()
        section.mark_as_done()

    def _execute(self, section: Section) -> None:
        barrier = section.disposition == Disposition.CANNOT_JOIN
        if barrier:
            self._wait_for_all()
        if self.terminating or not section.mark_as_being_executed():
            section.cancel()
            return
        with self._changed:
            self._under_way.add(section)
        if self._device.has_own_execution_loop:
            self._execute_by_user(section)
        else:
            self._execute_natively(section)
        if barrier:
            self._wait_for_all()

    def _execute_by_user(self, section: Section) -> None:
        try:
            self._device.execute_section(section)
        except BaseException:
            logger.exception("execute_section raised on %r", section)
        self.finished(section)

    def _execute_natively(self, section: Section) -> None:
        execution = Execution(self, section, retries=not isinstance(section, Poll))
        wait = section.max_wait()
        if wait is not None:
            execution.begin()
            self.later(wait, execution.end)
        complete = True
        try:
            complete = self.execute_orders(execution, section.orders)
        except Exception:
            logger.exception("executing %r failed, the rest of it is skipped", section)
        if complete:
            execution.end()

    def _execute_other(self, execution: Execution, order: Order) -> None:
        if isinstance(order, MessageOrder):
            execution.begin()
            self._device.post_message(order).add_done_callback(lambda _: execution.end())
        elif isinstance(order, SysctlOrder):
            self._execute_sysctl(order)
        elif not isinstance(order, WaitOrder):
            logger.error("order of unknown type %r skipped", order)

    def _execute_sysctl(self, order: SysctlOrder) -> None:
        try:
            if not self._device.execute_sysctl(order.op_type, order.op_args):
                logger.warning("%r was not recognised", order)
        except BaseException:
            logger.exception("execute_sysctl raised on %r", order)

    def _wait_for_all(self) -> None:
        """Wait until every section that was started has finished."""
        try:
            self._device.sync_sections(lambda: self.terminating)
        except BaseException:
            logger.exception("sync_sections raised")
        while True:
            self._do_due()
            with self._changed:
                if self.terminating or not self._under_way:
                    return
                self._changed.wait(self._timetable.seconds_left(self._clock()))

    def _do_due(self) -> None:
        for action in self._timetable.pop_due(self._clock()):
            try:
                action()
            except Exception:
                logger.exception("a retry failed")


class Poll(Section):
    """Reads that the archive schedule asks for. They are not retried: the next round reads
    again.
    """


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
