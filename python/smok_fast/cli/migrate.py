"""``smok-fast migrate``: what a device has kept with the reference becomes a state file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from smok_fast.cli.buffer_common import show_count, warn
from smok_fast.cli.console import console, fail, printable
from smok_fast.exceptions import BufferInUseError, StateInUseError
from smok_fast.migration import Content, OldFile, find_files, is_state, look_into, write_state

__all__ = ["migrate"]

#: How many reasons for leaving something out are told of one file.
MOST_REASONS = 10


def migrate(
    old: Annotated[
        list[Path],
        typer.Argument(
            metavar="OLD",
            help="Pickles that smok has written, folders of its BAOBs, or folders with these.",
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="STATE",
            help="State file to write: the third argument of SMOKDevice. Samples go into "
            "STATE.buffer.",
        ),
    ],
    states: Annotated[
        Path | None,
        typer.Option(
            "--states",
            metavar="FILE",
            help="A pickle of predicates' states that looks like something else.",
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to a state file that is there already.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be taken over.")
    ] = False,
) -> None:
    """Take over what a device has kept with smok, before it runs with smok_fast.

    Stop the device first. What a file is, is recognised by its content. The
    old files stay as they are, and nothing that they name is run. The state
    file changes in one step, or not at all.

    For example:

    [bold]smok-fast migrate /var/lib/gateway --to /var/lib/gateway/state[/]
    """
    try:
        files = [look_into(path) for path in find_files(old) if not _is_same(path, states)]
        if states is not None:
            files.append(look_into(states, holds_states=True))
        _check_target(to, [file.path for file in files], merge=merge)
    except OSError as error:
        fail(error)
    _check_files(files)
    found = [(file, file.content) for file in files if file.content is not None]
    contents = [content for _, content in found]
    if not contents:
        fail("nothing that smok has kept was found")
    try:
        taken = None if dry_run else write_state(to, contents)
    except (OSError, StateInUseError, BufferInUseError) as error:
        fail(error)
    _show(files, taken)
    for file, content in found:
        _warn_about(file, content)
    if dry_run:
        console.print("Nothing was written: this is a dry run.")
    else:
        console.print(f"{printable(to)} is written. The old files are as they were.", markup=False)


def _is_same(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.samefile(other)


def _check_target(to: Path, files: Sequence[Path], *, merge: bool) -> None:
    if not to.absolute().parent.is_dir():
        fail(f"{to}: there is no such folder")
    if not to.exists() or is_state(to):
        if to.exists() and not merge:
            fail(f"{to}: there is a state already; --merge adds to it")
        return
    if not to.is_file() or (to.stat().st_size and not any(_is_same(path, to) for path in files)):
        fail(f"{to}: it is no state file; if smok has written it, name it among the old ones, too")


def _check_files(files: Sequence[OldFile]) -> None:
    """Refuse files that cannot be used, or of which one contradicts another."""
    problems = [f"{file.path}: {file.problem}" for file in files if file.problem is not None]
    of_kind: dict[str, Path] = {}
    for file in files:
        if file.content is None:
            continue
        other = of_kind.setdefault(file.content.kind, file.path)
        if other is not file.path:
            problems.append(f"{file.path}: it holds {file.content.kind}, and so does {other}")
    if not problems:
        return
    for problem in problems:
        warn(problem)
    fail("nothing was written; name the files that are to be taken over, without these")


def _show(files: Sequence[OldFile], taken: Sequence[int] | None) -> None:
    counts = iter(taken or ())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="cyan")
    table.add_column("file", overflow="fold")
    table.add_column("holds", no_wrap=True)
    for name in ("found", "unsent", "taken over"):
        table.add_column(name, justify="right", no_wrap=True)
    for file in files:
        content = file.content
        if content is None:
            row = ("nothing", "-", "-", "-")
        else:
            row = (
                content.kind,
                f"{content.found:,}",
                "-" if content.unsent is None else f"{content.unsent:,}",
                "-" if taken is None else f"{next(counts):,}",
            )
        table.add_row(Text(printable(file.path)), *row)
    console.print(table)


def _warn_about(file: OldFile, content: Content) -> None:
    for reason in content.left_out[:MOST_REASONS]:
        warn(f"{file.path}: left out: {reason}")
    more = len(content.left_out) - MOST_REASONS
    if more > 0:
        warn(f"{file.path}: left out: {show_count(more, 'more thing')}")
