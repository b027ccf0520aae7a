"""The other way to keep samples: one SQLite table, indexed by pathpoint and time, in WAL mode with
durable transactions.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import workload
from workload import check

SCHEMA = """
CREATE TABLE samples (
    pathpoint INTEGER, timestamp INTEGER, value, PRIMARY KEY (pathpoint, timestamp)
) WITHOUT ROWID
"""


class Stored(NamedTuple):
    """What it takes to store samples: how many, CPU seconds, bytes of the file, bytes written."""

    samples: int
    seconds: float
    size: int
    written: int


def store(folder: str, transactions: Iterable[list[tuple[int, int, float]]]) -> Stored:
    """Store rows of pathpoint, timestamp and value, a transaction after the other."""
    path = Path(folder) / "samples.sqlite"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(SCHEMA)
    samples, seconds, written = 0, 0.0, written_so_far()
    for rows in transactions:
        started = time.process_time()
        database.execute("BEGIN")
        database.executemany("INSERT INTO samples VALUES (?, ?, ?)", rows)
        database.execute("COMMIT")
        seconds += time.process_time() - started
        samples += len(rows)
    check(database.execute("SELECT COUNT(*) FROM samples").fetchone() == (samples,), "samples")
    database.close()
    return Stored(samples, seconds, path.stat().st_size, written_so_far() - written)


def written_so_far() -> int:
    """How many bytes this process has written."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise OSError("no wchar in /proc/self/io")


def rows(columns: dict[str, tuple[array, array]]) -> list[tuple[int, int, float]]:
    return [
        (number, timestamp, value)
        for number, (timestamps, values) in enumerate(columns.values())
        for timestamp, value in zip(timestamps, values, strict=True)
    ]


def registers() -> Iterable[list[tuple[int, int, float]]]:
    return (rows(columns) for columns in workload.repeated(workload.registers()))


def each_second() -> Iterable[list[tuple[int, int, float]]]:
    seconds: dict[int, list[tuple[int, int, float]]] = {}
    for row in sorted(rows(workload.registers()), key=lambda row: row[1]):
        seconds.setdefault(row[1] // 1_000, []).append(row)
    return seconds.values()


def one_pathpoint() -> Iterable[list[tuple[int, int, float]]]:
    yield [(1, workload.START + index, index // 10 % 500) for index in range(1_000_000)]


def reopen(folder: str) -> float:
    store(folder, registers())
    started = time.perf_counter()
    database = sqlite3.connect(Path(folder) / "samples.sqlite")
    database.execute("SELECT COUNT(*), MAX(timestamp) FROM samples").fetchone()
    seconds = time.perf_counter() - started
    database.close()
    return seconds


def measure(name: str, folder: str) -> float:
    if name == "reopen":
        return reopen(folder)
    transactions = {
        "arrays": one_pathpoint,
        "ingest": registers,
        "ingest_bytes": registers,
        "ingest_written": registers,
        "ingest_noise_bytes": lambda: [rows(workload.noise())],
        "polled_bytes": each_second,
    }
    stored = store(folder, transactions[name]())
    if name in ("arrays", "ingest"):
        return stored.samples / stored.seconds
    if name == "ingest_written":
        return stored.written / stored.size
    return stored.size / stored.samples


def main() -> None:
    folder = tempfile.mkdtemp(prefix="smok-fast-bench-")
    try:
        print(measure(sys.argv[1], folder))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
