"""``smok-fast buffer export``: samples of a buffer as CSV, JSON lines or Parquet.

Samples stream from the buffer to the output: in memory are a segment of each level, and what came
out of a frame.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from smok_fast._core import Buffer
from smok_fast.cli.buffer_common import (
    FolderArgument,
    OutputOption,
    find_folder,
    iso_time,
    look_at,
    open_output,
    parse_time,
    progress,
    show_count,
    warn,
)
from smok_fast.cli.buffer_writers import CsvWriter, Format, JsonLinesWriter, ParquetWriter, Writer
from smok_fast.cli.console import console, fail
from smok_fast.exceptions import OperationFailedError

if TYPE_CHECKING:
    from smok_fast.pathpoint import ValueOrExcept

__all__ = ["export"]

COLUMNS = ("pathpoint", "timestamp", "time", "value", "error")


def export(
    folder: FolderArgument,
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--pathpoint",
            metavar="PATTERN",
            help="Name of a pathpoint, or a pattern with * ? and [...]; may be repeated. By "
            "default, all.",
        ),
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--from",
            parser=parse_time,
            metavar="TIME",
            help="The oldest time: ISO 8601, in UTC unless it says otherwise, or milliseconds.",
        ),
    ] = None,
    stop: Annotated[
        int | None,
        typer.Option("--to", parser=parse_time, metavar="TIME", help="The newest time, likewise."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format.")] = Format.CSV,
    output: OutputOption = None,
) -> None:
    """Write samples: pathpoint, timestamp, time, value, error.

    They are in the order of recording. The timestamp is in milliseconds since
    the epoch, the time in ISO 8601, UTC. A failed read has an error in place
    of a value. The device may be running.

    What cannot be read is left out, and the status is 1 then.

    For example:

    [bold]smok-fast buffer export gateway-state --pathpoint 'W1r*' --output w.csv[/]
    """
    if format_ is Format.PARQUET and importlib.util.find_spec("pyarrow") is None:
        fail("pyarrow is not installed; run: pip install 'smok-fast[parquet]'")
    buffer = look_at(find_folder(folder))
    names = _matching(buffer.names(), patterns)
    is_shown = output is not None or not console.is_terminal
    try:
        sweep = buffer.sweep(names, start, stop)
        _, total = sweep.progress()
        with (
            open_output(output) as stream,
            progress("Exporting", total, is_shown=is_shown) as note_progress,
            contextlib.closing(_writer(format_, stream)) as writer,
        ):
            for parts in sweep:
                for name, samples in parts:
                    writer.write(_rows(name, samples))
                note_progress(sweep.progress()[0])
    except BrokenPipeError:
        raise  # who read it has had enough
    except (OSError, ValueError) as error:
        fail(error)
    if not _is_complete(buffer, sweep.corrupt):
        raise typer.Exit(1)


def _matching(names: Sequence[str], patterns: Sequence[str] | None) -> list[str] | None:
    if not patterns:
        return None
    wanted: set[str] = set()
    for pattern in patterns:
        # An expression's name may well hold what has a meaning in patterns.
        found = [name for name in names if name == pattern] or [
            name for name in names if fnmatch.fnmatchcase(name, pattern)
        ]
        if not found:
            fail(f"no pathpoint of the buffer matches {pattern}")
        wanted.update(found)
    return sorted(wanted)


def _writer(format_: Format, stream: BinaryIO) -> Writer:
    if format_ is Format.CSV:
        return CsvWriter(stream, COLUMNS)
    if format_ is Format.JSONL:
        return JsonLinesWriter(stream, COLUMNS)
    return ParquetWriter(stream)


def _rows(
    name: str, samples: Sequence[tuple[int, ValueOrExcept]]
) -> Iterator[tuple[str, int, str | None, float | str | None, str | None]]:
    for timestamp, reading in samples:
        if isinstance(reading, OperationFailedError):
            yield name, timestamp, iso_time(timestamp), None, str(reading)
        else:
            yield name, timestamp, iso_time(timestamp), reading, None


def _is_complete(buffer: Buffer, corrupt: int) -> bool:
    """Whether everything could be read; says what could not."""
    report = buffer.report()
    lacks = []
    if damaged := buffer.statistics()["damaged_bytes"]:
        lacks.append(f"{show_count(damaged, 'byte')} are damaged and were left out")
    if corrupt:
        lacks.append(f"{show_count(corrupt, 'frame')} made no sense and were left out")
    if nameless := report["nameless_samples"]:
        lacks.append(f"{show_count(nameless, 'sample')} have lost their name and were left out")
    lacks.extend(detail for what, detail in buffer.take_events() if what == "unreadable")
    for lack in lacks:
        warn(lack)
    return not (lacks or report["problems"])
