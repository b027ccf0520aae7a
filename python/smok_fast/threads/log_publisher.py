"""Sends log records to the server.

Invariants:

* Putting a record in the queue never blocks, whatever the link does. The queue is bounded: the
  oldest record goes, and how many went is told in a record of its own.
* Nothing that happens in this thread is published (:class:`~smok_fast.logging.SMOKLogHandler` sees
  to that), so publishing causes nothing to publish.
* A record is sent until the server has it. Only one that the server rejects for its content is
  dropped, with a warning to the local log.
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smok_fast import minijson
from smok_fast._backoff import Backoff
from smok_fast.exceptions import ResponseError
from smok_fast.sync.base import send_in_parts
from smok_fast.threads.base import TerminableThread

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["LogPublisherThread"]

logger = logging.getLogger(__name__)

Entry = Mapping[str, Any]

#: How many records the queue holds.
MAX_QUEUED = 20_000

#: How many bytes of MiniJSON go in one call, less a reserve for the record about dropped ones.
MAX_BATCH = 1024 * 1024 - 1024

#: For how many seconds after a record others are waited for, so that they go together.
LINGER = 1.0

#: Pause after a failed call, in seconds: at first, and at most.
MIN_PAUSE = 1.0
MAX_PAUSE = 60.0

#: For how many seconds records are still sent after the thread was asked to end.
FLUSH_FOR = 5.0

#: After how many seconds ``allow_sync`` is looked at again while it holds records back.
HELD_FOR = 10.0

#: The service that speaks when records were dropped.
SERVICE = "smok_fast"


class LogPublisherThread(TerminableThread):
    """Sends the records that handlers put here. One for each device; always started.

    :param device: the device
    """

    def __init__(self, device: SMOKDevice) -> None:
        super().__init__("LogPublisherThread")
        self.device = device
        # All of these are guarded by the condition of TerminableThread
        self._queue: collections.deque[Entry] = collections.deque()
        self._dropped = 0
        self._dropped_before = 0  # of these the server was told
        self._last_timestamp = 0
        self._sending = False
        self._failing = False
        self._flushing = False

    @property
    def dropped(self) -> int:
        """How many records could not be published and were dropped. For any thread."""
        with self._condition:
            return self._dropped_before + self._dropped

    def timestamp(self, created: float) -> int:
        """A timestamp for a record, higher than all before. For any thread.

        :param created: when the record was made, in seconds since the epoch
        :returns: microseconds since the epoch
        """
        with self._condition:
            self._last_timestamp = max(int(created * 1_000_000), self._last_timestamp + 1)
            return self._last_timestamp

    def put(self, entry: Entry) -> None:
        """Queue a record. Never blocks. For any thread.

        :param entry: the record as the server wants it
        """
        with self._condition:
            if len(self._queue) >= MAX_QUEUED:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append(entry)
            if len(self._queue) == 1:
                self._condition.notify_all()

    def prune(self) -> None:
        """Drop all records in the queue. For any thread."""
        with self._condition:
            self._dropped += len(self._queue)
            self._queue.clear()

    def flush(self, timeout: float) -> None:
        """Wait until the server has what is in the queue. For any thread but this.

        Returns at once if that is not going to happen: no link, synchronization not allowed, or the
        thread is not running.

        :param timeout: for how many seconds to wait at most
        """
        if not self.is_alive() or not self.device.allow_sync:
            return
        with self._condition:
            self._flushing = True
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self._failing or self._terminating or not (self._queue or self._sending),
                timeout,
            )
            self._flushing = False

    def link_is_back(self) -> None:
        """End the pause after a failed call: the server answers. Called by CommunicatorThread."""
        with self._condition:
            self._failing = False
            self._condition.notify_all()

    def run(self) -> None:
        """Send records until the thread is asked to end, then what is left if that is quick."""
        backoff = Backoff(MIN_PAUSE, MAX_PAUSE)
        while self._wait_for_records():
            if self._send(self._take()):
                backoff.success()
            else:
                self._rest(backoff.failed())
        self._send_rest()

    def _wait_for_records(self) -> bool:
        """Wait until there are some to send; False if the thread is to end instead."""
        with self._condition:
            while not self._terminating:
                if not self._queue:
                    self._condition.wait()
                elif not self.device.allow_sync:
                    self._condition.wait(HELD_FOR)
                else:
                    self._condition.wait_for(
                        lambda: self._flushing or self._terminating, 0 if self._failing else LINGER
                    )
                    return not self._terminating
            return False

    def _rest(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._terminating or not self._failing, seconds)

    def _send_rest(self) -> None:
        deadline = time.monotonic() + FLUSH_FOR
        while self._queue and self.device.allow_sync and not self._failing:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._send(self._take(), deadline=left)
        if self._queue:
            logger.warning("%d log records were not published", len(self._queue))

    def _take(self) -> list[Entry]:
        """Records from the queue that fit in one call."""
        batch: list[Entry] = []
        size = 0
        with self._condition:
            self._sending = True
            dropped, self._dropped = self._dropped, 0
            self._dropped_before += dropped
        while True:
            with self._condition:
                if not self._queue:
                    break
                entry = self._queue.popleft()
            try:
                size += len(minijson.dumps(entry))
            except minijson.EncodingError as error:
                logger.warning("Log record dropped, it cannot be sent: %s", error)
                continue
            if batch and size > MAX_BATCH:
                self._put_back([entry])
                break
            batch.append(entry)
        if dropped:
            batch.append(
                {
                    "service": SERVICE,
                    "when": self.timestamp(time.time()),
                    "message": f"{dropped} log records were dropped: they could not be published",
                    "level": logging.WARNING,
                }
            )
        return batch

    def _put_back(self, entries: Sequence[Entry]) -> None:
        with self._condition:
            self._queue.extendleft(reversed(entries))
            while len(self._queue) > MAX_QUEUED:
                self._queue.popleft()
                self._dropped += 1

    def _send(self, batch: list[Entry], deadline: float | None = None) -> bool:
        """Send records; what the server has not got goes back to the queue.

        :param deadline: how many seconds a call may take; None for the usual number
        :returns: whether the server has all, less what it rejects
        """
        unsent = dict(enumerate(batch))
        error: Exception | None = None

        def send(part: Sequence[int]) -> None:
            entries = [batch[index] for index in part]
            self.device.api.put("/v1/device/device_logs", json=entries, deadline=deadline)
            for index in part:
                del unsent[index]

        def drop(index: int, reason: Exception) -> None:
            del unsent[index]
            logger.warning("Log record dropped, the server rejects it: %s", reason)

        try:
            send_in_parts(range(len(batch)), send, drop, size=max(len(batch), 1))
        except (ResponseError, RuntimeError) as caught:  # RuntimeError: the device is closed
            error = caught
        except Exception as caught:
            logger.exception("Publishing log records failed")
            error = caught
        if error is not None and not self._failing:
            logger.warning("Log records cannot be published, they wait: %s", error)
        with self._condition:
            self._put_back(list(unsent.values()))
            self._failing = error is not None
            self._sending = False
            self._condition.notify_all()
        return error is None
