"""CommunicatorThread: every conversation with the server but the log's.

Invariants:

- One task at a time, in the order of the list: what people wait for goes ahead of samples, and each
  task is short, so that a backlog of days does not hold up an order.
- While there is no link nothing is tried before the back-off's pause is over, however much is asked
  for. The log says once that the link is gone, and once that it is back.
- A task that the server refuses, or fails at, is tried again after pauses of its own that grow; the
  others go on. What a task or a callback of the user's raises is logged and stops nothing.
- New samples wake the thread only when they can be uploaded.
- At the end what waits is uploaded, for a few seconds at most, unless the link is down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from smok_fast._backoff import Backoff
from smok_fast.exceptions import ResponseError
from smok_fast.pathpoint import reports
from smok_fast.sync.base import SyncTask
from smok_fast.sync.data import DataTask
from smok_fast.threads.base import TerminableThread

if TYPE_CHECKING:
    from smok_fast._core import Buffer
    from smok_fast.client import SMOKDevice

__all__ = ["CommunicatorThread"]

logger = logging.getLogger(__name__)

#: The longest sleep, in seconds.
IDLE = 60.0

#: Seconds from one cycle to the next at least, so that a task that is due for ever cannot spin.
SHORTEST_PAUSE = 0.02

#: For how many seconds samples are still uploaded after the thread was asked to end.
FLUSH_FOR = 3.0


class CommunicatorThread(TerminableThread):
    """See the module's comment.

    :param device: the device
    :param tasks: what to talk about, the most urgent first
    :param buffer: new samples in it wake the thread, if one of the tasks uploads them
    :param linger: seconds for which new samples gather before an upload
    """

    def __init__(
        self, device: SMOKDevice, tasks: Sequence[SyncTask], buffer: Buffer, linger: float
    ) -> None:
        super().__init__(name="CommunicatorThread")
        self._device = device
        self._tasks = tasks
        self._retries = {task: Backoff() for task in tasks}
        self._uploads = next((task for task in tasks if isinstance(task, DataTask)), None)
        self._buffer = buffer
        self._linger = linger
        self._link = Link(device.url, device.log_publisher.link_is_back)

    @property
    def link(self) -> Link:
        """Whether the server is reached."""
        return self._link

    def run(self) -> None:
        """The thread's loop."""
        while not self.terminating:
            try:
                self._cycle()
            except Exception:
                logger.exception("A cycle of the communicator failed")
            self._pause()
        self.flush()

    def flush(self) -> None:
        """Upload what waits, unless the link is down, for :data:`FLUSH_FOR` seconds at most.

        Called by the thread at its end, or by SMOKDevice.close() when this thread runs it.
        """
        if self._uploads is None or not self._device.allow_sync or self._link.is_up is False:
            return
        try:
            self._uploads.flush(time.monotonic() + FLUSH_FOR)
        except Exception as error:
            logger.warning("Samples were left behind at the end: %s", error)

    def terminate(self) -> None:
        """Have the thread end after the call that it is at. May be called by any thread."""
        super().terminate()
        self.wake()

    def wake(self) -> None:
        """Have tasks that were asked for run now. May be called by any thread."""
        self._buffer.wake()

    def _cycle(self) -> None:
        more = True
        while more and not self.terminating:
            more = False
            for task in self._tasks:
                if not self.terminating and self._may_run(task):
                    more = self._run_task(task) or more

    def _may_run(self, task: SyncTask) -> bool:
        now = time.monotonic()
        if task.needs_link and not (self._device.allow_sync and self._link.ready(now)):
            return False
        return self._retries[task].ready(now) and task.is_due(now)

    def _run_task(self, task: SyncTask) -> bool:
        try:
            more = task.run()
        except ResponseError as error:
            self._failed(task, error)
            return False
        except Exception:
            logger.exception("Synchronization of %s failed", task.name)
            self._retries[task].failed()
            return False
        self._retries[task].success()
        if task.answered:
            self._link.up()
            self._tell(self._device.on_successful_sync)
        self._device.note_conversation()
        return more

    def _failed(self, task: SyncTask, error: ResponseError) -> None:
        if not error.is_no_link():
            self._link.up()
            retry = self._retries[task]
            if not (retry.failing or error.is_clients_fault()):  # the task logs those itself
                logger.warning("The server fails at %s (%s); trying again", task.name, error)
            retry.failed()
        elif self._device.allow_sync and not self.terminating:
            self._link.down(error)
            self._tell(self._device.on_failed_sync)

    def _pause(self) -> None:
        """Sleep until a task is due. New samples end it, but then they gather for a while."""
        now = time.monotonic()
        pause = min((self._delay(task, now) for task in self._tasks), default=IDLE)
        pause = min(max(pause, SHORTEST_PAUSE), IDLE)
        if self.terminating:
            return
        may_upload = (
            self._uploads is not None
            and self._device.allow_sync
            and self._link.ready(now)
            and self._retries[self._uploads].ready(now)
        )
        if self._buffer.wait(pause, may_upload) and may_upload and not self.terminating:
            self._buffer.wait(min(max(self._linger, SHORTEST_PAUSE), pause), False)

    def _delay(self, task: SyncTask, now: float) -> float:
        retry = self._retries[task].pause(now)
        if not task.needs_link:
            return max(task.delay(now), retry)
        if not self._device.allow_sync:
            return IDLE
        return max(task.delay(now), retry, self._link.pause(now))

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            reports.sync_callback_failed(callback.__name__, error)


class Link(Backoff):
    """Whether the server is reached, and when to try again if not. For CommunicatorThread;
    the attributes for any.

    :param url: where the server is, for the log
    :param on_back: called when the server answers again
    :ivar is_up: whether it was reached the last time; None if it was not tried
    :ivar last_contact: when it answered last, in seconds since the epoch; None if it never did
    """

    def __init__(self, url: str, on_back: Callable[[], None]) -> None:
        super().__init__()
        self._url = url
        self._on_back = on_back
        self._down_since = 0.0
        self.is_up: bool | None = None
        self.last_contact: float | None = None

    def up(self) -> None:
        """The server has answered."""
        if self.failing:
            lasted = time.monotonic() - self._down_since
            logger.warning("Link to %s is back after %.0f s", self._url, lasted)
            self._on_back()
        self.success()
        self.is_up = True
        self.last_contact = time.time()

    def down(self, error: ResponseError) -> None:
        """The server has not answered."""
        if not self.failing:
            self._down_since = time.monotonic()
            logger.warning(
                "No link to %s (%s); trying again with growing pauses", self._url, error.status
            )
        self.failed()
        self.is_up = False
