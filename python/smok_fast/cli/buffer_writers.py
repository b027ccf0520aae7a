"""The formats in which ``smok-fast buffer`` writes samples. Rows go to the output as they come."""

from __future__ import annotations

import csv
import enum
import importlib
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Protocol

__all__ = ["CsvWriter", "Format", "JsonLinesWriter", "ParquetWriter", "RowFormat", "Writer"]

Row = tuple[Any, ...]

#: About how many rows of a Parquet file make a group.
ROW_GROUP = 1 << 16


class RowFormat(enum.Enum):
    """What formats for any rows are called on the command line."""

    CSV = "csv"
    JSONL = "jsonl"


class Format(enum.Enum):
    """What formats for samples are called on the command line."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Writer(Protocol):
    """Writes rows in some format. What it writes to raises OSError."""

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows."""

    def close(self) -> None:
        """Write what is left. To be called in any case, before the stream is closed."""


class CsvWriter:
    """Writes CSV in UTF-8: a header, and lines that end with LF. What holds a comma, a quote or the
    end of a line is in quotes; None is empty.

    :param stream: where to write
    :param columns: names of the columns
    """

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self.write([tuple(columns)])

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._stream.write(text.getvalue().encode())

    def close(self) -> None:
        """Everything is written."""


class JsonLinesWriter:
    """Writes an object in JSON on each line.

    :param stream: where to write
    :param columns: names of the columns
    """

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._columns = columns

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        columns = self._columns
        lines = (
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n"
            for row in rows
        )
        self._stream.write("".join(lines).encode())

    def close(self) -> None:
        """Everything is written."""


class ParquetWriter:
    """Writes samples as Parquet. A value is a double, or is in a column of its own if it is a text.

    :param stream: where to write
    :raises ImportError: pyarrow is not installed
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow = self._arrow
        self._schema = arrow.schema(
            [
                ("pathpoint", arrow.string()),
                ("timestamp", arrow.int64()),
                ("time", arrow.timestamp("ms", tz="UTC")),
                ("value", arrow.float64()),
                ("text", arrow.string()),
                ("error", arrow.string()),
            ]
        )
        self._writer = parquet.ParquetWriter(stream, self._schema)
        self._rows: list[Row] = []

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows of pathpoint, timestamp, time, value and error."""
        for pathpoint, timestamp, _, value, error in rows:
            is_text = isinstance(value, str)
            number = None if value is None or is_text else float(value)
            text = value if is_text else None
            self._rows.append((pathpoint, timestamp, timestamp, number, text, error))
        if len(self._rows) >= ROW_GROUP:
            self._write_group()

    def close(self) -> None:
        """Write the last rows, and what ends the file."""
        try:
            self._write_group()
        finally:
            self._writer.close()  # or its destructor complains that the stream is closed

    def _write_group(self) -> None:
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [
            self._arrow.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows.clear()
