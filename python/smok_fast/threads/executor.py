"""OrderExecutorThread: runs what stands in the order queue.

Invariants:

- Joinable sections overlap: the thread starts one after the other and does not wait for their
  Futures. A CANNOT_JOIN section is a barrier both ways: it starts when everything before it has
  finished, and everything after it starts when it has. Polls are no part of this: they are not
  waited for, and go on meanwhile. What hangs in Futures only is waited for no longer than the
  device's ``barrier_timeout``.
- A pathpoint that is read several times in sections that are joined is read once, unless a write
  stands between. Each of the sections is done when that read is.
- A FORCE write that was not successful yet holds up later writes to its pathpoint, so that a retry
  never overwrites a newer value, and nothing else.
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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from smok_fast._core import OrderRunner, record_result, record_results
from smok_fast.exceptions import OperationFailedError, UnavailableError
from smok_fast.pathpoint import reports
from smok_fast.pathpoint.orders import (
    AdviseLevel,
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
        return False

    def write_held(self, order: WriteOrder) -> None:
        """A write has to wait for another one of the same pathpoint."""
        self.begin_outside()
        self._thread.hold(order, self)

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
        self._begin_reads([pathpoint])
        future.add_done_callback(lambda future: self._read_ended(order, pathpoint, future))

    def write_future(self, order: WriteOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        """``on_write`` returned a Future."""
        self.begin_outside()
        if order.advise == AdviseLevel.FORCE:
            self._thread.hold(order)
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
        self._begin_reads(pathpoints)
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
            self._end_reads([pathpoint])

    def _write_ended(self, order: WriteOrder, pathpoint: Pathpoint, future: Future[Any]) -> None:
        try:
            error = _exception_of(future)
            failure = _failure(error)
            if failure is not None and self.write_failed(order, pathpoint, failure):
                return
            if failure is None and error is not None:
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
        reports.read_raised(pathpoints[0], error)

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
        self._lock = threading.Lock()  # guards what is under way
        self._taken: Sequence[Section] = ()
        self._under_way: dict[Section, Execution] = {}
        self._is_waiting = False  # for everything before or after a barrier
        self._held: dict[str, deque[tuple[Execution, WriteOrder]]] = {}
        self.reads = Reads()

    def run(self) -> None:
        """The thread's loop."""
        while not self.terminating:
            if not len(self._queue):
                self._device.order_intake.commit()
            self._taken = self._queue.take(self._timetable.seconds_left(self._clock()))
            if self._taken:
                self._execute(self._taken)
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

    def abandon(self) -> None:
        """Tell everyone who waits for a section that was taken from the queue that it will not be
        completed. Called by the closing thread.
        """
        for section in self._taken:
            section.cancel()
        with self._lock:
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
            index = self._runner.run(orders, index, self._device.pathpoints, self._held, execution)
            if index < len(orders) and not self.terminating:
                self._execute_other(execution, orders[index])
                index += 1
        return index >= len(orders)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have an action done by the executor thread after a while."""
        self._timetable.at(self._clock() + seconds, action)
        self.wake()

    def now(self) -> float:
        """Seconds of the clock by which the thread goes."""
        return self._clock()

    def finished(self, section: Section) -> None:
        """A section has nothing left to do."""
        with self._lock:
            self._under_way.pop(section, None)
        section.mark_as_done()
        if self._is_waiting:
            self.wake()

    def hold(self, order: WriteOrder, waiting: Execution | None = None) -> None:
        """Have later writes to an order's pathpoint wait for it; or have an order wait itself.

        Where the pathpoint may not be held yet, to be called by the executor thread.
        """
        queue = self._held.setdefault(order.pathpoint, deque())
        if waiting is not None:
            queue.append((waiting, order))

    @contextlib.contextmanager
    def lifted(self, pathpoint: str) -> Iterator[None]:
        """Let a write that others wait for be tried again, and then the others if it has ended."""
        waiting = self._held.pop(pathpoint, deque())
        yield
        while waiting and pathpoint not in self._held:
            execution, order = waiting.popleft()
            if self.execute_orders(execution, [order]):
                execution.end_outside()
        if waiting:
            self._held[pathpoint].extend(waiting)

    def let_go(self, pathpoint: str) -> None:
        """Have those writes executed that wait for one that has ended."""
        with self.lifted(pathpoint):
            pass

    def _execute(self, sections: Sequence[Section]) -> None:
        """Execute what was taken from the queue: joinable sections, or a barrier alone."""
        barrier = sections[0].disposition == Disposition.CANNOT_JOIN
        if barrier:
            self._wait_for_all()
        self._device.order_intake.begin(sections)
        self._runner.begin_batch()
        for section in sections:
            self._begin(section)
        if barrier:
            self._wait_for_all()

    def _begin(self, section: Section) -> None:
        if self.terminating or not section.mark_as_being_executed():
            section.cancel()
            return
        execution = Execution(self, section, retries=not isinstance(section, Poll))
        with self._lock:
            self._under_way[section] = execution
        if self._device.has_own_execution_loop:
            self._execute_by_user(section)
        else:
            self._execute_natively(section, execution)

    def _execute_by_user(self, section: Section) -> None:
        try:
            self._device.execute_section(section)
        except BaseException:
            logger.exception("execute_section raised on %r", section)
        self.finished(section)

    def _execute_natively(self, section: Section, execution: Execution) -> None:
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
            execution.begin_outside()
            self._device.post_message(order).add_done_callback(lambda _: execution.end_outside())
        elif isinstance(order, SysctlOrder):
            self._execute_sysctl(order)
            self._runner.begin_batch()
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
        self._is_waiting = True
        while not self.terminating:
            self._do_due()
            patience = self._patience()
            if patience is None:
                break
            self._device.order_intake.commit()
            polls = self._queue.take_polls(patience)
            self._runner.begin_batch()
            for poll in polls:
                self._begin(poll)
        self._is_waiting = False

    def _patience(self) -> float | None:
        """For how many seconds a barrier has to wait at most before it looks again; None if
        nothing is under way that has to be waited for.
        """
        with self._lock:
            waited_for = [
                execution
                for section, execution in self._under_way.items()
                if not (isinstance(section, Poll) or execution.is_given_up)
            ]
        if not waited_for:
            return None
        now = self._clock()
        patience = self._timetable.seconds_left(now)
        hanging = [execution.hangs_since for execution in waited_for]
        if None in hanging:  # what the others wait for may be a part of this one
            return patience
        left = (
            max(since for since in hanging if since is not None)
            + self._device.barrier_timeout
            - now
        )
        if left > 0:
            return min(patience, left)
        for execution in waited_for:
            execution.give_up()
        return 0.0

    def _do_due(self) -> None:
        for action in self._timetable.pop_due(self._clock()):
            self._runner.begin_batch()
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
