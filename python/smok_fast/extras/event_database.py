"""Events, which of them the server lacks, and the state of predicates.

An event is offered to the server once for each change: when it is added, and when it is closed.
A change made while the event is on its way to the server is a change that the server lacks.

Of the events that the server lacks the newest are kept. Where there are more, closed ones of which
it has never told a UUID go first; then open ones, which come back when they are closed; and last
those that would stay open on the server for ever.
"""

from __future__ import annotations

import abc
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smok_fast.extras.overflow import MOST_UNSENT, Overflow

if TYPE_CHECKING:
    from smok_fast.predicate import Event

__all__ = [
    "BaseEventDatabase",
    "BaseEventSynchronization",
    "InMemoryEventDatabase",
    "NullEventDatabase",
]

#: For how many seconds a closed event that the server knows is kept: 30 days.
RETENTION = 30 * 24 * 3600.0


class BaseEventSynchronization(abc.ABC):
    """Events on their way to the server. Used by CommunicatorThread, one at a time."""

    __slots__ = ()

    @abc.abstractmethod
    def get_events(self) -> list[Event]:
        """The events to send; the same ones, in the same order, at each call."""

    @abc.abstractmethod
    def acknowledge(self, *uuids: str) -> None:
        """The server has all of the events.

        :param uuids: the UUIDs that the server gave them, in the order of :meth:`get_events`
        """

    def negative_acknowledge(self) -> None:
        """The server did not take the events; they are to be offered again.

        Does nothing by default.
        """

    def acknowledge_some(self, uuids: Sequence[str | None]) -> None:
        """The server has some of the events; the rest is to be offered again.

        By default the events that the server has learn their UUIDs, and all are offered again:
        the server recognises those by the UUID.

        :param uuids: for each event of :meth:`get_events`, the UUID that the server gave it, or
            None if the server does not have it
        """
        for event, uuid in zip(self.get_events(), uuids, strict=True):
            if event.uuid is None:
                event.uuid = uuid
        self.negative_acknowledge()


class BaseEventDatabase(abc.ABC):
    """Keeps events and the state of predicates. Must be safe to call from many threads."""

    def checkpoint(self) -> None:
        """Called by CommunicatorThread about every 60 seconds, maybe more often.

        Does nothing by default.
        """

    @abc.abstractmethod
    def get_open_events(self) -> Iterator[Event]:
        """Events that are not closed. Called by user threads and by statistics."""

    @abc.abstractmethod
    def get_all_events(self) -> Iterator[Event]:
        """All events kept. Called by user threads and by statistics."""

    @abc.abstractmethod
    def close_event(self, event: Event) -> None:
        """An event was closed: its ``ended_on`` is set. Called by any thread."""

    @abc.abstractmethod
    def add_event(self, event: Event) -> None:
        """A new event. Called by any thread."""

    @abc.abstractmethod
    def get_events_to_sync(self) -> BaseEventSynchronization | None:
        """The events that the server lacks, None if it has all.

        Called by CommunicatorThread; at most one of the answers is in use at a time.
        """

    @abc.abstractmethod
    def set_cache(self, predicate_id: str, cache: Any) -> None:
        """Keep the state of a predicate, in a way that survives a restart.

        Called by CommunicatorThread.
        """

    @abc.abstractmethod
    def get_cache(self, predicate_id: str) -> Any:
        """The state of a predicate. Called by CommunicatorThread.

        :raises KeyError: none is kept
        """

    @abc.abstractmethod
    def on_predicate_deleted(self, predicate_id: str) -> None:
        """The server deleted a predicate: forget its state. Called by CommunicatorThread."""

    @abc.abstractmethod
    def clear_closed_and_synced_events(self) -> None:
        """Forget events that are closed and that the server has. Called by user threads."""


class NullEventDatabase(BaseEventDatabase):
    """Keeps nothing: for devices that do not use events."""

    def checkpoint(self) -> None:
        """Do nothing. Called by CommunicatorThread about every 60 seconds, maybe more often."""

    def get_open_events(self) -> Iterator[Event]:
        """No events. Called by user threads and by statistics."""
        return iter(())

    def get_all_events(self) -> Iterator[Event]:
        """No events. Called by user threads and by statistics."""
        return iter(())

    def close_event(self, event: Event) -> None:
        """Do nothing. Called by any thread."""

    def add_event(self, event: Event) -> None:
        """Do nothing: the event is dropped. Called by any thread."""

    def get_events_to_sync(self) -> BaseEventSynchronization | None:
        """Nothing to synchronize. Called by CommunicatorThread."""
        return None

    def set_cache(self, predicate_id: str, cache: Any) -> None:
        """Do nothing: the state is dropped. Called by CommunicatorThread."""

    def get_cache(self, predicate_id: str) -> Any:
        """There is never a state. Called by CommunicatorThread.

        :raises KeyError: always
        """
        raise KeyError(predicate_id)

    def on_predicate_deleted(self, predicate_id: str) -> None:
        """Do nothing. Called by CommunicatorThread."""

    def clear_closed_and_synced_events(self) -> None:
        """Do nothing. Called by user threads."""


class InMemoryEventSynchronization(BaseEventSynchronization):
    """Events of an :class:`InMemoryEventDatabase`, each as of a certain change of it. Used by
    CommunicatorThread, one at a time.
    """

    __slots__ = ("_changes", "_database", "_events")

    def __init__(
        self, database: InMemoryEventDatabase, events: list[Event], changes: list[int]
    ) -> None:
        self._database = database
        self._events = events
        self._changes = changes

    def get_events(self) -> list[Event]:
        """The events to send."""
        return self._events

    def acknowledge(self, *uuids: str) -> None:
        """The server has all of the events."""
        self.acknowledge_some(uuids)

    def acknowledge_some(self, uuids: Sequence[str | None]) -> None:
        """The server has those of the events that have a UUID here."""
        entries = zip(self._events, self._changes, uuids, strict=True)
        self._database.on_synced(
            [(event, change, uuid) for event, change, uuid in entries if uuid is not None]
        )


class InMemoryEventDatabase(BaseEventDatabase):
    """Keeps events and the state of predicates until the program ends.

    :param keep_for: for how many seconds to keep closed events that the server has
    :param most_unsent: how many events that the server lacks to keep; None for all
    :param clock: gives seconds since the epoch
    """

    def __init__(
        self,
        keep_for: float = RETENTION,
        *,
        most_unsent: int | None = MOST_UNSENT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._keep_for = keep_for
        self._most_unsent = most_unsent
        self._overflow = Overflow("events")
        self._events: dict[str, Event] = {}
        self._unsynced: dict[str, int] = {}  # event → its newest change that the server lacks
        self._changes = itertools.count()
        self._states: dict[str, Any] = {}

    @property
    def dropped(self) -> int:
        """How many events that the server lacked were dropped, since there were too many of them.
        For any thread.
        """
        return self._overflow.dropped

    def checkpoint(self) -> None:
        """Forget events that have been closed for longer than they are to be kept. Called by
        CommunicatorThread about every 60 seconds, maybe more often.
        """
        self._forget_closed(before=self._clock() - self._keep_for)

    def get_open_events(self) -> Iterator[Event]:
        """Events open at the time of the call. Called by user threads and by statistics."""
        with self._lock:
            return iter([event for event in self._events.values() if not event.is_closed()])

    def get_all_events(self) -> Iterator[Event]:
        """Events kept at the time of the call. Called by user threads and by statistics."""
        with self._lock:
            return iter(list(self._events.values()))

    def close_event(self, event: Event) -> None:
        """Note that an event was closed. Called by any thread."""
        self._note_change(event)

    def add_event(self, event: Event) -> None:
        """Keep a new event. Called by any thread."""
        self._note_change(event)

    def get_events_to_sync(self) -> InMemoryEventSynchronization | None:
        """The events that the server lacks, oldest change first. Called by CommunicatorThread."""
        with self._lock:
            if not self._unsynced:
                return None
            events = [self._events[key] for key in self._unsynced]
            return InMemoryEventSynchronization(self, events, list(self._unsynced.values()))

    def on_synced(self, taken: Sequence[tuple[Event, int, str]]) -> None:
        """The server has events, each as of a change. Called by the synchronization, so by
        CommunicatorThread.

        :param taken: event, change, and the UUID that the server gave the event
        """
        with self._lock:
            for event, change, uuid in taken:
                if event.uuid is None:
                    event.uuid = uuid
                key = event_key(event)
                if self._unsynced.get(key) == change:
                    del self._unsynced[key]
        self._overflow.end()

    def set_cache(self, predicate_id: str, cache: Any) -> None:
        """Keep the state of a predicate. Called by CommunicatorThread."""
        with self._lock:
            self._states[predicate_id] = cache

    def get_cache(self, predicate_id: str) -> Any:
        """The state of a predicate. Called by CommunicatorThread.

        :raises KeyError: none is kept
        """
        with self._lock:
            return self._states[predicate_id]

    def on_predicate_deleted(self, predicate_id: str) -> None:
        """Forget the state of a predicate. Called by CommunicatorThread."""
        with self._lock:
            self._states.pop(predicate_id, None)

    def clear_closed_and_synced_events(self) -> None:
        """Forget events that are closed and that the server has. Called by user threads."""
        self._forget_closed(before=None)

    def _note_change(self, event: Event) -> None:
        key = event_key(event)
        with self._lock:
            self._events[key] = event
            self._unsynced[key] = next(self._changes)
            excess = self._excess(key)
            for old in excess:
                self._forget(old)
        self._overflow.add(len(excess))

    def _excess(self, newest: str) -> list[str]:
        """The keys of events that the server lacks and that are too many. For who has the lock.

        :param newest: the key of an event that is to stay
        """
        count = 0 if self._most_unsent is None else len(self._unsynced) - self._most_unsent
        if count <= 0:
            return []
        excess: list[str] = []
        for rank in range(3):
            old = (
                key for key in self._unsynced if key != newest and _rank(self._events[key]) == rank
            )
            excess += itertools.islice(old, count - len(excess))
        return excess

    def _forget(self, key: str) -> None:
        """Forget an event. For who has the lock."""
        del self._events[key]
        self._unsynced.pop(key, None)

    def _forget_closed(self, before: float | None) -> list[str]:
        """Forget closed events that the server has; those that ended before a time, if one is
        given.

        :return: the keys of those
        """
        with self._lock:
            forgotten = [key for key in self._events if self._is_past(key, before)]
            for key in forgotten:
                self._forget(key)
        return forgotten

    def _is_past(self, key: str, before: float | None) -> bool:
        event = self._events[key]
        if not event.is_closed() or key in self._unsynced:
            return False
        ended_on = event.started_on if event.ended_on is None else event.ended_on
        return before is None or ended_on < before


def _rank(event: Event) -> int:
    """How hard an event that the server lacks is to do without."""
    if not event.is_closed():
        return 1
    return 0 if event.uuid is None else 2


def event_key(event: Event) -> str:
    """What an event is known by on the device; the same before and after the server has it."""
    return event.provisional_uuid or event.get_uuid()
