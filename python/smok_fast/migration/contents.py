"""What the reference's files hold, and how it goes into the state of this package's device.

Each of its databases has a class here, which is recognised by the form of the content, since users
choose the names of the files. The content is then checked in full: a file makes sense as a whole,
or is refused. What this package cannot keep, though the file makes sense, is left out with a
reason.

What is there in the state already stays. What the file has beyond that is added; of metadata the
newer value counts, of a BAOB the higher version.
"""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from smok_fast._urls import segment
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.extras import (
    BufferedPathpointDatabase,
    SQLiteArchivesDatabase,
    SQLiteBAOBDatabase,
    SQLiteEventDatabase,
    SQLiteMacroDatabase,
    SQLiteMetadataDatabase,
    SQLitePredicateDatabase,
    SQLiteSensorWriteDatabase,
)
from smok_fast.extras.event_database import event_key
from smok_fast.extras.sqlite import PENDING
from smok_fast.macro import Macro
from smok_fast.migration.pickles import Bag, Foreign, UnreadablePickle, is_number
from smok_fast.predicate import DisabledTime, Event
from smok_fast.sensor import SensorWriteEvent
from smok_fast.state import StateFile
from smok_fast.state.plain import encode

__all__ = ["BAOBs", "Content", "Samples", "StateContent", "States", "recognise"]

T = TypeVar("T")

#: How long a BAOB may be.
MOST_BAOB_BYTES = 256 << 20


class Content(abc.ABC):
    """What one of the reference's databases has kept.

    :cvar kind: what it is called
    :ivar found: how many things it consists of
    :ivar unsent: how many of them the server lacks; None if the file does not tell
    :ivar left_out: why some of them cannot go over
    """

    kind: ClassVar[str]

    def __init__(self) -> None:
        self.found = 0
        self.unsent: int | None = None
        self.left_out: list[str] = []

    def _leave_out(self, what: str, value: object, error: Exception) -> None:
        foreign = _foreign_in(value)
        reason = str(error) if foreign is None else f"it holds an object of {foreign.name}"
        self.left_out.append(f"{what:.100}: {reason:.200}")


class StateContent(Content):
    """What goes into the state file."""

    @abc.abstractmethod
    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Put it into a state file. The caller commits that.

        :param state: the state file
        :param is_new: whether no device has had it before
        :return: how many things are in there now that were not before
        """


def recognise(value: Any) -> Content | None:
    """What the value of a pickle is; None if it is empty, so that nobody can tell.

    :raises UnreadablePickle: it is nothing that the reference keeps, or makes no sense
    """
    content: Callable[[Any], Content] | None = None
    if isinstance(value, Bag):
        content = SensorWrites
    elif isinstance(value, dict):
        content = _form_of_mapping(value) if value else None
    elif isinstance(value, tuple) and len(value) == 2:
        content = _form_of_pair(*value)
    else:
        raise _unknown(value)
    return content(value) if value and content is not None else None


def _form_of_mapping(value: dict[Any, Any]) -> Callable[[Any], Content]:
    items = value.items()
    if all(is_number(key) for key in value):
        return Archives
    if not all(isinstance(key, str) for key in value):
        raise _unknown(value)
    if all(isinstance(row, tuple) and len(row) == 3 and row[0] == key for key, row in items):
        return Sensors
    if all(isinstance(row, dict) and row.get("predicate_id") == key for key, row in items):
        return Predicates
    if all(
        isinstance(row, tuple) and len(row) == 2 and is_number(row[1]) for row in value.values()
    ):
        return Metadata
    return States


def _form_of_pair(first: Any, second: Any) -> Callable[[Any], Content] | None:
    if isinstance(first, dict) and isinstance(second, dict):
        return Samples if first or second else None
    if not isinstance(first, list) or not isinstance(second, list):
        raise _unknown((first, second))
    if not first and not second:
        return None
    if any(isinstance(item, Event) for item in (*first, *second)):
        return Events
    if any(isinstance(macro, Macro) for macro in first) or not first:
        return Macros
    raise _unknown(first[0])


def _unknown(value: object) -> UnreadablePickle:
    return UnreadablePickle(f"it holds {_name_of(value)}, which is nothing that smok keeps")


# --- Events, and states of predicates -------------------------------------------------------------


class Events(StateContent):
    """Events: all that are kept, and those that the server lacks."""

    kind = "events"

    def __init__(self, value: tuple[list[Any], list[Any]]) -> None:
        super().__init__()
        kept, unsent = ([_an(Event, event) for event in events] for events in value)
        events = {event_key(event): event for event in (*kept, *unsent)}
        self.found = len(events)
        for key, event in list(events.items()):
            try:
                event.to_pickle()
            except (TypeError, ValueError) as error:
                del events[key]
                self._leave_out(f"event {event.get_uuid()}", event.metadata, error)
        # In the order in which the server is to be told; then those that never came on the list
        order = dict.fromkeys(key for key in map(event_key, unsent) if key in events)
        order.update((key, None) for key, event in events.items() if event.uuid is None)
        self._unsent = [events[key] for key in order]
        self._sent = [event for key, event in events.items() if key not in order]
        self.unsent = len(self._unsent)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add events that are not known yet."""
        database = SQLiteEventDatabase(state)
        known = {uuid for e in database.get_all_events() for uuid in (e.uuid, e.provisional_uuid)}
        known.discard(None)
        sent, unsent = (
            [event for event in events if not known & {event.uuid, event.provisional_uuid}]
            for events in (self._sent, self._unsent)
        )
        for event in sent:
            database.add_event(event)
        upload = database.get_events_to_sync()
        if upload is not None:
            told = {event_key(event) for event in sent}
            upload.acknowledge_some(
                [event.uuid if event_key(event) in told else None for event in upload.get_events()]
            )
        for event in unsent:
            database.add_event(event)
        return len(sent) + len(unsent)


class States(StateContent):
    """States of predicates, which are what users' statistics have made them."""

    kind = "states of predicates"

    def __init__(self, value: dict[str, Any]) -> None:
        super().__init__()
        self.found = len(value)
        self._states: dict[str, Any] = {}
        for predicate_id, state in value.items():
            try:
                encode(state)
            except ValueError as error:
                self._leave_out(f"the state of predicate {predicate_id}", state, error)
            else:
                self._states[predicate_id] = state

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add states of predicates that have none."""
        database = SQLiteEventDatabase(state)
        table = state.tables["predicate_states"]
        added = [key for key in self._states if table.get(key) is None]
        for predicate_id in added:
            database.set_cache(predicate_id, self._states[predicate_id])
        return len(added)


class Predicates(StateContent):
    """Predicates, which the server has set up."""

    kind = "predicates"

    def __init__(self, value: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.found = len(value)
        self._predicates: list[dict[str, Any]] = []
        for predicate_id, predicate in value.items():
            silencing = predicate.get("silencing")
            _check(isinstance(predicate.get("verbose_name"), str), "a predicate has no name")
            _check(isinstance(silencing, list), "a predicate has no times of silence")
            for window in silencing or ():
                _an(DisabledTime, window)
            _check("configuration" in predicate, "a predicate has no configuration")
            _check(all(isinstance(name, str) for name in predicate), "a name is no text")
            self._add(predicate_id, predicate)

    def _add(self, predicate_id: str, predicate: dict[str, Any]) -> None:
        try:
            encode(predicate.get("state"))
        except ValueError as error:
            state = predicate["state"]
            self._leave_out(f"the state that predicate {predicate_id} starts with", state, error)
            predicate = {**predicate, "state": None}
        try:
            encode(predicate)
        except ValueError as error:
            self._leave_out(f"predicate {predicate_id}", predicate, error)
        else:
            self._predicates.append(predicate)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add predicates that are not known yet."""
        database = SQLitePredicateDatabase(state)
        table = state.tables["predicates"]
        added = [row for row in self._predicates if table.get(row["predicate_id"]) is None]
        for predicate in added:
            database.update_predicate(predicate)
        return len(added)


# --- What the server keeps, too -------------------------------------------------------------------


class Macros(StateContent):
    """Macros, and occurrences that the server has not been told about."""

    kind = "macros"

    def __init__(self, value: tuple[list[Any], list[Any]]) -> None:
        super().__init__()
        self._macros = [_an(Macro, macro) for macro in value[0]]
        self._done: list[tuple[str, float]] = []
        for done in value[1]:
            _check(
                isinstance(done, tuple)
                and len(done) == 2
                and isinstance(done[0], str)
                and is_number(done[1]),
                "an executed occurrence of a macro is none",
            )
            self._done.append(done)
        self.found = len(self._macros) + len(self._done)
        self.unsent = len(self._done)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add executed occurrences; and macros, unless a device has had the state: nobody could
        tell which of their occurrences it has executed since. The server sends the others.
        """
        database = SQLiteMacroDatabase(state)
        occurrences = state.tables["macro_occurrences"]
        macros: list[Macro] = []
        if is_new:
            macros = self._macros
            executed: dict[str, set[float]] = collections.defaultdict(set)
            for macro_id, timestamp in self._done:
                executed[macro_id].add(timestamp)
            for macro in macros:
                macro.leave_out(executed.get(macro.macro_id, ()))
            database.set_macros(macros)
        elif self._macros:
            self.left_out.append("macros to be executed: the server sends those that still are")
        done = [
            key
            for key in self._done
            if (row := occurrences.get(*key)) is None or row[-1] == PENDING
        ]
        for macro_id, timestamp in done:
            database.notify_macro_executed(macro_id, timestamp)
        return len(macros) + len(done)


class Archives(StateContent):
    """Archiving instructions: names of pathpoints by interval."""

    kind = "archives"

    def __init__(self, value: dict[float, Any]) -> None:
        super().__init__()
        for interval, names in value.items():
            _check(interval > 0, "an interval of the archives is none")
            _check(_is_list_of_texts(names), "a name of a pathpoint is no text")
        self._instructions = value
        self.found = len(value)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add intervals that are not known yet."""
        database = SQLiteArchivesDatabase(state)
        known = database.get_archiving_instructions()
        database.on_archiving_data_sync({**self._instructions, **known})
        return len(self._instructions.keys() - known.keys())


class Sensors(StateContent):
    """Sensors."""

    kind = "sensors"

    def __init__(self, value: dict[str, tuple[str, Any, Any]]) -> None:
        super().__init__()
        for row in value.values():
            _check(_is_list_of_texts(list(row)), "a sensor is none")
        self._rows = list(value.values())
        self.found = len(value)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add sensors that are not known yet."""
        table = state.tables["sensors"]
        added = [row for row in self._rows if table.get(row[0]) is None]
        for row in added:
            table.put(row)
        return len(added)


class Metadata(StateContent):
    """Plain metadata. The file does not tell what of it the server lacks: all is sent, with the
    times of the writes, so that newer ones of the server stay.
    """

    kind = "metadata"

    def __init__(self, value: dict[str, tuple[Any, float]]) -> None:
        super().__init__()
        self._rows: list[tuple[str, str, float]] = []
        for key, (text, timestamp) in value.items():
            _check(isinstance(text, str), f"the metadata {key!r:.60} is no text")
            try:
                segment(key)
            except ValueError as error:
                self._leave_out(f"the metadata {key!r}", text, error)
            else:
                self._rows.append((key, text, timestamp))
        self.found = len(value)
        self.unsent = len(self._rows)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add what is not known yet, or is newer."""
        database, table = SQLiteMetadataDatabase(state), state.tables["metadata"]
        writes = state.tables["metadata_writes"]
        count = 0
        for row in self._rows:
            key, _, timestamp = row
            known = max(
                (other[2] for other in (table.get(key), writes.get(key)) if other), default=None
            )
            if known is None or known < timestamp:  # a write that waits may be a deletion
                database.update_plain(*row)
                writes.put(row)
                count += 1
        return count


class BAOBs(StateContent):
    """BAOBs, each in a file that has its key as its name.

    :param folder: where they are
    :param value: versions by key
    :raises OSError: the folder cannot be read
    """

    kind = "BAOBs"

    def __init__(self, folder: Path, value: dict[str, int]) -> None:
        super().__init__()
        self.found = len(value)
        # What is in the folder: a key may be any path
        files = {entry.name: entry for entry in folder.iterdir() if entry.name in value}
        self._baobs: list[tuple[str, Path, int]] = []
        for key, version in value.items():
            if key not in files or files[key].is_symlink() or not files[key].is_file():
                self.left_out.append(f"BAOB {key}: there is no file of this name")
            elif files[key].stat().st_size > MOST_BAOB_BYTES:
                self.left_out.append(f"BAOB {key}: it is longer than {MOST_BAOB_BYTES >> 20} MiB")
            else:
                self._baobs.append((key, files[key], version))

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add those that are not known yet, or in a lower version; these are committed.

        :raises OSError: a file cannot be read
        """
        database, table = SQLiteBAOBDatabase(state), state.tables["baobs"]
        count = 0
        for key, file, version in self._baobs:
            known = table.get(key)
            if known is None or known[1] < version:
                database.set_baob_value(key, file.read_bytes(), version)
                state.checkpoint()  # or all of them would be in memory at once
                count += 1
        return count


# --- What only the device has ---------------------------------------------------------------------


class SensorWrites(StateContent):
    """Writes of sensors that the server lacks."""

    kind = "sensor writes"

    def __init__(self, value: Bag) -> None:
        super().__init__()
        self._writes = collections.Counter(_an(SensorWriteEvent, write) for write in value)
        self.found = self.unsent = len(value)

    def store(self, state: StateFile, *, is_new: bool) -> int:
        """Add those that are not known yet."""
        database = SQLiteSensorWriteDatabase(state)
        added = self._writes - collections.Counter(database.get_sw_sync().events)
        for write in added.elements():
            database.add_sw(write)
        return added.total()


class Samples(Content):
    """Samples that the server lacks, and the last one of each pathpoint, which it may have."""

    kind = "samples"

    def __init__(self, value: tuple[dict[Any, Any], dict[Any, Any]]) -> None:
        super().__init__()
        self._samples: dict[str, dict[int, Any]] = {}
        for name, samples in value[0].items():
            _check(isinstance(samples, list), "the samples of a pathpoint are none")
            for sample in samples:
                self._add(name, *_reading_of(sample))
        for name, last in value[1].items():
            _check(isinstance(last, tuple) and len(last) == 2, "a value of a pathpoint is none")
            self._add(name, *last)
        self.found = self.unsent = sum(map(len, self._samples.values()))

    def _add(self, name: object, timestamp: object, reading: Any) -> None:
        _check(isinstance(name, str), "the name of a pathpoint is no text")
        _check(is_number(timestamp), "the timestamp of a sample is no number")
        of_pathpoint = self._samples.setdefault(str(name), {})
        of_pathpoint[int(timestamp)] = reading  # type: ignore[call-overload]

    def record(self, buffer: BufferedPathpointDatabase) -> int:
        """Record them, so that they are uploaded. The caller makes that durable.

        :return: how many are in there now that were not before
        """
        count = 0
        for name, samples in self._samples.items():
            refused: list[tuple[Any, Exception]] = []
            late: list[int] = []
            for timestamp, reading in sorted(samples.items(), key=lambda sample: sample[0]):
                try:
                    if buffer.buffer.record(name, timestamp, reading):
                        count += 1
                    else:
                        late.append(timestamp)
                except (TypeError, ValueError) as error:
                    refused.append((reading, error))
            if refused:
                self._leave_out(f"{len(refused)} of the samples of {name}", *refused[0])
            if late:
                self._explain(name, late, buffer)
        return count

    def _explain(self, name: str, late: list[int], buffer: BufferedPathpointDatabase) -> None:
        kept = {timestamp for timestamp, _ in buffer.buffer.range(name, late[0], late[-1])}
        missing = sum(timestamp not in kept for timestamp in late)
        if missing:
            self.left_out.append(
                f"{missing} of the samples of {name}: there are newer ones already"
            )


def _reading_of(sample: Any) -> tuple[object, Any]:
    """The timestamp of a sample as the reference keeps it, and what was read."""
    _check(isinstance(sample, dict) and "timestamp" in sample, "a sample has no timestamp")
    timestamp = sample["timestamp"]
    if "error_code" not in sample:
        return timestamp, sample.get("value")
    _check(is_number(timestamp), "the timestamp of a sample is no number")
    try:
        reason = OperationFailedReason(sample["error_code"])
    except ValueError as error:
        raise UnreadablePickle("a sample has failed for no known reason") from error
    return timestamp, OperationFailedError(reason, timestamp)


# --- Checks ---------------------------------------------------------------------------------------


def _check(is_fine: bool, problem: str) -> None:
    if not is_fine:
        raise UnreadablePickle(problem)


def _an(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise UnreadablePickle(f"in the place of a {kind.__name__} it holds {_name_of(value)}")
    return value


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _name_of(value: object) -> str:
    name = value.name if isinstance(value, Foreign) else type(value).__name__
    return f"an object of {name}"


def _foreign_in(value: Any) -> Foreign | None:
    """An object of a class that is not known, if there is one in a value."""
    if isinstance(value, Foreign):
        return value
    items: Iterable[Any] = ()
    if isinstance(value, dict):
        items = (*value, *value.values())
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        items = value
    return next((found for item in items if (found := _foreign_in(item)) is not None), None)
