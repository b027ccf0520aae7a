"""The state file: what survives what."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import ManualClock
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import SMOKClientError, StateInUseError
from smok_fast.extras import SQLiteBAOBDatabase, SQLiteMetadataDatabase
from smok_fast.state import OrderJournal, StateFile, file, schema
from smok_fast.state.journal import STARTED
from smok_fast.testing import wait_until
from state_support import fill, open_all, read_all

#: Seconds to wait for what has to come; never reached by a test that passes.
PATIENCE = 30.0

#: What each of the programs below starts with.
PRELUDE = """
import sys
from smok_fast.extras import SQLiteBAOBDatabase, SQLiteMetadataDatabase
from smok_fast.state import StateFile
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in which fsync costs nothing, if there is one, for tests that open many files."""
    memory = file._folder_in_memory()
    if memory is None:
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield Path(folder)


def rows(path: Path, table: str) -> list[Any]:
    """What another process finds in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        select = f"SELECT * FROM {table} ORDER BY rowid"  # noqa: S608 - the tests' own names
        return connection.execute(select).fetchall()


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def metadata(state: StateFile) -> dict[str, str]:
    return {key: value for key, value, _ in SQLiteMetadataDatabase(state).get_all_plain()}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


def commits_of(state: StateFile, action: Callable[[], None]) -> int:
    """How many transactions an action makes."""
    counted = 0

    def count(statement: str) -> None:
        nonlocal counted
        counted += statement == "COMMIT"

    assert state._connection is not None
    state._connection.set_trace_callback(count)
    action()
    state._connection.set_trace_callback(None)
    return counted


# --- Life ---------------------------------------------------------------------------------------


def test_everything_is_there_again_after_a_restart(path: Path) -> None:
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
    assert all(before.values())
    with StateFile(str(path)) as state:
        assert read_all(state) == before
        assert state.set_aside is None
        assert not state.failing


def test_a_new_file_is_private_and_says_what_it_is(path: Path) -> None:
    with StateFile(path) as state:
        SQLiteMetadataDatabase(state).put_plain("k", "v", 1.0)
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        assert modes == dict.fromkeys(("state", "state-wal", "state-shm", "state.lock"), 0o600)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA application_id").fetchone() == (0x534D4F4B,)
            assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["state", "state.lock"]


def test_a_relative_path_begins_at_the_working_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with StateFile("state") as state:
        monkeypatch.chdir("/")
        assert state.path == path
        SQLiteMetadataDatabase(state).put_plain("k", "v", 1.0)
    assert rows(path, "metadata") == [("k", "v", 1.0)]


def test_a_change_is_in_the_file_when_the_call_returns(path: Path) -> None:
    with StateFile(path) as state:
        database = SQLiteMetadataDatabase(state)
        database.put_plain("k", "v", 1.0)
        assert rows(path, "metadata") == [("k", "v", 1.0)]
        database.delete_plain("k")
        assert rows(path, "metadata") == []


def test_nothing_is_written_where_nothing_changed(path: Path) -> None:
    with StateFile(path) as state:
        fill(state)
        databases = open_all(state)

        def repeat() -> None:
            databases["Archives"].on_archiving_data_sync({60: ["W1"], 0.1: ["W2", "W3"]})
            databases["Sensor"].on_sensors_sync(list(databases["Sensor"].get_all_sensors()))
            databases["Predicate"].set_new_predicates(databases["Predicate"].get_all_predicates())
            databases["Macro"].set_macros(databases["Macro"].get_macros())
            databases["Metadata"].update_plain("k0", "older", -1.0)
            databases["Event"].set_cache("p1", (1,))
            databases["Event"].checkpoint()
            state.checkpoint()

        assert commits_of(state, repeat) == 0


def test_a_closed_file_takes_no_more(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = StateFile(path)
    database = SQLiteMetadataDatabase(state)
    state.close()
    state.close()
    database.put_plain("k", "v", 1.0)
    state.checkpoint()
    assert database.get_plain("k") == "v"
    assert rows(path, "metadata") == []
    assert caplog.messages == []


def test_many_threads_write_at_once(quick: Path) -> None:
    with StateFile(quick / "state") as state:
        database = SQLiteMetadataDatabase(state)

        def write(thread: int) -> None:
            for number in range(100):
                database.put_plain(f"{thread}-{number}", "v", 1.0)
                database.put_plain("shared", f"{thread}-{number}", 1.0)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        last = database.get_plain("shared")
    with StateFile(quick / "state") as state:
        kept = metadata(state)
    assert kept.pop("shared") == last
    assert kept.keys() == {f"{thread}-{number}" for thread in range(8) for number in range(100)}


def test_what_logging_calls_may_use_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock is held while something is logged."""
    with StateFile(path) as state:
        database = SQLiteMetadataDatabase(state)

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                database.put_plain("logged", record.getMessage(), 1.0)

        handler = Handler()
        logging.getLogger("smok_fast.state.file").addHandler(handler)
        try:
            with monkeypatch.context() as context:
                context.setattr(file, "RESERVE", 1 << 60)
                database.put_plain("k", "v", 1.0)
            state.checkpoint()
        finally:
            logging.getLogger("smok_fast.state.file").removeHandler(handler)
    with StateFile(path) as state:
        assert "is written to" in metadata(state)["logged"]


# --- One owner ----------------------------------------------------------------------------------


def test_a_second_one_in_the_same_process_is_told(path: Path) -> None:
    with StateFile(path) as state:
        for _ in range(2):
            with pytest.raises(StateInUseError, match=str(path)):
                StateFile(path)
        SQLiteMetadataDatabase(state).put_plain("k", "v", 1.0)
    with StateFile(path) as state:
        assert metadata(state) == {"k": "v"}
    assert issubclass(StateInUseError, SMOKClientError)


def test_a_second_process_is_told_until_the_first_one_is_killed(path: Path) -> None:
    program = (
        PRELUDE + "state = StateFile(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(StateInUseError):
            StateFile(path)
        process.kill()
    with StateFile(path) as state:
        assert not state.failing


# --- Crashes ------------------------------------------------------------------------------------

WRITE_FOR_EVER = (
    PRELUDE
    + """
state = StateFile(sys.argv[1])
metadata, baobs = SQLiteMetadataDatabase(state), SQLiteBAOBDatabase(state)
for number in range(int(sys.argv[2]), 10**9):
    metadata.put_plain(str(number), "x" * 100, 1.0)
    baobs.set_baob_value("b", str(number).encode() * 1000, number)
    print(number, flush=True)
"""
)


def test_kill_9_in_the_middle_of_writes_loses_nothing_that_was_told_to_be_kept(
    quick: Path,
) -> None:
    path = quick / "state"
    chance = random.Random(9)
    written = 0
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, path, str(written)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 60)):
                written = int(process.stdout.readline()) + 1
            process.send_signal(signal.SIGKILL)
            written += len(process.stdout.read().splitlines(keepends=True)[:-1])
        with StateFile(path) as state:
            assert state.set_aside is None
            kept = SQLiteMetadataDatabase(state)
            assert {key for key, *_ in kept.get_all_plain()} >= set(map(str, range(written)))
            baobs = SQLiteBAOBDatabase(state)
            version = baobs.get_baob_version("b")
            assert version >= written - 1
            assert baobs.get_baob_value("b") == str(version).encode() * 1000


# --- Damage -------------------------------------------------------------------------------------


@pytest.fixture
def files(quick: Path) -> tuple[bytes, bytes, bytes]:
    """A file that was closed; one of a program that was killed, and the log of that."""
    path = quick / "sound"
    with StateFile(path) as state:
        fill(state)
        killed, log = path.read_bytes(), path.with_name("sound-wal").read_bytes()
    assert len(log) > 10_000
    return path.read_bytes(), killed, log


def check_that_it_runs(folder: Path, content: bytes, log: bytes | None = None) -> bool:
    """Whatever a file holds, a device starts with it, and what it then keeps is kept.

    :return: whether the file was moved aside
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "state").write_bytes(content)
    if log is not None:
        (folder / "state-wal").write_bytes(log)
    with StateFile(folder / "state") as state:
        databases = open_all(state)
        databases["BAOB"].check_consistency()
        databases["SensorWrite"].get_sw_sync()
        databases["Metadata"].put_plain("new", "value", 1.0)
        databases["Event"].checkpoint()
        assert not state.failing
        set_aside = state.set_aside
        assert set_aside is None or set_aside.name.startswith(("state.damaged-", "state.newer-"))
    with StateFile(folder / "state") as state:
        assert metadata(state)["new"] == "value"
    return set_aside is not None


def test_a_byte_that_changes_anywhere_stops_nothing(
    quick: Path, files: tuple[bytes, bytes, bytes]
) -> None:
    closed, killed, log = files
    set_aside = 0
    chance = random.Random(5)
    for offset in [*range(100), *range(100, len(closed), 401)]:
        damaged = bytearray(closed)
        damaged[offset] ^= chance.choice((0xFF, 1 << chance.randrange(8)))
        set_aside += check_that_it_runs(quick / "trial", bytes(damaged))
    assert set_aside > 5
    for offset in range(0, len(log), 3011):
        damaged = bytearray(log)
        damaged[offset] ^= 0xFF
        check_that_it_runs(quick / "trial", killed, bytes(damaged))


def test_a_file_that_is_cut_off_anywhere_stops_nothing(
    quick: Path, files: tuple[bytes, bytes, bytes]
) -> None:
    closed, killed, log = files
    for length in [*range(2, 100, 7), *range(100, len(closed), 1103)]:
        assert check_that_it_runs(quick / "trial", closed[:length])
    for length in range(0, len(log), 5021):
        assert not check_that_it_runs(quick / "trial", killed, log[:length])


@pytest.mark.parametrize(
    "content",
    [os.urandom(1000), b"x" * 100_000, b"\x80\x04}q\x00.", b"SQLite format 3\0" + bytes(5000)],
    ids=["random", "text", "pickle", "header"],
)
def test_what_is_no_state_file_is_moved_aside_and_told(
    content: bytes, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    path.with_name("state-wal").write_bytes(b"its log")
    with StateFile(path) as state:
        assert state.set_aside is not None
        assert state.set_aside.read_bytes() == content
        assert state.set_aside.name.startswith("state.damaged-20")
        (message,) = errors(caplog)
        assert str(path) in message
        assert str(state.set_aside) in message
        assert not state.failing


def test_two_files_moved_aside_in_one_second_are_both_there(path: Path) -> None:
    for content in (b"1" * 600, b"2" * 600, b"3" * 600):
        path.write_bytes(content)
        StateFile(path).close()
    aside = sorted(entry.read_bytes()[:1] for entry in path.parent.glob("state.damaged-*"))
    assert aside == [b"1", b"2", b"3"]


def test_another_program_s_database_is_moved_aside_as_it_is(path: Path) -> None:
    execute(path, "PRAGMA application_id = 77", "CREATE TABLE t (c)", "INSERT INTO t VALUES (5)")
    content = path.read_bytes()
    with StateFile(path) as state:
        assert state.set_aside is not None
        assert state.set_aside.read_bytes() == content


def test_an_empty_file_is_told_and_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.touch()
    with StateFile(path) as state:
        assert state.set_aside is None
        fill(state)
    assert caplog.messages == [f"The state file {path} was empty"]


def test_a_row_that_makes_no_sense_stops_no_other_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
    execute(
        path,
        "INSERT INTO archives VALUES (-1, '[]'), ('x', '[]'), (5, '[1]'), (6, '[')",
        "INSERT INTO baobs VALUES ('x', 'no version', x'00')",
        "INSERT INTO events VALUES ('x', '{}', 0), ('y', '[', 0), ('z', CAST(x'ff' AS TEXT), 0)",
        "INSERT INTO macros VALUES ('x', '[]'), ('y', '{\"W1\": []}')",
        "INSERT INTO macro_occurrences VALUES ('m', 'x', 'pending')",
        "INSERT INTO metadata VALUES ('x', CAST(x'ff' AS TEXT), 0), ('y', '', 'z')",
        "INSERT INTO predicate_states VALUES ('p9', x'80'), ('p8', '['), ('p7', 1)",
        "INSERT INTO predicates VALUES ('x', '{}'), ('y', '[]'), ('z', x'8005')",
        "INSERT INTO sensors VALUES ('x', 'W1', 'bad('), (CAST(x'ff' AS TEXT), 'W1', 'y')",
        "INSERT INTO sensor_writes VALUES ('{}', 1), ('[]', 1), ('x', 1)",
        "INSERT INTO sensor_writes SELECT event || ' ', 1 << 60 FROM sensor_writes",
        "INSERT INTO sensor_writes SELECT replace(event, '\"me\"', '[]'), 1 FROM sensor_writes "
        "WHERE event LIKE '%me%'",
    )
    caplog.clear()
    with StateFile(path) as state:
        open_all(state)["BAOB"].check_consistency()
        assert read_all(state) == before
    assert any("sensor_writes" in message for message in errors(caplog))


def test_damage_that_is_found_while_it_runs_costs_nothing_that_memory_has(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFile(path) as state:
        fill(state)
        databases = open_all(state)
        before = read_all(state)
        execute(path, "DROP TABLE metadata")
        databases["Metadata"].put_plain("new", "value", 1.0)
        assert state.set_aside is not None
        assert not state.failing
        assert "no such table" in errors(caplog)[0]
        assert "3 BAOBs are lost" in errors(caplog)[1]
        assert list(databases["BAOB"].get_all_keys()) == []
    with StateFile(path) as state:
        after = read_all(state)
    before["metadata"].append(("new", "value", 1.0))
    before["baobs"] = {}
    assert after == before


# --- Versions -----------------------------------------------------------------------------------


def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        [
            *schema.MIGRATIONS,
            ("ALTER TABLE metadata ADD COLUMN note TEXT", "UPDATE metadata SET note = upper(key)"),
            ("CREATE TABLE later (x)",),
        ],
    )
    with StateFile(path) as state:
        assert read_all(state) == before
        assert state.set_aside is None
    assert rows(path, "metadata")[0] == ("k0", "value", 0.0, "K0")
    assert rows(path, "later") == []


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS)))
def test_a_file_of_each_earlier_version_is_brought_up_to_date(version: int, path: Path) -> None:
    steps = [statement for step in schema.MIGRATIONS[:version] for statement in step]
    execute(
        path,
        *steps,
        f"PRAGMA user_version = {version}",
        "INSERT INTO metadata VALUES ('k', 'v', 1.5)",
    )
    with StateFile(path) as state:
        assert state.set_aside is None
        assert metadata(state) == {"k": "v"}
        fill(state)
        before = read_all(state)
    with StateFile(path) as state:
        assert read_all(state) == before


def test_a_migration_that_fails_halfway_leaves_the_old_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
    with monkeypatch.context() as context:
        failing = ("DROP TABLE metadata", "no SQL")
        context.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, failing])
        with StateFile(path) as state:
            old = state.set_aside
            assert state.failing  # a new file cannot be made either
    assert old is not None
    with StateFile(old) as state:
        assert read_all(state) == before


def test_a_newer_file_is_moved_aside_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as context:
        context.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, ("CREATE TABLE later (x)",)])
        with StateFile(path) as state:
            fill(state)
            before = read_all(state)
        with StateFile(path) as state:
            newer = state.path
    with StateFile(path) as state:
        assert metadata(state) == {}
        newer = state.set_aside
    assert newer is not None
    assert newer.name.startswith("state.newer-20")
    known = len(schema.MIGRATIONS)
    assert f"version {known + 1}, {known} is known" in errors(caplog)[0]
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, ("CREATE TABLE later (x)",)])
    with StateFile(newer) as state:
        assert read_all(state) == before


# --- Disks --------------------------------------------------------------------------------------


def check_one_episode(caplog: pytest.LogCaptureFixture) -> None:
    """It was logged once that the file cannot be written, and once that it can."""
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"], caplog.messages


def test_a_folder_that_comes_later_gets_what_has_waited(
    path: Path, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    path = path / "missing" / "state"
    with StateFile(path, clock=clock) as state:
        assert state.failing
        fill(state)
        before = read_all(state)
        assert before["metadata"]
        path.parent.mkdir(parents=True)
        clock.advance(file.RETRY_EVERY - 1)
        SQLiteMetadataDatabase(state).put_plain("k0", "value", 0.0)
        assert state.failing
        clock.advance(1)
        state.commit()
        assert not state.failing
    check_one_episode(caplog)
    with StateFile(path) as state:
        assert read_all(state) == before


def test_what_a_file_had_stays_though_it_could_not_be_reached_at_the_start(path: Path) -> None:
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
    away = path.with_name("away")
    path.rename(away)
    path.mkdir()
    with StateFile(path) as state:
        assert state.failing
        SQLiteMetadataDatabase(state).put_plain("new", "value", 1.0)
        OrderJournal(state).add("http", [b"new"])
        path.rmdir()
        away.rename(path)
        state.checkpoint()
        assert not state.failing
    with StateFile(path) as state:
        after = read_all(state)
    assert after["orders"].pop().section == b"new"
    assert after["metadata"].pop() == ("new", "value", 1.0)
    assert after == before


def test_a_lock_that_somebody_took_meanwhile_stops_the_writing_only(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = path / "missing" / "state"
    with StateFile(path) as late:
        database = SQLiteMetadataDatabase(late)
        path.parent.mkdir(parents=True)
        with StateFile(path) as early:
            database.put_plain("late", "value", 1.0)
            late.checkpoint()
            assert late.failing
            assert database.get_plain("late") == "value"
            assert metadata(early) == {}
        late.checkpoint()
        assert not late.failing
    check_one_episode(caplog)


def test_no_space_is_survived_and_nothing_is_lost(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: ManualClock,
) -> None:
    with StateFile(path, clock=clock) as state:
        with monkeypatch.context() as context:
            context.setattr(file, "RESERVE", 1 << 60)
            fill(state)
            assert state.failing
            before = read_all(state)
            assert all(before.values())
            assert rows(path, "metadata") == []
        state.checkpoint()
        assert not state.failing
    check_one_episode(caplog)
    with StateFile(path) as state:
        assert read_all(state) == before


def test_a_large_value_without_space_holds_up_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.statvfs(path.parent)
    monkeypatch.setattr(file, "RESERVE", disk.f_bavail * disk.f_frsize - (1 << 30))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    with StateFile(path) as state:
        baobs, plain = SQLiteBAOBDatabase(state), SQLiteMetadataDatabase(state)
        large = bytes(1 << 29) + b"1"
        baobs.set_baob_value("large", large, 1)
        baobs.set_baob_value("small", b"1", 1)
        plain.put_plain("k", "v", 1.0)
        state.checkpoint()
        assert state.failing
        assert [row[0] for row in rows(path, "baobs")] == ["small"]
        assert rows(path, "metadata") == [("k", "v", 1.0)]
        assert baobs.get_baob_value("large") == large
        baobs.delete_baob("large")
        state.checkpoint()
        assert not state.failing


def test_a_full_disk_is_survived_and_nothing_is_lost(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk / "state"
    with StateFile(path) as state:
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(filler, bytes(4096)):
                pass
        fill(state, count=9)
        assert state.failing
        before = read_all(state)
        assert all(before.values())
        os.ftruncate(filler, 0)
        os.close(filler)
        state.checkpoint()
        assert not state.failing
    check_one_episode(caplog)
    with StateFile(path) as state:
        assert read_all(state) == before


def test_a_disk_that_is_full_in_the_middle_of_a_transaction_is_survived(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file, "RESERVE", -(1 << 60))  # SQLite is to find out
    path = disk / "state"
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
        baobs = SQLiteBAOBDatabase(state)
        baobs.set_baob_value("large", bytes(20 << 20), 1)
        assert state.failing
        assert len(baobs.get_baob_value("large")) == 20 << 20
        baobs.delete_baob("large")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        state.checkpoint()
        assert not state.failing
    with StateFile(path) as state:
        assert state.set_aside is None
        assert read_all(state) == before


def test_a_read_only_disk_is_read_and_written_later(
    disk: Path, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    path = disk / "state"
    with StateFile(path) as state:
        fill(state)
        before = read_all(state)
        content, log = path.read_bytes(), path.with_name("state-wal").read_bytes()
    path.write_bytes(content)  # as a power cut leaves it: most is in the log
    path.with_name("state-wal").write_bytes(log)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with StateFile(path, clock=clock) as state:
        assert state.failing
        assert read_all(state) == before
        SQLiteMetadataDatabase(state).put_plain("new", "value", 1.0)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        state.checkpoint()
        assert not state.failing
    check_one_episode(caplog)
    with StateFile(path) as state:
        assert metadata(state)["new"] == "value"
        assert len(read_all(state)["orders"]) == len(before["orders"])


def test_another_program_that_writes_delays_nothing_but_the_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file, "BUSY_FOR", 0.01)
    with StateFile(path) as state:
        database = SQLiteMetadataDatabase(state)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            database.put_plain("k", "v", 1.0)
            assert database.get_plain("k") == "v"
            assert state.failing
            other.execute("ROLLBACK")
        state.checkpoint()
        assert rows(path, "metadata") == [("k", "v", 1.0)]
    check_one_episode(caplog)


def test_what_is_lost_at_the_end_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateFile(path)
    monkeypatch.setattr(file, "RESERVE", 1 << 60)
    SQLiteMetadataDatabase(state).put_plain("k", "v", 1.0)
    state.close()
    assert errors(caplog)[-1] == "The last changes of the state are lost"
    StateFile(path).close()  # nobody has it open any more


@pytest.mark.parametrize(
    ("key", "value", "timestamp"),
    [("k\udc80", "v", 1.0), ("k", "v\ud800", 1.0), ("k", "v", float("nan"))],
    ids=["key", "value", "time"],
)
def test_a_row_that_cannot_be_written_stops_no_other_one(
    key: str, value: str, timestamp: float, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFile(path) as state:
        database = SQLiteMetadataDatabase(state)
        database.put_plain(key, value, timestamp)
        database.put_plain("good", "v", 1.0)
        assert database.get_plain(key) == value
        assert not state.failing
        state.checkpoint()
    assert rows(path, "metadata") == [("good", "v", 1.0)]
    assert len(errors(caplog)) == 1


# --- Measures -----------------------------------------------------------------------------------


def test_what_belongs_together_is_one_transaction(path: Path) -> None:
    with StateFile(path) as state:
        fill(state, count=100)
        databases = open_all(state)
        events = databases["Event"].get_events_to_sync()
        writes = databases["SensorWrite"].get_sw_sync()
        assert commits_of(state, lambda: events.acknowledge(*map(str, range(100)))) == 1
        assert commits_of(state, writes.ack) == 1

        def tick() -> None:
            for number in range(100):
                databases["Event"].set_cache(f"p{number}", "changed")
            databases["Event"].checkpoint()

        assert commits_of(state, tick) == 1
        assert commits_of(state, lambda: databases["BAOB"].set_baob_value("b0", b"1", 9)) == 1


def test_metadata_and_that_the_server_lacks_it_are_one_transaction(
    make_offline_device: Callable[..., SMOKDevice], path: Path
) -> None:
    device = make_offline_device(evt_database=path, delayed_boot=True)
    assert device.state_file is not None

    def write() -> None:
        device.metadata["k"] = "v"
        del device.metadata["k"]

    assert commits_of(device.state_file, write) == 2


def test_changes_that_wait_for_the_disk_go_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_FOR", PATIENCE)
    with (
        StateFile(path) as state,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        database = SQLiteMetadataDatabase(state)

        def write_all() -> None:
            other.execute("BEGIN IMMEDIATE")  # somebody else has the disk
            keys = map(str, range(8))
            futures = [pool.submit(database.put_plain, key, "v", 1.0) for key in keys]
            wait_until(lambda: len(list(database.get_all_plain())) == 8, PATIENCE)
            other.execute("ROLLBACK")
            assert not concurrent.futures.wait(futures, PATIENCE).not_done

        # The first one, and then all that came meanwhile
        assert commits_of(state, write_all) <= 2
        assert len(rows(path, "metadata")) == 8


# --- The journal --------------------------------------------------------------------------------


def test_an_order_is_in_the_journal_until_it_is_done(path: Path) -> None:
    times = iter([5_000_000_000, 4_000_000_000, 9_000_000_000])
    with StateFile(path) as state:
        journal = OrderJournal(state, clock=lambda: next(times))
        (first,) = journal.add("http", [b"first"])
        (second,) = journal.add("ngtt", [b"second"])
        assert first < second  # though the clock was set back
        journal.mark([first], STARTED)
        journal.commit()
    with StateFile(path) as state:
        journal = OrderJournal(state, clock=lambda: next(times))
        assert [
            (order.id, order.source, order.section, order.received_at, order.state)
            for order in journal.unfinished()
        ] == [
            (first, "http", b"first", 5.0, "started"),
            (second, "ngtt", b"second", 4.0, "received"),
        ]
        (third,) = journal.add("http", [b"third"])
        journal.mark_done(first)
        journal.mark_done(first)
        journal.mark([first], STARTED)
        assert [order.id for order in journal.unfinished()] == [second, third]
    assert [row[0] for row in rows(path, "orders")] == [second, third]
