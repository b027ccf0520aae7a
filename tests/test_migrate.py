"""``smok-fast migrate``: what a device has kept with the reference becomes a state file.

The pickles in ``data/reference`` are the reference's own, see ``make_pickles.py`` there.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from conftest import DEVICE_ID
from smok_fast._core import Buffer
from smok_fast.basics import StorageLevel
from smok_fast.cli.app import app
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import OperationFailedError
from smok_fast.extras import BufferedPathpointDatabase
from smok_fast.macro import Macro
from smok_fast.migration import look_into, pickles, write_state
from smok_fast.migration.contents import recognise
from smok_fast.pathpoint import Pathpoint
from smok_fast.predicate import Color, DisabledTime, Event, Time
from smok_fast.sensor import SensorWriteEvent
from smok_fast.state import StateFile
from smok_fast.testing import Admin, Sample, wait_until
from state_support import open_all, read_all

REFERENCE = Path(__file__).parent / "data" / "reference"

#: The moment of the fixtures.
SECONDS = 1_767_323_045
MILLISECONDS = SECONDS * 1000

#: What is in the fixtures: kind, found, unsent.
FIXTURES = {
    "alarms.dat": ("events", "4", "2"),
    "archives.pkl": ("archives", "2", "-"),
    "baobs": ("BAOBs", "2", "-"),
    "device": ("states of predicates", "4", "-"),
    "macros.bin": ("macros", "3", "1"),
    "metadata.pkl": ("metadata", "2", "2"),
    "predicates.pkl": ("predicates", "2", "-"),
    "samples.pkl": ("samples", "8", "8"),
    "sensors.pkl": ("sensors", "2", "-"),
    "writes.pkl": ("sensor writes", "2", "2"),
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a device of the reference, with other things in it."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name in FIXTURES:
        copy = shutil.copytree if (REFERENCE / name).is_dir() else shutil.copyfile
        copy(REFERENCE / name, folder / name)
    (folder / "device.crt").write_text("-----BEGIN CERTIFICATE-----")
    (folder / "logs").mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new" / "state"


def migrate(*arguments: object) -> Result:
    """Run ``smok-fast migrate`` in this process."""
    strings = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, ["migrate", *strings], env={"COLUMNS": "200"})


def migrated(*arguments: object, warnings: int = 0) -> list[tuple[str, ...]]:
    """Run it, and give the rows of the table: file, kind, found, unsent, taken over."""
    done = migrate(*arguments)
    assert done.exit_code == 0, done.output
    assert len(done.stderr.splitlines()) == warnings, done.stderr
    header, *lines, _ = done.stdout.splitlines()
    assert header.split() == ["file", "holds", "found", "unsent", "taken", "over"]
    rows = []
    for line in lines:
        file, *kind, found, unsent, taken = line.split()
        rows.append((Path(file).name, " ".join(kind), found, unsent, taken))
    return rows


def refusal(*arguments: object) -> list[str]:
    """The lines with which it is refused."""
    done = migrate(*arguments)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    return [line.removeprefix("smok-fast: ") for line in done.stderr.splitlines()]


def content_of(path: Path) -> dict[str, Any]:
    with StateFile(path) as state:
        assert state.set_aside is None
        return read_all(state)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def samples_of(state: Path) -> dict[str, list[tuple[int, Any]]]:
    buffer = Buffer.look_at(f"{state}.buffer")
    return {name: list(buffer.range(name)) for name in buffer.names()}


# --- What goes over -------------------------------------------------------------------------------


def test_a_folder_goes_over(old: Path, state: Path) -> None:
    before = snapshot(old)
    assert migrated(old, "--to", state) == [
        (name, kind, found, unsent, found) for name, (kind, found, unsent) in FIXTURES.items()
    ]
    assert snapshot(old) == before
    assert {path.name for path in state.parent.iterdir()} == {
        "state",
        "state.lock",
        "state.buffer",
    }
    assert state.stat().st_mode & 0o777 == 0o600


def test_nothing_of_it_is_lost_or_changed(old: Path, state: Path) -> None:
    migrated(old, "--to", state)
    content = content_of(state)
    known, done, closed, fresh = map(Event.from_pickle, content["events"])
    assert (known.uuid, known.color, known.message, known.ended_on) == (
        ("server-known", Color.YELLOW, "Pump: hot", None)
    )
    assert (done.uuid, done.is_point, done.group) == ("server-done", True, "C")
    assert (closed.uuid, closed.started_on, closed.ended_on) == (None, SECONDS + 1, SECONDS + 60)
    assert (closed.handled_by, closed.metadata) == ("jan", {"a": "ż"})
    assert fresh.provisional_uuid is not None
    assert [Event.from_pickle(event) for event in content["unsynced"]] == [closed, fresh]
    assert content["predicates"] == [
        {
            "predicate_id": "p-plain",
            "verbose_name": "Pump",
            "silencing": [DisabledTime(Time(1, 2, 3), Time(5, 6, 7))],
            "configuration": {"limit": 5},
            "statistic": "watch",
            "group": "C",
            "state": 7,
        },
        {
            "predicate_id": "p-event",
            "verbose_name": "Boiler",
            "silencing": [],
            "configuration": None,
            "statistic": "undefined",
            "group": "B",
            "state": None,
        },
    ]
    later, executed = map(Macro.from_pickle, content["macros"])
    assert (later.macro_id, later.commands) == ("m-later", {"W1r1": 1, "u2": "on"})
    assert list(later.occurrences_not_done) == [4_000_000_000, 4_000_000_060]
    assert (executed.macro_id, list(executed.occurrences_not_done)) == ("m-done", [4_000_000_000])
    assert content["done"] == [("m-done", SECONDS)]
    assert content["started"] == []
    assert content["archives"] == {60: ["W1r1", "W2"], 300: ["f3"]}
    assert content["sensors"] == [
        "Sensor('boiler temp', 'W1r1', 'std.Number10')",
        "Sensor('mode', 'W1~W2', 'x')",
    ]
    assert content["metadata"] == [
        ("serial", "1234", SECONDS + 0.5),
        ("name", "Kotłownia", SECONDS),
    ]
    assert content["baobs"] == {
        "firmware": (bytes(range(256)), 3),
        "notes 2": (b"\x80\x04 begins like a pickle", 0),
    }
    writes = sorted(content["writes"], key=lambda write: write.timestamp)
    assert writes == [
        SensorWriteEvent(MILLISECONDS + number, "jan", "Mode", "Eco", "mode", number, "test")
        for number in range(2)
    ]
    assert content["orders"] == []
    with StateFile(state) as file:
        events = open_all(file)["Event"]
        assert events.get_cache("p-plain") == {
            "limit": 5,
            "since": MILLISECONDS / 1000,
            "seen": (1, 2),
        }
        kept = events.get_cache("p-event")
        assert kept["event"] in list(events.get_all_events())
        assert kept["event"] == fresh
        assert (kept["times"], kept["times"].maxlen) == (deque([1, 2]), 5)
        assert events.get_cache("p-none") is None
        moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
        assert dict(events.get_cache("p-date")) == {"at": moment}


def test_samples_go_into_the_buffer_as_pending_ones(old: Path, state: Path) -> None:
    migrated(old, "--to", state)
    samples = samples_of(state)
    assert samples.keys() == {"W1r1", "f3", "W2", "W9"}
    assert samples["W1r1"] == [(MILLISECONDS + number, number * 10) for number in range(5)]
    assert samples["f3"] == [(MILLISECONDS, 0.5)]
    ((timestamp, failure),) = samples["W2"]
    assert timestamp == MILLISECONDS
    assert isinstance(failure, OperationFailedError)
    assert failure.reason.value == "timeout"  # type: ignore[union-attr]
    assert samples["W9"] == [(MILLISECONDS, 9)]  # the last value, which the server has already
    assert Buffer.look_at(f"{state}.buffer").statistics()["pending"] == 8


@pytest.mark.parametrize("name", FIXTURES)
def test_each_file_goes_over_alone(old: Path, state: Path, name: str) -> None:
    kind, found, unsent = FIXTURES[name]
    assert migrated(old / name, "--to", state) == [(name, kind, found, unsent, found)]


@pytest.mark.parametrize(
    ("name", "like"),
    [("samples-protocol-3.pkl", "samples.pkl"), ("alarms-protocol-4.dat", "alarms.dat")],
)
def test_files_of_older_pythons_hold_the_same(tmp_path: Path, name: str, like: str) -> None:
    migrated(REFERENCE / "others" / name, "--to", tmp_path / "older")
    migrated(REFERENCE / like, "--to", tmp_path / "newer")
    assert content_of(tmp_path / "older") == content_of(tmp_path / "newer")
    if "samples" in name:
        older, newer = samples_of(tmp_path / "older"), samples_of(tmp_path / "newer")
        assert repr(older) == repr(newer)


class Register(Pathpoint):
    """A pathpoint that holds what was recorded."""


class Gateway(SMOKDevice):
    def provide_unknown_pathpoint(
        self, name: str, storage_level: StorageLevel = StorageLevel.TREND
    ) -> Pathpoint:
        return Register(self, name, storage_level)


def test_a_device_goes_on_where_the_old_one_was(
    old: Path, state: Path, make_device: Callable[..., SMOKDevice], admin: Admin
) -> None:
    migrated(old, "--to", state)
    admin.set_macros(
        DEVICE_ID,
        [{"macro_id": "m-done", "commands": [], "occurrences": [SECONDS, 4_000_000_000]}],
    )
    admin.set_metadata(DEVICE_ID, "serial", "newer", SECONDS + 1)
    device = make_device(Gateway, evt_database=str(state))
    assert device.state_file is not None
    assert device.state_file.set_aside is None
    assert {event.message for event in device.get_all_open_events()} == {"Pump: hot", "Pump: fresh"}
    assert [p.verbose_name for p in device.predicates.values()] == ["Pump", "Boiler"]
    assert device.sensor_database.get_sensor("boiler temp").path == "W1r1"
    assert device.get_pathpoint("W1r1").get() == (MILLISECONDS + 4, 40)
    device.continue_boot()
    wait_until(lambda: admin.counts(DEVICE_ID).samples == 8)
    wait_until(lambda: len(admin.events(DEVICE_ID)) == 2)
    wait_until(lambda: len(admin.sensor_writes(DEVICE_ID)) == 2)
    wait_until(lambda: len(admin.baobs(DEVICE_ID)) == 2)
    wait_until(lambda: admin.done_macros(DEVICE_ID))
    wait_until(lambda: "name" in admin.metadata(DEVICE_ID))
    assert admin.values(DEVICE_ID, "W1r1") == [
        Sample(MILLISECONDS + number, number * 10) for number in range(5)
    ]
    assert admin.values(DEVICE_ID, "W2") == [Sample(MILLISECONDS, None, "timeout")]
    sent = {event["message"]: event.get("ended_on") for event in admin.events(DEVICE_ID)}
    assert sent == {"Pump: off": SECONDS + 60, "Pump: fresh": None}
    assert admin.metadata(DEVICE_ID) == {"serial": "newer", "name": "Kotłownia"}
    assert admin.done_macros(DEVICE_ID) == [("m-done", SECONDS)]
    assert [write["value"] for write in admin.sensor_writes(DEVICE_ID)] == [0, 1]
    assert admin.baobs(DEVICE_ID) == {"firmware": 3, "notes 2": 0}
    assert admin.baob(DEVICE_ID, "firmware") == bytes(range(256))


# --- Which files, and what is there already -------------------------------------------------------


def test_a_dry_run_writes_nothing(old: Path, state: Path) -> None:
    rows = migrated(old, "--to", state, "--dry-run")
    assert [row[1:] for row in rows] == [
        (kind, found, unsent, "-") for kind, found, unsent in FIXTURES.values()
    ]
    assert list(state.parent.iterdir()) == []


def test_files_with_nothing_in_them_are_shown(tmp_path: Path, state: Path) -> None:
    for number, empty in enumerate([{}, set(), ([], []), ({}, {})]):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(empty))
    (tmp_path / "4.pkl").touch()  # the reference's pathpoint database leaves it like that
    shutil.copyfile(REFERENCE / "metadata.pkl", tmp_path / "5.pkl")
    rows = migrated(tmp_path, "--to", state)
    assert rows[:5] == [(f"{number}.pkl", "nothing", "-", "-", "-") for number in range(5)]
    assert rows[5:] == [("5.pkl", "metadata", "2", "2", "2")]


def test_a_file_is_taken_once_though_it_is_given_twice(old: Path, state: Path) -> None:
    rows = migrated(old, old / "device", old / "baobs", "--to", state)
    assert [row[0] for row in rows] == list(FIXTURES)


def test_nothing_to_take_over_is_an_error(tmp_path: Path, state: Path) -> None:
    assert refusal(tmp_path / "new", "--to", state) == ["nothing that smok has kept was found"]
    assert refusal(tmp_path / "old", "--to", state) == [
        f"{tmp_path / 'old'}: No such file or directory"
    ]
    assert list(state.parent.iterdir()) == []


def test_what_is_no_pickle_is_passed_over_in_a_folder_only(old: Path, state: Path) -> None:
    lines = refusal(old / "device.crt", "--to", state)
    assert lines == [
        f"{old / 'device.crt'}: it is no pickle",
        "nothing was written; name the files that are to be taken over, without these",
    ]


def test_two_files_of_a_kind_are_refused(old: Path, state: Path) -> None:
    shutil.copyfile(old / "device", old / "device.bak")
    lines = refusal(old, "--to", state)
    path, other = old / "device.bak", old / "device"
    assert lines[:-1] == [f"{path}: it holds states of predicates, and so does {other}"]
    assert list(state.parent.iterdir()) == []


def test_a_state_that_is_there_is_added_to_only_if_told(old: Path, state: Path) -> None:
    migrated(old / "sensors.pkl", "--to", state)
    before = state.read_bytes()
    assert refusal(old / "macros.bin", "--to", state) == [
        f"{state}: there is a state already; --merge adds to it"
    ]
    assert state.read_bytes() == before
    migrated(old / "archives.pkl", "--to", state, "--merge")
    content = content_of(state)
    assert len(content["sensors"]) == 2
    assert content["archives"] == {60: ["W1r1", "W2"], 300: ["f3"]}


def test_merging_keeps_what_is_there(old: Path, state: Path) -> None:
    with StateFile(state) as file:
        databases = open_all(file)
        databases["Metadata"].put_plain("serial", "newer", SECONDS + 1)
        databases["Metadata"].put_plain("name", "older", SECONDS - 1)
        databases["BAOB"].set_baob_value("firmware", b"higher", 4)
        databases["Archives"].on_archiving_data_sync({60: ["W7"]})
        databases["Event"].set_cache("p-plain", "newer")
        databases["Event"].add_event(
            Event(None, 1, None, Color.RED, False, "t", "B", "m", None, {})
        )
        databases["Macro"].set_macros([Macro("m-new", {"W1": 1}, [4_000_000_000])])
        databases["Predicate"].set_new_predicates([{"predicate_id": "p-plain"}])
        databases["Journal"].add("http", [b"[]"])
    state.chmod(0o640)
    rows = migrated(old, "--to", state, "--merge", warnings=1)
    taken = {kind: int(taken) for _, kind, _, _, taken in rows}
    assert taken == {
        "events": 4, "archives": 1, "BAOBs": 1, "states of predicates": 3, "macros": 1,
        "metadata": 1, "predicates": 1, "samples": 8, "sensors": 2, "sensor writes": 2,
    }  # fmt: skip
    content = content_of(state)
    assert dict(row[:2] for row in content["metadata"]) == {"serial": "newer", "name": "Kotłownia"}
    assert content["baobs"]["firmware"] == (b"higher", 4)
    assert content["archives"] == {60: ["W7"], 300: ["f3"]}
    assert [Macro.from_pickle(macro).macro_id for macro in content["macros"]] == ["m-new"]
    assert content["done"] == [("m-done", SECONDS)]
    assert len(content["events"]) == 5
    assert len(content["unsynced"]) == 3
    assert content["predicates"][0] == {"predicate_id": "p-plain"}
    assert len(content["orders"]) == 1
    assert state.stat().st_mode & 0o777 == 0o640


def test_metadata_that_was_deleted_since_stays_deleted(old: Path, state: Path) -> None:
    with StateFile(state) as file:
        file.tables["metadata_writes"].put(("serial", None, SECONDS + 1.0))
        file.commit()
    rows = migrated(old / "metadata.pkl", "--to", state, "--merge")
    assert rows == [("metadata.pkl", "metadata", "2", "2", "1")]
    with StateFile(state) as file:
        assert [row[:2] for row in file.tables["metadata"].rows()] == [("name", "Kotłownia")]
        waiting = {row[:2] for row in file.tables["metadata_writes"].rows()}
    assert waiting == {("serial", None), ("name", "Kotłownia")}


def test_metadata_whose_key_fits_no_url_is_left_out(tmp_path: Path, state: Path) -> None:
    path = tmp_path / "metadata"
    path.write_bytes(pickle.dumps({"..": ("x", 1.0), "fine": ("y", 1.0)}))
    rows = migrated(path, "--to", state, warnings=1)
    assert rows == [("metadata", "metadata", "2", "1", "1")]
    assert content_of(state)["metadata"] == [("fine", "y", 1.0)]


def test_doing_it_again_changes_nothing(old: Path, state: Path) -> None:
    migrated(old, "--to", state)
    before, samples = content_of(state), samples_of(state)
    rows = migrated(old, "--to", state, "--merge", warnings=1)
    assert {row[-1] for row in rows} == {"0"}
    assert content_of(state) == before
    assert repr(samples_of(state)) == repr(samples)


def test_macros_are_not_executed_again_by_merging(old: Path, state: Path) -> None:
    migrated(old / "sensors.pkl", "--to", state)
    done = migrate(old / "macros.bin", "--to", state, "--merge")
    assert "left out: macros to be executed: the server sends those that still are" in done.stderr
    content = content_of(state)
    assert (content["macros"], content["done"]) == ([], [("m-done", SECONDS)])


def test_an_occurrence_that_was_executed_is_not_pending_too(old: Path, state: Path) -> None:
    path = old / "macros.bin"
    pending = b"\x8a\x05" + (4_000_000_000).to_bytes(5, "little")
    content = path.read_bytes().replace(b"J" + struct.pack("<i", SECONDS), pending)
    path.write_bytes(content)
    migrated(path, "--to", state)
    (macro,) = map(Macro.from_pickle, content_of(state)["macros"])
    assert macro.macro_id == "m-later"
    assert content_of(state)["done"] == [("m-done", 4_000_000_000)]


def test_samples_older_than_those_there_are_left_out(old: Path, state: Path) -> None:
    buffer = BufferedPathpointDatabase(f"{state}.buffer", durability=0)
    buffer.on_new_data("W1r1", MILLISECONDS + 2, 20)
    buffer.close()
    done = migrate(old / "samples.pkl", "--to", state)
    assert done.exit_code == 0
    assert "left out: 2 of the samples of W1r1: there are newer ones already" in done.stderr
    assert [row[0] - MILLISECONDS for row in samples_of(state)["W1r1"]] == [2, 3, 4]


def test_the_old_third_argument_can_stay(old: Path) -> None:
    state = old / "device"
    before = state.read_bytes()
    assert refusal(old / "sensors.pkl", "--to", state) == [
        f"{state}: it is no state file; if smok has written it, name it among the old ones, too"
    ]
    migrated(old, "--to", state)
    assert (old / "device.smok").read_bytes() == before
    assert set(content_of(state)["states"]) <= {"p0"}
    with StateFile(state) as file:
        assert open_all(file)["Event"].get_cache("p-plain")["limit"] == 5


def test_a_folder_is_no_state_file(old: Path, tmp_path: Path) -> None:
    assert refusal(old, "--to", tmp_path) == [f"{tmp_path}: Is a directory"]
    missing = tmp_path / "missing" / "state"
    assert refusal(old, "--to", missing) == [f"{missing}: there is no such folder"]
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (line,) = refusal(old, "--to", tmp_path / "link")
    assert line.endswith("it is a symbolic link; give what it points to")


@pytest.mark.parametrize("kind", ["state", "buffer"])
def test_the_state_of_a_device_that_runs_is_left_alone(old: Path, state: Path, kind: str) -> None:
    database = StateFile(state) if kind == "state" else BufferedPathpointDatabase(f"{state}.buffer")
    with contextlib.closing(database):
        before = snapshot(state.parent)
        (line,) = refusal(old, "--to", state, "--merge")
        assert str(state) in line
        assert snapshot(state.parent) == before


def test_a_log_of_another_state_is_not_taken_for_part_of_the_new_one(
    old: Path, state: Path
) -> None:
    Path(f"{state}-wal").write_bytes(b"x")
    (line,) = refusal(old / "sensors.pkl", "--to", state)
    assert line == f"{state}-wal: it is the log of a state file that is in use, or was moved"
    assert not state.exists()


def test_what_the_log_of_a_state_holds_is_kept(old: Path, state: Path) -> None:
    with StateFile(state) as file:
        open_all(file)["Metadata"].put_plain("key", "value", 1.0)
        for suffix in ("", "-wal"):  # as a crash leaves them
            shutil.copyfile(f"{state}{suffix}", f"{state.parent / 'crashed'}{suffix}")
    crashed = state.parent / "crashed"
    assert Path(f"{crashed}-wal").stat().st_size > 0
    migrated(old / "sensors.pkl", "--to", crashed, "--merge")
    assert content_of(crashed)["metadata"] == [("key", "value", 1.0)]


@pytest.mark.parametrize("content", [b"SQLite format 3\0 and no more", b""])
def test_a_damaged_state_is_left_alone(old: Path, state: Path, content: bytes) -> None:
    state.write_bytes(content)
    if not content:
        migrated(old, "--to", state)
        return
    (line,) = refusal(old, "--to", state, "--merge")
    assert line.startswith(f"{state}: the state there cannot be read: ")
    assert state.read_bytes() == content


def test_a_newer_state_is_left_alone(old: Path, state: Path) -> None:
    migrated(old / "sensors.pkl", "--to", state)
    with sqlite3.connect(state) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = snapshot(state.parent)
    (line,) = refusal(old, "--to", state, "--merge")
    assert "the state there cannot be used" in line
    assert snapshot(state.parent)["state"] == before["state"]


# --- BAOBs ----------------------------------------------------------------------------------------


def test_baobs_are_recognised_by_their_versions(old: Path, state: Path) -> None:
    """The metadata may be in a file of the same name."""
    assert migrated(old / "baobs", "--to", state) == [("baobs", "BAOBs", "2", "-", "2")]


def test_baobs_cannot_reach_beyond_their_folder(tmp_path: Path, state: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "baobs"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").mkdir()
    (folder / "fine").write_bytes(b"fine")
    keys = ["../secret", str(tmp_path / "secret"), "link", "inner", ".", "", "a\0b", "gone", "fine"]
    (folder / "metadata.pkl").write_bytes(pickle.dumps(dict.fromkeys(keys, 1)))
    assert migrated(folder, "--to", state, warnings=8) == [("baobs", "BAOBs", "9", "-", "1")]
    assert content_of(state)["baobs"] == {"fine": (b"fine", 1)}


# --- States of predicates -------------------------------------------------------------------------


def test_states_of_users_classes_are_left_out_and_named(state: Path) -> None:
    done = migrate(REFERENCE / "others" / "own-class.pkl", "--to", state)
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert line.endswith(
        "left out: the state of predicate p-own: it holds an object of __main__.Window"
    )
    with StateFile(state) as file:
        events = open_all(file)["Event"]
        assert events.get_cache("p-plain") == 1
        with pytest.raises(KeyError):
            events.get_cache("p-own")


def test_states_that_look_like_something_else_can_be_named(old: Path, state: Path) -> None:
    looks_like_metadata = {"p1": ("open", 5.0)}
    path = old / "states"
    path.write_bytes(pickle.dumps(looks_like_metadata))
    (old / "device").unlink()
    lines = refusal(old, "--to", state)
    assert lines[0] == f"{path}: it holds metadata, and so does {old / 'metadata.pkl'}"
    rows = migrated(old, "--states", path, "--to", state)
    assert rows[-1] == ("states", "states of predicates", "1", "-", "1")
    assert content_of(state)["states"] == {"p1": ("open", 5.0)}


def test_what_states_may_hold(tmp_path: Path, state: Path) -> None:
    import collections
    import decimal
    import uuid

    holds = [
        {"a": [1, 2.5, None, True], "b": (b"x", bytearray(b"y").hex())},
        {1, 2, 3},
        frozenset({"a"}),
        collections.Counter("aab"),
        collections.OrderedDict(b=1, a=2),
        decimal.Decimal("1.50"),
        uuid.UUID(int=5),
        datetime.timedelta(seconds=3),
        datetime.date(2026, 1, 2),
        1 << 200,
        complex(1, 2),
        {(1, "x"): "y"},
    ]
    path = tmp_path / "states"
    path.write_bytes(pickle.dumps({f"p{number}": value for number, value in enumerate(holds)}, 4))
    migrated(path, "--to", state)
    with StateFile(state) as file:
        events = open_all(file)["Event"]
        assert [events.get_cache(f"p{number}") for number in range(len(holds))] == holds


# --- Torn and hostile files -----------------------------------------------------------------------


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def shared(start: bytes, wrap: bytes, times: int = 60) -> bytes:
    """Operations that make a value which holds another one twice, and so on."""
    return start + b"".join(b"\x94h" + bytes([at]) + wrap for at in range(times))


def dictionary(value: bytes, key: bytes = b"K\x01") -> bytes:
    return b"\x80\x04}" + key + value + b"s."


ONE = b"K\x01"
TUPLES = shared(ONE, b"\x86")

#: Small files that are large, slow or endless for whoever believes them, and why they are refused.
BOMBS = {
    "tuples in tuples": (dictionary(TUPLES), "grows to more than 64 MiB"),
    "tuples as keys": (dictionary(ONE, key=TUPLES), "grows to more than 64 MiB"),
    "tuples in a set": (b"\x80\x04\x8f(" + TUPLES + b"\x90.", "grows to more than 64 MiB"),
    "calls in calls": (
        dictionary(b"cdecimal\nDecimal\n" + TUPLES + b"R"),
        "grows to more than 64 MiB",
    ),
    "a text many times": (
        pickle.dumps({"p": ["x" * 1_000_000] * 100}),
        "grows to more than 64 MiB",
    ),
    "many operations": (b"\x80\x04(" + b"\x8f" * 2_000_000 + b"t.", "2,000,000 operations"),
    "deep": (b"\x80\x04" + b"]" * 99_999 + b"a" * 99_998 + b".", "nested too deeply"),
    "deep in states": (
        dictionary(b"]" * 99_999 + b"a" * 99_998, key=b"\x8c\x01p"),
        "nested too deeply",
    ),
    "in itself": (dictionary(b"]\x94h\x00a", key=b"\x8c\x01p"), "nested too deeply"),
    "same hashes": (
        pickle.dumps({"p": {number * (2**61 - 1): 0 for number in range(1, 10_002)}}),
        "keys are no text",
    ),
    "a text of 4 EiB": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62), "torn or damaged"),
    "a number of 2 GiB": (b"\x80\x04\x8b" + struct.pack("<i", (1 << 31) - 1), "torn or damaged"),
    "a place far away": (b"\x80\x04Nr\xff\xff\xff\x7f.", "an object of NoneType"),
}


@pytest.mark.timeout(600)  # each takes seconds to be refused
def test_bombs_are_refused_in_little_memory(tmp_path: Path, state: Path) -> None:
    for name, (content, _) in BOMBS.items():
        (tmp_path / name).write_bytes(content)
    with (tmp_path / "a file of 1 TiB").open("wb") as file:
        file.write(b"\x80\x04")
        file.truncate(1 << 40)
    program = """
import resource, sys
from smok_fast.cli import main
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "migrate", str(tmp_path), "--to", str(state)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line.removeprefix(f"smok-fast: {tmp_path}/") for line in done.stderr.splitlines()]
    said = dict(line.split(": ", 1) for line in lines[:-1])
    assert said.pop("a file of 1 TiB") == "it is longer than 64 MiB"
    assert said.keys() == BOMBS.keys()
    for name, (_, reason) in BOMBS.items():
        assert reason in said[name]
    assert list(state.parent.iterdir()) == []


#: Where something hostile may stand in each kind of file.
PLACES: dict[str, Callable[[Any], object]] = {
    "alone": lambda thing: thing,
    "set": lambda thing: {thing},
    "event": lambda thing: ([thing], []),
    "unsent": lambda thing: ([], [thing]),
    "done": lambda thing: ([], [("m", thing)]),
    "archives": lambda thing: {60: [thing]},
    "sensor": lambda thing: {"a": ("a", thing, "c")},
    "metadata": lambda thing: {"a": (thing, 1.0)},
    "silencing": lambda thing: {
        "p": {
            "predicate_id": "p",
            "verbose_name": "P",
            "silencing": [thing],
            "configuration": None,
        }
    },
    "samples": lambda thing: ({"W1": thing}, {}),
    "sample": lambda thing: ({"W1": [thing]}, {}),
    "timestamp": lambda thing: ({"W1": [{"timestamp": thing, "value": 1}]}, {}),
    "error code": lambda thing: ({"W1": [{"timestamp": 1, "error_code": thing}]}, {}),
    "last value": lambda thing: ({}, {"W1": thing}),
    "key": lambda thing: {thing: 1},
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_that_a_file_names_is_run(tmp_path: Path, state: Path, place: str) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(PLACES[place](Hostile(trace))))
    line, _ = refusal(path, "--to", state)
    assert line.startswith(f"{path}: ")
    assert not trace.exists()
    assert list(state.parent.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    [
        lambda thing: {"p": thing},
        lambda thing: {"p": {"a": [(1, {"b": thing})]}},
        lambda thing: {
            "p": {
                "predicate_id": "p",
                "verbose_name": "P",
                "silencing": [],
                "configuration": None,
                "state": thing,
            }
        },
    ],
    ids=["state", "deep in a state", "state of a predicate"],
)
def test_nor_what_a_state_names(tmp_path: Path, state: Path, value: Callable[[Any], Any]) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(value(Hostile(trace))))
    done = migrate(path, "--to", state)
    assert done.exit_code == 0
    assert done.stderr.rstrip().endswith("it holds an object of posix.system")
    assert not trace.exists()


@pytest.mark.parametrize(
    "operations",
    [
        b"cbuiltins\nint\n}b.",
        b"cbuiltins\nint\n}\x8c\x01xK\x01sb.",
        b"(S'x'\nios\nsystem\n.",
        b"\x82\x01.",
        b"Pid\n.",
        b"]R.",
        b"K\x01K\x02a.",
        b"K\x01K\x02.",
        b"(.",
        b"a.",
        b"0.",
        b"h\x05.",
        b"K\x01K\x02\x93.",
        b"}K\x01u.",
        b"\x8c\x03\xed\xa0\x80.",
    ],
)
def test_operations_that_make_no_sense_are_refused(operations: bytes) -> None:
    with pytest.raises(pickles.UnreadablePickle):
        recognise(pickles.loads(b"\x80\x04" + operations))


@pytest.mark.parametrize("name", FIXTURES)
def test_torn_files_are_refused_at_each_byte(tmp_path: Path, state: Path, name: str) -> None:
    whole = REFERENCE / name / "metadata.pkl" if name == "baobs" else REFERENCE / name
    content = whole.read_bytes()
    for length in range(2, len(content)):
        with pytest.raises(pickles.UnreadablePickle, match="torn"):
            pickles.loads(content[:length])
    path = tmp_path / "torn.pkl"
    path.write_bytes(content[:-1])
    assert refusal(path, "--to", state)[0].startswith(f"{path}: it is torn or damaged: ")
    assert list(state.parent.iterdir()) == []


def test_one_torn_file_keeps_all_from_going_over(old: Path, state: Path) -> None:
    for name in ("device", "writes.pkl"):
        content = (old / name).read_bytes()
        (old / name).write_bytes(content[: len(content) // 2])
    lines = refusal(old, "--to", state)
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        [str(old / name), "it is torn or damaged"] for name in ("device", "writes.pkl")
    ]
    assert lines[-1].startswith("nothing was written")
    assert list(state.parent.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in FIXTURES if name != "baobs"])
def test_damaged_files_are_refused_or_make_a_state_that_opens(tmp_path: Path, name: str) -> None:
    content = (REFERENCE / name).read_bytes()
    dice = random.Random(name)
    path = tmp_path / "damaged"
    for number in range(400):
        damaged = bytearray(content)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(2, len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        file = look_into(path)
        assert (file.problem is None) or file.content is None
        if file.content is not None and number % 10 == 0:
            target = tmp_path / f"state{number}"
            write_state(target, [file.content])
            content_of(target)


# --- Ends in the middle ---------------------------------------------------------------------------

#: Takes over again and again; each run is killed at one file operation later than the one before.
KILLER = """
import contextlib, os, shutil, signal, sqlite3, sys
from smok_fast.cli.app import app

old, state, *merge = sys.argv[1:]
before = open(state, 'rb').read() if merge else None
STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "sqlite3.connect"}


def tables():
    if not os.path.exists(state):
        return None
    with contextlib.closing(sqlite3.connect(state)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE sql > ''").fetchall()
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in found
        }


def run(kill_at):
    steps = 0

    def hook(event, arguments):
        nonlocal steps
        if event in STEPS and os.path.dirname(state) in str(arguments[0]):
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        app(["migrate", old, "--to", state, *merge], standalone_mode=False)
    finally:
        os._exit(0)


unchanged, kills, changed_at = tables(), 0, []
while True:
    child = os.fork()
    if not child:
        run(kills + 1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        break
    kills += 1
    now = tables()
    if now != unchanged:
        changed_at.append(kills)
        assert now["events"] == 4 and now["baobs"] == 2 and now["sensor_writes"] == 2, now
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(state + suffix):
                os.unlink(state + suffix)
        if before is not None:
            open(state, "wb").write(before)
print(kills, *changed_at)
"""


@pytest.mark.parametrize("is_merged", [False, True], ids=["new", "merged"])
def test_kills_leave_the_state_as_it_was_or_complete(
    old: Path, state: Path, is_merged: bool
) -> None:
    if is_merged:
        migrated(old / "sensors.pkl", "--to", state)
    before = snapshot(old)
    arguments = [str(old), str(state), *(["--merge"] if is_merged else [])]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all("left out: macros" in line for line in done.stderr.splitlines()), done.stderr
    kills, *changed = map(int, done.stdout.split())
    assert kills > 15
    # Nothing but the very last steps comes after the one that replaces the file
    assert changed == list(range(changed[0], kills + 1))
    assert len(changed) < kills / 2
    assert {path.name for path in state.parent.iterdir()} == {
        "state",
        "state.lock",
        "state.buffer",
    }
    content = content_of(state)
    assert (len(content["events"]), len(content["baobs"])) == (4, 2)
    assert samples_of(state)["W1r1"] == [(MILLISECONDS + n, n * 10) for n in range(5)]
    assert snapshot(old) == before


def test_a_full_disk_leaves_the_state_as_it_was(old: Path, disk: Path) -> None:
    state = disk / "state"
    migrated(old / "sensors.pkl", "--to", state)
    before = state.read_bytes()
    with (disk / "filler").open("wb") as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()
    (line,) = refusal(old, "--to", state, "--merge")
    assert line.startswith(str(disk))
    assert state.read_bytes() == before
    (disk / "filler").unlink()
    # There is space for the state now, but the buffer leaves more than that to others
    (line,) = refusal(old, "--to", state, "--merge")
    assert line.startswith(f"{state}.buffer: samples cannot be saved: ")
    assert state.read_bytes() == before
    (old / "samples.pkl").unlink()
    migrated(old, "--to", state, "--merge", warnings=1)
    assert len(content_of(state)["events"]) == 4
