"""The schema. Everything belongs to a device by its device ID; nothing is shared between devices.

Samples are keyed by (pathpoint, timestamp), which is what makes uploads idempotent. Values are JSON
texts (``5``, ``5.0``, ``"5"``), which keep the type, every digit, NaN and characters that some
database would refuse; a failed read has an error code and no value.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

__all__ = [
    "SCHEMA_VERSION",
    "baobs",
    "conflicts",
    "definitions",
    "devices",
    "events",
    "incoming",
    "logs",
    "macro_occurrences",
    "macros",
    "messages",
    "metadata",
    "orders",
    "pathpoints",
    "plain_metadata",
    "samples",
    "schema",
    "slaves",
    "write_log",
]

#: Raised with every change below; a database of another version is refused.
SCHEMA_VERSION = 2


class Json(TypeDecorator[Any]):
    """A JSON value as text, the same in every database; None is a value like any other."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """To the database."""
        return json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """From the database."""
        return None if value is None else json.loads(value)


# SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, primary_key=True))

devices = Table(
    "devices",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("info", Json, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
)

slaves = Table(
    "slaves",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("slave_id", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("master_controller", String, nullable=False),
    Column("responsible_service", String, nullable=False),
    Column("configuration", Text, nullable=False),
    Column("linkstate", Text, nullable=False),
    Column("instrumentation", Text, nullable=False),
)

#: Lists that are set and read as a whole: archives, sensors, predicates.
definitions = Table(
    "definitions",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("content", Json, nullable=False),
)

#: Sections that the device has neither fetched nor confirmed yet. An ID is never used again: NGTT
#: tells orders apart by it.
orders = Table(
    "orders",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False, index=True),
    Column("section", Json, nullable=False),
    sqlite_autoincrement=True,
)

messages = Table(
    "messages",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("uuid", String, primary_key=True),
    Column("confirmed_on", Double),
)

pathpoints = Table(
    "pathpoints",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False),
    Column("path", String, nullable=False),
    Column("storage_level", Integer, nullable=False),
    Column("set_by_admin", Boolean, nullable=False),
    UniqueConstraint("device_id", "path"),
)

samples = Table(
    "samples",
    metadata,
    Column("pathpoint_id", BigInteger, primary_key=True, autoincrement=False),
    Column("timestamp", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Text),
    Column("error_code", String),
    sqlite_with_rowid=False,
)

#: Samples on their way in; made and dropped within a transaction.
incoming = Table(
    "incoming",
    MetaData(),
    Column("position", Integer, nullable=False),
    Column("pathpoint_id", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("value", Text),
    Column("error_code", String),
    prefixes=["TEMPORARY"],
)

#: Samples that came for a timestamp which already held something else.
conflicts = Table(
    "conflicts",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False, index=True),
    Column("path", String, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("stored", Json, nullable=False),
    Column("received", Json, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False),
    Column("uuid", String, nullable=False),
    Column("event", Json, nullable=False),
    UniqueConstraint("device_id", "uuid"),
)

macros = Table(
    "macros",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("macro_id", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("commands", Json, nullable=False),
)

macro_occurrences = Table(
    "macro_occurrences",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("macro_id", String, primary_key=True),
    Column("timestamp", Double, primary_key=True),
    Column("reports", Integer, nullable=False),
)

baobs = Table(
    "baobs",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("content", LargeBinary),  # NULL: deleted at that version
)

plain_metadata = Table(
    "plain_metadata",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("timestamp", Double, nullable=False),
)

logs = Table(
    "logs",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False),
    Column("service", String, nullable=False),
    Column("when", BigInteger, nullable=False),
    Column("record", Json, nullable=False),
    Column("digest", String, nullable=False),
    Column("in_order", Boolean, nullable=False),
    UniqueConstraint("device_id", "digest"),
    Index("logs_by_time", "device_id", "service", "when"),
)

write_log = Table(
    "write_log",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False),
    Column("record", Json, nullable=False),
    Column("digest", String, nullable=False),
    UniqueConstraint("device_id", "digest"),
)
