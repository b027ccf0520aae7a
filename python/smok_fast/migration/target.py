"""The state that the old files go into.

Invariants:

- The state file changes in one step, when all else has succeeded: a copy of it is filled in a
  folder beside it, and put in its place. Whatever ends this before leaves it as it was.
- Nobody else can open it meanwhile: its lock is held from before the copy until after that step.
- Samples are recorded into the buffer before. That can be done again: a sample that is there is not
  recorded twice.
- What is in the place of the state file and is no state file, is kept beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from smok_fast._files import sync_folder, write_file
from smok_fast.extras import BufferedPathpointDatabase
from smok_fast.migration.contents import Content, Samples, StateContent
from smok_fast.state import StateFile
from smok_fast.state.file import take_lock

__all__ = ["is_state", "write_state"]

#: How an SQLite database begins.
SQLITE = b"SQLite format 3\0"


def is_state(path: Path) -> bool:
    """Whether there is something in the place of a state file that may be one.

    :raises OSError: it cannot be read
    """
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE
    return False


def write_state(path: Path, contents: Iterable[Content]) -> list[int]:
    """Put what was found into a state file, and samples into the buffer beside it.

    :param path: the state file, which may be there already
    :param contents: what was found
    :return: for each how many things are there now that were not before
    :raises StateInUseError: a device has the state file open
    :raises BufferInUseError: a device has the buffer open
    :raises OSError: it cannot be written or read; the state file is as it was
    """
    path = path.absolute()
    if path.is_symlink():
        raise OSError(None, "it is a symbolic link; give what it points to", str(path))
    with _locked(path), _new_folder(path.with_name(f".{path.name}.migrating")) as folder:
        copy = folder / "state"
        is_new = not is_state(path)
        if not is_new:
            _copy(path, copy)
        counts = _fill(copy, path.with_name(f"{path.name}.buffer"), contents, is_new=is_new)
        _keep(path)
        log = f"{path}-wal"
        if Path(log).exists():  # SQLite would take it for part of the new one
            raise OSError(None, "it is the log of a state file that is in use, or was moved", log)
        copy.replace(path)
        sync_folder(path.parent)
    return counts


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = take_lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder for as long as the block takes; one that a crash has left is emptied."""
    if path.is_dir():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _copy(path: Path, copy: Path) -> None:
    """Copy a database, with what is in its log; that log is gone then, unless somebody reads it."""
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as old,
            contextlib.closing(sqlite3.connect(copy)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as error:
        raise OSError(None, f"the state there cannot be read: {error}", str(path)) from error
    copy.chmod(path.stat().st_mode & 0o777)


class _StateFile(StateFile):
    """Is written when that is called for, and not after each change."""

    def commit(self, *, at_once: bool = True) -> None:
        """Do nothing: see :meth:`checkpoint`."""

    def checkpoint(self) -> None:
        """Write all changes so far.

        :raises OSError: they cannot be written
        """
        super().commit()
        if self.failing:
            raise OSError(None, "the new state cannot be written", str(self.path))


def _fill(
    copy: Path, buffer_folder: Path, contents: Iterable[Content], *, is_new: bool
) -> list[int]:
    counts = []
    with _StateFile(copy) as state:
        if state.set_aside is not None:
            raise OSError(None, "the state there cannot be used", None)
        for content in contents:
            if isinstance(content, StateContent):
                counts.append(content.store(state, is_new=is_new))
            elif isinstance(content, Samples):
                counts.append(_record(content, buffer_folder))
        state.checkpoint()
        expected = {name: len(table) for name, table in state.tables.items()}
    with StateFile(copy) as state:
        if expected != {name: len(table) for name, table in state.tables.items()}:
            raise OSError(None, "the new state is not complete", str(copy))
    return counts


def _record(samples: Samples, folder: Path) -> int:
    buffer = BufferedPathpointDatabase(folder)
    try:
        count = samples.record(buffer)
        buffer.flush()
    except OSError as error:
        raise OSError(None, f"samples cannot be saved: {error}", str(folder)) from error
    finally:
        buffer.close()
    return count


def _keep(path: Path) -> None:
    """Keep what is in the place of the state file and is none, as ``<path>.smok``."""
    if not path.exists() or is_state(path):
        return
    data = path.read_bytes()
    if not data:
        return
    kept = path.with_name(f"{path.name}.smok")
    if kept.exists():
        if kept.read_bytes() != data:
            raise OSError(None, "it is in the way", str(kept))
        return
    write_file(kept, data, mode=path.stat().st_mode & 0o777)
