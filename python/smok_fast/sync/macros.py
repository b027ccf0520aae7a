"""Fetches macros, executes them at their time, and reports what was executed.

An occurrence is started at most once, whatever the server sends again: a restarted program does not
start one that its database has as executed. One that was started before and did not end is
uncertain: the log says so, and the server is told that it is not to come again. An occurrence is
reported after its writes are done, and until the server was told.

What is fetched is good for a week without a link. An answer tells all about its window: what it
does not have is not executed.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from smok_fast._backoff import Backoff
from smok_fast._urls import segment
from smok_fast.exceptions import ResponseError
from smok_fast.macro import Macro
from smok_fast.sync.base import SyncTask, UnusableAnswer, parse_each, rejects_content

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["MacroExecutionTask", "MacroReportsTask", "MacrosTask"]

logger = logging.getLogger(__name__)

#: The occurrences asked for: from how many seconds ago, and up to how many seconds from now: a
#: week; or, of a server that does not answer that, as far as the reference client looks.
WINDOW_BEFORE = 3600
WINDOW_AFTER = 7 * 24 * 3600
SHORT_WINDOW_AFTER = 5400

#: How many seconds the server has to answer for a week.
ANSWER_WITHIN = 60.0

#: The longest pause before it is asked for a week again, in seconds.
ASK_AGAIN = 24 * 3600.0

#: How many occurrences are kept: the nearest ones.
MOST_OCCURRENCES = 10_000

#: How many occurrences are reported before other tasks have their turn.
REPORTS_AT_ONCE = 50

#: For how many seconds after its time an occurrence is still executed. What a program that did not
#: run for days has missed is not made up for in one burst of writes.
EXECUTED_FOR = 24 * 3600.0

#: For how many seconds after its time an occurrence that was started is remembered: longer than the
#: server gives it, even if the clock was set back meanwhile.
REMEMBER_STARTED = 24 * 3600.0

#: Seconds between two calls of the database's ``checkpoint``.
CHECKPOINT_EVERY = 60.0


class MacroExecutionTask(SyncTask):
    """Executes macros whose time has come, up to a day late. Run by ArchivingAndMacroThread.

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
        missed = {when for when in macro.occurrences_not_done if when < now - EXECUTED_FOR}
        if missed:
            logger.warning(
                "Macro %s is %d times more than %g hours late: it is not executed for these times",
                macro.macro_id,
                len(missed),
                EXECUTED_FOR / 3600,
            )
            macro.leave_out(missed)
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
        """Report some of what was not reported. What the server does not know, it is not told
        again.
        """
        database = self.device.macros_database
        done = list(database.get_done_macros())
        for macro_id, timestamp in done[:REPORTS_AT_ONCE]:
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
        return len(done) > REPORTS_AT_ONCE


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
        self._week = Backoff(self.interval, ASK_AGAIN, clock=clock)
        self._too_many = False

    def exchange(self) -> bool:
        """Fetch the occurrences around now; those executed but not reported are left out."""
        macros = self._fetch(int(self._wall_clock()))
        database = self.device.macros_database
        done: dict[str, set[float]] = defaultdict(set)
        for macro_id, timestamp in database.get_done_macros():
            done[macro_id].add(timestamp)
        for macro in macros:
            macro.leave_out(done[macro.macro_id])
        self._leave_out_farthest(macros)
        database.set_macros([macro for macro in macros if macro])
        return False

    def _fetch(self, now: int) -> list[Macro]:
        """Macros of the week; if the server does not answer for that long, those of the short
        window, and what is known from before about the time after it.
        """
        problem: Exception | None = None
        if self._week.ready():
            try:
                macros = self._ask(now, WINDOW_AFTER, ANSWER_WITHIN)
            except (ResponseError, UnusableAnswer) as error:
                if isinstance(error, ResponseError) and error.status_code in {401, 403, 429}:
                    raise  # whatever was asked for
                problem = error
            else:
                self._week.success()
                return macros
        macros = self._ask(now, SHORT_WINDOW_AFTER)
        if problem is not None:  # and it was the length that was to blame
            if not self._week.failing:
                logger.warning(
                    "The server does not tell the macros of %g days (%s). Until it does, those of "
                    "the next %g minutes are asked for, and may be missed without a link later on",
                    WINDOW_AFTER / 86400,
                    problem,
                    SHORT_WINDOW_AFTER / 60,
                )
            self._week.failed()
        return self._with_later(macros, now + SHORT_WINDOW_AFTER)

    def _ask(self, now: int, after: int, within: float | None = None) -> list[Macro]:
        path = f"/v1/device/macro/occurrences/{now - WINDOW_BEFORE}-{now + after}"
        return parse_each(self._call(self.device.api.get, path, deadline=within), _parse, "macro")

    def _with_later(self, macros: list[Macro], stop: float) -> list[Macro]:
        """Add the known occurrences after a time."""
        merged = {macro.macro_id: macro for macro in macros}
        for known in self.device.macros_database.get_macros():
            occurrences = known.occurrences_not_done.copy()  # at once: they are being executed
            later = {timestamp for timestamp in occurrences if timestamp > stop}
            macro = merged.get(known.macro_id, known)
            if macro is not known:
                later.update(macro.occurrences_not_done)
            merged[known.macro_id] = Macro(macro.macro_id, macro.commands, later)
        return list(merged.values())

    def _leave_out_farthest(self, macros: list[Macro]) -> None:
        """Have no more occurrences than are kept. What is left out is fetched later."""
        times = sorted(
            (timestamp, number)
            for number, macro in enumerate(macros)
            for timestamp in macro.occurrences_not_done
        )
        left_out: dict[int, set[float]] = defaultdict(set)
        for timestamp, number in times[MOST_OCCURRENCES:]:
            left_out[number].add(timestamp)
        for number, timestamps in left_out.items():
            macros[number].leave_out(timestamps)
        if left_out and not self._too_many:
            logger.warning(
                "There are %d occurrences of macros to come: the next %d are kept, the others are "
                "fetched later",
                len(times),
                MOST_OCCURRENCES,
            )
        self._too_many = bool(left_out)


def _parse(entry: Mapping[str, Any]) -> Macro:
    macro = Macro.from_json(entry)
    segment(macro.macro_id)
    return macro
