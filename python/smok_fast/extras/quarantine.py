"""Samples that the server has rejected: kept, listed, and tried again when somebody says so.

They are in a small SQLite file of their own in the buffer's folder, which other processes may look
at and change: ``smok-fast buffer quarantine`` does. The file is made with the first sample. One
that cannot be used keeps nothing else from being uploaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from smok_fast.extras.pp_database import BaseDataToSynchronize

__all__ = ["Quarantine", "QuarantineUpload", "QuarantinedSample"]

logger = logging.getLogger(__name__)

#: How many samples are tried again at once.
BATCH = 500

#: How many samples are read from the file at once.
PAGE = 1000

#: A timestamp that is below all others.
_BEFORE_ALL = -(2**63)

#: For how many seconds another process may hold the file.
BUSY = 5.0

#: For how many seconds nothing is tried again once the file could not be changed: what was uploaded
#: from it is still in there.
PAUSE = 60.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    path TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    sample TEXT NOT NULL,
    reason TEXT NOT NULL,
    rejected_at REAL NOT NULL,
    is_wanted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (path, timestamp)
) WITHOUT ROWID
"""


@dataclasses.dataclass(frozen=True, slots=True)
class QuarantinedSample:
    """A sample that the server has rejected.

    :ivar path: name of the pathpoint
    :ivar timestamp: when it was read, in milliseconds since the epoch
    :ivar value: its value, None for a failed read
    :ivar error_code: why the read failed, a code of OperationFailedReason; None for a value
    :ivar reason: what the server said
    :ivar rejected_at: when it did, in seconds since the epoch
    :ivar is_wanted: whether it is to be uploaded again
    """

    path: str
    timestamp: int
    value: int | float | str | None
    error_code: str | None
    reason: str
    rejected_at: float
    is_wanted: bool


class QuarantineUpload(BaseDataToSynchronize):
    """Samples of the quarantine that are tried again."""

    __slots__ = ("_quarantine", "_rows")

    def __init__(self, quarantine: Quarantine, rows: Sequence[tuple[str, int, str]]) -> None:
        self._quarantine = quarantine
        self._rows = rows

    def acknowledge(self) -> None:
        """The server has them: they are in the quarantine no more. Called by CommunicatorThread."""
        self._quarantine.remove(self._keys())

    def negative_acknowledge(self) -> None:
        """They were not delivered; they come again. Called by CommunicatorThread."""

    def reject(self, reason: str) -> None:
        """The server rejects them once more: fewer are tried, and one alone goes back. Called by
        CommunicatorThread.

        :param reason: what the server said
        """
        self._quarantine.rejected_again(self._keys(), reason)

    def to_json(self) -> list[dict[str, Any]]:
        """The samples, as the server takes them. Called by CommunicatorThread."""
        entries: dict[str, list[Any]] = {}
        for path, _, sample in self._rows:
            entries.setdefault(path, []).append(json.loads(sample))
        return [{"path": path, "values": values} for path, values in entries.items()]

    def _keys(self) -> list[tuple[str, int]]:
        return [(path, timestamp) for path, timestamp, _ in self._rows]


class Quarantine:
    """Samples that the server has rejected. May be called by any thread.

    :param path: the SQLite file; None to keep them in memory only
    :param is_read_only: whether to change nothing, not even a file that is damaged
    :param clock: gives seconds since the epoch
    :raises OSError: the file cannot be read, and is to be read only
    """

    def __init__(
        self,
        path: Path | None,
        *,
        is_read_only: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._is_read_only = is_read_only
        self._clock = clock
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._count = 0
        self._wanted = 0
        self._batch = BATCH
        self._complaint = ""
        self._paused_until = -math.inf
        self.refresh()

    def __len__(self) -> int:
        """How many samples are in it, as far as this process knows."""
        return self._count

    def refresh(self) -> None:
        """Look what other processes have done to it. That it cannot be read is logged once.

        :raises OSError: it cannot be read, and is to be read only
        """
        if self._path is not None and not self._path.exists():
            self.close()
            self._count = self._wanted = 0
            return
        try:
            with self._open() as database:
                self._recount(database)
        except OSError as error:
            if self._is_read_only:
                raise
            self._complain(str(error))
        else:
            self._complaint = ""

    def add(self, content: list[dict[str, Any]], reason: str) -> None:
        """Keep samples.

        :param content: ``[{"path": name, "values": [sample, …]}, …]``, as uploads have it
        :param reason: what the server said about them
        :raises OSError: they could not be saved
        """
        rows = [
            (entry["path"], _timestamp(sample), json.dumps(sample), reason, self._clock())
            for entry in content
            for sample in entry["values"]
        ]
        statement = (
            "INSERT OR REPLACE INTO samples (path, timestamp, sample, reason, rejected_at) "
            "VALUES (?, ?, ?, ?, ?)"
        )
        self._change(statement, rows)

    def remove(self, keys: Sequence[tuple[str, int]] | None = None) -> None:
        """Forget samples.

        :param keys: pathpoint and timestamp of each; None for all
        :raises OSError: the file cannot be changed
        """
        if keys is None:
            self._change("DELETE FROM samples", [()])
        else:
            self._change("DELETE FROM samples WHERE path = ? AND timestamp = ?", keys)
        self._batch = BATCH

    def retry(self, path: str | None = None) -> int:
        """Have samples uploaded again, by whoever has the buffer open.

        :param path: name of a pathpoint; None for all
        :return: how many
        :raises OSError: the file cannot be changed
        """
        if path is None:
            return self._change("UPDATE samples SET is_wanted = 1", [()])
        return self._change("UPDATE samples SET is_wanted = 1 WHERE path = ?", [(path,)])

    def rejected_again(self, keys: Sequence[tuple[str, int]], reason: str) -> None:
        """The server rejects samples again. Called by CommunicatorThread.

        :param keys: pathpoint and timestamp of each
        :param reason: what the server said
        :raises OSError: the file cannot be changed
        """
        self._batch = max(len(keys) // 2, 1)
        if len(keys) > 1:
            return
        self._change(
            "UPDATE samples SET is_wanted = 0, reason = ? WHERE path = ? AND timestamp = ?",
            [(reason, *key) for key in keys],
        )

    def next_upload(self) -> QuarantineUpload | None:
        """Samples that are to be uploaded again; None if there are none, or they cannot be read."""
        if not self._wanted or time.monotonic() < self._paused_until:
            return None
        statement = (
            "SELECT path, timestamp, sample FROM samples WHERE is_wanted "
            "ORDER BY path, timestamp LIMIT ?"
        )
        try:
            with self._open() as database:
                rows = database.execute(statement, (self._batch,)).fetchall()
        except OSError as error:
            self._complain(str(error))
            return None
        return QuarantineUpload(self, rows) if rows else None

    def samples(self, path: str | None = None) -> Iterator[QuarantinedSample]:
        """The samples, by pathpoint and time; a page of them is in memory.

        :param path: name of a pathpoint; None for all
        :raises OSError: the file cannot be read
        """
        if self._path is not None and not self._path.exists():
            return
        statement = (
            "SELECT path, timestamp, sample, reason, rejected_at, is_wanted FROM samples "
            "WHERE (path, timestamp) > (?, ?) AND path = COALESCE(?, path) "
            "ORDER BY path, timestamp LIMIT ?"
        )
        after = ("" if path is None else path, _BEFORE_ALL)
        while True:
            with self._open() as database:
                rows = database.execute(statement, (*after, path, PAGE)).fetchall()
            if not rows:
                return
            for row in rows:
                yield _restored(*row)
            after = rows[-1][:2]

    def close(self) -> None:
        """Close the file. It is opened again when needed."""
        if self._path is None:
            return
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _change(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        self._paused_until = time.monotonic() + PAUSE
        with self._open() as database:
            with database:
                changed = database.executemany(statement, rows).rowcount
            self._recount(database)
        self._paused_until = -math.inf
        return changed

    def _recount(self, database: sqlite3.Connection) -> None:
        count = "SELECT COUNT(*), COALESCE(SUM(is_wanted), 0) FROM samples"
        self._count, self._wanted = database.execute(count).fetchone()

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("What the server has rejected cannot be read: %s", complaint)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The database, for this thread alone; an OSError instead of SQLite's errors."""
        with self._lock:
            try:
                if self._database is None:
                    self._database = self._connect()
                yield self._database
            except sqlite3.Error as error:
                # The next one opens it anew: it may be damaged, or another file by then.
                if self._path is not None and self._database is not None:
                    self._database.close()
                    self._database = None
                raise OSError(f"quarantine {self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._connect_once()
        except sqlite3.DatabaseError as error:
            if self._path is None or isinstance(error, sqlite3.OperationalError):
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(self._clock())}")
            logger.error("The quarantine %s is damaged (%s), now %s", self._path, error, aside)
            self._path.replace(aside)
            with contextlib.suppress(FileNotFoundError):  # else it would be applied to the new one
                journal = self._path.with_name(f"{self._path.name}-journal")
                journal.replace(f"{aside}-journal")
            return self._connect_once()

    def _connect_once(self) -> sqlite3.Connection:
        if self._path is not None and self._is_read_only:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            return sqlite3.connect(uri, timeout=BUSY, uri=True, check_same_thread=False)
        where = ":memory:" if self._path is None else self._path
        database = sqlite3.connect(where, timeout=BUSY, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous = FULL")
            with database:
                database.execute(SCHEMA)
        except BaseException:
            database.close()
            raise
        return database


def _restored(
    path: str, timestamp: int, text: str, reason: str, rejected_at: float, is_wanted: int
) -> QuarantinedSample:
    sample = json.loads(text)
    failed = sample[0] is False
    return QuarantinedSample(
        path,
        timestamp,
        None if failed else sample[1],
        sample[2] if failed else None,
        reason,
        rejected_at,
        bool(is_wanted),
    )


def _timestamp(sample: Sequence[Any]) -> int:
    return int(sample[1] if sample[0] is False else sample[0])
