"""Orders that were taken over from the server, until they are executed.

What was written here before an order was acknowledged survives a crash, and tells whether the order
had been begun by then.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from smok_fast.state.file import StateFile

__all__ = ["EXECUTED", "RECEIVED", "STARTED", "JournalledOrder", "OrderJournal"]

#: It waits to be executed.
RECEIVED = "received"
#: Its execution was begun: after a crash nobody knows how far it came.
STARTED = "started"
#: It was executed, but the server may not know.
EXECUTED = "executed"


@dataclasses.dataclass(frozen=True, slots=True)
class JournalledOrder:
    """A section of orders, or whatever else was received as one, that is not done.

    :ivar id: what the journal knows it by; higher ones came later
    :ivar source: where it came from
    :ivar section: the section, as it was given
    :ivar received_at: when it came, in seconds since the epoch
    :ivar state: :data:`RECEIVED`, :data:`STARTED` or :data:`EXECUTED`
    """

    id: int
    source: str
    section: bytes
    received_at: float
    state: str


class OrderJournal:
    """The sections that were received and are not done. Every method may be called by any thread.

    What is changed is on the disk when :meth:`commit` returns, if it can be written at all: the
    caller decides how many changes make one transaction, since each wears the SD card.

    :param state: the state file
    :param clock: gives nanoseconds since the epoch
    """

    def __init__(self, state: StateFile, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._state = state
        self._table = state.tables["orders"]
        self._clock = clock
        self._lock = threading.Lock()
        self._last_id = max((row[0] for row in self._table.rows()), default=0)

    def add(self, source: str, sections: Sequence[bytes], state: str = RECEIVED) -> list[int]:
        """Note that sections were received.

        :param source: where they came from
        :param sections: each in whatever encoding its reader expects
        :param state: how far they are
        :return: their IDs
        """
        ids = []
        with self._lock:
            for section in sections:
                # The time, so that it is new even if the file could not be read when this began
                now = self._clock()
                self._last_id = max(self._last_id + 1, now)
                self._table.put((self._last_id, source, section, now / 1e9, state))
                ids.append(self._last_id)
        return ids

    def mark(self, order_ids: Iterable[int], state: str) -> None:
        """Note how far sections are. Those that are not known are left out."""
        with self._lock:
            for order_id in order_ids:
                row = self._table.get(order_id)
                if row is not None:
                    self._table.put((*row[:-1], state))

    def mark_done(self, order_id: int) -> None:
        """Forget a section: it was executed, however it went. No-op if it is not known."""
        with self._lock:
            self._table.delete(order_id)

    def commit(self, *, at_once: bool = True) -> None:
        """Have all changes so far on the disk when this returns, unless nothing can be written.

        :param at_once: False if they need to survive the end of the program only, not a power cut
        """
        self._state.commit(at_once=at_once)

    def unfinished(self) -> list[JournalledOrder]:
        """The sections that are not done, oldest first. At the start of a program these are the
        ones that the program before has left.
        """
        return sorted((JournalledOrder(*row) for row in self._table.rows()), key=lambda o: o.id)

    def __len__(self) -> int:
        """How many sections are not done."""
        return len(self._table)
