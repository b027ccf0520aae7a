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
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING

from smok_fast._core import DecodedOrders, OrderRunner
from smok_fast.exceptions import UnavailableError
from smok_fast.pathpoint import reports
from smok_fast.pathpoint.orders import (
    Disposition,
    MessageOrder,
    Order,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
)
from smok_fast.pathpoint.pathpoint import Pathpoint
from smok_fast.threads.base import TerminableThread
from smok_fast.threads.counters import Counters
from smok_fast.threads.execution import Execution, Reads, Timetable

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["OrderExecutorThread"]

logger = logging.getLogger(__name__)


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
        self.counters = Counters()

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

    def execute_orders(self, execution: Execution, orders: list[Order] | DecodedOrders) -> bool:
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

    @property
    def executing(self) -> int:
        """How many sections were begun and are not done."""
        return len(self._under_way)

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
            complete = self.execute_orders(execution, section._orders)
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
        latest = max(since for since in hanging if since is not None)
        left = latest + self._device.barrier_timeout - now
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
