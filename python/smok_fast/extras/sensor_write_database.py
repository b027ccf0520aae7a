"""Log of writes to sensors that the server has not seen yet."""

from __future__ import annotations

import abc
import collections
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from smok_fast.extras.overflow import MOST_UNSENT, Overflow

if TYPE_CHECKING:
    from smok_fast.sensor import SensorWriteEvent

__all__ = [
    "BaseSensorWriteDatabase",
    "BaseSensorWriteSynchronization",
    "InMemorySensorWriteDatabase",
]


class BaseSensorWriteSynchronization:
    """Sensor writes on their way to the server. Falsy if there are none.

    Used by CommunicatorThread, one at a time.

    :ivar events: the writes
    :ivar swdb: the database that they came from
    """

    __slots__ = ("events", "swdb")

    def __init__(self, events: list[SensorWriteEvent], swdb: BaseSensorWriteDatabase) -> None:
        self.events = events
        self.swdb = swdb

    def __bool__(self) -> bool:
        return bool(self.events)

    def to_json(self) -> list[dict[str, Any]]:
        """The writes as the server wants them."""
        return [event.to_json() for event in self.events]

    def ack(self) -> None:
        """The server has all of them."""
        for event in self.events:
            self.swdb.on_synced_sw(event)

    def nack(self) -> None:
        """The server has none of them; they will be offered again."""
        for event in self.events:
            self.swdb.on_sync_sw_failed(event)


class SavingSensorWriteSynchronization(BaseSensorWriteSynchronization):
    """Has the database save once for all of the writes. Used by CommunicatorThread, one at a time.

    :param save: saves what the database has not saved yet
    """

    __slots__ = ("_save",)

    def __init__(
        self,
        events: list[SensorWriteEvent],
        swdb: BaseSensorWriteDatabase,
        save: Callable[[], None],
    ) -> None:
        super().__init__(events, swdb)
        self._save = save

    def ack(self) -> None:
        """The server has all of them."""
        super().ack()
        self._save()


class BaseSensorWriteDatabase(abc.ABC):
    """Keeps sensor writes until the server has them. Must be safe to call from many threads."""

    def on_sync_sw_failed(self, event: SensorWriteEvent) -> None:
        """The server did not take this write; it is to be offered again.

        Called by CommunicatorThread. Does nothing by default.
        """

    def on_synced_sw(self, event: SensorWriteEvent) -> None:
        """The server has this write. Called by CommunicatorThread. Does nothing by default."""

    @abc.abstractmethod
    def add_sw(self, event: SensorWriteEvent) -> None:
        """A sensor was written. Called by user threads."""

    @abc.abstractmethod
    def get_sw_sync(self) -> BaseSensorWriteSynchronization:
        """The writes that the server lacks. Called by CommunicatorThread."""


class InMemorySensorWriteDatabase(BaseSensorWriteDatabase):
    """Keeps sensor writes until the server has them or the program ends.

    :param most_unsent: how many to keep, the newest; None for all
    """

    def __init__(self, *, most_unsent: int | None = MOST_UNSENT) -> None:
        self._lock = threading.Lock()
        self._most_unsent = most_unsent
        self._overflow = Overflow("sensor writes")
        self._events: collections.Counter[SensorWriteEvent] = collections.Counter()
        self._count = 0  # of all of them

    @property
    def dropped(self) -> int:
        """How many writes were dropped, since there were too many of them. For any thread."""
        return self._overflow.dropped

    def add_sw(self, event: SensorWriteEvent) -> None:
        """Keep a write. Called by user threads."""
        self._add(event)

    def on_synced_sw(self, event: SensorWriteEvent) -> None:
        """Forget a write. No-op if it is not kept. Called by CommunicatorThread."""
        with self._lock:
            self._remove(event)
        self._overflow.end()

    def get_sw_sync(self) -> BaseSensorWriteSynchronization:
        """All writes kept at the time of the call. Called by CommunicatorThread."""
        with self._lock:
            return BaseSensorWriteSynchronization(list(self._events.elements()), self)

    def _take_up(self, kept: Mapping[SensorWriteEvent, int]) -> None:
        """Take over what the last run has kept, and how often each; all of it, however much it
        is.
        """
        self._events.update(kept)
        self._count = self._events.total()
        if self._most_unsent is not None:
            self._most_unsent = max(self._most_unsent, self._count)

    def _add(self, event: SensorWriteEvent) -> list[SensorWriteEvent]:
        """Keep a write.

        :return: those that were dropped for it
        """
        dropped = []
        with self._lock:
            self._events[event] += 1
            self._count += 1
            while self._most_unsent is not None and self._count > self._most_unsent:
                oldest = next(iter(self._events))
                self._remove(oldest)
                dropped.append(oldest)
        self._overflow.add(len(dropped))
        return dropped

    def _remove(self, event: SensorWriteEvent) -> None:
        """Forget one of equal writes. For who has the lock."""
        if event in self._events:
            self._count -= 1
            self._events[event] -= 1
            if not self._events[event]:
                del self._events[event]
