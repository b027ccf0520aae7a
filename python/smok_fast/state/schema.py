"""What the state file holds, and how an older one becomes a present one.

A file is ours by its ``application_id``; ``user_version`` says how many of :data:`MIGRATIONS` it
has been through. A migration is never changed once it was released: append another one.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Any

__all__ = ["APPLICATION_ID", "MIGRATIONS", "TABLES", "TableDefinition", "UnusableFile", "prepare"]

#: "SMOK" in ASCII.
APPLICATION_ID = 0x534D4F4B

#: The statements of each migration, the first of which makes an empty file one of version 1.
#: Columns without a type hold what they are given: a number of either kind, a text or bytes.
MIGRATIONS: list[tuple[str, ...]] = [
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE events ("
        "key TEXT PRIMARY KEY NOT NULL, event TEXT NOT NULL, unsynced INTEGER NOT NULL)",
        "CREATE TABLE predicate_states (predicate_id TEXT PRIMARY KEY NOT NULL, state NOT NULL)",
        "CREATE TABLE predicates (predicate_id TEXT PRIMARY KEY NOT NULL, definition NOT NULL)",
        "CREATE TABLE macros (macro_id TEXT PRIMARY KEY NOT NULL, commands TEXT NOT NULL)",
        "CREATE TABLE macro_occurrences ("
        "macro_id TEXT NOT NULL, timestamp NOT NULL, state TEXT NOT NULL, "
        "PRIMARY KEY (macro_id, timestamp))",
        "CREATE TABLE archives (interval PRIMARY KEY NOT NULL, pathpoints TEXT NOT NULL)",
        "CREATE TABLE sensors ("
        "fqts TEXT PRIMARY KEY NOT NULL, path TEXT NOT NULL, type TEXT NOT NULL)",
        "CREATE TABLE metadata ("
        "key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, timestamp REAL NOT NULL)",
        "CREATE TABLE baobs ("
        "key TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL)",
        "CREATE TABLE sensor_writes (event TEXT PRIMARY KEY NOT NULL, times INTEGER NOT NULL)",
        "CREATE TABLE orders ("
        "id INTEGER PRIMARY KEY NOT NULL, source TEXT NOT NULL, section BLOB NOT NULL, "
        "received_at REAL NOT NULL, state TEXT NOT NULL)",
    ),
    (
        "CREATE TABLE device (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)",
        "CREATE TABLE metadata_writes ("
        "key TEXT PRIMARY KEY NOT NULL, value TEXT, timestamp REAL NOT NULL)",
    ),
]

#: WAL: a commit is one append and one fsync. The log goes to the file proper when it has 256 pages
#: of 4 KiB, and is cut to as much after a large BAOB. The last two guard against what a damaged
#: file may hold.
SETTINGS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 256",
    f"journal_size_limit = {1 << 20}",
    "cell_size_check = ON",
    "trusted_schema = OFF",
)


@dataclasses.dataclass(frozen=True, slots=True)
class TableDefinition:
    """A table as the program uses it.

    :ivar name: its name
    :ivar columns: its columns, those of the key first
    :ivar key_length: how many columns the key has
    :ivar large: whether the last column holds values that are better not kept in memory
    """

    name: str
    columns: tuple[str, ...]
    key_length: int = 1
    large: bool = False

    @property
    def upsert(self) -> str:
        """The statement that stores a row."""
        key = self.columns[: self.key_length]
        changes = ", ".join(f"{name} = excluded.{name}" for name in self.columns[self.key_length :])
        return (
            f"INSERT INTO {self.name} ({', '.join(self.columns)}) "  # noqa: S608 - names from here
            f"VALUES ({', '.join('?' * len(self.columns))}) "
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
        )

    @property
    def delete(self) -> str:
        """The statement that deletes the row of a key."""
        return f"DELETE FROM {self.name} WHERE {self._is_key}"  # noqa: S608 - names from here

    @property
    def select(self) -> str:
        """The statement that gives all rows, in the order in which their keys came."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} ORDER BY rowid"  # noqa: S608

    @property
    def select_small(self) -> str:
        """The same with NULL in place of the large values."""
        columns = (*self.columns[:-1], "NULL")
        return f"SELECT {', '.join(columns)} FROM {self.name} ORDER BY rowid"  # noqa: S608

    @property
    def select_large(self) -> str:
        """The statement that gives the large value of a key."""
        return f"SELECT {self.columns[-1]} FROM {self.name} WHERE {self._is_key}"  # noqa: S608

    @property
    def _is_key(self) -> str:
        return " AND ".join(f"{name} = ?" for name in self.columns[: self.key_length])


TABLES = (
    TableDefinition("events", ("key", "event", "unsynced")),
    TableDefinition("predicate_states", ("predicate_id", "state")),
    TableDefinition("predicates", ("predicate_id", "definition")),
    TableDefinition("macros", ("macro_id", "commands")),
    TableDefinition("macro_occurrences", ("macro_id", "timestamp", "state"), key_length=2),
    TableDefinition("archives", ("interval", "pathpoints")),
    TableDefinition("sensors", ("fqts", "path", "type")),
    TableDefinition("metadata", ("key", "value", "timestamp")),
    TableDefinition("baobs", ("key", "version", "value"), large=True),
    TableDefinition("sensor_writes", ("event", "times")),
    TableDefinition("orders", ("id", "source", "section", "received_at", "state")),
    TableDefinition("device", ("name", "value")),
    TableDefinition("metadata_writes", ("key", "value", "timestamp")),
)


class UnusableFile(Exception):
    """A file cannot be used as it is, and has to be moved aside.

    :param label: what is the matter, in one word
    :param reason: what is the matter
    """

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(reason)
        self.label = label


def prepare(connection: sqlite3.Connection) -> bool:
    """Look whether a file is sound, and bring it to the present version. What is not ours is left
    as it is.

    :param connection: a connection that begins no transactions by itself
    :return: whether the file was empty
    :raises UnusableFile: it is no state file, it is damaged, or it is of a later version
    :raises sqlite3.Error: likewise, or it cannot be read or written
    """
    version = _pragma(connection, "user_version")
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if objects and _pragma(connection, "application_id") != APPLICATION_ID:
        raise UnusableFile("damaged", "it is no state file")
    if version > len(MIGRATIONS):
        raise UnusableFile("newer", f"it has version {version}, {len(MIGRATIONS)} is known here")
    for setting in SETTINGS:
        connection.execute(f"PRAGMA {setting}")
    finding = _pragma(connection, "quick_check(1)")
    if version < 0 or finding != "ok":
        raise UnusableFile("damaged", f"SQLite says: {' '.join(str(finding).split())}")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    return not objects


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return value
