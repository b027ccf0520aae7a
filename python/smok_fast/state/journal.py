"""Orders that were taken over from the server, until they are executed.

What was written here before an order was acknowledged survives a crash, and tells whether the order
had been begun by then.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from smok_fast.state.file import StateFile

__all__ = ["JournalledOrder", "OrderJournal"]

RECEIVED = "received"
STARTED = "started"


@dataclasses.dataclass(frozen=True, slots=True)
class JournalledOrder:
    """A section of orders that is not done.

    :ivar id: what the journal knows it by; higher ones came later
    :ivar source: where it came from
    :ivar section: the section, as it was given
    :ivar received_at: when it came, in seconds since the epoch
    :ivar state: ``received``, or ``started`` once its execution was begun
    """

    id: int
    source: str
    section: bytes
    received_at: float
    state: str


class OrderJournal:
    """The sections that were received and are not done. Every method may be called by any thread,
    and returns when the change is on the disk, if it can be written at all.

    :param state: the state file
    :param clock: gives nanoseconds since the epoch
    """

    def __init__(self, state: StateFile, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._state = state
        self._table = state.tables["orders"]
        self._clock = clock
        self._lock = threading.Lock()
        self._last_id = max((row[0] for row in self._table.rows()), default=0)

    def add(self, source: str, section: bytes) -> int:
        """Note that a section was received.

        :param source: where it came from
        :param section: the section, in whatever encoding its reader expects
        :return: its ID
        """
        with self._lock:
            # The time, so that it is new even if the file could not be read when this began
            now = self._clock()
            self._last_id = max(self._last_id + 1, now)
            order_id = self._last_id
            self._table.put((order_id, source, section, now / 1e9, RECEIVED))
        self._state.commit()
        return order_id

    def mark_started(self, order_id: int) -> None:
        """Note that the execution of a section begins. No-op if it is not known."""
        with self._lock:
            row = self._table.get(order_id)
            if row is not None:
                self._table.put((*row[:-1], STARTED))
        self._state.commit()

    def mark_done(self, order_id: int) -> None:
        """Forget a section: it was executed, however it went. No-op if it is not known."""
        with self._lock:
            self._table.delete(order_id)
        self._state.commit()

    def unfinished(self) -> list[JournalledOrder]:
        """The sections that are not done, oldest first. At the start of a program these are the
        ones that the program before has left.
        """
        return [JournalledOrder(*row) for row in self._table.rows()]
