"""The database: a file or memory through SQLite, or PostgreSQL by URL.

A call is one transaction. SQLite is given one connection and one transaction at a time, so that a
memory database and a file behave alike and no call ever meets a locked database; PostgreSQL runs
calls side by side, and every statement that could meet another is written to bear it (``ON
CONFLICT``, ``DELETE … RETURNING``).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, Table, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from smok_fast.server import tables

__all__ = ["Store", "chunks", "insert_new", "upsert"]

#: SQLite binds at most 32 766 parameters to a statement, and plans longer lists no better.
_CHUNK = 500
_Key = TypeVar("_Key")


class Store:
    """Everything the server keeps.

    :param database: path of an SQLite file (made when missing), a URL such as
        ``postgresql+psycopg://user@host/name``, or None for a database in memory
    :raises ValueError: the database cannot be used: it is of another kind, cannot be reached, or
        was made by another version of this server
    """

    def __init__(self, database: str | os.PathLike[str] | None = None) -> None:
        self.url = _url(database)
        self._engine = _engine(self.url)
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        )
        try:
            self._prepare()
        except DBAPIError as error:
            self._engine.dispose()
            raise ValueError(f"cannot use the database {self}: {error.orig}") from error
        except BaseException:
            self._engine.dispose()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, in a file or in memory."""
        return self.url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        """The database's URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        Any thread may call this.
        """
        with self._turn, self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the connections. A database in memory is gone after this."""
        with self._turn:
            self._engine.dispose()

    def _prepare(self) -> None:
        with self.transaction() as connection:
            tables.metadata.create_all(connection)
            version = connection.scalar(select(tables.schema.c.version))
            if version is None:
                connection.execute(tables.schema.insert().values(version=tables.SCHEMA_VERSION))
            elif version != tables.SCHEMA_VERSION:
                raise ValueError(
                    f"{self} holds schema version {version}, not {tables.SCHEMA_VERSION}: "
                    "use another database, or the version of smok_fast that made it"
                )


def insert_new(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT into this table that leaves rows which are there already as they are."""
    return _insert(connection, table).on_conflict_do_nothing()


def upsert(
    connection: Connection, table: Table, key: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows, or where the key exists already, set the other columns to what these rows hold.

    :param key: names of the key columns
    :param rows: rows, all with the same columns, no two with the same key
    """
    if rows:
        statement = _insert(connection, table)
        changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(key), set_=changed), rows
        )


def chunks(keys: Iterable[_Key]) -> Iterator[Sequence[_Key]]:
    """The keys in lists short enough for one statement to look them up."""
    iterator = iter(keys)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def _url(database: str | os.PathLike[str] | None) -> URL:
    if database is None:
        return make_url("sqlite://")
    name = os.fspath(database)
    if "://" not in name:
        return URL.create("sqlite", database=str(Path(name).absolute()))
    try:
        return make_url(name)
    except ArgumentError as error:
        raise ValueError(f"{name!r} is no database URL") from error


def _engine(url: URL) -> Engine:
    backend = url.get_backend_name()
    if backend == "sqlite":
        engine = sqlalchemy.create_engine(
            url,
            hide_parameters=True,
            poolclass=StaticPool,
            connect_args={"check_same_thread": False, "timeout": 30},
        )
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    if backend != "postgresql":
        raise ValueError(f"the database is SQLite or PostgreSQL, not {backend}")
    try:
        return sqlalchemy.create_engine(url, hide_parameters=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ValueError(f"the driver of {url.drivername} is not installed: {error}") from error


def _on_sqlite_connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    # Python's sqlite3 would begin transactions by itself, but not before every statement: it would
    # leave the making of tables outside, and a rollback would not undo it.
    connection.isolation_level = None
    cursor = connection.cursor()
    # WAL lets people look into the file while the server writes. synchronous stays FULL: what was
    # answered with success survives a power cut.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
