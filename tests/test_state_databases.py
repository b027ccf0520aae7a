"""What the databases that keep something have after a restart, and devices with them."""

from __future__ import annotations

import ast
import collections
import contextlib
import datetime
import enum
import inspect
import json
import logging
import pickle
import sqlite3
import subprocess
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import smok_fast.extras
from conftest import DEVICE_ID
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import (
    InvalidCredentials,
    OperationFailedError,
    OperationFailedReason,
    StateInUseError,
)
from smok_fast.extras import (
    InMemoryEventDatabase,
    PicklingBAOBDatabase,
    PicklingEventDatabase,
    PicklingMetadataDatabase,
    PicklingPathpointDatabase,
    SQLiteEventDatabase,
)
from smok_fast.macro import Macro
from smok_fast.pathpoint import Pathpoint
from smok_fast.predicate import BaseStatistic, Color, DisabledTime, Time
from smok_fast.sensor import Sensor
from smok_fast.server import LocalServer
from smok_fast.state import StateFile
from smok_fast.sync.baobs import BAOBsTask
from smok_fast.sync.data import CheckpointTask
from smok_fast.sync.events import EventsTask
from smok_fast.sync.metadata import MetadataTask
from smok_fast.sync.predicates import TicksTask
from smok_fast.sync.sensor_writes import SensorWritesTask
from smok_fast.testing import Admin, wait_until
from state_support import NoDevice, Place, a_write, an_event

#: Seconds to wait for what has to come; never reached by a test that passes.
PATIENCE = 30.0


class Mode(enum.Enum):
    """An enumeration of a user's."""

    ECO = "eco"


class Window:
    """A class of a user's."""

    def __init__(self, length: int) -> None:
        self.values = list(range(length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Window) and self.values == other.values

    def __hash__(self) -> int:
        return 0


@pytest.fixture(params=["SQLite", "Pickling"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.restart()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


# --- Restarts -----------------------------------------------------------------------------------


def test_archives_are_kept(place: Place) -> None:
    place.make("Archives").on_archiving_data_sync({60: ["W1"], 0.1: ["W2", "rW{W1}+{W2}"]})
    place.restart()
    assert place.make("Archives").get_archiving_instructions() == {
        60: ["W1"],
        0.1: ["W2", "rW{W1}+{W2}"],
    }
    place.make("Archives").on_archiving_data_sync({0.1: ["W3"]})
    place.restart()
    assert place.make("Archives").get_archiving_instructions() == {0.1: ["W3"]}


def test_baobs_are_kept_under_any_key(place: Place) -> None:
    database = place.make("BAOB")
    keys = ["../../etc/passwd", "a/b", "", ".", "ż\0", "x" * 1000, "metadata.pkl"]
    for number, key in enumerate(keys):
        database.set_baob_value(key, key.encode() * 9, number)
    database.set_baob_value("a/b", b"newer", 1 << 40)
    database.set_baob_value("gone", b"", 0)
    database.delete_baob("gone")
    place.restart()
    database = place.make("BAOB")
    database.check_consistency()
    assert sorted(database.get_all_keys()) == sorted(keys)
    assert database.get_baob_value("../../etc/passwd") == b"../../etc/passwd" * 9
    assert (database.get_baob_value("a/b"), database.get_baob_version("a/b")) == (b"newer", 1 << 40)
    assert {entry.name for entry in place.folder.iterdir()} <= {"state", "state.lock", "BAOB"} | {
        "state-wal",
        "state-shm",
    }


def test_events_are_kept_with_what_the_server_lacks(place: Place) -> None:
    database = place.make("Event")
    events = [an_event(1), an_event(2), an_event(3, is_point=True), an_event(4)]
    for event in events:
        database.add_event(event)
    sync = database.get_events_to_sync()
    sync.acknowledge_some(["u0", "u1", None, "u3"])
    events[1].ended_on = 50
    database.close_event(events[1])
    place.restart()

    database = place.make("Event")
    kept = list(database.get_all_events())
    assert [event.to_pickle() for event in kept] == [event.to_pickle() for event in events]
    assert list(database.get_open_events()) == [events[0], events[3]]
    sync = database.get_events_to_sync()
    assert sorted(event.started_on for event in sync.get_events()) == [2, 3]
    sync.acknowledge(*["u1" if event.started_on == 2 else "u2" for event in sync.get_events()])
    database.clear_closed_and_synced_events()
    database.checkpoint()
    place.restart()
    database = place.make("Event")
    assert [event.uuid for event in database.get_all_events()] == ["u0", "u3"]
    assert database.get_events_to_sync() is None


@pytest.mark.parametrize(
    "state",
    [
        None,
        5,
        1 << 200,
        10**5000,
        "text \udc80 \0",
        {"since": 5.5, "list": [1, None, True, "x"]},
        {1: "integer keys", (1, 2): "and others", None: {1.5}},
        (1, [2, (3,)], {4}, frozenset({5}), b"6", bytearray(b"7"), 8j, float("inf")),
        [1.0, 1, True],
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=zoneinfo.ZoneInfo("Europe/Warsaw")),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        [datetime.date(2026, 1, 2), datetime.time(1, 2), datetime.timedelta(1, 2, 3)],
        [Decimal("1.50"), uuid.UUID(int=5)],
        [collections.deque([1, 2], 5), collections.OrderedDict(a=1), collections.Counter("aab")],
        [Color.RED, Mode.ECO, OperationFailedReason.TIMEOUT],
        DisabledTime(Time(1, 2, 3), Time(4, 5, 6)),
    ],
    ids=lambda state: type(state).__name__,
)
def test_the_state_of_a_predicate_is_kept_exactly(state: object, place: Place) -> None:
    database = place.make("Event")
    database.set_cache("p", state)
    database.set_cache("deleted", 1)
    database.on_predicate_deleted("deleted")
    database.checkpoint()
    place.restart()
    database = place.make("Event")
    kept = database.get_cache("p")
    assert kept == state
    assert isinstance(state, int) or repr(kept) == repr(state)
    with pytest.raises(KeyError):
        database.get_cache("deleted")


def test_a_failure_in_the_state_of_a_predicate_is_kept(place: Place) -> None:
    database = place.make("Event")
    database.set_cache("p", [OperationFailedError(OperationFailedReason.TYPE, 77)])
    database.checkpoint()
    place.restart()
    (failure,) = place.make("Event").get_cache("p")
    assert (failure.reason, failure.timestamp) == (OperationFailedReason.TYPE, 77)


def test_an_event_in_the_state_of_a_predicate_is_the_database_s_own(place: Place) -> None:
    database = place.make("Event")
    event = an_event()
    database.add_event(event)
    database.set_cache("p", {"event": event})
    database.checkpoint()
    database.get_events_to_sync().acknowledge("uuid-1")  # the state was kept before that
    place.restart()
    database = place.make("Event")
    (kept,) = database.get_all_events()
    assert database.get_cache("p") == {"event": kept}
    assert database.get_cache("p")["event"] is kept
    assert kept.uuid == "uuid-1"


def test_what_cannot_be_kept_is_told_once_and_stays_in_memory(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    database = place.make("Event")
    database.set_cache("p", "before")
    database.checkpoint()
    for state in (
        Window(3),
        lambda: 5,
        Window,
        open,
        [subprocess.run],
        collections.defaultdict(list),
    ):
        database.set_cache("p", state)
        assert database.get_cache("p") is state
    assert len(errors(caplog)) == 1
    assert "The state of predicate p stays in memory" in errors(caplog)[0]
    assert "test_state_databases.Window is no plain data" in errors(caplog)[0]
    database.checkpoint()
    place.restart()
    with pytest.raises(KeyError):  # what was kept before is out of date
        place.make("Event").get_cache("p")


def test_classes_that_the_user_allows_are_kept(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.make("Event", classes=[Window]).set_cache("p", {"w": Window(3)})
    place.make("Event", classes=[Window]).checkpoint()
    place.restart()
    database = place.make("Event", classes=[Window])
    if place.kind == "SQLite":
        assert database.get_cache("p") == {"w": Window(3)}
    database.set_cache("p", {"w": Window(4)})
    database.checkpoint()
    place.restart()
    assert place.make("Event", classes=[Window]).get_cache("p") == {"w": Window(4)}
    assert errors(caplog) == []
    place.restart()
    with pytest.raises(KeyError):
        place.make("Event").get_cache("p")
    assert "test_state_databases.Window is not allowed" in errors(caplog)[0]


def test_macros_are_kept_without_what_was_executed(place: Place) -> None:
    database = place.make("Macro")
    macros = [Macro("m", {"W1": 1, "f2": 1.5, "u3": "x"}, [10, 20.5, 30]), Macro("n", {}, [10])]
    database.set_macros(macros)
    database.notify_macro_executed("m", 10)
    database.notify_macro_executed("n", 10)
    database.notify_macro_synced("n", 10)
    database.checkpoint()
    place.restart()
    database = place.make("Macro")
    assert list(database.get_done_macros()) == [("m", 10)]
    (kept,) = [macro for macro in database.get_macros() if macro.macro_id == "m"]
    assert (kept.commands, list(kept.occurrences_not_done)) == (macros[0].commands, [20.5, 30])
    assert [type(occurrence) for occurrence in kept.occurrences_not_done] == [float, int]
    database.set_macros([Macro("m", {"W1": 1}, [20.5])])  # the server's next list
    place.restart()
    database = place.make("Macro")
    assert list(database.get_done_macros()) == [("m", 10)]
    assert [list(macro.occurrences_not_done) for macro in database.get_macros()] == [[20.5]]


def test_a_macro_that_was_started_and_not_done_is_known_after_a_crash(tmp_path: Path) -> None:
    place = Place("SQLite", tmp_path)
    database = place.make("Macro")
    database.set_macros([Macro("m", {"W1": 1}, [10, 20, 30])])
    for occurrence in (10, 20):
        database.notify_macro_started("m", occurrence)
    database.notify_macro_executed("m", 10)
    database.notify_macro_started("m", 10)
    place.restart()
    database = place.make("Macro")
    assert database.get_started_macros() == [("m", 20)]
    assert list(database.get_done_macros()) == [("m", 10)]
    assert [list(macro.occurrences_not_done) for macro in database.get_macros()] == [[30]]
    database.set_macros([Macro("m", {"W1": 1}, [20, 30])])  # the server's next list
    assert database.get_started_macros() == [("m", 20)]
    database.notify_macro_executed("m", 20)
    assert database.get_started_macros() == []
    place.restart()


def test_metadata_is_kept(place: Place) -> None:
    database = place.make("Metadata")
    database.put_plain("k", "v", 5.25)
    database.put_plain("ż\n", "", 6)
    database.put_plain("gone", "v", 5.0)
    database.delete_plain("gone")
    database.update_plain("k", "older", 5.0)
    database.update_plain("k", "newer", 7.5)
    place.restart()
    assert list(place.make("Metadata").get_all_plain()) == [("k", "newer", 7.5), ("ż\n", "", 6)]


def test_predicates_are_kept_though_their_state_may_not_be(place: Place) -> None:
    database = place.make("Predicate")
    silencing = [DisabledTime(Time(1, 2, 3), Time(4, 5, 6))]
    predicates = [
        {"predicate_id": "a", "silencing": silencing, "configuration": {"x": [1]}, "state": (1,)},
        {"predicate_id": "b", "silencing": [], "configuration": None, "state": Window(1)},
    ]
    database.set_new_predicates(predicates)
    database.update_predicate({**predicates[0], "state": (2,)})
    if place.state is not None:
        place.state.checkpoint()
    place.restart()
    assert place.make("Predicate").get_all_predicates() == [
        {**predicates[0], "state": (2,)},
        {**predicates[1], "state": None},
    ]
    place.make("Predicate").set_new_predicates([])
    place.restart()
    assert place.make("Predicate").get_all_predicates() == []


def test_sensors_are_kept(place: Place) -> None:
    device: Any = NoDevice()
    database = place.make("Sensor")
    database.on_register(device)
    database.on_sensors_sync(
        [Sensor(device, "b a", "W1~W2", "std.Number10"), Sensor(device, "c", "W3", "x")]
    )
    place.restart()
    database = place.make("Sensor")
    database.on_register(device)
    sensor = database.get_sensor("a b")
    assert (sensor.device, sensor.path, sensor.type_name) == (device, "W1~W2", "std.Number10")
    assert [sensor.fqts for sensor in database.get_all_sensors()] == ["a b", "c"]
    database.on_sensors_sync([])
    place.restart()
    database = place.make("Sensor")
    database.on_register(device)
    assert list(database.get_all_sensors()) == []


def test_sensor_writes_are_kept_until_the_server_has_them(place: Place) -> None:
    database = place.make("SensorWrite")
    for value in ("1", "2", "1", "3"):
        database.add_sw(a_write(value))
    database.on_synced_sw(a_write("3"))
    if place.state is not None:
        place.state.checkpoint()
    else:
        database.sync()
    place.restart()
    database = place.make("SensorWrite")
    sync = database.get_sw_sync()
    assert sync.events == [a_write("1"), a_write("1"), a_write("2")]
    database.add_sw(a_write("4"))
    sync.ack()
    if place.state is not None:  # as a crash would leave it
        assert len(place.state.tables["sensor_writes"].rows()) == 1
    place.restart()
    assert place.make("SensorWrite").get_sw_sync().events == [a_write("4")]


# --- Pickles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject", ["Archives", "Event", "Macro", "Metadata", "Predicate", "Sensor", "SensorWrite"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
        b"\x80\x05K\x05.",
        b"\x80\x05]K\x05a.",
    ],
    ids=["empty", "garbage", "hostile", "number", "list"],
)
def test_a_damaged_pickle_is_moved_aside_and_told(
    subject: str, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place("Pickling", tmp_path)
    (tmp_path / subject).write_bytes(content)
    database = place.make(subject)
    if subject == "Sensor":
        database.on_register(NoDevice())
    (aside,) = tmp_path.glob(f"{subject}.damaged-*")
    assert aside.read_bytes() == content
    assert str(aside) in errors(caplog)[0]
    assert not (tmp_path / subject).exists()


def test_damaged_baobs_and_events_stop_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    baobs = PicklingBAOBDatabase(tmp_path / "baobs")
    baobs.set_baob_value("good", b"1", 1)
    baobs.set_baob_value("bad", b"2", 2)
    (bad,) = [file for file in (tmp_path / "baobs").iterdir() if b"bad" in file.read_bytes()]
    (tmp_path / "baobs" / "swapped.baob").write_bytes(bad.read_bytes())
    bad.write_bytes(b"\x80")
    baobs = PicklingBAOBDatabase(tmp_path / "baobs")
    assert list(baobs.get_all_keys()) == ["good"]
    assert len(errors(caplog)) == 2

    (tmp_path / "events").write_bytes(b"\x80")
    database = PicklingEventDatabase(tmp_path / "states", tmp_path / "events")
    database.set_cache("p", 1)
    database.add_event(an_event())
    database.sync()
    database.sync_data()
    database = PicklingEventDatabase(tmp_path / "states", tmp_path / "events")
    assert database.get_cache("p") == 1
    assert len(list(database.get_all_events())) == 1


def test_the_reference_s_pickles_of_plain_data_are_read(tmp_path: Path) -> None:
    place = Place("Pickling", tmp_path)
    contents = {
        "Metadata": {"k": ("v", 5.5)},
        "Archives": {60: ["W1"]},
        "Sensor": {"a b": ("a b", "W1", "std.Number10")},
    }
    for protocol in (2, 3, 4):
        for subject, content in contents.items():
            (tmp_path / subject).write_bytes(pickle.dumps(content, protocol))
        assert list(place.make("Metadata").get_all_plain()) == [("k", "v", 5.5)]
        assert place.make("Archives").get_archiving_instructions() == {60: ["W1"]}
        sensors = place.make("Sensor")
        sensors.on_register(NoDevice())
        assert sensors.get_sensor("a b").path == "W1"


def test_pickles_that_cannot_be_written_wait_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "missing"
    place = Place("Pickling", folder / "deeper")
    made = {
        subject: place.make(subject)
        for subject in ("Metadata", "Event", "Macro", "BAOB", "SensorWrite")
    }
    for number in (1.0, 2.0):
        made["Metadata"].put_plain("k", "v", number)
        made["Event"].add_event(an_event())
        made["Macro"].notify_macro_executed("m", number)
        made["SensorWrite"].add_sw(a_write())
    made["BAOB"].set_baob_value("k", b"v", 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 6
    assert made["Metadata"].get_plain("k") == "v"
    (folder / "deeper" / "BAOB").mkdir(parents=True)
    made["Metadata"].pickle()
    made["Event"].checkpoint()
    made["Macro"].checkpoint()
    made["SensorWrite"].sync()
    made["BAOB"].sync()
    assert place.make("Metadata").get_plain("k") == "v"
    assert len(list(place.make("Event").get_all_events())) == 2
    assert list(place.make("Macro").get_done_macros()) == [("m", 1.0), ("m", 2.0)]
    assert len(place.make("SensorWrite").get_sw_sync().events) == 2
    assert place.make("BAOB").get_baob_value("k") == b"v"


def test_a_pickle_is_replaced_in_one_step_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = PicklingMetadataDatabase(tmp_path / "metadata")
    database.put_plain("k", "old", 1.0)
    assert (tmp_path / "metadata").stat().st_mode & 0o777 == 0o600
    with monkeypatch.context() as context:

        def fail(*_: object) -> None:
            raise OSError("no power")

        context.setattr("os.fsync", fail)
        database.put_plain("k", "new", 2.0)
    assert list(PicklingMetadataDatabase(tmp_path / "metadata").get_all_plain()) == [
        ("k", "old", 1.0)
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metadata"]


# --- Samples ------------------------------------------------------------------------------------


def uploaded(database: PicklingPathpointDatabase) -> dict[str, list[Any]]:
    upload = database.get_data_to_sync()
    return {} if upload is None else {entry["path"]: entry["values"] for entry in upload.to_json()}


def test_samples_are_kept_with_what_the_server_lacks(tmp_path: Path) -> None:
    database = PicklingPathpointDatabase(tmp_path / "samples")
    failure = OperationFailedError(OperationFailedReason.TIMEOUT, 3)
    for name, values in {
        "W1": [1, 2, failure],
        "d2": [0.1, 1e300, -5.0],
        "utext": ["", "ż", failure],
    }.items():
        for timestamp, value in enumerate(values, 1):
            database.on_new_data(name, timestamp, value)
    upload = database.get_data_to_sync()
    assert upload is not None
    upload.acknowledge()
    database.on_new_data("W1", 4, 7)
    database.on_new_data("B3", 1, True)
    database.checkpoint()
    database.on_new_data("W1", 5, 8)  # lost: there is no checkpoint any more

    database = PicklingPathpointDatabase(tmp_path / "samples")
    assert uploaded(database) == {"W1": [[4, 7]], "B3": [[1, 1]]}
    assert database.get_current_value("W1") == (4, 7)
    with pytest.raises(OperationFailedError, match="timeout"):
        database.get_current_value("utext")
    assert list(database.get_archive_data("d2", 2, None)) == [(2, 1e300), (3, -5.0)]
    (_, _, (timestamp, kept), last) = database.get_archive_data("W1", None, None)
    assert isinstance(kept, OperationFailedError)
    assert (timestamp, kept.reason, kept.timestamp) == (3, OperationFailedReason.TIMEOUT, 3)
    assert last == (4, 7)
    upload = database.get_data_to_sync()
    assert upload is not None
    upload.acknowledge()
    assert database.get_data_to_sync() is None
    written = (tmp_path / "samples").stat().st_mtime_ns
    database.checkpoint()
    assert (tmp_path / "samples").stat().st_mtime_ns > written
    written = (tmp_path / "samples").stat().st_mtime_ns
    database.checkpoint()  # nothing is new
    assert (tmp_path / "samples").stat().st_mtime_ns == written
    assert PicklingPathpointDatabase(tmp_path / "samples").get_data_to_sync() is None


def test_samples_can_be_confirmed_up_to_a_time(tmp_path: Path) -> None:
    database = PicklingPathpointDatabase(tmp_path / "samples")
    for timestamp in range(1, 6):
        database.on_new_data("W1", timestamp, timestamp)
        database.on_new_data("W2", timestamp, timestamp)
    database.confirm_synced_up_to("W1", 3)
    database.confirm_synced_up_to("W1", 2)
    database.confirm_synced_up_to("W9", 2)
    assert uploaded(database) == {
        "W1": [[4, 4], [5, 5]],
        "W2": [[timestamp, timestamp] for timestamp in range(1, 6)],
    }
    assert len(list(database.get_archive_data("W1", None, None))) == 5


@pytest.mark.parametrize(
    "content",
    [
        "{'W1': (2, '[[1, 1]]')}",
        "{'W1': (0, '[[1, 1], [2]]')}",
        "{'W1': (0, '{}x')}",
        "{'?': (1, '[[1, 1]]')}",
        "[1]",
    ],
)
def test_samples_that_make_no_sense_are_moved_aside(content: str, tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(pickle.dumps(ast.literal_eval(content)))
    database = PicklingPathpointDatabase(tmp_path / "samples")
    assert database.get_data_to_sync() is None
    assert len(list(tmp_path.glob("samples.damaged-*"))) == 1


def test_a_device_may_keep_its_samples_in_a_pickle(
    make_device: Callable[..., SMOKDevice], tmp_path: Path, admin: Admin
) -> None:
    device = make_device(
        pp_database=PicklingPathpointDatabase(tmp_path / "samples"), allow_sync=False
    )
    Pathpoint(device, "W1").set_new_value(1, 5)
    device.pp_database.checkpoint()
    device.close()
    device = make_device(pp_database=PicklingPathpointDatabase(tmp_path / "samples"))
    pathpoint = Pathpoint(device, "W1")
    assert pathpoint.get() == (1, 5)
    assert list(pathpoint.get_archive(None)) == [(1, 5)]
    device.continue_boot()
    wait_until(lambda: admin.samples_count(DEVICE_ID) == 1, PATIENCE)


# --- Devices ------------------------------------------------------------------------------------


class Alarm(BaseStatistic):
    """Counts its ticks, and keeps an event open."""

    statistic_name = "alarm"

    def on_tick(self) -> None:
        ticks, event = self.state or (0, None)
        if event is None:
            event = self.open_event("fire", Color.RED)
        self.state = (ticks + 1, event)


def test_a_device_has_everything_again_when_it_starts_without_a_link(
    make_device: Callable[..., SMOKDevice],
    make_offline_device: Callable[..., SMOKDevice],
    smok_server: LocalServer,
    admin: Admin,
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    admin.set_sensors(DEVICE_ID, [{"fqts": "pump", "path": "W1", "type": "std.Number10"}])
    admin.set_archives(DEVICE_ID, [{"interval": 3600, "pathpoints": ["W1"]}])
    device = make_device(evt_database=state)
    device._sensors.run()
    device.arch_database.on_archiving_data_sync({3600: ["W1"]})
    device.metadata["key"] = "value"
    device.get_baob("baob").value = b"content"
    device.log_sensor_write(a_write())
    event = device.open_event(1, None, Color.RED, False, "token", "group", "message")
    device.macros_database.set_macros([Macro("m", {"W1": 1}, [1 << 40])])
    device.pred_database.set_new_predicates(
        [
            {
                "predicate_id": "p",
                "verbose_name": "Fire",
                "silencing": [],
                "configuration": {"x": 1},
                "statistic": "alarm",
                "group": "B",
                "state": None,
            }
        ]
    )
    device.evt_database.set_cache("p", (41, event))
    device.close()

    device = make_offline_device(evt_database=state, delayed_boot=True)
    (known,) = device.get_all_open_events()
    assert known == event
    assert device.metadata["key"] == "value"
    assert device.get_baob("baob").value == b"content"
    assert device.sensor_database.get_sensor("pump").type_name == "std.Number10"
    assert device.sensor_database.get_sensor("pump").device is device
    assert device.arch_database.get_archiving_instructions() == {3600: ["W1"]}
    assert [macro.macro_id for macro in device.macros_database.get_macros()] == ["m"]
    assert device.sensor_write_database.get_sw_sync().events == [a_write()]
    device.register_statistic(Alarm, lambda name, _: name == "alarm")

    TicksTask(device).run()
    assert device.evt_database.get_cache("p") == (42, known)
    assert list(device.get_all_open_events()) == [event]
    device.close()

    device = make_offline_device(evt_database=state, delayed_boot=True)
    assert device.evt_database.get_cache("p") == (42, event)


def test_what_was_written_without_a_link_reaches_the_server_after_a_restart(
    make_device: Callable[..., SMOKDevice],
    smok_server: LocalServer,
    admin: Admin,
    tmp_path: Path,
) -> None:
    admin.set_baob(DEVICE_ID, "changed", b"theirs", 1)
    device = make_device(evt_database=tmp_path / "state")
    BAOBsTask(device).run()
    smok_server.stop()
    device.get_baob("changed").value = b"ours"
    device.get_baob("new").value = b"new"
    device.log_sensor_write(a_write("1"))
    device.log_sensor_write(a_write("2"))
    device.open_event(1, 2, Color.RED, False, "token", "group", "message")
    device.metadata["key"] = "value"
    device.close()

    smok_server.start()
    device = make_device(evt_database=tmp_path / "state")
    for task in (BAOBsTask, SensorWritesTask, EventsTask, MetadataTask):
        task(device).run()
    assert admin.baobs(DEVICE_ID) == {"changed": 2, "new": 0}
    assert admin.baob(DEVICE_ID, "changed") == b"ours"
    assert [write["value"] for write in admin.sensor_writes(DEVICE_ID)] == ["1", "2"]
    assert [event["message"] for event in admin.events(DEVICE_ID)] == ["message"]
    assert admin.metadata(DEVICE_ID) == {"key": "value"}


def test_databases_that_are_given_are_used_and_the_rest_is_in_the_state_file(
    make_offline_device: Callable[..., SMOKDevice], tmp_path: Path
) -> None:
    metadata = PicklingMetadataDatabase(tmp_path / "metadata")
    device = make_offline_device(evt_database=str(tmp_path / "state"), meta_database=metadata)
    assert device.meta_database is metadata
    assert isinstance(device.evt_database, SQLiteEventDatabase)
    assert device.state_file is not None
    assert device.state_file.path == tmp_path / "state"
    device.metadata["k"] = "v"
    assert device.state_file.tables["metadata"].rows() == []

    device = make_offline_device(evt_database=InMemoryEventDatabase())
    assert device.state_file is None


def test_two_devices_cannot_have_one_state_file(
    make_offline_device: Callable[..., SMOKDevice], tmp_path: Path
) -> None:
    first = make_offline_device(evt_database=tmp_path / "state")
    with pytest.raises(StateInUseError, match="give each device one of its own"):
        make_offline_device(evt_database=tmp_path / "state")
    first.close()
    make_offline_device(evt_database=tmp_path / "state")


def test_a_constructor_that_fails_gives_the_state_file_back(
    make_offline_device: Callable[..., SMOKDevice], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="ftp"):
        make_offline_device(evt_database=tmp_path / "state", url="ftp://a")
    StateFile(tmp_path / "state").close()
    with pytest.raises(InvalidCredentials):
        SMOKDevice(b"", b"", tmp_path / "untouched")
    assert not (tmp_path / "untouched").exists()


def test_a_state_file_in_no_folder_does_not_keep_a_device_from_running(
    make_offline_device: Callable[..., SMOKDevice],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = make_offline_device(evt_database=tmp_path / "missing" / "state")
    device.metadata["k"] = "v"
    assert device.metadata["k"] == "v"
    assert device.state_file is not None
    assert device.state_file.failing
    told = [text for text in errors(caplog) if "The state cannot be written" in text]
    assert len(told) == 1
    assert "missing" in told[0]


def test_a_predicate_of_the_last_run_that_makes_no_sense_is_told_and_left_out(
    make_offline_device: Callable[..., SMOKDevice],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with StateFile(tmp_path / "state") as state:
        state.tables["predicates"].put(("p", json.dumps({"predicate_id": "p"})))
    device = make_offline_device(evt_database=tmp_path / "state")
    assert device.predicates == {}
    assert "makes no sense" in errors(caplog)[0]


def test_classes_of_the_user_s_can_be_allowed(
    make_offline_device: Callable[..., SMOKDevice], tmp_path: Path
) -> None:
    for expected in (None, Window(3)):
        device = make_offline_device(evt_database=tmp_path / "state", state_classes=[Window])
        if expected is not None:
            assert device.evt_database.get_cache("p") == expected
        device.evt_database.set_cache("p", Window(3))
        device.close()


def test_communicator_thread_writes_what_waits(
    make_device: Callable[..., SMOKDevice], tmp_path: Path
) -> None:
    device = make_device(evt_database=tmp_path / "state")
    device.sensor_write_database.add_sw(a_write())
    device.sensor_write_database.on_synced_sw(a_write())
    CheckpointTask(device).run()
    device.evt_database.set_cache("p", 1)
    CheckpointTask(device).run()

    with contextlib.closing(sqlite3.connect(tmp_path / "state")) as connection:
        assert connection.execute("SELECT * FROM predicate_states").fetchall() == [("p", "1")]
        assert connection.execute("SELECT * FROM sensor_writes").fetchall() == []


# --- The reference's names ----------------------------------------------------------------------

SURFACE = json.loads((Path(__file__).parent / "data" / "api_surface.json").read_text())


@pytest.mark.parametrize("name", SURFACE["smok_fast.extras"])
def test_extras_has_every_name_and_parameter_of_the_reference(name: str) -> None:
    cls = getattr(smok_fast.extras, name)
    assert name in smok_fast.extras.__all__
    for method, described in SURFACE["smok_fast.extras"][name].items():
        signature = inspect.signature(cls if method == "__init__" else getattr(cls, method))
        parameters = [p for p in signature.parameters.values() if p.name != "self"]
        wanted = described.removeprefix("method(").removesuffix(")").split(", ")
        wanted = [parameter for parameter in wanted if parameter]
        in_order = [p.name if p.kind is not p.VAR_POSITIONAL else f"*{p.name}" for p in parameters]
        assert in_order[: len(wanted)] == [name.partition("=")[0] for name in wanted], method
        for parameter, name_wanted in zip(parameters, wanted, strict=False):
            if "=" in name_wanted:
                assert parameter.default is not inspect.Parameter.empty, method
        assert all(
            p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            for p in parameters[len(wanted) :]
        ), method
