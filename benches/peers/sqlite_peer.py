"""The other way to keep samples: one SQLite table, indexed by pathpoint and time, in WAL mode, where
each ten minutes of registers are one durable transaction.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import workload
from workload import check

SCHEMA = """
CREATE TABLE samples (
    pathpoint INTEGER, timestamp INTEGER, value, PRIMARY KEY (pathpoint, timestamp)
) WITHOUT ROWID
"""


def store(folder: str) -> tuple[float, float]:
    """Samples a second, and bytes a sample."""
    rounds = list(workload.repeated(workload.registers()))
    path = Path(folder) / "samples.sqlite"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(SCHEMA)
    started = time.process_time()
    total = 0
    for columns in rounds:
        database.execute("BEGIN")
        for number, (timestamps, values) in enumerate(columns.values()):
            rows = ((number, timestamp, value) for timestamp, value in zip(timestamps, values))
            database.executemany("INSERT INTO samples VALUES (?, ?, ?)", rows)
            total += len(timestamps)
        database.execute("COMMIT")
    seconds = time.process_time() - started
    check(database.execute("SELECT COUNT(*) FROM samples").fetchone() == (total,), "samples")
    database.close()
    return total / seconds, path.stat().st_size / total


def main() -> None:
    folder = tempfile.mkdtemp(prefix="smok-fast-bench-")
    try:
        rate, size = store(folder)
    finally:
        shutil.rmtree(folder)
    print(rate if sys.argv[1] == "ingest" else size)


if __name__ == "__main__":
    main()
