"""What the commands of ``smok-fast buffer`` have in common: the folder, times, output and progress.

All of them may look at a buffer that a device is writing to at the same time: they neither lock nor
change anything in its folder, but for the quarantine, which has locks of its own.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from smok_fast._core import Buffer
from smok_fast._files import new_file
from smok_fast.cli.console import error_console, fail, printable
from smok_fast.extras.pp_buffered import QUARANTINE
from smok_fast.extras.quarantine import Quarantine

__all__ = [
    "FolderArgument",
    "JsonOption",
    "LimitOption",
    "OutputOption",
    "damaged_files",
    "find_folder",
    "iso_time",
    "look_at",
    "open_output",
    "open_quarantine",
    "parse_time",
    "progress",
    "show_count",
    "show_time",
    "warn",
]

FolderArgument = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="Folder of the buffer, or the device's state file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LimitOption = Annotated[
    int, typer.Option("--limit", min=0, metavar="N", help="How many lines are shown at most.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        help="File to write, in one step once all is there. By default, standard output.",
    ),
]

#: Without a time zone, since ``Z`` says it shorter than isoformat() would.
_EPOCH = datetime.datetime(1970, 1, 1)


def find_folder(path: Path) -> Path:
    """The folder of a buffer.

    :param path: the folder, or the state file that it stands beside
    :raises typer.Exit: there is no buffer
    """
    folder = path
    try:
        if not path.is_dir():
            folder = path.with_name(f"{path.name}.buffer")
            if not folder.is_dir():
                fail(f"{path}: there is no such folder, nor a folder {folder.name} beside it")
        names = {entry.name for entry in os.scandir(folder)}
    except (OSError, ValueError) as error:
        fail(error)
    if not names & {"lock", "cursor", QUARANTINE} and not any(map(_is_segment, names)):
        fail(f"{folder}: there is no buffer in this folder")
    return folder


def _is_segment(name: str) -> bool:
    return name.endswith(".segment")


def look_at(folder: Path) -> Buffer:
    """The buffer in a folder, to be read only; what cannot be read of it is reported.

    :raises typer.Exit: the folder cannot be read
    """
    try:
        buffer = Buffer.look_at(folder)
    except OSError as error:
        fail(error)
    for problem in buffer.report()["problems"]:
        warn(problem)
    return buffer


def open_quarantine(folder: Path, *, is_read_only: bool = True) -> Quarantine:
    """What the server has rejected of a buffer.

    :raises OSError: it cannot be read
    """
    return Quarantine(folder / QUARANTINE, is_read_only=is_read_only)


def damaged_files(folder: Path) -> list[tuple[str, int]]:
    """Names and lengths of the files in which damaged bytes were set aside.

    :raises OSError: the folder cannot be read
    """
    files = []
    for entry in os.scandir(folder):
        if ".damaged" in entry.name:
            with contextlib.suppress(FileNotFoundError):
                files.append((entry.name, entry.stat().st_size))
    return sorted(files)


def show_count(count: int, what: str) -> str:
    """A number of things, in words.

    :param count: how many
    :param what: what one of them is called
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def warn(message: object) -> None:
    """Say on standard error what is wrong, on one line; the command goes on."""
    line = Text.assemble(("smok-fast: ", "bold yellow"), printable(message))
    error_console.print(line, soft_wrap=True)


# --- Times ----------------------------------------------------------------------------------------


def iso_time(timestamp: int) -> str | None:
    """ISO 8601, in UTC with milliseconds; None beyond the years that it knows, 1 to 9999.

    :param timestamp: milliseconds since the epoch
    """
    seconds, milliseconds = divmod(timestamp, 1000)
    whole = _whole_second(seconds)
    return None if whole is None else f"{whole}.{milliseconds:03}Z"


@functools.lru_cache(maxsize=4096)  # samples of one second are many
def _whole_second(seconds: int) -> str | None:
    try:
        return (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")
    except OverflowError:
        return None


def show_time(timestamp: int | None) -> str:
    """A time for people, in UTC.

    :param timestamp: milliseconds since the epoch
    """
    if timestamp is None:
        return "-"
    text = iso_time(timestamp)
    return f"{timestamp} ms" if text is None else text[:19].replace("T", " ")


def parse_time(text: str) -> int:
    """Milliseconds since the epoch, given as they are or as ISO 8601; UTC if it does not say.

    :raises typer.BadParameter: it is neither
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{printable(text)} is neither ISO 8601 nor milliseconds since the epoch"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    epoch = _EPOCH.replace(tzinfo=datetime.UTC)
    return (time - epoch) // datetime.timedelta(milliseconds=1)


# --- Output ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_output(path: Path | None) -> Iterator[BinaryIO]:
    """Where an export goes. A file is in its place once the block ends without an exception.

    :param path: the file; None for standard output
    :raises OSError: it cannot be written to
    """
    if path is None:
        stream = typer.get_binary_stream("stdout")
        yield stream
        stream.flush()
        return
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(None, "it is no file; without --output it goes to standard output", str(path))
    with new_file(path, mode=None) as stream:
        yield stream


@contextlib.contextmanager
def progress(what: str, total: int, *, is_shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show how far long work is, if anybody watches standard error.

    :param what: what is done
    :param total: bytes that there are to do
    :param is_shown: whether to show anything
    :return: what to call with the bytes that are done
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    )  # fmt: skip
    is_watched = is_shown and error_console.is_terminal
    with Progress(
        *columns, console=error_console, transient=True, disable=not is_watched
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
