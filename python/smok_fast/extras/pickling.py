"""The databases that the reference client names ``Pickling*``: each in a file of its own.

A device that is given the path of a state file needs none of these: that one file keeps the same
(:mod:`smok_fast.extras.sqlite`), and writes less.

Invariants:

- A file is replaced in one step: a crash leaves the one before or the one after.
- Reading a file runs nothing that it says (:mod:`smok_fast.state.plain`). One that cannot be used
  is moved aside, with an error in the log, and the database begins empty.
- What cannot be written stays in memory and is written with the next change, or at the next call of
  ``checkpoint`` or ``sync``; that is logged once when it begins.

Metadata, sensors and archiving instructions have the same form as in the reference's files, so that
those are read. Its other files hold objects of its own classes, and are moved aside; ``smok-fast
migrate`` reads them.
"""

from __future__ import annotations

import collections
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smok_fast._files import put_aside, write_file
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.extras.arch_database import InMemoryArchivesDatabase
from smok_fast.extras.baob_database import InMemoryBAOBDatabase
from smok_fast.extras.event_database import RETENTION, InMemoryEventDatabase, event_key
from smok_fast.extras.macros_database import InMemoryMacroDatabase
from smok_fast.extras.metadata_database import InMemoryMetadataDatabase
from smok_fast.extras.pp_database import BasePathpointDatabase
from smok_fast.extras.pp_memory import InMemoryPathpointDatabase
from smok_fast.extras.pp_native import BufferUpload
from smok_fast.extras.pred_database import InMemoryPredicateDatabase, encode_predicate
from smok_fast.extras.quarantine import QuarantineUpload
from smok_fast.extras.sensor_write_database import (
    InMemorySensorWriteDatabase,
    SavingSensorWriteSynchronization,
)
from smok_fast.extras.sensors_database import InMemorySensorDatabase
from smok_fast.macro import Macro
from smok_fast.predicate.event import Event
from smok_fast.sensor import Sensor, SensorWriteEvent
from smok_fast.state.plain import Encoder, decode, dumps, loads

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice
    from smok_fast.pathpoint import PathpointValueType, ValueOrExcept

__all__ = [
    "PicklingArchivesDatabase",
    "PicklingBAOBDatabase",
    "PicklingEventDatabase",
    "PicklingMacroDatabase",
    "PicklingMetadataDatabase",
    "PicklingPathpointDatabase",
    "PicklingPredicateDatabase",
    "PicklingSensorDatabase",
    "PicklingSensorWriteDatabase",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _File:
    """One plain object in a file of its own. Every method may be called by any thread.

    :param path: the file
    :param snapshot: gives the object as it is to be kept now
    """

    def __init__(self, path: str | os.PathLike[str], snapshot: Callable[[], object]) -> None:
        self.path = Path(path).absolute()
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._changed = False
        self._failing = False

    def change(self) -> None:
        """Note that the object has changed; :meth:`save` writes it."""
        self._changed = True

    def save(self) -> None:
        """Write the object if it has changed."""
        problem: Exception | None = None
        with self._lock:
            if not self._changed:
                return
            self._changed = False  # what changes from here on is written next time
            try:
                write_file(self.path, dumps(self._snapshot()), mode=0o600)
            except (OSError, ValueError) as error:
                self._changed = True
                problem = error
            is_news = problem is not None and not self._failing
            self._failing = problem is not None
        if is_news:
            logger.error("%s cannot be written, it waits in memory: %s", self.path, problem)

    def replace(self) -> None:
        """Write the object: it has changed."""
        self.change()
        self.save()


def _load(path: Path, restore: Callable[[Any], T]) -> T | None:
    """What a file holds; None if there is none, or none that can be used.

    :param path: the file
    :param restore: takes what the file holds; raises if that makes no sense
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.error("%s cannot be read: %s", path, error)
        return None
    try:
        return restore(loads(data))
    except Exception as error:  # whatever a foreign file makes of it
        try:
            aside: object = put_aside(path, "damaged")
        except OSError as failure:
            aside = f"there still: {failure}"
        logger.error("%s cannot be used (%s); it is now %s", path, error, aside)
        return None


class PicklingArchivesDatabase(InMemoryArchivesDatabase):
    """Keeps the archiving instructions in a file.

    :param path: the file
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = _File(path, self.get_archiving_instructions)
        self._instructions = _load(self._file.path, _restore_archives) or {}

    def on_archiving_data_sync(self, new_data: Mapping[float, Sequence[str]]) -> None:
        """Replace the instructions. Called by CommunicatorThread."""
        before = self._instructions
        super().on_archiving_data_sync(new_data)
        if before != self._instructions:
            self._file.change()
        self._file.save()


def _restore_archives(content: Any) -> dict[float, list[str]]:
    instructions = {interval: list(names) for interval, names in content.items()}
    for interval, names in instructions.items():
        _check(isinstance(interval, int | float) and interval > 0, "an interval is none")
        _check(all(isinstance(name, str) for name in names), "a name is none")
    return instructions


class PicklingBAOBDatabase(InMemoryBAOBDatabase):
    """Keeps BAOBs in a folder, each in a file whose name is made from its key's hash. Called by
    user threads and by CommunicatorThread.

    :param path: the folder; it is made if it does not exist
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._folder = Path(path).absolute()
        self._disk = threading.Lock()  # is taken before self._lock
        self._unsaved: set[str] = set()
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            logger.error("%s cannot be made: %s", self._folder, error)
        for file in sorted(self._folder.glob("*.baob")):
            self._restore(file)

    def set_baob_value(self, key: str, data: bytes, version: int) -> None:
        """Keep this value under this version."""
        super().set_baob_value(key, data, version)
        self._save(key)

    def delete_baob(self, key: str) -> None:
        """Forget a BAOB.

        :raises KeyError: there is no such BAOB
        """
        super().delete_baob(key)
        self._save(key)

    def sync(self) -> None:
        """Write what could not be written before. May be called by any thread."""
        with self._disk:
            unsaved = list(self._unsaved)
        for key in unsaved:
            self._save(key)

    def _restore(self, file: Path) -> None:
        def restore(content: Any) -> tuple[str, tuple[bytes, int]]:
            key, data, version = content
            _check(isinstance(key, str) and self._file(key) == file, "the key is another one")
            _check(isinstance(data, bytes) and isinstance(version, int), "it is no BAOB")
            return key, (data, version)

        restored = _load(file, restore)
        if restored is not None:
            self._baobs[restored[0]] = restored[1]

    def _save(self, key: str) -> None:
        """Have the file of a key, or its absence, as memory has it."""
        problem: Exception | None = None
        with self._disk:
            file = self._file(key)
            with self._lock:
                baob = self._baobs.get(key)
            try:
                if baob is None:
                    file.unlink(missing_ok=True)
                else:
                    write_file(file, dumps((key, *baob)), mode=0o600)
                self._unsaved.discard(key)
            except (OSError, ValueError) as error:
                self._unsaved.add(key)
                problem = error
        if problem is not None:
            logger.error("BAOB %r cannot be written, it waits in memory: %s", key, problem)

    def _file(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest}.baob"


class PicklingEventDatabase(InMemoryEventDatabase):
    """Keeps events in one file, and the state of predicates in another.

    Events are written as they change, states at each checkpoint. For what a state may be see
    :class:`~smok_fast.extras.SQLiteEventDatabase`.

    :param cache_path: the file of the states
    :param data_path: the file of the events
    :param keep_for: for how many seconds to keep closed events that the server has
    :param classes: classes of which states may hold instances besides plain data
    :param clock: gives seconds since the epoch
    """

    def __init__(
        self,
        cache_path: str | os.PathLike[str],
        data_path: str | os.PathLike[str],
        keep_for: float = RETENTION,
        *,
        classes: Iterable[type] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(keep_for, clock=clock)
        self._encoder = Encoder("The state of predicate", classes)
        self._encoded: dict[str, str | bytes] = {}
        self._cache = _File(cache_path, lambda: dict(self._encoded))
        self._data = _File(data_path, self._events_as_bytes)
        events, unsynced = _load(self._data.path, _restore_events) or ({}, [])
        self._events.update(events)
        self._unsynced.update((key, next(self._changes)) for key in unsynced)
        self._states.update(_load(self._cache.path, self._restore_states) or {})

    def checkpoint(self) -> None:
        """Forget events that have been closed for longer than they are to be kept, and write what
        has changed. Called by CommunicatorThread about every 60 seconds, maybe more often.
        """
        super().checkpoint()
        self._data.save()
        self._cache.save()

    def on_synced(self, taken: Sequence[tuple[Event, int, str]]) -> None:
        """The server has events, each as of a change. Called by CommunicatorThread."""
        super().on_synced(taken)
        self._data.replace()

    def set_cache(self, predicate_id: str, cache: Any) -> None:
        """Keep the state of a predicate; it is written at the next checkpoint. Called by
        CommunicatorThread.
        """
        super().set_cache(predicate_id, cache)
        self._note_state(predicate_id, self._encoder.encode(predicate_id, cache))

    def on_predicate_deleted(self, predicate_id: str) -> None:
        """Forget the state of a predicate. Called by CommunicatorThread."""
        super().on_predicate_deleted(predicate_id)
        self._note_state(predicate_id, None)

    def sync(self) -> None:
        """Write the states of predicates. May be called by any thread."""
        self._cache.replace()

    def sync_data(self) -> None:
        """Write the events. May be called by any thread."""
        self._data.replace()

    def _note_state(self, predicate_id: str, data: str | bytes | None) -> None:
        with self._lock:
            if data == self._encoded.get(predicate_id):
                return
            if data is None:
                del self._encoded[predicate_id]
            else:
                self._encoded[predicate_id] = data
        self._cache.change()

    def _note_change(self, event: Event) -> None:
        super()._note_change(event)
        if _as_bytes(event) is None:
            logger.error("%r stays in memory only: its metadata is no plain data", event)
        self._data.replace()

    def _forget_closed(self, before: float | None) -> list[str]:
        forgotten = super()._forget_closed(before)
        if forgotten:
            self._data.change()
        return forgotten

    def _events_as_bytes(self) -> object:
        with self._lock:
            events = [_as_bytes(event) for event in self._events.values()]
            return [data for data in events if data is not None], list(self._unsynced)

    def _restore_states(self, content: Any) -> dict[str, Any]:
        states = {}
        for predicate_id, data in content.items():
            try:
                states[predicate_id] = decode(data, self._encoder.classes, self._known_event)
            except ValueError as error:
                logger.error("The state of predicate %s makes no sense: %s", predicate_id, error)
            else:
                self._encoded[predicate_id] = data
        return states

    def _known_event(self, event: Event) -> Event:
        return self._events.get(event_key(event), event)


def _as_bytes(event: Event) -> bytes | None:
    """An event as bytes, None if that cannot be: its metadata is the user's."""
    try:
        return event.to_pickle()
    except (TypeError, ValueError):
        return None


def _restore_events(content: Any) -> tuple[dict[str, Event], list[str]]:
    data, unsynced = content
    events = {event_key(event): event for event in map(Event.from_pickle, data)}
    return events, [key for key in unsynced if key in events]


class PicklingMacroDatabase(InMemoryMacroDatabase):
    """Keeps macros, and occurrences that the server has not been told about, in a file.

    :param path: the file
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = _File(path, self._as_bytes)
        self._macros, self._done = _load(self._file.path, _restore_macros) or ([], {})

    def checkpoint(self) -> None:
        """Write what has changed. Called by ArchivingAndMacroThread about every 60 seconds."""
        self._file.save()

    def set_macros(self, macros: list[Macro]) -> None:
        """Replace the macros. Called by CommunicatorThread."""
        super().set_macros(macros)
        self._file.replace()

    def notify_macro_executed(self, macro_id: str, timestamp: float) -> None:
        """Note an occurrence to report. Called by the thread that completed the macro's section,
        mostly OrderExecutorThread.
        """
        super().notify_macro_executed(macro_id, timestamp)
        self._file.replace()

    def notify_macro_synced(self, macro_id: str, timestamp: float) -> None:
        """Forget a reported occurrence; it is written at the next checkpoint. Called by
        CommunicatorThread.
        """
        super().notify_macro_synced(macro_id, timestamp)
        self._file.change()

    def _as_bytes(self) -> object:
        with self._lock:
            return [macro.to_pickle() for macro in self._macros], list(self._done)


def _restore_macros(content: Any) -> tuple[list[Macro], dict[tuple[str, float], None]]:
    data, done = content
    macros = [Macro.from_pickle(macro) for macro in data]
    executed = dict.fromkeys((macro_id, timestamp) for macro_id, timestamp in done)
    for macro in macros:
        macro.leave_out({ts for macro_id, ts in executed if macro_id == macro.macro_id})
    return macros, executed


class PicklingMetadataDatabase(InMemoryMetadataDatabase):
    """Keeps metadata in a file. Called by user threads and by statistics.

    :param path: the file
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = _File(path, self._copy)
        self._plain = _load(self._file.path, _restore_metadata) or {}

    def put_plain(self, key: str, value: str, timestamp: float | None = None) -> None:
        """Keep a value."""
        super().put_plain(key, value, timestamp)
        self._file.replace()

    def update_plain(self, key: str, value: str, timestamp: float) -> None:
        """Keep a value, unless a newer one is kept."""
        before = self._plain.get(key)
        super().update_plain(key, value, timestamp)
        if self._plain.get(key) != before:
            self._file.replace()

    def delete_plain(self, key: str) -> None:
        """Forget a value."""
        super().delete_plain(key)
        self._file.replace()

    def pickle(self) -> None:
        """Write the file. May be called by any thread."""
        self._file.replace()

    def _copy(self) -> object:
        with self._lock:
            return dict(self._plain)


def _restore_metadata(content: Any) -> dict[str, tuple[str, float]]:
    plain = {key: (value, timestamp) for key, (value, timestamp) in content.items()}
    for key, (value, timestamp) in plain.items():
        _check(isinstance(key, str) and isinstance(value, str), "a text is none")
        _check(isinstance(timestamp, int | float), "a time is none")
    return plain


class PicklingPathpointDatabase(BasePathpointDatabase):
    """Keeps samples in memory, and copies all of them to a file at each checkpoint: for few
    pathpoints that are read rarely.

    What was recorded since the last checkpoint is lost with the program: call :meth:`checkpoint`
    before it ends.

    :param path: the file
    :param capacity: how many samples are kept at most
    """

    __slots__ = ("_capacity", "_file", "_lock", "_memory", "_names", "_saved")

    def __init__(self, path: str | os.PathLike[str], capacity: int = 1_000_000) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}
        self._file = _File(path, self._dump)
        self._memory = InMemoryPathpointDatabase(capacity)
        _load(self._file.path, self._fill)
        self._saved = self._memory.buffer.statistics()

    def checkpoint(self) -> None:
        """Write the samples, if there are new ones or the server has more of them. Called by
        CommunicatorThread about every 60 seconds, maybe more often.
        """
        statistics = self._memory.buffer.statistics()
        if statistics != self._saved:
            self._saved = statistics
            self._file.change()
        self._file.save()

    def on_new_data(
        self, pathpoint: str, timestamp: float, value_or_exception: ValueOrExcept
    ) -> None:
        """Record a sample. Called by OrderExecutorThread, and by user threads that call
        ``Pathpoint.set_new_value``.

        :raises ValueError: the pathpoint cannot hold the value
        """
        with self._lock:
            self._memory.on_new_data(pathpoint, timestamp, value_or_exception)
            self._names[pathpoint] = None

    def get_current_value(self, pathpoint: str) -> tuple[int, PathpointValueType]:
        """The newest value of a pathpoint. Called by user threads."""
        return self._memory.get_current_value(pathpoint)

    def get_archive_data(
        self, pathpoint: str, start: float | None, stop: float | None
    ) -> Iterator[tuple[int, ValueOrExcept]]:
        """Samples of a pathpoint with start <= timestamp <= stop, oldest first. Called by user
        threads.
        """
        return self._memory.get_archive_data(pathpoint, start, stop)

    def get_data_to_sync(self) -> BufferUpload | QuarantineUpload | None:
        """The next upload, or None. Called by CommunicatorThread."""
        return self._memory.get_data_to_sync()

    def confirm_synced_up_to(self, pathpoint: str, timestamp: float) -> None:
        """The server has the samples of a pathpoint up to a time. An upload that is on its way is
        offered again. Called by CommunicatorThread.

        Acknowledging an upload does not need this.

        :param pathpoint: name of the pathpoint
        :param timestamp: milliseconds since the epoch
        """
        content = self._dump()
        if pathpoint not in content:
            return
        unsent, samples = content[pathpoint]
        later = sum(sample[0] > timestamp for sample in json.loads(samples))
        content[pathpoint] = (min(unsent, later), samples)
        self._fill(content)

    def _dump(self) -> dict[str, tuple[int, str]]:
        """For each pathpoint how many of its last samples the server lacks, and its samples as
        JSON, which is faster to check than as many pickled values.
        """
        content = {}
        with self._lock:
            for name in self._names:
                recorded, done = self._memory.buffer.counts(name)
                samples = [
                    [ts, None, value.reason.value]
                    if isinstance(value, OperationFailedError) and value.reason is not None
                    else [ts, value]
                    for ts, value in self._memory.get_archive_data(name, None, None)
                ]
                content[name] = (min(recorded - done, len(samples)), json.dumps(samples))
        return content

    def _fill(self, content: Any) -> None:
        """Have these samples and no others."""
        memory = InMemoryPathpointDatabase(self._capacity)
        unsent: dict[str, list[list[Any]]] = {}
        for name, (count, text) in content.items():
            samples = json.loads(text)
            _check(0 <= count <= len(samples), "a count is none")
            unsent[name] = samples[len(samples) - count :]
            _record(memory, name, samples[: len(samples) - count])
        while (upload := memory.get_data_to_sync()) is not None:
            upload.acknowledge()
        for name, samples in unsent.items():
            _record(memory, name, samples)
        with self._lock:
            self._memory = memory
            self._names = dict.fromkeys(content)


def _record(memory: InMemoryPathpointDatabase, name: str, samples: list[list[Any]]) -> None:
    for timestamp, value, *code in samples:
        failure = OperationFailedError(OperationFailedReason(code[0]), timestamp) if code else value
        memory.on_new_data(name, timestamp, failure)


class PicklingPredicateDatabase(InMemoryPredicateDatabase):
    """Keeps predicates in a file. For what they may hold see
    :class:`~smok_fast.extras.SQLitePredicateDatabase`. Called by CommunicatorThread.

    :param path: the file
    :param classes: classes of which they may hold instances besides plain data
    """

    def __init__(self, path: str | os.PathLike[str], *, classes: Iterable[type] = ()) -> None:
        super().__init__()
        self._encoder = Encoder("Predicate", classes)
        self._encoded: list[str | bytes] = []
        self._file = _File(path, lambda: self._encoded)
        self._predicates = _load(self._file.path, self._restore) or {}

    def update_predicate(self, v: dict[str, Any]) -> None:
        """Replace one predicate."""
        super().update_predicate(v)
        self._save()

    def set_new_predicates(self, v: list[dict[str, Any]]) -> None:
        """Replace all predicates."""
        super().set_new_predicates(v)
        self._save()

    def _save(self) -> None:
        encoded = [
            data
            for predicate in self.get_all_predicates()
            if (data := encode_predicate(self._encoder, predicate)) is not None
        ]
        if encoded != self._encoded:
            self._encoded = encoded
            self._file.change()
        self._file.save()

    def _restore(self, content: Any) -> dict[str, dict[str, Any]]:
        predicates = {}
        for data in content:
            predicate = decode(data, self._encoder.classes)
            predicates[predicate["predicate_id"]] = predicate
        self._encoded = list(content)
        return predicates


class PicklingSensorDatabase(InMemorySensorDatabase):
    """Keeps sensors in a file.

    :param path: the file
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = _File(path, lambda: self._kept)
        self._kept = _load(self._file.path, _restore_sensors) or {}

    def on_register(self, device: SMOKDevice) -> None:
        """From now on it belongs to this device, and has the sensors of the file. Called by the
        constructor of SMOKDevice.
        """
        super().on_register(device)
        sensors = []
        for fields in self._kept.values():
            try:
                sensors.append(Sensor(device, *fields))
            except ValueError as error:
                logger.error("Sensor %r in %s is malformed: %s", fields, self._file.path, error)
        super().on_sensors_sync(sensors)

    def on_sensors_sync(self, sensors: list[Sensor]) -> None:
        """Replace the sensors. Called by CommunicatorThread."""
        super().on_sensors_sync(sensors)
        kept = {sensor.fqts: (sensor.fqts, sensor.path, sensor.type_name) for sensor in sensors}
        if kept != self._kept:
            self._kept = kept
            self._file.change()
        self._file.save()


def _restore_sensors(content: Any) -> dict[str, tuple[str, str, str]]:
    kept = {}
    for fqts, (own_fqts, path, type_name) in content.items():
        kept[fqts] = (own_fqts, path, type_name)
        _check(all(isinstance(field, str) for field in (fqts, *kept[fqts])), "a text is none")
    return kept


class PicklingSensorWriteDatabase(InMemorySensorWriteDatabase):
    """Keeps sensor writes in a file until the server has them.

    :param pickle_addr: the file
    """

    def __init__(self, pickle_addr: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = _File(pickle_addr, self._copy)
        writes = _load(self._file.path, _restore_writes) or ()
        self._take_up(collections.Counter(writes))

    def add_sw(self, event: SensorWriteEvent) -> None:
        """Keep a write. Called by user threads."""
        super().add_sw(event)
        self._file.replace()

    def on_synced_sw(self, event: SensorWriteEvent) -> None:
        """Forget a write; :meth:`sync` writes that to the file. Called by CommunicatorThread."""
        super().on_synced_sw(event)
        self._file.change()

    def get_sw_sync(self) -> SavingSensorWriteSynchronization:
        """All writes kept at the time of the call. Called by CommunicatorThread."""
        return SavingSensorWriteSynchronization(super().get_sw_sync().events, self, self.sync)

    def sync(self) -> None:
        """Write what has changed. May be called by any thread."""
        self._file.save()

    def _copy(self) -> object:
        with self._lock:
            return [event.to_json() for event in self._events.elements()]


def _restore_writes(content: Any) -> list[SensorWriteEvent]:
    events = [SensorWriteEvent(**fields) for fields in content]
    hash(tuple(events))  # raises if a field is none that can be kept
    return events


def _check(condition: bool, otherwise: str) -> None:
    """Go on if what a file holds makes sense.

    :raises ValueError: it does not
    """
    if not condition:
        raise ValueError(otherwise)
