"""The durable buffer, through its database and through devices: what survives what, on real
folders and against the local server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import math
import random
import shutil
import sqlite3
import struct
import threading
import time
import warnings
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from buffer_support import (
    NATIVE,
    PRELUDE,
    SMALL,
    archived,
    noise,
    on_disk,
    program,
    said,
    told,
    upload_all,
)
from gateway_support import DEVICE_ID, PATIENCE, Recorder, held, pending
from pathpoint_support import TIMEOUT, Maker, execute, read, scripted
from smok_fast.basics import StorageLevel
from smok_fast.client import SMOKDevice
from smok_fast.exceptions import (
    BufferInUseError,
    NotReadedError,
    OperationFailedError,
    OperationFailedReason,
    SMOKClientError,
)
from smok_fast.extras import (
    BasePathpointDatabase,
    BufferedPathpointDatabase,
    BufferStatistics,
    BufferUpload,
    Quarantine,
    quarantine,
)
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

#: As a durability: nothing becomes durable by itself while a test runs.
NEVER = 3600.0

MALFORMED = OperationFailedReason.MALFORMED
TYPE = OperationFailedReason.TYPE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "buffer"


@pytest.fixture
def open_buffer(folder: Path) -> Iterator[Callable[..., BufferedPathpointDatabase]]:
    """Opens the buffer in the folder, after closing it if it is open."""
    opened: list[BufferedPathpointDatabase] = []

    def open_buffer(**options: Any) -> BufferedPathpointDatabase:
        for database in opened:
            database.close()
        opened.append(BufferedPathpointDatabase(folder, **{"durability": NEVER, **options}))
        return opened[-1]

    yield open_buffer
    for database in opened:
        database.close()


@pytest.fixture
def recorder(device_certificate: Callable[..., Any]) -> Iterator[Callable[..., Recorder]]:
    """Makes devices of a server."""
    made: list[Recorder] = []

    def make(server: LocalServer, **options: Any) -> Recorder:
        made.append(Recorder(device_certificate(DEVICE_ID), server.url, **options))
        return made[-1]

    yield make
    for device in made:
        device.close()


def record(database: BufferedPathpointDatabase, name: str, *values: Any, start: int = 1) -> None:
    """Record values of a pathpoint, at one millisecond after the other."""
    for timestamp, value in enumerate(values, start):
        database.on_new_data(name, timestamp, value)


# --- Restart --------------------------------------------------------------------------------------


def test_values_archives_and_what_waits_are_there_after_a_restart(
    make_offline_device: Maker, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    device = make_offline_device(evt_database=state)
    for name, values in {
        "W1": [1, 2, 65535],
        "d1": [0.1, -1e300, 5e-324],
        "u1": ["", "zażółć \N{PILE OF POO}", "x" * 10_000],
        "B1": [0, TIMEOUT],
    }.items():
        pathpoint = Pathpoint(device, name)
        for timestamp, value in enumerate(values, 1):
            pathpoint.set_new_value(timestamp, value)
    device.close()
    assert (tmp_path / "state.buffer").is_dir()

    device = make_offline_device(evt_database=state)
    assert pending(device) == 11
    first, second, third, last = (Pathpoint(device, name) for name in ("W1", "d1", "u1", "B1"))
    assert first.get() == (3, 65535)
    assert (second.current_timestamp, second.current_value) == (3, 5e-324)
    assert list(first.get_archive(None)) == [(1, 1), (2, 2), (3, 65535)]
    assert list(second.get_archive(2)) == [(2, -1e300), (3, 5e-324)]
    assert [len(text) for _, text in third.get_archive(None)] == [0, 8, 10_000]
    with pytest.raises(OperationFailedError) as raised:
        last.get()
    assert (raised.value.reason, raised.value.timestamp) == (OperationFailedReason.TIMEOUT, 2)
    with pytest.warns(UserWarning, match="not above the current one, 3"):
        first.set_new_value(3, 7)
    first.set_new_value(4, 7)
    assert list(first.get_archive(3)) == [(3, 65535), (4, 7)]


def test_only_what_the_server_does_not_have_waits_after_a_restart(
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    database = open_buffer()
    record(database, "W1", *range(100))
    database.get_data_to_sync().acknowledge()  # type: ignore[union-attr]
    record(database, "W1", *range(100, 150), start=101)
    record(database, "W2", *range(10))
    database.get_data_to_sync()
    database = open_buffer()
    assert database.report.pending == database.statistics().pending == 60
    assert (database.report.samples, database.report.segments) == (160, 1)
    assert upload_all(database) == {
        "W1": [(number + 1, number) for number in range(100, 150)],
        "W2": [(number + 1, number) for number in range(10)],
    }
    database = open_buffer()
    assert database.report.pending == database.statistics().pending == 0
    assert database.get_data_to_sync() is None
    assert len(archived(database, "W1")) == 150


def test_a_device_that_restarts_delivers_what_it_could_not_and_nothing_twice(
    tmp_path: Path, smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    state = tmp_path / "state"
    device = recorder(smok_server, evt_database=state)
    device.record("W1", 1, 2, 3)
    device.close()
    device = recorder(smok_server, evt_database=state, allow_sync=False)
    device.record("W1", 4, 5, start=4)
    device.record("f1", 0.5, TIMEOUT)
    device.close()
    assert held(smok_server.admin) == {"W1": [(1, 1), (2, 2), (3, 3)]}
    device = recorder(smok_server, evt_database=state)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(smok_server.admin) == {
        "W1": [(number, number) for number in range(1, 6)],
        "f1": [(1, 0.5), (2, "timeout")],
    }
    assert smok_server.admin.counts(DEVICE_ID).duplicates == 0


def test_a_relative_path_begins_where_the_program_was_when_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(BufferedPathpointDatabase("buffer", durability=NEVER)) as database:
        record(database, "W1", 1)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        assert upload_all(database) == {"W1": [(1, 1)]}
        database.flush()
        assert database.path == tmp_path / "buffer"
    assert on_disk(tmp_path / "buffer") == {"W1": [(1, 1)]}
    assert not list((tmp_path / "elsewhere").iterdir())


# --- When it is durable ---------------------------------------------------------------------------

#: Records for ever, in each of the ways there are, and says each number once it is durable.
WAYS = {
    "database": """
for number in itertools.count(1):
    database.on_new_data("W1", number, number % 7)
    print(number, flush=True)
""",
    "set_new_value": """
for number in itertools.count(1):
    pathpoint.set_new_value(number, number % 7)
    print(number, flush=True)
""",
    "set_new_values": """
for number in itertools.count(1, 5):
    numbers = array.array("q", range(number, number + 5))
    pathpoint.set_new_values(numbers, array.array("q", (number % 7 for number in numbers)))
    print(number + 4, flush=True)
""",
    "read": """
for number in itertools.count(1):
    pathpoint.on_read = lambda advise: number % 7
    device.execute(pathpoint.read()).result()
    print(number, flush=True)
""",
}
EACH_CALL = (
    PRELUDE
    + """
import array, itertools
from smok_fast.client import SMOKDevice
from smok_fast.extras import InMemoryEventDatabase
from smok_fast.pathpoint import Pathpoint
folder, cert, key = sys.argv[1:]
database = BufferedPathpointDatabase(folder, durability=0)
device = SMOKDevice(cert, key, InMemoryEventDatabase(), database, allow_sync=False)
pathpoint = Pathpoint(device, "W1")
"""
)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_loss_window_kill_9_right_after_a_call_costs_nothing(
    way: str, folder: Path, device_certificate: Callable[..., Any]
) -> None:
    certificate = device_certificate(DEVICE_ID)
    text = EACH_CALL + WAYS[way]
    with program(text, folder, certificate.cert, certificate.key) as (process, output):
        for _ in range(random.Random(way).randrange(1, 30)):
            recorded = int(output.readline())
        process.kill()
    with contextlib.closing(BufferedPathpointDatabase(folder)) as database:
        kept = [value for _, value in archived(database, "W1")]
    assert kept == [number % 7 for number in range(1, len(kept) + 1)]
    assert len(kept) >= recorded


def test_what_is_recorded_is_durable_within_the_loss_window(
    folder: Path, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(durability=1.0)
    for start in (1, 101):
        record(database, "W1", *range(100), start=start)
        wait_until(lambda: database.statistics().volatile == 0, PATIENCE)
        assert len(on_disk(folder)["W1"]) == start + 99


def test_everything_before_a_flush_is_durable_once_it_returns(
    folder: Path, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer()
    for start in (1, 101):
        record(database, "W1", *range(100), start=start)
        assert database.statistics().volatile == 100
        assert len(on_disk(folder).get("W1", [])) == start - 1
        database.flush()
        assert database.statistics().volatile == 0
        assert len(on_disk(folder)["W1"]) == start + 99


def test_a_loss_window_may_be_longer_than_clocks_count(
    folder: Path, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(durability=math.inf)
    record(database, "W1", 1)
    database.flush()
    assert on_disk(folder) == {"W1": [(1, 1)]}


def test_a_buffer_in_memory_only_makes_no_files(
    folder: Path, smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    database = BufferedPathpointDatabase(folder, durability=None)
    device = recorder(smok_server, pp_database=database)
    device.record("W1", 1, 2)
    database.flush()
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(smok_server.admin) == {"W1": [(1, 1), (2, 2)]}
    assert archived(database, "W1") == [(1, 1), (2, 2)]
    assert not database.report.is_damaged
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upload_order": "newest_first"}, "upload_order"),
        ({"durability": -0.1}, "durability"),
        ({"durability": math.nan}, "durability"),
        ({"segment_bytes": 1000}, "segment_bytes"),
        ({"segment_bytes": 5 << 20}, "segment_bytes"),
        ({"max_bytes": 1 << 20}, "max_bytes"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        BufferedPathpointDatabase(folder, **options)
    assert not folder.exists()


# --- The end --------------------------------------------------------------------------------------


def test_what_is_closed_can_be_asked_and_tells_what_is_lost_from_then_on(
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer()
    record(database, "W1", 1, 2)
    database.close()
    database.close()
    database.flush()
    assert not caplog.records
    record(database, "W1", 3, start=3)
    assert database.get_current_value("W1") == (3, 3)
    assert archived(database, "W1") == [(1, 1), (2, 2), (3, 3)]
    with pytest.raises(OSError, match="closed"):
        database.flush()
    assert on_disk(folder) == {"W1": [(1, 1), (2, 2)]}


@pytest.mark.parametrize("durability", [0, 0.001, NEVER])
def test_close_in_the_middle_of_recording_keeps_everything_until_then(
    durability: float,
    folder: Path,
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    database = open_buffer(durability=durability)
    device = make_offline_device(pp_database=database, delayed_boot=True)
    pathpoints = [Pathpoint(device, f"W{number}") for number in range(4)]
    recorded = [0] * len(pathpoints)
    errors: list[BaseException] = []
    over = threading.Event()

    def run(index: int) -> None:
        try:
            for number in itertools.count(1):
                pathpoints[index].set_new_value(number, number % 100)
                recorded[index] = number
                if over.is_set():
                    return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(pathpoints))]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(count > 20 for count in recorded), PATIENCE)
    before = list(recorded)
    database.close()
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not errors
    device.close()
    database = open_buffer()
    assert not database.report.is_damaged
    for pathpoint, least, most in zip(pathpoints, before, recorded, strict=True):
        kept = archived(database, pathpoint.name)
        assert kept == [(number, number % 100) for number in range(1, len(kept) + 1)]
        assert least <= len(kept) <= most


ENDS = {
    "its last line": "",
    "sys.exit": "sys.exit(0)",
    "an exception": "raise SystemExit",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_without_close_keeps_everything(
    end: str, folder: Path, device_certificate: Callable[..., Any]
) -> None:
    text = (
        EACH_CALL.replace("durability=0", f"durability={NEVER}")
        + """
for number in range(1, 1001):
    pathpoint.set_new_value(number, number % 7)
"""
        + ENDS[end]
    )
    certificate = device_certificate(DEVICE_ID)
    with program(text, folder, certificate.cert, certificate.key) as (process, output):
        assert output.read() == ""
        assert process.wait(PATIENCE) == 0
    with contextlib.closing(BufferedPathpointDatabase(folder)) as database:
        assert archived(database, "W1") == [(number, number % 7) for number in range(1, 1001)]


FORKS = (
    PRELUDE
    + """
import os, pathlib
database = BufferedPathpointDatabase(sys.argv[1])
database.on_new_data("W1", 1, 1)
database.flush()
def files():
    return {path.name: path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()}
before = files()
child = os.fork()
if child == 0:
    database.on_new_data("W1", 2, 2)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert files() == before
database.on_new_data("W1", 3, 3)
"""
)


def test_a_child_process_that_ends_leaves_the_buffer_to_its_parent(folder: Path) -> None:
    with program(FORKS, folder) as (process, output):
        assert output.read() == ""
        assert process.wait(PATIENCE) == 0
    with contextlib.closing(BufferedPathpointDatabase(folder)) as database:
        assert archived(database, "W1") == [(1, 1), (3, 3)]


FORKS_IN_THE_MIDDLE = (
    PRELUDE
    + """
import gc, os
database = BufferedPathpointDatabase(sys.argv[1], durability=0.001)
names = [f"W{number}" for number in range(200)]
for number in range(150):
    for timestamp in range(50 * number, 50 * number + 40):
        for name in names:
            database.on_new_data(name, timestamp, timestamp)
    child = os.fork()
    if child == 0:
        del database
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
)


def test_a_child_process_drops_the_buffer_whatever_its_threads_were_at(folder: Path) -> None:
    with program(FORKS_IN_THE_MIDDLE, folder) as (process, output):
        assert output.read() == ""
        assert process.wait(PATIENCE) == 0


def test_a_buffer_that_nobody_has_any_more_is_saved_and_released(folder: Path) -> None:
    database = BufferedPathpointDatabase(folder, durability=NEVER)
    record(database, "W1", 1, 2)
    del database
    gc.collect()
    with contextlib.closing(BufferedPathpointDatabase(folder)) as database:
        assert archived(database, "W1") == [(1, 1), (2, 2)]


def test_what_is_recorded_after_the_end_takes_no_memory_without_bounds(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(memory_bytes=1 << 20)
    pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "d1")
    database.close()
    for start in range(1, 500_001, 100_000):
        pathpoint.set_new_values(array("q", range(start, start + 100_000)), noise(100_000))
        assert database.statistics().volatile_bytes <= 2 << 20
    assert pathpoint.current_timestamp == 500_000
    assert database.statistics().dropped > 200_000


# --- One owner ------------------------------------------------------------------------------------


def test_a_second_one_in_the_same_process_is_told_until_the_first_is_closed(folder: Path) -> None:
    database = BufferedPathpointDatabase(folder, durability=NEVER)
    record(database, "W1", 1)
    for _ in range(2):
        with pytest.raises(BufferInUseError, match=str(folder)):
            BufferedPathpointDatabase(folder)
    database.close()
    with contextlib.closing(BufferedPathpointDatabase(folder)) as database:
        assert archived(database, "W1") == [(1, 1)]
    assert issubclass(BufferInUseError, SMOKClientError)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_second_process_is_told_until_the_first_is_done(end: str, folder: Path) -> None:
    text = (
        PRELUDE
        + """
database = BufferedPathpointDatabase(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
database.close()
print("closed", flush=True)
sys.stdin.readline()
"""
    )
    with program(text, folder) as (process, output):
        assert output.readline() == "open\n"
        with pytest.raises(BufferInUseError, match="another process"):
            BufferedPathpointDatabase(folder)
        assert process.stdin is not None
        if end == "close":
            process.stdin.write("\n")
            process.stdin.flush()
            assert output.readline() == "closed\n"
        else:
            process.kill()
            process.wait()
        BufferedPathpointDatabase(folder).close()


def test_a_device_whose_buffer_is_in_use_leaves_nothing_behind(
    make_offline_device: Maker, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with contextlib.closing(BufferedPathpointDatabase(f"{state}.buffer")):
        for _ in range(2):
            with pytest.raises(BufferInUseError):
                make_offline_device(evt_database=state)
    assert make_offline_device(evt_database=state).state_file is not None


# --- Damage ---------------------------------------------------------------------------------------

THOUSAND = [(number, number % 7) for number in range(1, 1001)]


@pytest.fixture
def segment(folder: Path) -> Path:
    """A file with ten frames of 100 samples, of which the server has 500."""
    database = BufferedPathpointDatabase(folder, durability=NEVER)
    for start in range(0, 1000, 100):
        record(
            database, "W1", *(value for _, value in THOUSAND[start : start + 100]), start=start + 1
        )
        database.flush()
        if start < 500:
            database.get_data_to_sync().acknowledge()  # type: ignore[union-attr]
    database.close()
    (segment,) = folder.glob("*.segment")
    return segment


def flip(path: Path, at: int) -> None:
    """Change a byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)


def check_that_it_goes_on(
    open_buffer: Callable[..., BufferedPathpointDatabase], kept: list[Any]
) -> None:
    """What a damaged buffer records is kept, after what it had."""
    database = open_buffer()
    assert archived(database, "W1") == kept
    record(database, "W1", 1, 2, start=5000)
    database = open_buffer()
    assert archived(database, "W1") == [*kept, (5000, 1), (5001, 2)]
    assert upload_all(database)["W1"][-2:] == [(5000, 1), (5001, 2)]


def test_a_torn_end_is_cut_off(
    segment: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 3)
    database = open_buffer()
    assert database.report.truncated_bytes > 0
    assert (database.report.samples, database.report.pending) == (900, 400)
    assert not database.report.is_damaged, "that is usual after a power cut"
    assert not caplog.records
    check_that_it_goes_on(open_buffer, THOUSAND[:900])


def test_a_damaged_frame_is_set_aside_and_the_others_are_kept(
    segment: Path,
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    flip(segment, segment.stat().st_size // 2)
    content = segment.read_bytes()
    database = open_buffer()
    assert database.report.quarantined_bytes > 0
    assert database.report.is_damaged
    assert said(caplog, f"Buffer {folder}: beside 900 samples") == 1
    kept = archived(database, "W1")
    assert len(kept) == 900
    assert set(kept) < set(THOUSAND)
    assert kept == sorted(kept)
    database.checkpoint()
    assert said(caplog, f"{database.report.quarantined_bytes} bytes of {segment.name} are dam") == 1
    (damaged,) = folder.glob("*.damaged")
    assert damaged.stat().st_size == database.report.quarantined_bytes
    assert damaged.read_bytes() in content
    assert database.statistics().damaged_bytes == database.report.quarantined_bytes
    check_that_it_goes_on(open_buffer, kept)


def test_damage_to_what_the_server_has_costs_that_samples_are_sent_again(
    segment: Path, folder: Path, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    flip(folder / "cursor", 10)
    database = open_buffer()
    assert database.report.cursor_damaged_bytes > 0
    assert database.report.is_damaged
    sent = upload_all(database)["W1"]
    assert sent == THOUSAND[-len(sent) :]
    assert len(sent) >= 500


@pytest.mark.parametrize("length", [0, 1, 100, 100_000])
def test_a_folder_of_garbage_costs_what_was_in_it_and_no_more(
    length: int,
    segment: Path,
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    garbage = random.Random(length).randbytes(length)
    for path in (segment, folder / "cursor", folder / "trend-7.segment", folder / "cursor.new"):
        path.write_bytes(garbage)
    check_that_it_goes_on(open_buffer, [])


def test_a_file_that_is_gone_costs_what_was_in_it_and_that_is_told(
    folder: Path,
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer(**SMALL)
    pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "d1")
    for start in range(0, 200_000, 10_000):
        pathpoint.set_new_values(array("q", range(start, start + 10_000)), noise(10_000))
        database.flush()
    segments = sorted(folder.glob("trend-*"))
    assert len(segments) > 4
    segments[1].unlink()
    sent = [timestamp for timestamp, _ in upload_all(database)["d1"]]
    lost = 200_000 - len(sent)
    gap = next(number for number, timestamp in enumerate(sent) if timestamp != number)
    assert sent == [*range(gap), *range(gap + lost, 200_000)]
    figures = database.statistics()
    assert (figures.pending, figures.dropped, figures.acknowledged) == (0, lost, len(sent))
    assert lost % 10_000 == 0 < lost < 100_000
    assert len(pathpoint.get_archive_arrays()[0]) == len(sent)
    database.checkpoint()
    assert said(caplog, f"{lost} samples that the server lacks were not found any more") == 1
    assert len(caplog.records) == 1


def test_a_file_that_cannot_be_read_for_a_while_holds_up_what_is_in_it_and_that_is_told(
    folder: Path,
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer(**SMALL)
    device = make_offline_device(pp_database=database, delayed_boot=True)
    pathpoints = [Pathpoint(device, name) for name in ("d1", "d2", "d3", "d4", "d5")]
    for pathpoint in pathpoints:  # each fills files of its own
        pathpoint.set_new_values(array("q", range(40_000)), noise(40_000))
        database.flush()
    pathpoints[0].set_new_values(array("q", range(40_000, 80_000)), noise(40_000))
    database.flush()
    segment = sorted(folder.glob("trend-*"))[1]
    elsewhere = segment.rename(folder.parent / segment.name)
    segment.mkdir()
    for _ in range(2):
        upload_all(database)
    figures = database.statistics()
    held_up = 240_000 - figures.acknowledged
    assert (figures.pending, figures.dropped) == (held_up, 0)
    assert 40_000 < held_up < 140_000
    assert said(caplog, f"Samples cannot be read ({segment.name}: Is a directory") == 1
    segment.rmdir()
    elsewhere.rename(segment)
    rest = upload_all(database)
    assert sum(map(len, rest.values())) == held_up
    numbers = [timestamp for timestamp, _ in rest["d1"]]
    assert numbers == [*range(numbers[0], 80_000)]
    figures = database.statistics()
    assert (figures.pending, figures.dropped, figures.acknowledged) == (0, 0, 240_000)


# --- Many at once ---------------------------------------------------------------------------------


class Index:
    """As NumPy's integers: no int, but a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number

    def __float__(self) -> float:
        return float(self.number)


FIVE = [10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("name", "values", "kept"),
    [
        ("W1", array("q", FIVE), FIVE),
        ("W1", memoryview(array("q", FIVE)), FIVE),
        ("W1", array("H", FIVE), FIVE),
        ("W1", memoryview(array("q", range(10)))[::2], [0, 2, 4, 6, 8]),
        ("W1", array("d", [1.5, -1.5, 2.0, 3.25, 1e9]), [1.5, -1.5, 2.0, 3.25, 1e9]),
        ("d1", array("d", [0.1, -1e300, 5e-324, 1.0, 2.5]), [0.1, -1e300, 5e-324, 1.0, 2.5]),
        ("f1", memoryview(array("f", [0.5, 1.5, 2.5, 3.5, 4.5])), [0.5, 1.5, 2.5, 3.5, 4.5]),
        ("w1", array("q", [2**63 - 1, -(2**63), 0, 1, 2]), [2**63 - 1, -(2**63), 0, 1, 2]),
        ("W1", FIVE, FIVE),
        ("W1", [Index(number) for number in FIVE], FIVE),
        ("W1", [1, TIMEOUT, 2.5, True, TIMEOUT], [1, TIMEOUT.reason, 2.5, 1, TIMEOUT.reason]),
        ("u1", ["a", "", TIMEOUT, "ż", "b"], ["a", "", TIMEOUT.reason, "ż", "b"]),
    ],
)
@pytest.mark.parametrize("timestamps", [array("q", range(1, 6)), [1, 2.5, 3, Index(4), 5]])
def test_many_values_are_recorded_at_once(
    name: str,
    values: Any,
    kept: list[Any],
    timestamps: Any,
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    changes: list[Any] = []
    device = make_offline_device(pp_database=open_buffer(), delayed_boot=True)
    pathpoint = Pathpoint(device, name, callable_on_change=changes.append)
    assert pathpoint.set_new_values(timestamps, values) == 5
    assert changes == [pathpoint]
    expected = list(enumerate(kept, 1))
    assert told(pathpoint.get_archive(None)) == expected
    assert archived(open_buffer(), name) == expected


def test_values_that_a_pathpoint_cannot_hold_are_failures(
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = make_offline_device(pp_database=open_buffer(), delayed_boot=True)
    number, text = Pathpoint(device, "d1"), Pathpoint(device, "u1")
    assert number.set_new_values([1, 2], array("d", [math.nan, math.inf])) == 2
    assert number.set_new_values([3, 4, 5], ["text", 1.5, None]) == 3
    assert text.set_new_values([1, 2], array("q", [1, 2])) == 2
    kept = [(1, TYPE), (2, TYPE), (3, TYPE), (4, 1.5), (5, TYPE)]
    assert told(number.get_archive(None)) == kept
    assert told(text.get_archive(None)) == [(1, TYPE), (2, TYPE)]
    assert "'text'" in caplog.text


def test_as_many_values_as_timestamps_are_needed(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer()
    device = make_offline_device(pp_database=database, delayed_boot=True)
    pathpoint = Pathpoint(device, "W1")
    for timestamps, values in [([1, 2], [1]), (array("q", [1]), array("q")), ([], [1])]:
        message = f"{len(timestamps)} timestamps were given, and {len(values)} values"
        with pytest.raises(ValueError, match=message):
            pathpoint.set_new_values(timestamps, values)
    for columns in ((7, [1]), ([1], 7), (["x"], [1])):
        with pytest.raises(TypeError):
            pathpoint.set_new_values(*columns)
    assert pathpoint.set_new_values([], []) == 0
    assert pathpoint.set_new_values(array("q"), array("d")) == 0
    assert database.statistics().recorded == 0


@pytest.mark.parametrize("column", [list, lambda times: array("q", times)])
@pytest.mark.parametrize("time", [2**62, -(2**62), 2**63 - 1])
def test_a_timestamp_that_is_none_is_refused_with_all_others(
    time: int,
    column: Callable[[list[int]], Any],
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    device = make_offline_device(pp_database=open_buffer(), delayed_boot=True)
    pathpoint = Pathpoint(device, "W1")
    with pytest.raises(ValueError, match=f"{time} is no time in milliseconds"):
        pathpoint.set_new_values(column([1, time]), column([1, 2]))
    with pytest.raises(NotReadedError):
        pathpoint.get()


def test_falling_timestamps_are_left_out_and_counted(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer()
    device = make_offline_device(pp_database=database, delayed_boot=True)
    pathpoint = Pathpoint(device, "W1")
    assert pathpoint.set_new_values([1, 5, 3, 5, 6], [1, 2, 3, 4, 5]) == 3
    assert pathpoint.set_new_values(array("q", [6, 4, 7]), array("q", [6, 7, 8])) == 1
    assert list(pathpoint.get_archive(None)) == [(1, 1), (5, 2), (6, 5), (7, 8)]
    assert database.statistics().refused == 4
    with pytest.warns(UserWarning, match="timestamp 7 is not above the current one, 7"):
        pathpoint.set_new_value(7, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pathpoint.set_new_value(2, 1)
    assert database.statistics().refused == 6
    assert (database.statistics().recorded, database.statistics().kept) == (4, 4)
    assert pathpoint.get() == (7, 8)


# --- Archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (None, None, [10, 20, 30, 40]),
        (20, None, [20, 30, 40]),
        (None, 30, [10, 20, 30]),
        (20, 30, [20, 30]),
        (30, 30, [30]),
        (21, 29, []),
        (30, 20, []),
        (19.5, 30.5, [20, 30]),
        (41, None, []),
        (None, 9, []),
        (-(2**50), 2**50, [10, 20, 30, 40]),
    ],
)
def test_an_archive_has_inclusive_bounds_on_disk_and_in_memory(
    start: float | None,
    stop: float | None,
    found: list[int],
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    database = open_buffer()
    record(database, "W1", 1, start=10)
    record(database, "W1", 2, start=20)
    database = open_buffer()
    record(database, "W1", 3, start=30)
    database.flush()
    record(database, "W1", 4, start=40)
    pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "W1")
    kept = list(pathpoint.get_archive(start, stop))  # type: ignore[arg-type]
    assert kept == [(timestamp, timestamp // 10) for timestamp in found]
    timestamps, values = pathpoint.get_archive_arrays(start, stop)  # type: ignore[arg-type]
    assert list(zip(timestamps, values, strict=True)) == kept


def test_an_archive_can_be_read_while_it_grows(
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    database = open_buffer()
    numbers = range(1, 200_001)
    for number in numbers[:-1000]:
        database.on_new_data("W1", number, number % 7)
    samples = database.get_archive_data("W1", None, None)
    seen = list(itertools.islice(samples, 100_000))
    for number in numbers[-1000:]:
        database.on_new_data("W1", number, number % 7)
    database.flush()
    upload_all(database)
    seen += samples
    assert seen == [(number, number % 7) for number in range(1, len(seen) + 1)]
    assert len(seen) >= 199_000


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([1, 2, 3], "q"),
        ([2**63 - 1, -(2**63), 2**53 + 1], "q"),
        ([0.5, 1.5, 1e300], "d"),
        ([1, 2.5, -3], "d"),
        ([1, TIMEOUT, 3], "d"),
        ([TIMEOUT, TIMEOUT, TIMEOUT], "d"),
        ([], "q"),
    ],
)
def test_an_archive_in_columns(
    values: list[Any],
    form: str,
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    database = open_buffer()
    record(database, "d1", *values)
    database.flush()
    pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "d1")
    timestamps, columns = pathpoint.get_archive_arrays()
    assert (timestamps.format, timestamps.itemsize, timestamps.contiguous) == ("q", 8, True)
    assert (columns.format, columns.itemsize, columns.contiguous) == (form, 8, True)
    assert list(timestamps) == list(range(1, len(values) + 1))
    failed = [math.nan if value is TIMEOUT else value for value in values]
    assert columns.tobytes() == struct.pack(f"={len(values)}{form}", *failed)
    # What takes buffers takes it as it is.
    again = Pathpoint(pathpoint.device, "d2")
    assert again.set_new_values(timestamps, columns) == len(values)


def test_texts_are_no_columns_of_numbers(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer()
    record(database, "u1", "a", "b")
    device = make_offline_device(pp_database=database, delayed_boot=True)
    for name in ("u1", "u2"):
        with pytest.raises(TypeError, match=f"{name} holds texts"):
            Pathpoint(device, name).get_archive_arrays()
    timestamps, values = database.get_archive_samples("u1", None, None)
    assert (list(timestamps), values) == ([1, 2], ["a", "b"])


@pytest.mark.parametrize(
    ("name", "form"), [("rd{W1}/{W2}", "d"), ("rw{W1}*1000+{W2}", "q"), ("rw{W1}+{W3}", "d")]
)
def test_an_archive_that_is_computed_is_the_same_in_columns(
    name: str,
    form: str,
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
) -> None:
    database = open_buffer()
    record(database, "W1", 10, 20, 30, 40, start=1)
    record(database, "W2", 4, 0, 5, start=2)
    record(database, "W3", 1, TIMEOUT, 3, start=3)
    database.flush()

    class Numbers(SMOKDevice):
        def provide_unknown_pathpoint(self, name: str, storage_level: Any = None) -> Pathpoint:
            return Pathpoint(self, name)

    device = make_offline_device(Numbers, pp_database=database, delayed_boot=True)
    pathpoint = device.get_pathpoint(name)
    for start, stop in [(None, None), (3, None), (None, 3), (3, 4)]:
        expected = list(pathpoint.get_archive(start, stop))
        assert expected
        timestamps, values = pathpoint.get_archive_arrays(start, stop)
        assert (timestamps.format, values.format) in {("q", form), ("q", "q"), ("q", "d")}
        assert list(timestamps) == [timestamp for timestamp, _ in expected]
        for computed, (_, value) in zip(values, expected, strict=True):
            if isinstance(value, OperationFailedError):
                assert math.isnan(computed)
            else:
                assert (type(computed), computed) == (type(computed), value)
    assert pathpoint.get_archive_arrays()[1].format == form


# --- What is kept ---------------------------------------------------------------------------------


def test_what_is_old_and_acknowledged_is_dropped_of_trend_only(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(**SMALL, trend_for=0)
    device = make_offline_device(pp_database=database, delayed_boot=True)
    trend = Pathpoint(device, "d1", StorageLevel.TREND)
    permanent = Pathpoint(device, "d2", StorageLevel.PERMANENT)
    count = 90_000
    for pathpoint in (trend, permanent):
        assert pathpoint.set_new_values(array("q", range(1, count + 1)), noise(count)) == count
    database.flush()
    assert len(trend.get_archive_arrays()[0]) == count, "the server lacks it"
    assert {name: len(sent) for name, sent in upload_all(database).items()} == {
        "d1": count,
        "d2": count,
    }
    for pathpoint in (trend, permanent):
        pathpoint.set_new_value(count + 1, 0.5)
    database.flush()
    timestamps, values = permanent.get_archive_arrays()
    assert list(timestamps) == list(range(1, count + 2))
    assert values.tobytes() == noise(count).tobytes() + struct.pack("d", 0.5)
    timestamps, values = trend.get_archive_arrays()
    left = len(timestamps)
    assert left * 8 < SMALL["segment_bytes"], "no more than the file that is written to"
    assert list(timestamps) == list(range(count + 2 - left, count + 2))
    assert values.tobytes() == (noise(count).tobytes() + struct.pack("d", 0.5))[-8 * left :]
    assert database.statistics().dropped == 0
    assert upload_all(database) == {"d1": [(count + 1, 0.5)], "d2": [(count + 1, 0.5)]}


def test_what_is_acknowledged_and_not_old_is_kept(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(**SMALL, trend_for=3600)
    device = make_offline_device(pp_database=database, delayed_boot=True)
    trend = Pathpoint(device, "d1", StorageLevel.TREND)
    count, now = 90_000, time.time_ns() // 1_000_000
    trend.set_new_values(array("q", range(now - count, now)), noise(count))
    upload_all(database)
    trend.set_new_value(now, 0.5)
    database.flush()
    assert len(trend.get_archive_arrays()[0]) == count + 1


def test_a_level_that_is_changed_counts_from_then_on(
    folder: Path, make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer()
    pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "W1")
    pathpoint.set_new_value(1, 1)
    database.flush()
    pathpoint.on_new_storage_level(StorageLevel.PERMANENT)
    pathpoint.set_new_value(2, 2)
    database.flush()
    assert sorted(path.name.partition("-")[0] for path in folder.glob("*.segment")) == [
        "permanent",
        "trend",
    ]
    assert archived(open_buffer(), "W1") == [(1, 1), (2, 2)]


def test_above_the_cap_what_the_server_has_goes_first(
    make_offline_device: Maker, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(**SMALL)
    device = make_offline_device(pp_database=database, delayed_boot=True)
    permanent = Pathpoint(device, "d1", StorageLevel.PERMANENT)
    permanent.set_new_values(array("q", range(1, 100_001)), noise(100_000))
    upload_all(database)
    trend = Pathpoint(device, "d2", StorageLevel.TREND)
    trend.set_new_values(array("q", range(1, 200_001)), noise(200_000))
    database.flush()
    assert database.statistics().dropped == 0
    assert database.statistics().bytes <= SMALL["max_bytes"]
    assert len(permanent.get_archive_arrays()[0]) < 100_000
    assert len(upload_all(database)["d2"]) == 200_000


def test_above_the_cap_the_oldest_of_trend_goes_and_that_is_counted_and_logged_once(
    make_offline_device: Maker,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer(**SMALL)
    device = make_offline_device(pp_database=database, delayed_boot=True)
    permanent = Pathpoint(device, "d1", StorageLevel.PERMANENT)
    trend = Pathpoint(device, "d2", StorageLevel.TREND)
    permanent.set_new_values(array("q", range(1, 50_001)), noise(50_000))
    for start in range(1, 400_001, 20_000):
        trend.set_new_values(array("q", range(start, start + 20_000)), noise(20_000))
        database.flush()
        database.checkpoint()
        assert database.statistics().bytes <= SMALL["max_bytes"]
    figures = database.statistics()
    assert figures.kept == figures.pending == 450_000 - figures.dropped
    assert 150_000 < figures.dropped < 400_000
    assert said(caplog, "There is no room") == 1
    sent = upload_all(database)
    assert [timestamp for timestamp, _ in sent["d1"]] == list(range(1, 50_001))
    assert [timestamp for timestamp, _ in sent["d2"]] == list(range(figures.dropped + 1, 400_001))
    assert permanent.get() == (50_000, noise(50_000)[-1])


# --- Figures --------------------------------------------------------------------------------------


def test_the_figures(folder: Path, open_buffer: Callable[..., BufferedPathpointDatabase]) -> None:
    database = open_buffer()
    nothing = database.statistics()
    assert nothing == BufferStatistics(*[0] * (len(dataclasses.fields(nothing)) - 1), trouble=None)
    record(database, "W1", *range(10))
    database.get_data_to_sync().acknowledge()  # type: ignore[union-attr]
    record(database, "W2", *range(5))
    database.flush()
    record(database, "W2", 1, 2, start=6)
    figures = database.statistics()
    types = get_type_hints(BufferStatistics)
    assert all(isinstance(getattr(figures, name), types[name]) for name in types)
    assert (figures.pathpoints, figures.recorded, figures.acknowledged) == (2, 17, 10)
    assert (figures.pending, figures.kept, figures.volatile) == (7, 17, 2)
    assert figures.segments == 1
    assert figures.bytes == sum(path.stat().st_size for path in folder.glob("*.segment"))
    assert figures.written_bytes == figures.bytes + (folder / "cursor").stat().st_size
    assert (figures.dropped, figures.refused, figures.damaged_bytes) == (0, 0, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        figures.pending = 0  # type: ignore[misc]


# --- A folder that cannot be used -----------------------------------------------------------------


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def nothing(folder: Path) -> None:
    pass


def is_saved(database: BufferedPathpointDatabase) -> bool:
    """Whether a try to save everything succeeds."""
    try:
        database.flush()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("was_acknowledged", [False, True])
@pytest.mark.parametrize(
    ("harm", "repair"), [(remove, nothing), (replace_by_a_file, Path.unlink)], ids=["gone", "file"]
)
def test_a_folder_that_goes_away_is_logged_and_samples_wait_in_memory(
    harm: Callable[[Path], None],
    repair: Callable[[Path], None],
    was_acknowledged: bool,
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer()
    record(database, "W1", *range(10))
    database.flush()
    if was_acknowledged:
        for number in range(2):  # the second time the file of the cursor is appended to
            record(database, "W2", number, start=number + 1)
            upload_all(database)
            database.flush()
    harm(folder)
    record(database, "W1", *range(10, 20), start=11)
    with pytest.raises(OSError):
        database.flush()
    figures = database.statistics()
    assert figures.trouble
    assert (figures.volatile, figures.dropped) == (10, 0)
    database.checkpoint()
    repair(folder)
    wait_until(lambda: is_saved(database), PATIENCE)
    database.checkpoint()
    assert database.statistics().trouble is None
    assert (
        said(caplog, "Samples cannot be saved") == said(caplog, "Samples can be saved again") == 1
    )
    record(database, "W1", *range(20, 30), start=21)
    pending = database.statistics().pending
    database = open_buffer()
    kept = archived(database, "W1")
    assert kept[-20:] == [(number + 1, number) for number in range(10, 30)]
    assert pending == (20 if was_acknowledged else 30)
    assert [number for _, number in upload_all(database)["W1"]][-20:] == list(range(10, 30))


def test_what_the_server_has_is_saved_by_itself_once_it_can_be(
    folder: Path, open_buffer: Callable[..., BufferedPathpointDatabase]
) -> None:
    database = open_buffer(durability=0.01)
    record(database, "W1", 1, 2)
    wait_until(lambda: database.statistics().volatile == 0, PATIENCE)
    batch = database.get_data_to_sync()
    assert batch is not None
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"")
    batch.acknowledge()
    assert database.statistics().trouble
    folder.unlink()
    folder.with_name("away").rename(folder)
    wait_until(lambda: database.statistics().trouble is None, PATIENCE)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    with contextlib.closing(BufferedPathpointDatabase(copy)) as database:
        assert database.get_data_to_sync() is None


def test_a_folder_that_cannot_be_used_at_the_start_is_used_later(
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder.write_bytes(b"")
    database = open_buffer()
    (problem,) = database.report.problems
    assert said(caplog, f"Buffer {folder}: {problem}") == 1
    record(database, "W1", *range(10))
    for _ in range(3):
        with pytest.raises(NotADirectoryError):
            database.flush()
        database.checkpoint()
    assert upload_all(database) == {"W1": [(number + 1, number) for number in range(10)]}
    record(database, "W1", *range(10, 20), start=11)
    assert len(caplog.records) == 1
    folder.unlink()
    database.flush()
    database.checkpoint()
    assert said(caplog, "Samples can be saved again") == 1
    database = open_buffer()
    assert archived(database, "W1") == [(number + 1, number) for number in range(20)]
    assert upload_all(database) == {"W1": [(number + 1, number) for number in range(10, 20)]}


def test_a_backlog_in_a_folder_that_appears_only_after_the_start_is_uploaded_after_the_next(
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer()
    record(database, "W1", 1, 2, 3)
    record(database, "W2", 1, 2)
    database.get_data_to_sync().acknowledge()  # type: ignore[union-attr]
    record(database, "W1", 4, 5, start=4)
    record(database, "W2", 3, start=3)
    database.close()
    away = folder.with_name("away")
    folder.rename(away)
    folder.write_bytes(b"")
    database = open_buffer()
    record(database, "W2", 4, start=4)
    record(database, "W3", 1)
    assert upload_all(database) == {"W2": [(4, 4)], "W3": [(1, 1)]}
    folder.unlink()
    away.rename(folder)
    wait_until(lambda: is_saved(database), PATIENCE)
    record(database, "W2", 5, start=5)
    assert upload_all(database) == {"W2": [(5, 5)]}
    database.checkpoint()
    assert said(caplog, "Samples cannot be read (samples of an earlier run have to wait") == 1

    database = open_buffer()
    assert not database.report.is_damaged
    assert archived(database, "W2") == [(number, number) for number in range(1, 6)]
    assert upload_all(database) == {
        "W1": [(4, 4), (5, 5)],
        "W2": [(3, 3), (4, 4), (5, 5)],  # some once more: in a wrong order they were
        "W3": [(1, 1)],
    }
    assert open_buffer().get_data_to_sync() is None


def test_a_device_starts_and_uploads_whatever_is_in_the_place_of_its_buffer(
    tmp_path: Path, smok_server: LocalServer, recorder: Callable[..., Recorder]
) -> None:
    state = tmp_path / "state"
    (tmp_path / "state.buffer").write_bytes(b"")
    device = recorder(smok_server, evt_database=state)
    device.record("W1", 1, 2)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(smok_server.admin) == {"W1": [(1, 1), (2, 2)]}


# --- Quarantine -----------------------------------------------------------------------------------

CONTENT = [
    {"path": "W1", "values": [[1, 10], [2, 20]]},
    {"path": "u1", "values": [[1, "\0"], [False, 2, "malformed"]]},
]


def listed(quarantine: Quarantine) -> list[tuple[Any, ...]]:
    return [
        (sample.path, sample.timestamp, sample.value, sample.error_code, sample.reason)
        for sample in quarantine.samples()
    ]


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_quarantine_keeps_lists_retries_and_forgets(where: str, tmp_path: Path) -> None:
    path = None if where == "memory" else tmp_path / "quarantine.sqlite"
    kept = Quarantine(path, clock=lambda: 77.5)
    assert (len(kept), listed(kept), kept.next_upload()) == (0, [], None)
    assert not list(tmp_path.iterdir()), "the file is made with the first sample"
    kept.add(CONTENT, "no")
    assert len(kept) == 4
    assert listed(kept) == [
        ("W1", 1, 10, None, "no"),
        ("W1", 2, 20, None, "no"),
        ("u1", 1, "\0", None, "no"),
        ("u1", 2, None, "malformed", "no"),
    ]
    assert {sample.rejected_at for sample in kept.samples()} == {77.5}
    assert kept.next_upload() is None
    kept.retry("u1")
    upload = kept.next_upload()
    assert upload is not None
    assert upload.to_json() == CONTENT[1:]
    upload.negative_acknowledge()
    again = kept.next_upload()
    assert again is not None
    assert again.to_json() == CONTENT[1:]
    again.acknowledge()
    assert kept.next_upload() is None
    assert [entry[:2] for entry in listed(kept)] == [("W1", 1), ("W1", 2)]
    kept.remove([("W1", 1), ("W9", 1)])
    assert [entry[:2] for entry in listed(kept)] == [("W1", 2)]
    kept.add([{"path": "W1", "values": [[2, 20]]}], "still no")
    assert listed(kept) == [("W1", 2, 20, None, "still no")]
    kept.remove()
    assert (len(kept), listed(kept)) == (0, [])
    kept.close()


def test_what_is_rejected_once_more_is_tried_in_smaller_uploads_and_goes_back(
    tmp_path: Path,
) -> None:
    kept = Quarantine(tmp_path / "quarantine.sqlite")
    kept.add([{"path": "W1", "values": [[number, number] for number in range(1000)]}], "no")
    kept.retry()
    taken: list[int] = []
    calls = 0
    while (upload := kept.next_upload()) is not None:
        calls += 1
        (entry,) = upload.to_json()
        numbers = [number for number, _ in entry["values"]]
        if 700 in numbers:
            upload.reject("not 700")
        else:
            upload.acknowledge()
            taken += numbers
    assert sorted(taken) == [number for number in range(1000) if number != 700]
    assert listed(kept) == [("W1", 700, 700, None, "not 700")]
    assert calls < 100
    kept.close()


def test_another_process_may_look_at_a_quarantine_and_change_it(tmp_path: Path) -> None:
    ours = Quarantine(tmp_path / "quarantine.sqlite")
    ours.add(CONTENT, "no")
    theirs = Quarantine(tmp_path / "quarantine.sqlite")
    assert listed(theirs) == listed(ours)
    theirs.remove([("W1", 1)])
    theirs.retry("W1")
    assert ours.next_upload() is None
    ours.refresh()
    assert len(ours) == 3
    upload = ours.next_upload()
    assert upload is not None
    assert upload.to_json() == [{"path": "W1", "values": [[2, 20]]}]
    (tmp_path / "quarantine.sqlite").unlink()
    ours.refresh()
    assert (len(ours), listed(ours), ours.next_upload()) == (0, [], None)
    ours.add(CONTENT, "no")
    assert len(listed(ours)) == 4
    for kept in (ours, theirs):
        kept.close()


@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_quarantine_is_set_aside(
    is_open: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "quarantine.sqlite"
    kept = Quarantine(path, clock=lambda: 5.0)
    kept.add(CONTENT, "no")
    if not is_open:
        kept.close()
    garbage = random.Random(1).randbytes(path.stat().st_size)
    path.write_bytes(garbage)
    for _ in range(2):  # one that is open finds out, and looks again
        kept.refresh()
    kept.add(CONTENT[:1], "no")
    assert len(kept) == len(listed(kept)) == 2
    assert (tmp_path / "quarantine.sqlite.damaged-5").read_bytes() == garbage
    assert said(caplog, f"The quarantine {path} is damaged") == 1
    kept.close()


class Broken(BufferedPathpointDatabase):
    """Has a folder where the quarantine ought to be."""

    def __init__(self, folder: Path) -> None:
        (folder / "quarantine.sqlite").mkdir(parents=True)
        super().__init__(folder, durability=NEVER)

    def repair(self) -> None:
        (self.path / "quarantine.sqlite").rmdir()


def test_a_quarantine_that_cannot_be_used_stops_nothing_else(
    folder: Path,
    smok_server: LocalServer,
    recorder: Callable[..., Recorder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.closing(Broken(folder)) as database:
        device = recorder(smok_server, pp_database=database, delayed_boot=True)
        device.record("u1", "before", "\0", "after")
        device.record("W1", 1, 2)
        device.continue_boot()
        wait_until(lambda: held(smok_server.admin).get("W1") == [(1, 1), (2, 2)], PATIENCE)
        device.record("W1", 3, start=3)
        wait_until(lambda: held(smok_server.admin)["W1"][-1] == (3, 3), PATIENCE)
        assert pending(device) >= 2
        assert said(caplog, "What the server has rejected cannot be read") == 1
        database.repair()
        wait_until(lambda: pending(device) == 0, PATIENCE)
        assert [entry[:3] for entry in listed(database.quarantine)] == [("u1", 2, "\0")]
        assert held(smok_server.admin)["u1"] == [(1, "before"), (3, "after")]


def test_what_was_uploaded_from_a_quarantine_that_cannot_be_changed_comes_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quarantine.sqlite"
    monkeypatch.setattr(quarantine, "BUSY", 0.01)
    kept = Quarantine(path)
    kept.add(CONTENT, "no")
    kept.retry()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        upload = kept.next_upload()
        assert upload is not None
        with pytest.raises(OSError, match=f"{path}: database is locked"):
            upload.acknowledge()
        assert kept.next_upload() is None, "others have their turn"
        other.execute("ROLLBACK")
    monkeypatch.setattr(kept, "_paused_until", 0.0)
    upload = kept.next_upload()
    assert upload is not None
    upload.acknowledge()
    assert len(kept) == 0
    kept.close()


def test_what_the_server_rejects_is_kept_over_a_restart_and_retried_when_asked(
    folder: Path,
    open_buffer: Callable[..., BufferedPathpointDatabase],
    smok_server: LocalServer,
    recorder: Callable[..., Recorder],
) -> None:
    admin = smok_server.admin
    fault = admin.fault("/v1/device/pathpoints", method="POST", status=422, times=None)
    database = open_buffer()
    device = recorder(smok_server, pp_database=database)
    device.record("W1", 1)
    wait_until(lambda: len(database.quarantine) == 1, PATIENCE)
    assert database.statistics().quarantined == 1
    assert (database.statistics().pending, database.statistics().acknowledged) == (0, 0)
    assert archived(database, "W1") == [(1, 1)]
    device.close()
    admin.remove_faults(fault)
    database = open_buffer()
    device = recorder(smok_server, pp_database=database)
    device.record("W1", 2, start=2)
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(admin) == {"W1": [(2, 2)]}
    assert database.statistics().quarantined == 1
    other = Quarantine(folder / "quarantine.sqlite")
    other.retry()
    other.close()
    device.record("W1", 3, start=3)
    wait_until(lambda: held(admin) == {"W1": [(1, 1), (2, 2), (3, 3)]}, PATIENCE)
    wait_until(lambda: database.statistics().quarantined == 0, PATIENCE)


def test_a_pathpoint_that_the_server_rejects_as_a_whole_holds_up_no_other(
    open_buffer: Callable[..., BufferedPathpointDatabase],
    smok_server: LocalServer,
    recorder: Callable[..., Recorder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = open_buffer()
    device = recorder(smok_server, pp_database=database, delayed_boot=True)
    expected = {}
    for number in range(30):
        name = "W\0" if number == 13 else f"W{number}"
        device.record(name, *range(100))
        expected[name] = list(enumerate(range(100), 1))
    rejected = expected.pop("W\0")
    calls = smok_server.admin.fault("/v1/device/pathpoints", method="POST", delay=1e-3, times=None)
    device.continue_boot()
    wait_until(lambda: pending(device) == 0, PATIENCE)
    assert held(smok_server.admin) == expected
    assert [entry[1:3] for entry in listed(database.quarantine)] == rejected
    assert smok_server.admin.fault_hits(calls) < 60
    assert said(caplog, "The server rejects") == 1 + 1  # its registration, and its samples
    assert smok_server.admin.conflicts(DEVICE_ID) == []


# --- What goes first ------------------------------------------------------------------------------


class Noting(BufferedPathpointDatabase):
    """Notes what it uploads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.uploads: list[dict[str, list[int]]] = []
        super().__init__(*args, **options)

    def get_data_to_sync(self) -> Any:
        batch = super().get_data_to_sync()
        if isinstance(batch, BufferUpload):
            self.uploads.append(
                {
                    entry["path"]: [timestamp for timestamp, _ in entry["values"]]
                    for entry in batch.to_json()
                }
            )
        return batch


@pytest.mark.parametrize("upload_order", ["fresh_first", "oldest_first"])
def test_what_is_fresh_goes_ahead_of_a_backlog_unless_the_order_is_by_age(
    upload_order: str,
    folder: Path,
    smok_server: LocalServer,
    recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{NATIVE}.UPLOAD_BYTES", 32 << 10)
    count = 30_000
    with contextlib.closing(BufferedPathpointDatabase(folder, durability=NEVER)) as database:
        for timestamp, value in enumerate(noise(count), 1):
            database.on_new_data("d1", timestamp, value)
    with contextlib.closing(Noting(folder, upload_order=upload_order)) as database:
        device = recorder(smok_server, pp_database=database, delayed_boot=True)
        device.record("d1", 0.5, start=count + 1)
        device.record("W2", 1, 2)
        device.continue_boot()
        wait_until(lambda: pending(device) == 0, PATIENCE)
        uploads = database.uploads
    backlog = [timestamp for upload in uploads for timestamp in upload.get("d1", [])]
    assert backlog == list(range(1, count + 2)), "its own backlog is never jumped"
    fresh = [number for number, upload in enumerate(uploads) if "W2" in upload]
    assert len(uploads) > 8
    assert fresh == [0 if upload_order == "fresh_first" else len(uploads) - 1]
    assert "d1" in uploads[0]
    expected = [*zip(range(1, count + 1), noise(count), strict=True), (count + 1, 0.5)]
    assert held(smok_server.admin) == {"d1": expected, "W2": [(1, 1), (2, 2)]}


# --- A database of the user's in its place --------------------------------------------------------


class Listing(BasePathpointDatabase):
    """A database of the user's: a list."""

    def __init__(self) -> None:
        self.samples: list[tuple[str, float, Any]] = []

    def on_new_data(self, pathpoint: str, timestamp: float, value_or_exception: Any) -> None:
        self.samples.append((pathpoint, timestamp, value_or_exception))

    def get_current_value(self, pathpoint: str) -> tuple[float, Any]:
        raise NotReadedError

    def get_archive_data(
        self, pathpoint: str, start: Any, stop: Any
    ) -> Iterator[tuple[float, Any]]:
        return ((timestamp, value) for name, timestamp, value in self.samples if name == pathpoint)

    def get_data_to_sync(self) -> None:
        return None


def test_a_database_of_the_users_takes_its_place(
    tmp_path: Path, make_offline_device: Maker
) -> None:
    database = Listing()
    device = make_offline_device(pp_database=database, evt_database=tmp_path / "state")
    pathpoint = scripted(device, "W1", reading=7)
    pathpoint.set_new_value(1, 1)
    assert pathpoint.set_new_values(array("q", [2, 2, 3]), [2, 2, TIMEOUT]) == 2
    execute(device, *read("W1"))
    last = pathpoint.current_timestamp
    expected = [("W1", 1, 1), ("W1", 2, 2), ("W1", 3, TIMEOUT.reason), ("W1", last, 7)]
    kept = [(name, *sample) for name, *rest in database.samples for sample in told([tuple(rest)])]
    assert kept == expected
    assert told(pathpoint.get_archive(None)) == [
        sample for _, *rest in expected for sample in [tuple(rest)]
    ]
    timestamps, values = pathpoint.get_archive_arrays()
    assert (list(timestamps), values.format) == ([1, 2, 3, last], "d")
    assert not (tmp_path / "state.buffer").exists()
