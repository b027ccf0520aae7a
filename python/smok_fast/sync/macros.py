"""Fetches macros, executes them at their time, and reports what was executed.

An occurrence is started at most once, whatever the server sends again: a restarted program does not
start one that its database has as executed. One that was started before and did not end is
uncertain: the log says so, and the server is told that it is not to come again. An occurrence is
reported after its writes are done, and until the server was told.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError
from smok_fast.macro import Macro
from smok_fast.sync.base import SyncTask, parse_each, rejects_content

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["MacroExecutionTask", "MacroReportsTask", "MacrosTask"]

logger = logging.getLogger(__name__)

#: The occurrences asked for: from how many seconds ago, and how many seconds of them.
WINDOW_BEFORE = 3600
WINDOW_LENGTH = 9000

#: For how many seconds after its time an occurrence that was started is remembered: longer than the
#: server gives it, even if the clock was set back meanwhile.
REMEMBER_STARTED = 24 * 3600.0

#: Seconds between two calls of the database's ``checkpoint``.
CHECKPOINT_EVERY = 60.0


class MacroExecutionTask(SyncTask):
    """Executes macros whose time has come, late ones too. Run by ArchivingAndMacroThread.

    :param device: the device
    :param clock: gives seconds of a monotonic clock
    :param wall_clock: gives seconds since the epoch
    """

    name = "macro execution"
    needs_link = False

    def __init__(
        self,
        device: SMOKDevice,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(device, clock=clock)
        self._wall_clock = wall_clock
        self._started: dict[str, set[float]] = {}
        self._looked_back = False
        self._checkpoint_at = -math.inf

    def exchange(self) -> bool:
        """Execute what is due. A macro that cannot be executed does not stop the others."""
        now = self._wall_clock()
        if not self._looked_back:
            self._look_back()
        for macro in self.device.macros_database.get_macros():
            if macro.should_execute(now):
                self._execute(macro, now)
        if self._clock() >= self._checkpoint_at:
            self._checkpoint_at = self._clock() + CHECKPOINT_EVERY
            self._forget_started(now - REMEMBER_STARTED)
            self.device.macros_database.checkpoint()
        return False

    def _look_back(self) -> None:
        """Put an end to occurrences in the middle of which the last program ended."""
        database = self.device.macros_database
        for macro_id, timestamp in database.get_started_macros():
            logger.error(
                "Macro %s of %s had begun when the program ended: whether all its values were "
                "written is not known. It is not executed again",
                macro_id,
                timestamp,
            )
            self._started.setdefault(macro_id, set()).add(timestamp)
            database.notify_macro_executed(macro_id, timestamp)
        self._looked_back = True

    def _execute(self, macro: Macro, now: float) -> None:
        started = self._started.setdefault(macro.macro_id, set())
        macro.leave_out(started)
        occurrences = set(macro.occurrences_not_done)
        try:
            macro.execute(self.device, now)
        except Exception:
            logger.exception("Macro %s could not be executed", macro.macro_id)
        started.update(occurrences.difference(macro.occurrences_not_done))

    def _forget_started(self, before: float) -> None:
        kept = {
            macro_id: {timestamp for timestamp in started if timestamp > before}
            for macro_id, started in self._started.items()
        }
        self._started = {macro_id: started for macro_id, started in kept.items() if started}


class MacroReportsTask(SyncTask):
    """Tells the server which occurrences were executed. Run by CommunicatorThread."""

    name = "macro reports"

    def exchange(self) -> bool:
        """Report what was not reported. What the server does not know, it is not told again."""
        database = self.device.macros_database
        for macro_id, timestamp in list(database.get_done_macros()):
            path = f"/v1/device/macros/{segment(macro_id)}/{timestamp}"
            try:
                self._call(self.device.api.post, path)
            except ResponseError as error:
                if error.status_code not in {404, 410} and not rejects_content(error):
                    raise
                logger.warning(
                    "The server does not want to know that macro %s of %s was executed: %s",
                    macro_id,
                    timestamp,
                    error,
                )
            database.notify_macro_synced(macro_id, timestamp)
        return False


class MacrosTask(SyncTask):
    """Replaces the macros in ``device.macros_database``. Run by CommunicatorThread.

    :param device: the device
    :param interval: seconds between runs
    :param clock: gives seconds of a monotonic clock
    :param wall_clock: gives seconds since the epoch
    """

    name = "macros"
    interval = 1800.0

    def __init__(
        self,
        device: SMOKDevice,
        *,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(device, interval=interval, clock=clock)
        self._wall_clock = wall_clock

    def exchange(self) -> bool:
        """Fetch the occurrences around now; those executed but not reported are left out."""
        start = int(self._wall_clock()) - WINDOW_BEFORE
        path = f"/v1/device/macro/occurrences/{start}-{start + WINDOW_LENGTH}"
        macros = parse_each(self._call(self.device.api.get, path), _parse, "macro")
        database = self.device.macros_database
        done = list(database.get_done_macros())
        for macro in macros:
            macro.leave_out({ts for macro_id, ts in done if macro_id == macro.macro_id})
        database.set_macros([macro for macro in macros if macro])
        return False


def _parse(entry: Mapping[str, Any]) -> Macro:
    macro = Macro.from_json(entry)
    segment(macro.macro_id)
    return macro
