"""``smok-fast buffer``: what is in the buffer of a device, which may be running."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from smok_fast.cli import buffer_export, buffer_quarantine, buffer_verify
from smok_fast.cli.buffer_common import (
    FolderArgument,
    JsonOption,
    LimitOption,
    damaged_files,
    find_folder,
    look_at,
    open_quarantine,
    show_count,
    show_time,
    warn,
)
from smok_fast.cli.console import console, fail, printable

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Look into the samples that a device keeps, while it runs or later.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class PathpointFigures:
    """What is kept of a pathpoint; times are in milliseconds since the epoch."""

    name: str
    samples: int
    pending: int
    first: int
    last: int


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What ``stat`` says; times are in milliseconds since the epoch.

    :ivar pending: samples that the server lacks
    :ivar quarantined: samples that the server has rejected; None if the quarantine cannot be read
    :ivar damaged_files: files in which damaged bytes were set aside
    :ivar damaged_bytes: how long they are
    """

    folder: str
    segments: int
    bytes: int
    samples: int
    pending: int
    bytes_per_sample: float | None
    oldest: int | None
    newest: int | None
    quarantined: int | None
    damaged_files: int
    damaged_bytes: int
    pathpoints: list[PathpointFigures]


@app.command("stat")
def stat(folder: FolderArgument, as_json: JsonOption = False, limit: LimitOption = 50) -> None:
    """Show how much is in a buffer, and of which pathpoints.

    Pending samples are those that the server lacks. Times are in UTC. With
    --json all pathpoints are listed, and times are in milliseconds since the
    epoch.

    For example:

    [bold]smok-fast buffer stat gateway-state[/]
    """
    try:
        figures = _figures(find_folder(folder))
    except OSError as error:
        fail(error)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(figures), indent=2))
        return
    _show(figures)
    _show_pathpoints(figures.pathpoints, limit)


def _figures(folder: Path) -> Figures:
    buffer = look_at(folder)
    statistics = buffer.statistics()
    pathpoints = [PathpointFigures(*row) for row in sorted(buffer.survey())]
    damaged = damaged_files(folder)
    size, samples = statistics["bytes"], statistics["kept"]
    return Figures(
        folder=str(folder),
        segments=statistics["segments"],
        bytes=size,
        samples=samples,
        pending=statistics["pending"],
        bytes_per_sample=round(size / samples, 3) if samples else None,
        oldest=min((pathpoint.first for pathpoint in pathpoints), default=None),
        newest=max((pathpoint.last for pathpoint in pathpoints), default=None),
        quarantined=_quarantined(folder),
        damaged_files=len(damaged),
        damaged_bytes=sum(length for _, length in damaged),
        pathpoints=pathpoints,
    )


def _quarantined(folder: Path) -> int | None:
    try:
        return len(open_quarantine(folder))
    except OSError as error:
        warn(error)
        return None


def _show(figures: Figures) -> None:
    per_sample = figures.bytes_per_sample
    quarantined = figures.quarantined
    rows = {
        "folder": printable(figures.folder),
        "segments": f"{figures.segments:,}",
        "bytes": f"{figures.bytes:,}",
        "samples": f"{figures.samples:,}",
        "pending": f"{figures.pending:,}",
        "bytes per sample": "-" if per_sample is None else f"{per_sample:.2f}",
        "oldest": show_time(figures.oldest),
        "newest": show_time(figures.newest),
        "quarantined": "unreadable" if quarantined is None else show_count(quarantined, "sample"),
        "damaged": f"{figures.damaged_bytes:,} bytes in {show_count(figures.damaged_files, 'file')}"
        if figures.damaged_files
        else "none set aside",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, figure in rows.items():
        table.add_row(name, Text(figure))
    console.print(table)


def _show_pathpoints(pathpoints: list[PathpointFigures], limit: int) -> None:
    if not pathpoints or not limit:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="cyan")
    table.add_column("pathpoint", overflow="fold")
    table.add_column("samples", justify="right", no_wrap=True)
    table.add_column("pending", justify="right", no_wrap=True)
    table.add_column("first", no_wrap=True)
    table.add_column("last", no_wrap=True)
    for pathpoint in pathpoints[:limit]:
        table.add_row(
            Text(printable(pathpoint.name)),
            f"{pathpoint.samples:,}",
            f"{pathpoint.pending:,}",
            show_time(pathpoint.first),
            show_time(pathpoint.last),
        )
    console.print()
    console.print(table)
    if len(pathpoints) > limit:
        console.print(f"and {show_count(len(pathpoints) - limit, 'more pathpoint')} (--limit)")


app.command("verify")(buffer_verify.verify)
app.command("export")(buffer_export.export)
app.add_typer(buffer_quarantine.app, name="quarantine")
