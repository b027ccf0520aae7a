"""The state file: what a device must not forget, but for its samples, in one SQLite database.

Invariants:

- Memory leads and the file follows. A change of a row is noted in memory at once, and is on the
  disk when a :meth:`StateFile.commit` after it returns, together with every other change noted
  before: all of them or, if the power goes first, none. Large values have a transaction each.
- The device always runs. A file that cannot be used is moved aside, with an error in the log, and a
  new one takes its place, with everything that memory holds. While nothing can be written
  (read-only or full disk, failing card) the changes wait in memory and are tried again; that is
  logged once when it begins and once when it is over.
- A row that is as it was is not written. What need not be on the disk at once goes with the next
  commit, or at a :meth:`StateFile.checkpoint`: SD cards wear out.
- The file belongs to one :class:`StateFile` at a time, by a lock on the file ``<path>.lock``. Any
  process may read it meanwhile.
- No lock is held while something is logged, since a handler may well be a user's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from smok_fast._files import put_aside
from smok_fast.exceptions import StateInUseError
from smok_fast.state.schema import TABLES, TableDefinition, UnusableFile, prepare

__all__ = ["Row", "StateFile", "Table", "take_lock"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A row of a table, the columns of its key first.
Row: TypeAlias = tuple[Any, ...]
Key: TypeAlias = tuple[Any, ...]

#: Seconds from one try to write to the next while it fails, unless somebody insists.
RETRY_EVERY = 10.0

#: How many bytes must be free on the disk for anything to be written, besides twice what is to be
#: written: enough for SQLite to move its log to the file proper. Without that a write that fills
#: the disk would leave a log that holds all the space and can neither be moved nor shortened.
RESERVE = 1 << 20

#: How many seconds to wait for another process that reads the file, or works on it by hand.
BUSY_FOR = 1.0

#: What SQLite says when it is not the file's content that is to blame.
_CIRCUMSTANCES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}

#: Those that pass by themselves, so that the connection may stay.
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_LOCKED}

#: What SQLite, or the system below it, may raise. UnicodeDecodeError: an error message that quotes
#: a damaged file.
_FAULTS = (OSError, sqlite3.Error, UnusableFile, UnicodeDecodeError, MemoryError)

#: What is raised about a single row: the fault is in what it holds.
_ABOUT_THE_ROW = (
    OverflowError,
    UnicodeEncodeError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class Table:
    """The rows of one table, by their keys. Get it from :attr:`StateFile.tables`.

    Every method may be called by any thread, and none touches the disk: commit the state file to
    have changes written.

    :param definition: the table
    :param lock: guards the rows
    """

    def __init__(self, definition: TableDefinition, lock: threading.Lock) -> None:
        self.definition = definition
        self._lock = lock
        self._rows: dict[Key, Row] = {}
        self._changed: dict[Key, None] = {}  # keys whose row in the file is another one, or missing

    def rows(self) -> list[Row]:
        """All rows, in the order in which their keys came. Of a large value that is in the file
        there is None.
        """
        with self._lock:
            return list(self._rows.values())

    def restored(self, restore: Callable[..., T]) -> Iterator[T]:
        """What the rows stand for. One that makes no sense is logged, and left alone until its key
        is used again: it stops neither the device nor the other rows.

        :param restore: makes it of the values of a row; raises if it cannot
        """
        for row in self.rows():
            try:
                value = restore(*row)
            except Exception as error:  # whatever a foreign row makes of it
                logger.error(
                    "A row of %s in the state file makes no sense, it is left alone: %r: %r",
                    self.definition.name,
                    row[: self.definition.key_length],
                    error,
                )
            else:
                yield value

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def get(self, *key: Any) -> Row | None:
        """The row of a key, if there is one; None stands for a large value that is in the file."""
        with self._lock:
            return self._rows.get(key)

    def put(self, row: Row) -> None:
        """Store a row in place of the one that has the same key."""
        with self._lock:
            self._put(row)

    def delete(self, *key: Any) -> bool:
        """Delete the row of a key.

        :return: False if there is none
        """
        with self._lock:
            return self._delete(key)

    def replace(self, rows: Iterable[Row]) -> None:
        """Have these rows and no others."""
        wanted = {row[: self.definition.key_length]: row for row in rows}
        with self._lock:
            for key in self._rows.keys() - wanted.keys():
                self._delete(key)
            for row in wanted.values():
                self._put(row)

    def _put(self, row: Row) -> None:
        key = row[: self.definition.key_length]
        if self._rows.get(key) != row:
            self._rows[key] = row
            self._changed[key] = None

    def _delete(self, key: Key) -> bool:
        if self._rows.pop(key, None) is None:
            return False
        self._changed[key] = None
        return True

    # For the state file, which holds the lock

    def _load(self, row: Row) -> None:
        self._rows[row[: self.definition.key_length]] = row

    def _take_change(self, key: Key) -> tuple[Table, Key, Row | None]:
        del self._changed[key]
        return self, key, self._rows.get(key)

    def _note_saved(self, key: Key, row: Row | None) -> None:
        if self.definition.large and row is not None and self._rows.get(key) is row:
            self._rows[key] = (*row[:-1], None)

    def _begin_anew(self) -> int:
        """Have all rows written to a new file.

        :return: how many are lost: those whose large value was in the old file only
        """
        lost = []
        if self.definition.large:
            lost = [key for key, row in self._rows.items() if row[-1] is None]
        for key in lost:
            del self._rows[key]
        self._changed = dict.fromkeys(self._rows)
        return len(lost)


class StateFile:
    """The state file of a device. Every method may be called by any thread; none but the
    constructor raises because of the file.

    :param path: where it is, or is to be made; beside it ``<path>.lock``, and while it is open
        ``<path>-wal`` and ``<path>-shm``. A new file has mode 0600
    :param clock: gives seconds of a monotonic clock
    :raises StateInUseError: another one has it open, in this process or another
    :ivar path: where it is, from the root
    :ivar tables: its tables by name
    :ivar set_aside: where a file that could not be used was moved last, None if none was
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = Path(path).absolute()
        self.set_aside: Path | None = None
        self._clock = clock
        self._lock = threading.Lock()  # guards the rows and the reports
        self._writing = threading.Lock()  # guards everything else; is taken first
        self.tables = {definition.name: Table(definition, self._lock) for definition in TABLES}
        self._connection: sqlite3.Connection | None = None
        self._lock_descriptor: int | None = None
        self._failing_since: float | None = None
        self._retry_at = 0.0
        self._closed = False
        self._reports: list[tuple[Any, ...]] = []
        try:
            self._use(self._load)
        except _FAULTS as error:
            self._failed(error)
            self._load_copy()
        except BaseException:
            self._disconnect()
            self._unlock()
            raise
        self._tell()

    @property
    def failing(self) -> bool:
        """Whether the file could not be written the last time."""
        return self._failing_since is not None

    def commit(self, *, at_once: bool = True) -> None:
        """Have all changes so far on the disk when this returns, unless nothing can be written.

        No-op if there are none, or after :meth:`close`.

        :param at_once: False to only hand them to the operating system, which is many times faster:
            they survive the end of the program, but not a power cut, until the next commit that is
            at once
        """
        self._write(insist=False, at_once=at_once)

    def checkpoint(self) -> None:
        """The same, and try even if it has just failed. To be called from time to time."""
        self._write(insist=True)

    def close(self) -> None:
        """Write what is left and give the file back. No-op if it is closed already."""
        with self._writing:
            if not self._closed:
                if self._has_changes():
                    self._flush()
                if self._has_changes():
                    self._report(logging.ERROR, "The last changes of the state are lost")
                self._closed = True
                self._disconnect()
                self._unlock()
        self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read_large(self, table: Table, *key: Any) -> bytes | None:
        """The large value of a key: from the file, unless it waits to be written.

        :return: None if there is no such key, or it cannot be read; the latter is logged
        """
        row = table.get(*key)
        if row is None or row[-1] is not None:
            return None if row is None else bytes(row[-1])
        with self._writing:
            found = self._select_large(table, key)
        self._tell()
        return found

    # --- Writing; for who holds self._writing
    # ---------------------------------------------------------

    def _write(self, insist: bool, at_once: bool = True) -> None:
        with self._writing:
            if self._is_due(insist):
                self._flush(at_once)
        self._tell()

    def _is_due(self, insist: bool) -> bool:
        if self._closed:
            return False
        if self._failing_since is None:
            return self._has_changes()
        return insist or (self._has_changes() and self._clock() >= self._retry_at)

    def _has_changes(self) -> bool:
        with self._lock:
            return any(table._changed for table in self.tables.values())

    def _flush(self, at_once: bool = True) -> None:
        try:
            self._use(functools.partial(self._save, at_once=at_once))
        except (*_FAULTS, StateInUseError) as error:
            self._failed(error)
        else:
            self._succeeded()

    def _use(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Do something with the file; if that shows that it is damaged, move it aside and do it
        with a new one.
        """
        for may_try_again in (True, False):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                action(self._connection)
                return
            except (sqlite3.Error, UnusableFile, UnicodeDecodeError) as error:
                label = _label(error)
                if label is None or not may_try_again:
                    raise
                self._disconnect()
                self._put_aside(label, error)

    def _connect(self) -> sqlite3.Connection:
        if self._lock_descriptor is None:
            self._lock_descriptor = take_lock(self.path)
        existed = self.path.exists()
        connection, is_new = _connect(self.path)
        if is_new and existed:
            self._report(logging.WARNING, "The state file %s was empty", self.path)
        if is_new:
            with self._lock:
                lost = sum(table._begin_anew() for table in self.tables.values())
            if lost:
                self._report(logging.ERROR, "%d BAOBs are lost, the server may have them", lost)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _unlock(self) -> None:
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _put_aside(self, label: str, reason: Exception) -> None:
        self.set_aside = put_aside(self.path, label, ("-wal", "-shm", ""))
        self._report(
            logging.ERROR,
            "The state file %s cannot be used (%s); it is now %s, and a new one is begun",
            self.path,
            reason,
            self.set_aside,
        )

    def _load(self, connection: sqlite3.Connection, with_large: bool = False) -> None:
        for table in self.tables.values():
            definition = table.definition
            small = definition.large and not with_large
            select = definition.select_small if small else definition.select
            rows = connection.execute(select).fetchall()
            with self._lock:
                for row in rows:
                    table._load(row)

    def _load_copy(self) -> None:
        """Load what a file holds that can only be read.

        SQLite has to write beside a database with a log even to read it, so a copy in memory is
        read.
        """
        if not self.path.is_file():
            return
        try:
            with tempfile.TemporaryDirectory(dir=_folder_in_memory()) as folder:
                copy = Path(folder, "state")
                for suffix in ("", "-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(f"{self.path}{suffix}", f"{copy}{suffix}")
                connection, _ = _connect(copy)
                with contextlib.closing(connection):
                    self._load(connection, with_large=True)
        except _FAULTS as error:
            self._report(logging.ERROR, "Nor can the state be read: %s", error)

    def _save(self, connection: sqlite3.Connection, at_once: bool) -> None:
        """Write all changes: those of small rows in one transaction, and each large value in one of
        its own, so that one for which there is no space holds up nothing else.
        """
        connection.execute(f"PRAGMA synchronous = {'FULL' if at_once else 'NORMAL'}")
        shortage: OSError | None = None
        for keys in self._batches():
            try:
                self._save_batch(connection, keys)
            except OSError as error:
                shortage = error
        if shortage is not None:
            raise shortage

    def _batches(self) -> list[list[tuple[Table, Key]]]:
        """The keys of the rows that are to be written, those of one transaction together."""
        small: list[tuple[Table, Key]] = []
        batches = [small]
        with self._lock:
            for table in self.tables.values():
                keys = [(table, key) for key in table._changed]
                if table.definition.large:
                    batches += [[key] for key in keys]
                else:
                    small += keys
        return [batch for batch in batches if batch]

    def _save_batch(self, connection: sqlite3.Connection, keys: list[tuple[Table, Key]]) -> None:
        try:
            with self._lock:
                changes = [table._take_change(key) for table, key in keys]
            _check_space(self.path.parent, [row for _, _, row in changes if row is not None])
            unsaved = _execute(connection, changes)
        except BaseException:
            with self._lock:
                for table, key in keys:
                    table._changed[key] = None
            raise
        with self._lock:
            for table, key, row in changes:
                if (table, key) not in unsaved:
                    table._note_saved(key, row)
        for (table, key), error in unsaved.items():
            self._report(
                logging.ERROR,
                "This row of %s cannot be kept in the state file, only in memory: %r: %s",
                table.definition.name,
                key,
                error,
            )

    def _select_large(self, table: Table, key: Key) -> bytes | None:
        reason: object = "the file is not open"
        if self._connection is not None:
            try:
                row = self._connection.execute(table.definition.select_large, key).fetchone()
                return None if row is None else bytes(row[0])
            except (*_FAULTS, TypeError) as error:
                reason = error
        name = table.definition.name
        self._report(logging.ERROR, "A value of %s cannot be read: %r: %s", name, key, reason)
        return None

    def _failed(self, error: Exception) -> None:
        if _code(error) not in _PASSING and getattr(error, "errno", None) != errno.ENOSPC:
            self._disconnect()
        self._retry_at = self._clock() + RETRY_EVERY
        if self._failing_since is None:
            self._failing_since = self._clock()
            self._report(
                logging.ERROR,
                "The state cannot be written to %s, it waits in memory: %s",
                self.path,
                error,
            )

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            lasted = self._clock() - self._failing_since
            self._failing_since = None
            self._report(
                logging.WARNING, "The state is written to %s again, after %.0f s", self.path, lasted
            )

    def _report(self, level: int, message: str, *args: object) -> None:
        with self._lock:
            self._reports.append((level, message, *args))

    def _tell(self) -> None:
        """Log what there is to log. Not for who holds a lock."""
        with self._lock:
            reports, self._reports = self._reports, []
        for report in reports:
            logger.log(*report)


def _connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a database that is sound and of the present version.

    :return: the connection, and whether the database is new
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with path.open("rb") as file:  # before SQLite has locks on it, which closing would undo
        write_version = file.read(19)[18:]
    if write_version > b"\x02":  # SQLite would only read it, and say that it is read-only
        raise UnusableFile("damaged", "its header is of no known format")
    connection = sqlite3.connect(
        path, timeout=BUSY_FOR, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = _text
        return connection, prepare(connection)
    except BaseException:
        connection.close()
        raise


def _execute(
    connection: sqlite3.Connection, changes: Iterable[tuple[Table, Key, Row | None]]
) -> dict[tuple[Table, Key], Exception]:
    """Make changes in one transaction.

    :return: those that were left out, since they hold what SQLite cannot
    """
    unsaved: dict[tuple[Table, Key], Exception] = {}
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table, key, row in changes:
            definition = table.definition
            try:
                if row is None:
                    connection.execute(definition.delete, key)
                else:
                    connection.execute(definition.upsert, row)
            except _ABOUT_THE_ROW as error:
                unsaved[table, key] = error
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return unsaved


def _check_space(folder: Path, rows: Iterable[Row]) -> None:
    """Look whether there is space to write rows.

    :raises OSError: there is not
    """
    size = sum(len(value) for row in rows for value in row if isinstance(value, str | bytes))
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < RESERVE + 2 * size:  # some file systems tell nothing
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free} bytes are free")


def take_lock(path: Path) -> int:
    """Lock the lock file of a state file. It stays locked until the descriptor is closed, at the
    latest by the end of the process.

    :raises StateInUseError: somebody else has locked it
    """
    lock = Path(f"{path}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a read-only file system: it may be there from before
        if not lock.exists():
            raise
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StateInUseError(
                f"{path} is the state file of a device that runs, here or in another process: "
                "give each device one of its own"
            ) from error
        raise
    return descriptor


def _folder_in_memory() -> str | None:
    """A folder that is in memory, if there is one, so that neither a full nor a read-only disk
    matters.
    """
    folder = "/dev/shm"  # noqa: S108 - a folder with a name of its own is made in it
    return folder if os.access(folder, os.W_OK) else None


def _text(data: bytes) -> str | bytes:
    """A text; bytes if it is none, so that one bad row does not keep others from being read."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _code(error: Exception) -> int | None:
    """SQLite's primary result code, if the error has one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _label(error: Exception) -> str | None:
    """What to call a file about which this is said; None if its content is not to blame."""
    if isinstance(error, UnusableFile):
        return error.label
    if isinstance(error, UnicodeDecodeError):
        return "damaged"
    code = _code(error)
    return None if code is None or code in _CIRCUMSTANCES else "damaged"
