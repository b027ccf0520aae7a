"""Every database of ``smok_fast.extras``, in each of the places that it can be kept in."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from smok_fast import extras
from smok_fast.macro import Macro
from smok_fast.predicate import Color, DisabledTime, Event, Time
from smok_fast.sensor import Sensor, SensorWriteEvent
from smok_fast.state import OrderJournal, StateFile
from smok_fast.sync.time_zone import keep_time_zone, kept_time_zone

#: The databases that the state file has.
SUBJECTS = (
    "Archives", "BAOB", "Event", "Macro", "Metadata", "Predicate", "Sensor", "SensorWrite",
)  # fmt: skip


def an_event(started_on: int = 100, ended_on: int | None = None, is_point: bool = False) -> Event:
    return Event(None, started_on, ended_on, Color.RED, is_point, "t", "B", "fire", None, None)


def a_write(value: str = "1") -> SensorWriteEvent:
    return SensorWriteEvent(5, "me", "Pump", value, "pump", value, "test")


class Place:
    """Makes databases of one kind.

    :param kind: ``InMemory``, ``SQLite`` or ``Pickling``
    :param folder: where their files are
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.state: StateFile | None = None

    def make(self, subject: str, **options: Any) -> Any:
        """A database, with what the one before it has kept."""
        cls = getattr(extras, f"{self.kind}{subject}Database")
        if self.kind == "InMemory":
            return cls(**options)
        if self.kind == "Pickling":
            paths = [self.folder / subject]
            if subject == "Event":
                paths.append(self.folder / "Event.data")
            return cls(*paths, **options)
        if self.state is None:
            self.state = StateFile(self.folder / "state")
        return cls(self.state, **options)

    def restart(self) -> None:
        """Have databases made from now on be those of another run of the program."""
        if self.state is not None:
            self.state.close()
            self.state = None


class NoDevice:
    """Stands for the device where sensors need one only to hold it."""


def open_all(state: StateFile) -> dict[str, Any]:
    """All databases of a state file, by their subjects, and the journal."""
    databases = {
        subject: getattr(extras, f"SQLite{subject}Database")(state) for subject in SUBJECTS
    }
    databases["Sensor"].on_register(NoDevice())
    return {**databases, "Journal": OrderJournal(state)}


def fill(state: StateFile, count: int = 3) -> None:
    """Have something in every table."""
    databases = open_all(state)
    databases["Archives"].on_archiving_data_sync({60: ["W1"], 0.1: ["W2", "W3"]})
    databases["Macro"].set_macros([Macro("m", {"W1": 1, "u1": "x"}, [10, 20, 30.5])])
    databases["Macro"].notify_macro_executed("m", 10)
    databases["Macro"].notify_macro_started("m", 20)
    databases["Sensor"].on_sensors_sync([Sensor(None, "a b", "W1~W2", "std.Number10")])  # type: ignore[arg-type]
    silence = DisabledTime(Time(1, 2, 3), Time(2, 3, 4))
    databases["Predicate"].set_new_predicates([{"predicate_id": "p", "silencing": [silence]}])
    for number in range(count):
        databases["BAOB"].set_baob_value(f"b{number}", bytes(300), number)
        databases["Event"].add_event(an_event(number))
        databases["Event"].set_cache(f"p{number}", (number,))
        databases["Metadata"].put_plain(f"k{number}", "value", float(number))
        databases["SensorWrite"].add_sw(a_write(str(number)))
        databases["Journal"].add("http", [b"[]"])
    state.tables["metadata_writes"].put(("k0", "value", 0.5))
    state.tables["metadata_writes"].put(("gone", None, 1.5))
    keep_time_zone(state, "Asia/Tokyo")
    state.checkpoint()


def read_all(state: StateFile) -> dict[str, Any]:
    """What all databases of a state file hold, in a form that can be compared."""
    databases = open_all(state)
    events = databases["Event"]
    states = {}
    for number in range(10):
        with contextlib.suppress(KeyError):
            states[f"p{number}"] = events.get_cache(f"p{number}")
    baobs = databases["BAOB"]
    unsynced = events.get_events_to_sync()
    return {
        "archives": databases["Archives"].get_archiving_instructions(),
        "baobs": {
            key: (baobs.get_baob_value(key), baobs.get_baob_version(key))
            for key in baobs.get_all_keys()
        },
        "events": [event.to_pickle() for event in events.get_all_events()],
        "unsynced": [event.to_pickle() for event in unsynced.get_events()] if unsynced else [],
        "states": states,
        "macros": [macro.to_pickle() for macro in databases["Macro"].get_macros()],
        "done": list(databases["Macro"].get_done_macros()),
        "started": databases["Macro"].get_started_macros(),
        "metadata": list(databases["Metadata"].get_all_plain()),
        "predicates": databases["Predicate"].get_all_predicates(),
        "sensors": [repr(sensor) for sensor in databases["Sensor"].get_all_sensors()],
        "writes": databases["SensorWrite"].get_sw_sync().events,
        "orders": databases["Journal"].unfinished(),
        "time zone": kept_time_zone(state),
        "metadata writes": state.tables["metadata_writes"].rows(),
    }
