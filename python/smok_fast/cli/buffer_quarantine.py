"""``smok-fast buffer quarantine``: what the server has rejected, and damaged bytes."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from smok_fast.cli.buffer_common import (
    FolderArgument,
    JsonOption,
    LimitOption,
    OutputOption,
    damaged_files,
    find_folder,
    iso_time,
    open_output,
    open_quarantine,
    show_count,
    show_time,
)
from smok_fast.cli.buffer_writers import CsvWriter, JsonLinesWriter, RowFormat
from smok_fast.cli.console import console, fail, printable
from smok_fast.extras.quarantine import Quarantine, QuarantinedSample

__all__ = ["app"]

COLUMNS = ("pathpoint", "timestamp", "time", "value", "error", "reason", "rejected_at")

#: How many rows are written at once.
BATCH = 1000


class _ListsByDefault(TyperGroup):
    """``quarantine FOLDER`` is ``quarantine list FOLDER``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            args = ["list", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_ListsByDefault,
    no_args_is_help=True,
    help="Samples that the server has rejected: list them (the default), export them, have them "
    "tried again, delete them.",
)

_Pathpoint = Annotated[
    str | None,
    typer.Option("--pathpoint", metavar="NAME", help="Only samples of this pathpoint."),
]


@app.command("list")
def list_(folder: FolderArgument, as_json: JsonOption = False, limit: LimitOption = 50) -> None:
    """List the samples that the server has rejected, and files of damaged bytes.

    Times are in UTC. With --json all samples are listed.

    For example:

    [bold]smok-fast buffer quarantine list gateway-state[/]
    """
    folder = find_folder(folder)
    try:
        quarantine = open_quarantine(folder)
        damaged = damaged_files(folder)
        if as_json:
            samples = [_json(sample) for sample in quarantine.samples()]
            files = [{"name": name, "bytes": length} for name, length in damaged]
            found = {"samples": samples, "damaged_files": files}
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
            return
        _show_samples(itertools.islice(quarantine.samples(), limit))
    except (OSError, ValueError) as error:
        fail(error)
    if len(quarantine) > limit:
        more = show_count(len(quarantine) - limit, "more sample")
        console.print(f"and {more} (--limit, or export them)")
    _show_damaged(damaged)


@app.command("export")
def export(
    folder: FolderArgument,
    format_: Annotated[RowFormat, typer.Option("--format", help="Format.")] = RowFormat.JSONL,
    output: OutputOption = None,
) -> None:
    """Write the samples that the server has rejected, and why it has.

    The timestamp and the time are those of the sample, as in [bold]buffer export[/];
    rejected_at is when the server rejected it.

    For example:

    [bold]smok-fast buffer quarantine export gateway-state --output rejected.jsonl[/]
    """
    folder = find_folder(folder)
    make_writer = CsvWriter if format_ is RowFormat.CSV else JsonLinesWriter
    try:
        quarantine = open_quarantine(folder)
        rows = map(_row, quarantine.samples())
        with (
            open_output(output) as stream,
            contextlib.closing(make_writer(stream, COLUMNS)) as writer,
        ):
            while batch := list(itertools.islice(rows, BATCH)):
                writer.write(batch)
    except BrokenPipeError:
        raise  # who read it has had enough
    except (OSError, ValueError) as error:
        fail(error)


@app.command("retry")
def retry(folder: FolderArgument, pathpoint: _Pathpoint = None) -> None:
    """Have samples uploaded again, once what made the server reject them is put right.

    The device that has the buffer open, or the next one that opens it, takes
    them with one of its uploads, within about a minute. What the server
    rejects again comes back.

    For example:

    [bold]smok-fast buffer quarantine retry gateway-state --pathpoint W1r4002[/]
    """
    folder = find_folder(folder)
    try:
        if not len(open_quarantine(folder)):
            fail("the quarantine is empty")
        count = _changeable(folder).retry(pathpoint)
    except OSError as error:
        fail(error)
    if not count:
        fail(f"no sample of {pathpoint} is in the quarantine")
    console.print(f"{show_count(count, 'sample')} will be uploaded again.")


@app.command("delete")
def delete(
    folder: FolderArgument,
    pathpoint: _Pathpoint = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete samples that the server has rejected: then nobody has them.

    For example:

    [bold]smok-fast buffer quarantine delete gateway-state --pathpoint W1r4002[/]
    """
    folder = find_folder(folder)
    try:
        samples = open_quarantine(folder).samples(pathpoint)
        keys = [(sample.path, sample.timestamp) for sample in samples]
        if not keys:
            fail("there is nothing to delete")
        what = show_count(len(keys), "sample")
        if not yes:
            typer.confirm(f"Delete {what} that the server does not have?", abort=True, err=True)
        # What has come meanwhile stays.
        _changeable(folder).remove(keys)
    except (OSError, ValueError) as error:
        fail(error)
    console.print(f"Deleted {what}.")


def _changeable(folder: Path) -> Quarantine:
    return open_quarantine(folder, is_read_only=False)


def _row(sample: QuarantinedSample) -> tuple[Any, ...]:
    return (
        sample.path,
        sample.timestamp,
        iso_time(sample.timestamp),
        sample.value,
        sample.error_code,
        sample.reason,
        iso_time(int(sample.rejected_at * 1000)),
    )


def _json(sample: QuarantinedSample) -> dict[str, Any]:
    return {**dict(zip(COLUMNS, _row(sample), strict=True)), "is_wanted": sample.is_wanted}


def _show_samples(samples: Iterable[QuarantinedSample]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="cyan")
    table.add_column("pathpoint", overflow="fold")
    table.add_column("time", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("reason", overflow="fold")
    for sample in samples:
        value = sample.value if sample.error_code is None else sample.error_code
        reason = f"{sample.reason} (to be tried again)" if sample.is_wanted else sample.reason
        cells = (sample.path, show_time(sample.timestamp), value, reason)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if table.row_count:
        console.print(table)
    else:
        console.print("The server has rejected nothing.")


def _show_damaged(files: list[tuple[str, int]]) -> None:
    for name, length in files:
        console.print(
            f"damaged: {printable(name)}, {show_count(length, 'byte')}",
            markup=False,
            soft_wrap=True,
        )
