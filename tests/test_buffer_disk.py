"""The durable buffer on disks that are full, that fail, or that may not be written to; and how much
memory it takes meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffer_support import PRELUDE, archived, noise, program, said, upload_all
from gateway_support import DEVICE_ID, PATIENCE, Recorder, held, pending
from pathpoint_support import Maker
from smok_fast.extras import BufferedPathpointDatabase
from smok_fast.pathpoint import Pathpoint
from smok_fast.server import LocalServer
from smok_fast.testing import wait_until

#: Nothing is written but by flush().
NEVER = 3600.0

#: For disks that have no room to spare.
OPTIONS = {"durability": NEVER, "segment_bytes": 256 << 10, "reserve_bytes": 0}

MiB = 1 << 20


class Filler:
    """A file that takes all the room there is on a disk."""

    def __init__(self, disk: Path) -> None:
        self._file = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        self.fill()

    def fill(self) -> None:
        with contextlib.suppress(OSError):
            while os.write(self._file, bytes(4096)):
                pass

    def free(self) -> None:
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)


@pytest.fixture
def filler(disk: Path) -> Filler:
    return Filler(disk)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def record(pathpoint: Pathpoint, start: int, values: array[Any]) -> None:
    numbers = array("q", range(start, start + len(values)))
    assert pathpoint.set_new_values(numbers, values) == len(values)


def check_that_it_is_full(database: BufferedPathpointDatabase, number: int) -> None:
    """Saving fails with this number; what fails is logged when the log is looked at."""
    for _ in range(3):
        with pytest.raises(OSError) as raised:
            database.flush()
        assert raised.value.errno == number
        database.checkpoint()
    assert database.statistics().trouble


# --- A full disk ----------------------------------------------------------------------------------


def test_a_full_disk_is_survived_and_nothing_is_lost(
    disk: Path, filler: Filler, make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk / "buffer"
    values = noise(300_000)
    count = 100_000
    with contextlib.closing(
        BufferedPathpointDatabase(folder, **OPTIONS, memory_bytes=8 * MiB)
    ) as database:
        pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "d1")
        for episode in range(3):
            record(pathpoint, episode * count + 1, values[episode * count : (episode + 1) * count])
            check_that_it_is_full(database, errno.ENOSPC)
            figures = database.statistics()
            assert (figures.volatile, figures.dropped) == (count, 0)
            assert figures.volatile_bytes < 8 * MiB
            timestamps, kept = pathpoint.get_archive_arrays()
            assert list(timestamps) == list(range(1, (episode + 1) * count + 1))
            assert kept.tobytes() == values[: (episode + 1) * count].tobytes()
            assert said(caplog, "Samples cannot be saved") == episode + 1
            filler.free()
            database.flush()
            database.checkpoint()
            assert said(caplog, "Samples can be saved again") == episode + 1
            assert (database.statistics().volatile, database.statistics().trouble) == (0, None)
            filler.fill()
    with contextlib.closing(BufferedPathpointDatabase(folder, **OPTIONS)) as database:
        assert not database.report.is_damaged
        assert database.report.pending == 3 * count
        assert database.get_archive_columns("d1", None, None)[1].tobytes() == values.tobytes()


def test_a_device_with_a_full_disk_uploads_and_recovers_by_itself(
    disk: Path,
    filler: Filler,
    smok_server: LocalServer,
    device_certificate: Callable[..., Any],
) -> None:
    folder = disk / "buffer"
    options = {**OPTIONS, "durability": 0.01}
    certificate = device_certificate(DEVICE_ID)
    with (
        contextlib.closing(BufferedPathpointDatabase(folder, **options)) as database,
        Recorder(certificate, smok_server.url, pp_database=database) as device,
    ):
        device.record("W1", 1, 2)
        device.record("u1", "before", "\0", "after")  # there is no room for a quarantine
        wait_until(lambda: database.statistics().trouble, PATIENCE)
        delivered = {"W1": [(1, 1), (2, 2)], "u1": [(1, "before"), (3, "after")]}
        wait_until(lambda: held(smok_server.admin).get("W1") == delivered["W1"], PATIENCE)
        filler.free()
        wait_until(lambda: pending(device) == 0, PATIENCE)
        wait_until(lambda: database.statistics().trouble is None, PATIENCE)
        assert held(smok_server.admin) == delivered
        assert [sample.value for sample in database.quarantine.samples()] == ["\0"]
    with contextlib.closing(BufferedPathpointDatabase(folder, **options)) as database:
        assert archived(database, "W1") == [(1, 1), (2, 2)]
        assert database.get_data_to_sync() is None
        assert len(database.quarantine) == 1


def test_a_full_disk_costs_first_what_the_server_has(
    disk: Path, make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(BufferedPathpointDatabase(disk / "buffer", **OPTIONS)) as database:
        device = make_offline_device(pp_database=database, delayed_boot=True)
        first, second = Pathpoint(device, "d1"), Pathpoint(device, "d2")
        values = noise(50_000)
        for start in range(1, 500_001, 50_000):
            record(first, start, values)
            database.flush()
        assert sum(len(sent) for sent in upload_all(database).values()) == 500_000
        filler = Filler(disk)
        for start in range(1, 300_001, 50_000):
            record(second, start, values)
            database.flush()
        database.checkpoint()
        assert (database.statistics().dropped, database.statistics().trouble) == (0, None)
        assert len(first.get_archive_arrays()[0]) < 500_000
        filler.free()
        assert len(upload_all(database)["d2"]) == 300_000
    assert not caplog.records


def test_a_disk_that_stays_full_costs_the_oldest_and_no_more_memory(
    disk: Path, make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk / "buffer"
    with contextlib.closing(
        BufferedPathpointDatabase(folder, **OPTIONS, memory_bytes=2 * MiB)
    ) as database:
        pathpoint = Pathpoint(make_offline_device(pp_database=database, delayed_boot=True), "w1")
        values = array("q", random.Random(1).randbytes(8 * 50_000))
        recorded = 0
        while recorded < 3_000_000:  # 24 MB
            record(pathpoint, recorded + 1, values)
            recorded += len(values)
            with contextlib.suppress(OSError):
                database.flush()
            database.checkpoint()
            figures = database.statistics()
            assert figures.volatile_bytes <= 2 * MiB
            assert figures.dropped + figures.kept == figures.dropped + figures.pending == recorded
            if recorded * 8 < 15 * MiB:
                assert figures.dropped == 0
        assert figures.dropped > 0
        assert figures.kept * 8 > 13 * MiB
        assert said(caplog, "There is no room") == 1
        timestamps, _ = pathpoint.get_archive_arrays()
        assert list(timestamps) == list(range(figures.dropped + 1, recorded + 1))
        remount(disk, "size=64m")
        database.flush()
    with contextlib.closing(BufferedPathpointDatabase(folder, **OPTIONS)) as database:
        assert database.report.pending == figures.pending
        timestamps, kept = database.get_archive_columns("w1", None, None)
        assert (
            timestamps.tobytes() == array("q", range(figures.dropped + 1, recorded + 1)).tobytes()
        )
        assert kept.tobytes() == (values.tobytes() * (recorded // len(values)))[-kept.nbytes :]


def test_a_reserve_of_the_disk_is_left_to_others(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**OPTIONS, "reserve_bytes": 20 * MiB}
    with contextlib.closing(BufferedPathpointDatabase(disk / "buffer", **options)) as database:
        database.on_new_data("W1", 1, 1)
        for _ in range(3):
            with pytest.raises(OSError, match=f"{20 * MiB} are left to others"):
                database.flush()
            database.checkpoint()
        assert not list((disk / "buffer").glob("*.segment"))
        remount(disk, "size=64m")
        database.flush()
        database.checkpoint()
    assert (
        said(caplog, "Samples cannot be saved") == said(caplog, "Samples can be saved again") == 1
    )


def test_kill_9_with_a_full_disk_costs_only_what_was_not_saved(disk: Path) -> None:
    text = (
        PRELUDE
        + """
database = BufferedPathpointDatabase(
    sys.argv[1], durability=3600, segment_bytes=256 << 10, reserve_bytes=0
)
start = 1
while True:
    for number in range(start, start + 1000):
        database.on_new_data("w1", number, number * 0x9E3779B97F4A7C15 % 2**63)
    try:
        database.flush()
        print(number, flush=True)
    except OSError:
        if database.statistics().volatile > 50_000:
            print("full", flush=True)
            sys.stdin.read()
    start += 1000
"""
    )
    saved = 0
    with program(text, disk / "buffer") as (process, output):
        while (line := output.readline()) != "full\n":
            saved = int(line)
        process.kill()
        process.wait()
    Filler(disk).free()
    with contextlib.closing(BufferedPathpointDatabase(disk / "buffer", **OPTIONS)) as database:
        assert not database.report.is_damaged
        kept = archived(database, "w1")
    assert saved * 8 > 10 * MiB
    assert len(kept) >= saved
    assert kept == [
        (number, number * 0x9E3779B97F4A7C15 % 2**63) for number in range(1, len(kept) + 1)
    ]


# --- A disk that fails ----------------------------------------------------------------------------


def test_a_disk_that_turns_read_only_is_survived(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk / "buffer"
    with contextlib.closing(BufferedPathpointDatabase(folder, **OPTIONS)) as database:
        database.on_new_data("W1", 1, 1)
        database.flush()
        os.close(os.open(disk / "other", os.O_WRONLY | os.O_CREAT))
        database.close()
    remount(disk, "ro")
    with contextlib.closing(BufferedPathpointDatabase(folder, **OPTIONS)) as database:
        assert len(database.report.problems) == 1
        database.on_new_data("W1", 2, 2)
        with pytest.raises(OSError) as raised:
            database.flush()
        assert raised.value.errno == errno.EROFS
        assert archived(database, "W1") == [(1, 1), (2, 2)]
        assert upload_all(database) == {"W1": [(1, 1), (2, 2)]}
        remount(disk, "rw")
        database.flush()
        database.checkpoint()
    assert said(caplog, "Samples can be saved again") == 1
    with contextlib.closing(BufferedPathpointDatabase(folder, **OPTIONS)) as database:
        assert archived(database, "W1") == [(1, 1), (2, 2)]
        assert database.get_data_to_sync() is None


#: Files may not grow for a while. This needs no rights.
LIMITED = (
    PRELUDE
    + """
import json, logging, resource

class Messages(logging.Handler):
    def emit(self, record):
        messages.append(record.getMessage())

messages = []
logging.getLogger().addHandler(Messages())
database = BufferedPathpointDatabase(sys.argv[1], durability=float(sys.argv[2]))
for number in range(1, 101):
    database.on_new_data("W1", number, number)
database.flush()
errors = []
for episode in (1, 2):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for number in range(episode * 100 + 1, episode * 100 + 101):
        database.on_new_data("W1", number, number)
    for _ in range(3):
        try:
            database.flush()
        except OSError as error:
            errors.append(error.errno)
        database.checkpoint()
    waiting = database.statistics().volatile
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    database.flush()
    database.checkpoint()
print(json.dumps([errors, waiting, messages]))
"""
)


@pytest.mark.parametrize("durability", [0.001, 3600])
def test_a_disk_that_fails_is_survived_and_logged_once_each_time(
    durability: float, tmp_path: Path
) -> None:
    folder = tmp_path / "buffer"
    with program(LIMITED, folder, durability) as (_, output):
        errors, waiting, messages = json.loads(output.read())
    assert errors == [errno.EFBIG] * 6
    assert waiting == 100
    assert [message.partition("(")[0].strip() for message in messages] == [
        "Samples cannot be saved",
        "Samples can be saved again",
    ] * 2
    with contextlib.closing(BufferedPathpointDatabase(folder)) as database:
        assert not database.report.is_damaged
        assert archived(database, "W1") == [(number, number) for number in range(1, 301)]


# --- Memory ---------------------------------------------------------------------------------------

#: Records 10 million samples of 100 registers, which nobody uploads, and then some of them are.
TEN_MILLION = (
    PRELUDE
    + """
import json, random, time
from array import array
from smok_fast.pathpoint import Pathpoint

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

def a_register(seed, count=1000):
    chance = random.Random(seed)
    values = array("q", [chance.randrange(65536)])
    for _ in range(count - 1):
        values.append(values[-1] + (chance.choice([-1, 0, 1]) if chance.random() < 0.2 else 0))
    return values

folder, memory_bytes = sys.argv[1], int(sys.argv[2])
options = {"reserve_bytes": 0, "memory_bytes": memory_bytes}
database = BufferedPathpointDatabase(folder, **options)
pathpoints = [Pathpoint(None, f"W{number}") for number in range(100)]
registers = [a_register(seed) for seed in range(100)]
jitter = random.Random(0)
times = array("q", (1_700_000_000_000 + 1000 * n + jitter.randrange(20) for n in range(1000)))
for pathpoint in pathpoints:
    pathpoint._attach(database.buffer, None, False, False)

before = resident()
highest = before
for block in range(100):
    for number, pathpoint in enumerate(pathpoints):
        pathpoint.set_new_values(times, registers[(number + block) % 100])
    times = array("q", (time + 1_000_000 for time in times))
    highest = max(highest, resident())
recorded = time.monotonic()
try:
    database.flush()
except OSError as error:
    print(error, file=sys.stderr)
highest = max(highest, resident())
figures = database.statistics()
database.close()
del database

start = time.monotonic()
database = BufferedPathpointDatabase(folder, **options)
reopened = time.monotonic() - start
pending = database.report.pending
for _ in range(30):
    batch = database.get_data_to_sync()
    if batch is not None:
        batch.acknowledge()
    highest = max(highest, resident())
print(json.dumps({
    "growth": highest - before, "reopened": reopened, "pending": pending,
    "bytes": figures.bytes, "kept": figures.kept, "dropped": figures.dropped,
    "acknowledged": database.statistics().acknowledged,
}))
"""
)


def record_ten_million(folder: Path, memory_bytes: int) -> dict[str, Any]:
    with program(TEN_MILLION, folder, memory_bytes) as (_, output):
        found: dict[str, Any] = json.loads(output.read())
    return found


def test_memory_stays_flat_while_offline_for_10_million_samples(tmp_path: Path) -> None:
    found = record_ten_million(tmp_path / "buffer", 32 * MiB)
    print(
        f"10 M samples take {found['bytes'] / MiB:.1f} MiB, {found['growth']:.1f} MiB of memory, "
        f"and are reopened in {found['reopened']:.3f} s"
    )
    assert found["growth"] < 20
    assert (found["pending"], found["kept"], found["dropped"]) == (10_000_000, 10_000_000, 0)
    assert found["acknowledged"] > 100_000


def test_memory_is_bounded_while_offline_with_a_full_disk(disk: Path, filler: Filler) -> None:
    found = record_ten_million(disk / "buffer", 4 * MiB)
    assert found["growth"] < 20
    assert found["kept"] + found["dropped"] == 10_000_000
    assert found["dropped"] > 0


@pytest.mark.parametrize("own", [True, False], ids=["own", "given"])
def test_samples_that_cannot_be_saved_at_the_end_are_told_with_their_folder(
    own: bool, disk: Path, make_offline_device: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk / ("state.buffer" if own else "samples")
    given = None if own else BufferedPathpointDatabase(folder, **OPTIONS)
    device = make_offline_device(evt_database=disk / "state", pp_database=given)
    filler = Filler(disk)
    record(Pathpoint(device, "W1"), 1, noise(10_000))
    filler.fill()
    device.close()
    if given is not None:
        given.close()
    said = [r.getMessage() for r in caplog.records if "could not be saved" in r.getMessage()]
    assert said
    assert all(message.startswith(f"Samples could not be saved in {folder}: ") for message in said)
