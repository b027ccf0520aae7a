"""ArchivingAndMacroThread: has archived pathpoints read at their intervals, and macros executed at
their times.

It talks to no server, so that neither waits for a slow link: the lists are fetched by
CommunicatorThread. The thread sleeps until something is due, without the GIL.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smok_fast._core import ArchiveSchedule
from smok_fast.basics import StorageLevel
from smok_fast.pathpoint import reports
from smok_fast.pathpoint.orders import AdviseLevel, ReadOrder
from smok_fast.pathpoint.pathpoint import Pathpoint
from smok_fast.sync.macros import MacroExecutionTask
from smok_fast.threads.base import TerminableThread
from smok_fast.threads.executor import Poll

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["ArchivingAndMacroThread"]

logger = logging.getLogger(__name__)

#: The longest sleep, in seconds. Macros are looked at once a second, since the list and the clock
#: may change.
IDLE = 60.0
MACROS_EVERY = 1.0


class ArchivingAndMacroThread(TerminableThread):
    """See the module's comment.

    :param device: the device
    :param macros: executes macros that are due; None to leave them alone
    """

    def __init__(self, device: SMOKDevice, macros: MacroExecutionTask | None) -> None:
        super().__init__(name="ArchivingAndMacroThread")
        self._device = device
        self._macros = macros
        self._schedule = ArchiveSchedule()
        self._lock = threading.Lock()
        self._instructions: dict[float, Sequence[str]] = {}
        self._complete = True

    def set_archives(self, instructions: Mapping[float, Sequence[str]]) -> None:
        """Replace what is archived. May be called by any thread; takes effect at once. Pathpoints
        that the device did not have are asked for again when the same list comes again.

        :param instructions: names of pathpoints by interval in seconds; of several intervals for
            one pathpoint the shortest counts
        """
        wanted = dict(instructions)
        if wanted == self._instructions and self._complete:
            return
        intervals: dict[Pathpoint, float] = {}
        complete = True
        for interval, names in wanted.items():
            for name in names:
                pathpoints = self._natives(name)
                complete = complete and bool(pathpoints)
                for pathpoint in pathpoints:
                    known = intervals.get(pathpoint)
                    intervals[pathpoint] = interval if known is None else min(interval, known)
        with self._lock:
            self._schedule.replace(list(intervals.items()))
            self._instructions = wanted
            self._complete = complete

    def run(self) -> None:
        """The thread's loop."""
        while not self.terminating:
            try:
                self._poll()
                if self._macros is not None:
                    self._macros.run()
            except Exception:
                logger.exception("A round of archiving failed")
            self._schedule.wait(IDLE if self._macros is None else MACROS_EVERY)

    def terminate(self) -> None:
        """Have the thread end. May be called by any thread."""
        super().terminate()
        self._schedule.close()

    @property
    def overruns(self) -> int:
        """How many polls were left out because the one before had not ended."""
        return self._schedule.overruns

    def _natives(self, name: str) -> set[Pathpoint]:
        """The native pathpoints behind a name; none, and a line in the log, if the device does not
        have it.
        """
        try:
            return self._device.get_pathpoint(name, StorageLevel.PERMANENT).natives()
        except KeyError as error:
            reports.archived_unknown(name, error)
        except Exception as error:
            if not self._device.closed:  # which would be why
                reports.provider_raised(name, error)
        return set()

    def _poll(self) -> None:
        names = self._schedule.due()
        if not names:
            return
        poll = Poll([ReadOrder(name, AdviseLevel.ADVISE) for name in names])
        poll.add_done_callback(lambda _: self._end_polls(names))
        try:
            self._device._order_queue.put(poll, joinable=True, poll=True)
        except RuntimeError:
            self.terminate()  # the device was closed

    def _end_polls(self, names: Sequence[str]) -> None:
        for name in names:
            pathpoint = self._device.pathpoints.get(name)
            if pathpoint is not None:
                pathpoint._end_poll()
