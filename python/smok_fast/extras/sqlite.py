"""The databases of a device that has a state file: those in memory, which keep their rows there as
well.

Invariants:

- What a database was told is on the disk when it returns, unless the state file says otherwise, or
  the method's docstring does: what the server tells again, or what costs no more than a call told
  twice, waits for the next commit or checkpoint.
- A row that makes no sense is left out: see :meth:`~smok_fast.state.Table.restored`.
- Under a database's lock its rows are only noted; they are written, and values of users' classes
  are encoded, without it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smok_fast.extras.arch_database import InMemoryArchivesDatabase
from smok_fast.extras.baob_database import BaseBAOBDatabase
from smok_fast.extras.event_database import RETENTION, InMemoryEventDatabase, event_key
from smok_fast.extras.macros_database import InMemoryMacroDatabase
from smok_fast.extras.metadata_database import InMemoryMetadataDatabase
from smok_fast.extras.pred_database import InMemoryPredicateDatabase, encode_predicate
from smok_fast.extras.sensor_write_database import (
    InMemorySensorWriteDatabase,
    SavingSensorWriteSynchronization,
)
from smok_fast.extras.sensors_database import InMemorySensorDatabase
from smok_fast.macro import Macro
from smok_fast.predicate.event import Event
from smok_fast.sensor import Sensor, SensorWriteEvent
from smok_fast.state.plain import Encoder, decode

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.state import StateFile

__all__ = [
    "SQLiteArchivesDatabase",
    "SQLiteBAOBDatabase",
    "SQLiteEventDatabase",
    "SQLiteMacroDatabase",
    "SQLiteMetadataDatabase",
    "SQLitePredicateDatabase",
    "SQLiteSensorDatabase",
    "SQLiteSensorWriteDatabase",
]

logger = logging.getLogger(__name__)

# States of a macro's occurrence
PENDING = "pending"
STARTED = "started"
DONE = "done"

#: How many equal sensor writes may be kept; more of them are a damaged row.
MOST_EQUAL_WRITES = 100_000


class SQLiteArchivesDatabase(InMemoryArchivesDatabase):
    """Keeps the archiving instructions in the state file.

    :param state: the state file
    """

    def __init__(self, state: StateFile) -> None:
        super().__init__()
        self._state = state
        self._table = state.tables["archives"]
        self._instructions = dict(self._table.restored(_restore_archive))

    def on_archiving_data_sync(self, new_data: Mapping[float, Sequence[str]]) -> None:
        """Replace the instructions. Called by CommunicatorThread."""
        super().on_archiving_data_sync(new_data)
        self._table.replace(
            [(interval, json.dumps(list(paths))) for interval, paths in new_data.items()]
        )
        self._state.commit()


def _restore_archive(interval: float, text: str) -> tuple[float, list[str]]:
    if not (isinstance(interval, int | float) and 0 < interval < math.inf):
        raise ValueError("no interval")
    return interval, _list_of(str, json.loads(text))


class SQLiteBAOBDatabase(BaseBAOBDatabase):
    """Keeps BAOBs in the state file, and only their keys and versions in memory. Called by user
    threads and by CommunicatorThread.

    :param state: the state file
    """

    def __init__(self, state: StateFile) -> None:
        self._state = state
        self._table = state.tables["baobs"]

    def get_baob_value(self, key: str) -> bytes:
        """The value of a BAOB, from the file.

        :raises KeyError: there is no such BAOB, or it cannot be read; the latter is logged
        """
        value = self._state.read_large(self._table, key)
        if value is None:
            raise KeyError(key)
        return value

    def delete_baob(self, key: str) -> None:
        """Forget a BAOB.

        :raises KeyError: there is no such BAOB
        """
        if not self._table.delete(key):
            raise KeyError(key)
        self._state.commit()

    def get_baob_version(self, key: str) -> int:
        """The version of a BAOB.

        :raises KeyError: there is no such BAOB
        """
        row = self._table.get(key)
        if row is None or not isinstance(row[1], int):
            raise KeyError(key)
        return row[1]

    def get_all_keys(self) -> Iterator[str]:
        """Keys of all BAOBs kept at the time of the call."""
        return iter([key for key, *_ in self._table.rows() if isinstance(key, str)])

    def set_baob_value(self, key: str, data: bytes, version: int) -> None:
        """Keep this value under this version, in one transaction."""
        self._table.put((key, version, bytes(data)))
        self._state.commit()


class SQLiteEventDatabase(InMemoryEventDatabase):
    """Keeps events and the state of predicates in the state file.

    A state may be any plain data: what JSON knows, tuples, sets, bytes, dates and times, decimals,
    UUIDs, members of enumerations, events, and containers of these. What else it holds is logged,
    and the state then lasts until the program ends.

    :param state: the state file
    :param keep_for: for how many seconds to keep closed events that the server has
    :param most_unsent: how many events that the server lacks to keep, unless the file holds more
        already; None for all
    :param classes: classes of which states may hold instances besides. Pickle makes them anew, from
        what the file says: allow classes that can bear that
    :param clock: gives seconds since the epoch
    """

    def __init__(
        self,
        state: StateFile,
        keep_for: float = RETENTION,
        *,
        most_unsent: int | None = None,
        classes: Iterable[type] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(keep_for, most_unsent=most_unsent, clock=clock)
        self._state = state
        self._table = state.tables["events"]
        self._state_table = state.tables["predicate_states"]
        self._encoder = Encoder("The state of predicate", classes)
        for key, event, unsynced in self._table.restored(_restore_event):
            self._events[key] = event
            if unsynced:
                self._unsynced[key] = next(self._changes)
        if most_unsent is not None:
            self._most_unsent = max(most_unsent, len(self._unsynced))
        self._states.update(self._state_table.restored(self._restore_state))

    def checkpoint(self) -> None:
        """Forget events that have been closed for longer than they are to be kept, and write what
        waits. Called by CommunicatorThread about every 60 seconds, maybe more often.
        """
        super().checkpoint()
        self._state.checkpoint()

    def on_synced(self, taken: Sequence[tuple[Event, int, str]]) -> None:
        """The server has events, each as of a change. Called by CommunicatorThread."""
        super().on_synced(taken)
        self._save(event for event, _, _ in taken)

    def set_cache(self, predicate_id: str, cache: Any) -> None:
        """Keep the state of a predicate; it is written at the next checkpoint at the latest. Called
        by CommunicatorThread.
        """
        super().set_cache(predicate_id, cache)
        data = self._encoder.encode(predicate_id, cache)
        if data is None:
            self._state_table.delete(predicate_id)  # it is out of date
        else:
            self._state_table.put((predicate_id, data))

    def on_predicate_deleted(self, predicate_id: str) -> None:
        """Forget the state of a predicate. Called by CommunicatorThread."""
        super().on_predicate_deleted(predicate_id)
        self._state_table.delete(predicate_id)
        self._state.commit()

    def _note_change(self, event: Event) -> None:
        super()._note_change(event)
        self._save([event])

    def _forget(self, key: str) -> None:
        super()._forget(key)
        self._table.delete(key)

    def _save(self, events: Iterable[Event]) -> None:
        """Write events as they are now."""
        problems = []
        with self._lock:
            for event in events:
                key = event_key(event)
                if key not in self._events:
                    continue
                try:
                    text = event.to_pickle().decode()
                except (TypeError, ValueError) as error:
                    problems.append((event, error))
                else:
                    self._table.put((key, text, int(key in self._unsynced)))
        for event, problem in problems:
            logger.error("%r stays in memory only: %s", event, problem)
        self._state.commit()

    def _restore_state(self, predicate_id: str, data: str | bytes) -> tuple[str, Any]:
        return predicate_id, decode(data, self._encoder.classes, self._known_event)

    def _known_event(self, event: Event) -> Event:
        """The event of the database in the place of one that a state has kept."""
        return self._events.get(event_key(event), event)


def _restore_event(key: str, text: str, unsynced: int) -> tuple[str, Event, int]:
    event = Event.from_pickle(text.encode())
    if event_key(event) != key:
        raise ValueError("the event is another one")
    return key, event, unsynced


class SQLiteMacroDatabase(InMemoryMacroDatabase):
    """Keeps macros and their occurrences in the state file.

    An occurrence is pending, then maybe started, then done, until the server was told. The server's
    list replaces the pending ones only.

    :param state: the state file
    """

    def __init__(self, state: StateFile) -> None:
        super().__init__()
        self._state = state
        self._table = state.tables["macros"]
        self._occurrences = state.tables["macro_occurrences"]
        pending: dict[str, list[float]] = {}
        for macro_id, timestamp, progress in self._occurrences.restored(_restore_occurrence):
            if progress == PENDING:
                pending.setdefault(macro_id, []).append(timestamp)
            elif progress == DONE:
                self._done[macro_id, timestamp] = None
        self._macros = [
            Macro(macro_id, commands, pending.get(macro_id, ()))
            for macro_id, commands in self._table.restored(_restore_macro)
        ]

    def checkpoint(self) -> None:
        """Write what waits. Called by ArchivingAndMacroThread about every 60 seconds."""
        self._state.checkpoint()

    def set_macros(self, macros: list[Macro]) -> None:
        """Replace the macros, and their pending occurrences. Called by CommunicatorThread."""
        occurrences = {
            (macro.macro_id, timestamp): (macro.macro_id, timestamp, PENDING)
            for macro in macros
            for timestamp in macro.occurrences_not_done
        }
        super().set_macros(macros)  # from here on they may be executed
        with self._lock:
            self._table.replace([(macro.macro_id, json.dumps(macro.commands)) for macro in macros])
            for row in self._occurrences.rows():
                if row[-1] != PENDING:
                    occurrences[row[0], row[1]] = row
            self._occurrences.replace(occurrences.values())
        self._state.commit()

    def notify_macro_started(self, macro_id: str, timestamp: float) -> None:
        """An occurrence is about to be executed. A program that is started after a crash has it
        from :meth:`get_started_macros`. Called by OrderExecutorThread.
        """
        with self._lock:
            row = self._occurrences.get(macro_id, timestamp)
            if row is None or row[-1] == PENDING:
                self._occurrences.put((macro_id, timestamp, STARTED))
        self._state.commit()

    def get_started_macros(self) -> list[tuple[str, float]]:
        """Occurrences whose execution was started and did not end, as (macro ID, timestamp). Called
        by ArchivingAndMacroThread when it begins.
        """
        return [
            (macro_id, timestamp)
            for macro_id, timestamp, progress in self._occurrences.rows()
            if progress == STARTED
        ]

    def notify_macro_executed(self, macro_id: str, timestamp: float) -> None:
        """Note an occurrence to report. Called by the thread that completed the macro's section,
        mostly OrderExecutorThread.
        """
        super().notify_macro_executed(macro_id, timestamp)
        with self._lock:
            self._occurrences.put((macro_id, timestamp, DONE))
        self._state.commit()

    def notify_macro_synced(self, macro_id: str, timestamp: float) -> None:
        """Forget a reported occurrence; it is written at the next checkpoint at the latest. Called
        by CommunicatorThread.
        """
        super().notify_macro_synced(macro_id, timestamp)
        with self._lock:
            self._occurrences.delete(macro_id, timestamp)


def _restore_occurrence(macro_id: str, timestamp: float, progress: str) -> tuple[str, float, str]:
    if not isinstance(timestamp, int | float):
        raise TypeError("no timestamp")
    return macro_id, timestamp, progress


def _restore_macro(macro_id: str, text: str) -> tuple[str, dict[str, Any]]:
    commands = json.loads(text)
    if not isinstance(macro_id, str) or not isinstance(commands, dict):
        raise TypeError("no macro")
    _list_of(int | float | str, list(commands.values()))
    return macro_id, commands


class SQLiteMetadataDatabase(InMemoryMetadataDatabase):
    """Keeps metadata in the state file. Called by user threads and by statistics.

    :param state: the state file
    """

    def __init__(self, state: StateFile) -> None:
        super().__init__()
        self._state = state
        self._table = state.tables["metadata"]
        self._plain.update(self._table.restored(_restore_metadata))

    def put_plain(self, key: str, value: str, timestamp: float | None = None) -> None:
        """Keep a value."""
        super().put_plain(key, value, timestamp)
        self._save(key)

    def update_plain(self, key: str, value: str, timestamp: float) -> None:
        """Keep a value, unless a newer one is kept."""
        super().update_plain(key, value, timestamp)
        self._save(key)

    def delete_plain(self, key: str) -> None:
        """Forget a value."""
        super().delete_plain(key)
        self._save(key)

    def _save(self, key: str) -> None:
        with self._lock:
            kept = self._plain.get(key)
            if kept is None:
                self._table.delete(key)
            else:
                self._table.put((key, *kept))
        self._state.commit()


def _restore_metadata(key: str, value: str, timestamp: float) -> tuple[str, tuple[str, float]]:
    _list_of(str, [key, value])
    _list_of(int | float, [timestamp])
    return key, (value, timestamp)


class SQLitePredicateDatabase(InMemoryPredicateDatabase):
    """Keeps predicates in the state file; without their states, if those are no plain data (see
    :class:`SQLiteEventDatabase`). Called by CommunicatorThread.

    :param state: the state file
    :param classes: classes of which they may hold instances besides plain data
    """

    def __init__(self, state: StateFile, *, classes: Iterable[type] = ()) -> None:
        super().__init__()
        self._state = state
        self._table = state.tables["predicates"]
        self._encoder = Encoder("Predicate", classes)
        self._predicates.update(self._table.restored(self._restore))

    def update_predicate(self, v: dict[str, Any]) -> None:
        """Replace one predicate; it is written at the next checkpoint at the latest."""
        super().update_predicate(v)
        for row in self._encoded([v]):
            self._table.put(row)

    def set_new_predicates(self, v: list[dict[str, Any]]) -> None:
        """Replace all predicates."""
        super().set_new_predicates(v)
        self._table.replace(self._encoded(v))
        self._state.commit()

    def _encoded(self, predicates: Iterable[dict[str, Any]]) -> list[tuple[str, str | bytes]]:
        rows = []
        for predicate in predicates:
            data = encode_predicate(self._encoder, predicate)
            if data is not None:
                rows.append((predicate["predicate_id"], data))
        return rows

    def _restore(self, predicate_id: str, data: str | bytes) -> tuple[str, dict[str, Any]]:
        predicate = decode(data, self._encoder.classes)
        if predicate["predicate_id"] != predicate_id:
            raise ValueError("the predicate is another one")
        return predicate_id, predicate


class SQLiteSensorDatabase(InMemorySensorDatabase):
    """Keeps sensors in the state file.

    :param state: the state file
    """

    def __init__(self, state: StateFile) -> None:
        super().__init__()
        self._state = state
        self._table = state.tables["sensors"]

    def on_register(self, device: SMOKDevice) -> None:
        """From now on it belongs to this device, and has the sensors of the file. Called by the
        constructor of SMOKDevice.
        """
        super().on_register(device)

        def restore(fqts: str, path: str, type_name: str) -> Sensor:
            _list_of(str, [fqts, path, type_name])
            return Sensor(device, fqts, path, type_name)

        super().on_sensors_sync(list(self._table.restored(restore)))

    def on_sensors_sync(self, sensors: list[Sensor]) -> None:
        """Replace the sensors. Called by CommunicatorThread."""
        super().on_sensors_sync(sensors)
        self._table.replace([(sensor.fqts, sensor.path, sensor.type_name) for sensor in sensors])
        self._state.commit()


class SQLiteSensorWriteDatabase(InMemorySensorWriteDatabase):
    """Keeps sensor writes in the state file until the server has them.

    :param state: the state file
    :param most_unsent: how many to keep, unless the file holds more already; None for all
    """

    def __init__(self, state: StateFile, *, most_unsent: int | None = None) -> None:
        super().__init__(most_unsent=most_unsent)
        self._state = state
        self._table = state.tables["sensor_writes"]
        self._take_up(dict(self._table.restored(_restore_write)))

    def add_sw(self, event: SensorWriteEvent) -> None:
        """Keep a write. Called by user threads."""
        for changed in (*self._add(event), event):
            self._note(changed)
        self._state.commit()

    def on_synced_sw(self, event: SensorWriteEvent) -> None:
        """Forget a write; it is written at the next checkpoint at the latest. Called by
        CommunicatorThread.
        """
        super().on_synced_sw(event)
        self._note(event)

    def get_sw_sync(self) -> SavingSensorWriteSynchronization:
        """All writes kept at the time of the call. Called by CommunicatorThread."""
        events = super().get_sw_sync().events
        return SavingSensorWriteSynchronization(events, self, self._state.commit)

    def _note(self, event: SensorWriteEvent) -> None:
        try:
            text = json.dumps(event.to_json())
        except (TypeError, ValueError) as error:
            logger.error("%r stays in memory only: %s", event, error)
            return
        with self._lock:
            times = self._events.get(event, 0)
            if times:
                self._table.put((text, times))
            else:
                self._table.delete(text)


def _restore_write(text: str, times: int) -> tuple[SensorWriteEvent, int]:
    if not (isinstance(times, int) and 0 < times <= MOST_EQUAL_WRITES):
        raise ValueError("no number of equal writes")
    event = SensorWriteEvent(**json.loads(text))
    hash(event)  # raises if a field is none that can be kept
    return event, times


def _list_of(kind: Any, values: object) -> list[Any]:
    """A list all of whose values are of a kind.

    :raises TypeError: it is none
    """
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise TypeError(f"no list of {kind}")
    return values
